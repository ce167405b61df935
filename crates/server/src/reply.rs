//! Answers: JSON with exactly `application/json`, never cached, and the error envelope with its trace id.

use std::borrow::Cow;

use bytes::Bytes;
use countersign_authority::{Error, Invalid, Place, Problem, Refusal};
use countersign_protocol::error::{ErrorCode, ErrorEnvelope, ErrorItem};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

pub(crate) use crate::answer::Answer;
use crate::answer::AnswerBody;

/// The header that repeats the trace id of an error.
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("clerk-trace-id");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// How a route words what is wrong with a request: Clerk runs two services with two habits (contract: error envelope).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// 422 with a code per problem and `meta.param_name`: machines, JWKS and the extensions.
    Parameters,
    /// 400 `bad_request` with the place in the long message: tokens.
    BadRequest,
}

/// An error on its way to a caller. What only the log may read is `source`.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) code: ErrorCode,
    /// Boxed, because every handler's result would be as large otherwise.
    pub(crate) item: Box<ErrorItem>,
    pub(crate) retry_after_seconds: Option<u32>,
    pub(crate) allow: Option<String>,
    pub(crate) source: Option<String>,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode) -> Self {
        Self::of(code, ErrorItem::new(code))
    }

    pub(crate) fn saying(code: ErrorCode, long_message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(code, ErrorItem::new(code).with_long_message(long_message))
    }

    /// Too much is being done; it may work in a second.
    pub(crate) fn overloaded() -> Self {
        Self {
            retry_after_seconds: Some(1),
            ..Self::new(ErrorCode::ServiceUnavailable)
        }
    }

    fn of(code: ErrorCode, item: ErrorItem) -> Self {
        Self {
            code,
            item: Box::new(item),
            retry_after_seconds: None,
            allow: None,
            source: None,
        }
    }

    /// Words a problem with a parameter as the route's service does.
    pub(crate) fn invalid(habit: Habit, invalid: &Invalid) -> Self {
        let name = &invalid.name;
        match habit {
            Habit::BadRequest => Self::saying(
                ErrorCode::BadRequest,
                format!("{}.{name} {}", place(invalid.place), invalid.problem),
            ),
            Habit::Parameters => {
                let (code, long_message) = parameter_problem(name, &invalid.problem);
                Self::of(
                    code,
                    ErrorItem::new(code)
                        .with_long_message(long_message)
                        .with_param(name.clone()),
                )
            }
        }
    }

    /// Translates a refusal of the authority. This is the only place where refusals become statuses.
    pub(crate) fn from_authority(habit: Habit, error: Error) -> Self {
        match error {
            Error::InstanceKeyInvalid => Self::new(ErrorCode::ClerkKeyInvalid),
            Error::MachineKeyInvalid => Self::new(ErrorCode::MachineSecretKeyInvalid),
            Error::CredentialMalformed => Self::new(ErrorCode::AuthorizationHeaderFormatInvalid),
            Error::Forbidden(why) => Self::saying(
                ErrorCode::AuthorizationInvalid,
                format!("You are not authorized to perform this request: {why}"),
            ),
            Error::NotFound { noun, id } => Self::saying(
                ErrorCode::ResourceNotFound,
                format!("Resource not found: no {noun} {id}"),
            ),
            Error::TokenRefused {
                refusal,
                is_disclosed,
                ..
            } => {
                let mut item = ErrorItem::new(ErrorCode::ResourceNotFound);
                if is_disclosed {
                    let text = match refusal {
                        Refusal::Unknown => "Resource not found: the token is unknown",
                        Refusal::Revoked => "Resource not found: the token was revoked",
                        Refusal::Expired => "Resource not found: the token is expired",
                        Refusal::NotInScope => {
                            "Resource not found: the token is not for this machine"
                        }
                    };
                    item = item.with_long_message(text).with_reason(refusal.as_str());
                }
                Self::of(ErrorCode::ResourceNotFound, item)
            }
            Error::Invalid(invalid) => Self::invalid(habit, &invalid),
            Error::ReservedClaim(name) => {
                let text = format!("You can't use the reserved claim: '{name}'");
                let code = ErrorCode::MachineTokenReservedClaim;
                Self::of(
                    code,
                    ErrorItem::new(code)
                        .with_long_message(text)
                        .with_param(name),
                )
            }
            Error::NotChangeable(why) => Self::saying(ErrorCode::BadRequest, why),
            Error::Conflict(why) => Self::saying(ErrorCode::Conflict, why),
            Error::RateLimited {
                retry_after_seconds,
            } => Self {
                retry_after_seconds: Some(retry_after_seconds),
                ..Self::new(ErrorCode::TooManyRequests)
            },
            Error::TooManyChanges {
                retry_after_seconds,
                ..
            } => Self {
                retry_after_seconds: Some(retry_after_seconds),
                ..Self::saying(ErrorCode::TooManyRequests, error.to_string())
            },
            Error::Overloaded | Error::Busy(_) => Self::overloaded(),
            // The store could not answer; the caller may try again. Anything else about it is a fault.
            error @ Error::Unavailable(_) => Self {
                source: Some(error.to_string()),
                ..Self::overloaded()
            },
            error => Self {
                source: Some(error.to_string()),
                ..Self::new(ErrorCode::InternalClerkError)
            },
        }
    }

    /// The token service declares neither 413, 415 nor 422 (contract: request conventions): what would be one is 400 there.
    pub(crate) fn in_token_statuses(self) -> Self {
        if !matches!(self.code.status(), 413 | 415 | 422) {
            return self;
        }
        let item = ErrorItem::new(ErrorCode::BadRequest).with_long_message(self.item.long_message);
        Self {
            item: Box::new(item),
            code: ErrorCode::BadRequest,
            ..self
        }
    }

    /// Writes the envelope.
    pub(crate) fn into_answer(self, trace_id: String) -> Answer {
        let trace_header = HeaderValue::from_str(&trace_id);
        let mut answer = json(
            self.code.status(),
            &ErrorEnvelope::new(*self.item, trace_id),
        );
        let headers = answer.headers_mut();
        if let Ok(trace_header) = trace_header {
            headers.insert(TRACE_ID, trace_header);
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(Ok(allow)) = self.allow.map(|allow| HeaderValue::from_str(&allow)) {
            headers.insert(ALLOW, allow);
        }
        if answer.status() == StatusCode::UNAUTHORIZED {
            answer
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// Where a parameter stands, in the words of the service for tokens.
fn place(place: Place) -> &'static str {
    match place {
        Place::Path => "url_parameter",
        Place::Query => "query",
        Place::Body => "body",
    }
}

/// The code and text of a problem, as the service for machines words it.
fn parameter_problem(name: &str, problem: &Problem) -> (ErrorCode, String) {
    match problem {
        Problem::Missing => (
            ErrorCode::FormParamMissing,
            format!("{name} must be included."),
        ),
        Problem::Unknown => (
            ErrorCode::FormParamUnknown,
            format!("{name} is not a valid parameter for this request."),
        ),
        Problem::Duplicate => (
            ErrorCode::FormParamDuplicate,
            format!("{name} must be included once."),
        ),
        Problem::WrongType(right) => (
            ErrorCode::FormParamTypeInvalid,
            format!("`{name}` must be {right}."),
        ),
        Problem::WrongFormat(rule) => {
            (ErrorCode::FormParamFormatInvalid, format!("{name} {rule}."))
        }
        Problem::NotAllowed(rule) => (ErrorCode::FormParamValueInvalid, format!("{name} {rule}.")),
        Problem::TooLong(most) => (
            ErrorCode::FormParamMaxLengthExceeded,
            format!("{name} should not exceed {most} characters."),
        ),
        Problem::TooShort(least) => (
            ErrorCode::FormParamMinLengthExceeded,
            format!("{name} should have at least {least} characters."),
        ),
        Problem::TooMany(most) => (
            ErrorCode::FormParamArraySizeExceeded,
            format!("{name} should not exceed {most} items."),
        ),
        Problem::TooLarge(most) => (
            ErrorCode::FormParamValueTooLarge,
            format!("{name} must be at most {most}."),
        ),
        Problem::NotFound => (
            ErrorCode::FormResourceNotFound,
            format!("The resource associated with the supplied {name} was not found."),
        ),
        problem => (
            ErrorCode::FormParamValueInvalid,
            format!("{name} {problem}."),
        ),
    }
}

/// A JSON answer.
pub(crate) fn json<T: Serialize>(status: u16, body: &T) -> Answer {
    let mut bytes = Vec::with_capacity(512);
    // The bodies have string keys and no failing serializers, so this cannot fail; an empty body would show if it did.
    let _ = serde_json::to_writer(&mut bytes, body);
    answer(status, JSON, Bytes::from(bytes))
}

/// A JSON answer that was written already.
pub(crate) fn written(status: u16, json: impl Into<Bytes>) -> Answer {
    answer(status, JSON, json.into())
}

/// An answer that is no JSON or is ready-made.
pub(crate) fn answer(status: u16, content_type: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Response::new(AnswerBody::ready(body));
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, NO_STORE);
    answer
}

/// Success.
pub(crate) fn ok<T: Serialize>(body: &T) -> Result<Answer, ApiError> {
    Ok(json(200, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_store_is_no_fault_for_the_log() {
        let busy = Error::Busy("too many lists are read");
        let error = ApiError::from_authority(Habit::Parameters, busy);
        assert_eq!(error.code, ErrorCode::ServiceUnavailable);
        assert_eq!(error.retry_after_seconds, Some(1));
        assert_eq!(
            error.source, None,
            "what has a source is logged as an error"
        );
    }
}
