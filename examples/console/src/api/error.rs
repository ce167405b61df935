//! Errors as tRPC shows them.

use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign_receiver::Refusal;

use crate::rpc::{Code, ErrorData, ErrorShape, Failure};

/// Why a call has no result.
#[derive(Debug)]
pub(super) struct RpcError {
    code: Code,
    status: StatusCode,
    message: String,
    refusal: Option<Refusal>,
}

impl RpcError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            status: status_of(code),
            message: message.into(),
            refusal: None,
        }
    }

    pub(super) fn into_response(self, procedure: &str) -> Response {
        let refusal = self.refusal.as_ref();
        let failure = Failure {
            error: ErrorShape {
                message: self.message,
                code: self.code.number(),
                data: ErrorData {
                    code: self.code,
                    http_status: self.status.as_u16(),
                    path: procedure.to_owned(),
                    reason: refusal.map(|refusal| refusal.reason().code().to_owned()),
                    hint: refusal.map(|refusal| refusal.hint().to_owned()),
                },
            },
        };
        let headers = refusal.map(challenge).unwrap_or_default();
        (self.status, headers, Json(failure)).into_response()
    }
}

/// What RFC 6750 and a sender's retries want to read, without the body that the receiver would write.
fn challenge(refusal: &Refusal) -> HeaderMap {
    let mut headers = std::mem::take(refusal.to_response::<String>().headers_mut());
    headers.remove(header::CONTENT_TYPE);
    headers
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.status() {
            StatusCode::BAD_REQUEST => Code::BadRequest,
            StatusCode::UNAUTHORIZED => Code::Unauthorized,
            StatusCode::FORBIDDEN => Code::Forbidden,
            StatusCode::SERVICE_UNAVAILABLE => Code::ServiceUnavailable,
            _ => Code::InternalServerError,
        };
        Self {
            code,
            status: refusal.status(),
            message: refusal.message(),
            refusal: Some(refusal),
        }
    }
}

fn status_of(code: Code) -> StatusCode {
    match code {
        Code::BadRequest => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
