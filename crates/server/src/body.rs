//! The body of a request: its size, its type, and whether it arrives at all.

use bytes::{Bytes, BytesMut};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::limits::MAX_BODY_BYTES;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use crate::reply::{ApiError, Habit};

/// What is wrong with a body before anybody reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BodyProblem {
    TooLarge,
    WrongType,
    Broken,
}

impl BodyProblem {
    pub(crate) fn worded(self, habit: Habit) -> ApiError {
        let code = match (self, habit) {
            (Self::Broken, _) => ErrorCode::RequestBodyInvalid,
            (_, Habit::BadRequest) => ErrorCode::BadRequest,
            (Self::TooLarge, Habit::Parameters) => ErrorCode::RequestBodyTooLarge,
            (Self::WrongType, Habit::Parameters) => ErrorCode::UnsupportedContentType,
        };
        match self {
            Self::TooLarge => ApiError::saying(
                code,
                format!("The request body must not exceed {MAX_BODY_BYTES} bytes"),
            ),
            Self::WrongType => ApiError::saying(
                code,
                "The Content-Type must be application/json, without compression",
            ),
            Self::Broken => ApiError::saying(
                code,
                "The request body did not arrive whole within 10 seconds",
            ),
        }
    }
}

pub(crate) async fn read_body(
    mut incoming: Incoming,
    headers: &HeaderMap,
) -> Result<Bytes, BodyProblem> {
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    if incoming.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(BodyProblem::TooLarge);
    }
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(|_| BodyProblem::Broken)?.into_data() else {
            continue;
        };
        if first.as_ref().map_or(0, Bytes::len) + rest.len() + data.len() > MAX_BODY_BYTES {
            return Err(BodyProblem::TooLarge);
        }
        // A small body comes in one piece and is not copied.
        match &first {
            None => first = Some(data),
            Some(_) => rest.extend_from_slice(&data),
        }
    }
    let body = match first {
        None => Bytes::new(),
        Some(first) if rest.is_empty() => first,
        Some(first) => [first.as_ref(), rest.as_ref()].concat().into(),
    };
    if !body.is_empty() && !is_json(headers) {
        Err(BodyProblem::WrongType)
    } else {
        Ok(body)
    }
}

/// Whether the body is declared as JSON, or not at all, and is not compressed.
fn is_json(headers: &HeaderMap) -> bool {
    let is_plain = headers
        .get(CONTENT_ENCODING)
        .is_none_or(|encoding| encoding == "identity");
    let is_json = headers.get(CONTENT_TYPE).is_none_or(|kind| {
        let kind = kind.to_str().unwrap_or_default();
        kind.split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case("application/json")
    });
    is_plain && is_json
}
