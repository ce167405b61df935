//! `/openapi.json` and `/swagger`.

use countersign_protocol::error::ErrorCode;
use http::HeaderValue;

use crate::app::Call;
use crate::reply::{Answer, ApiError, answer};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The OpenAPI document, made once at the start.
pub(crate) fn openapi(call: &Call<'_>) -> Answer {
    answer(200, JSON, call.app.openapi.clone())
}

/// The page that shows it.
pub(crate) fn swagger() -> Answer {
    answer(200, HeaderValue::from_static("text/html; charset=utf-8"), "".into())
}

/// A file of that page.
pub(crate) fn asset(_call: &Call<'_>) -> Result<Answer, ApiError> {
    Err(ApiError::new(ErrorCode::ResourceNotFound))
}
