//! `/openapi.json` and `/swagger`.

use bytes::Bytes;
use countersign_protocol::error::ErrorCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue};

use crate::call::Call;
use crate::reply::{Answer, ApiError, answer};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// What the page may do. It starts from nothing; each line after the first opens it for one thing that Swagger UI needs,
/// and `tests/browser` fails where one is missing.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; \
     script-src 'self'; \
     style-src 'self'; \
     img-src 'self' data:; \
     connect-src 'self'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

pub(crate) const OPENAPI: &str = "State: This document

The description of this API, OpenAPI 3.1.

- 200: The document.
";

/// `GET /openapi.json`
pub(crate) fn openapi(call: &Call<'_>) -> Result<Answer, ApiError> {
    Ok(answer(200, JSON, call.app.docs.document.clone()))
}

/// `GET /`, which people open in a browser. The place is relative, so it is right below a path, too.
pub(crate) fn root() -> Result<Answer, ApiError> {
    let mut redirect = answer(302, HTML, Bytes::new());
    redirect
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_static("swagger"));
    Ok(redirect)
}

/// `GET /swagger`
pub(crate) fn swagger(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut page = answer(200, HTML, call.app.docs.page.clone());
    let opener_policy = HeaderName::from_static("cross-origin-opener-policy");
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (opener_policy, HeaderValue::from_static("same-origin")),
    ] {
        page.headers_mut().insert(name, value);
    }
    Ok(page)
}

/// `GET /swagger/{asset}`
pub(crate) fn asset(call: &Call<'_>) -> Result<Answer, ApiError> {
    let [name, _] = call.captures;
    let asset = call
        .app
        .docs
        .assets
        .iter()
        .find(|asset| asset.name == name)
        .ok_or_else(|| {
            ApiError::saying(
                ErrorCode::ResourceNotFound,
                "Resource not found: the page has no such file",
            )
        })?;
    let mut file = answer(
        200,
        asset.content_type.clone(),
        Bytes::from_static(asset.content),
    );
    file.headers_mut().insert(CACHE_CONTROL, IMMUTABLE);
    file.headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(file)
}
