//! `/openapi.json` and `/swagger`.
//!
//! The page is Swagger UI, vendored, with two small files of our own around it. Its files are addressed by a hash of their
//! content, so that browsers keep them for good. Nothing comes from another origin.

use bytes::Bytes;
use countersign_protocol::error::ErrorCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue};

use crate::app::Call;
use crate::openapi;
use crate::reply::{Answer, ApiError, answer};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const SVG: HeaderValue = HeaderValue::from_static("image/svg+xml");
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

/// The document and the page that shows it, made once at the start.
pub(crate) struct Docs {
    document: Bytes,
    page: Bytes,
    assets: Vec<Asset>,
}

/// A file of the page.
struct Asset {
    /// The name with the hash of the content in it.
    name: String,
    content_type: HeaderValue,
    content: &'static [u8],
}

/// The files: what the page calls them, how they end, what they are.
const FILES: [(&str, &str, HeaderValue, &[u8]); 5] = [
    (
        "{swagger-ui-script}",
        "js",
        JAVASCRIPT,
        include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js"),
    ),
    (
        "{swagger-ui-style}",
        "css",
        CSS,
        include_bytes!("../../assets/swagger-ui/swagger-ui.css"),
    ),
    (
        "{script}",
        "js",
        JAVASCRIPT,
        include_bytes!("../../assets/swagger/initialise.js"),
    ),
    (
        "{style}",
        "css",
        CSS,
        include_bytes!("../../assets/swagger/style.css"),
    ),
    (
        "{icon}",
        "svg",
        SVG,
        include_bytes!("../../assets/swagger/icon.svg"),
    ),
];

impl Docs {
    pub(crate) fn new() -> Self {
        let mut page = include_str!("../../assets/swagger/page.html").to_owned();
        let mut assets = Vec::new();
        for (place, ending, content_type, content) in FILES {
            let name = format!(
                "{}-{:016x}.{ending}",
                place.trim_matches(['{', '}']),
                hash(content)
            );
            page = page.replace(place, &name);
            assets.push(Asset {
                name,
                content_type,
                content,
            });
        }
        Self {
            document: openapi::document(),
            page: page.into(),
            assets,
        }
    }
}

/// FNV-1a. It tells versions of a file apart and protects nothing.
fn hash(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `GET /openapi.json`
pub(crate) fn openapi(call: &Call<'_>) -> Answer {
    answer(200, JSON, call.app.docs.document.clone())
}

/// `GET /swagger`
pub(crate) fn swagger(call: &Call<'_>) -> Answer {
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
    page
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_each_of_its_files_and_holds_no_code() {
        let docs = Docs::new();
        let page = std::str::from_utf8(&docs.page).expect("text");
        for asset in &docs.assets {
            assert!(
                page.contains(&format!("\"swagger/{}\"", asset.name)),
                "{}",
                asset.name
            );
        }
        assert!(!page.contains('{'), "a placeholder is left");
        assert!(
            !page.contains("<style") && !page.contains("style=") && !page.contains("://"),
            "inline or foreign"
        );
        assert!(
            page.matches("<script").count() == page.matches("<script src=").count(),
            "inline"
        );
    }
}
