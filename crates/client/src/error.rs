//! What goes wrong between a client and the authority: refused, unreachable, malformed, or settings that cannot be right.

use std::fmt;
use std::time::Duration;

use countersign_protocol::error::{ErrorEnvelope, ErrorItem};
use http::StatusCode;
use thiserror::Error;

/// Why there is no answer, or not the one that was asked for. No variant ever holds a key or a token.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The authority answered with an error of its own.
    #[error("{0}")]
    Refused(Refusal),
    /// No answer came, or one from something in front of the authority that could not pass the request on.
    #[error("cannot reach the authority at {address}: {reason}")]
    #[non_exhaustive]
    Unreachable {
        /// The authority's address.
        address: String,
        /// What happened.
        reason: String,
        /// The status of what answered instead of the authority, if anything did.
        status: Option<StatusCode>,
    },
    /// An answer came that no authority gives: another server listens there, or the address has a wrong path.
    #[error("the server at {address} is not a Countersign or Clerk API: {reason}")]
    #[non_exhaustive]
    Malformed {
        /// The authority's address.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A setting is missing or cannot be used; nothing was sent.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl Error {
    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                refusal.status == StatusCode::TOO_MANY_REQUESTS || refusal.status.is_server_error()
            }
            Self::Unreachable { .. } => true,
            Self::Malformed { .. } | Self::Settings(_) => false,
        }
    }

    /// The authority's refusal, where there is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// An error of the authority, from the envelope of its answer (contract: error envelope and codes).
#[derive(Clone, Debug)]
pub struct Refusal {
    status: StatusCode,
    errors: Vec<ErrorItem>,
    trace_id: Option<String>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// Takes an answer's envelope. `None` where it has no error in it.
    pub(crate) fn new(
        status: StatusCode,
        envelope: ErrorEnvelope,
        trace_id: Option<String>,
        retry_after: Option<Duration>,
    ) -> Option<Self> {
        (!envelope.errors.is_empty()).then(|| Self {
            status,
            errors: envelope.errors,
            trace_id: envelope.clerk_trace_id.or(trace_id),
            retry_after,
        })
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The code of the first error, for programs: `resource_not_found`, `clerk_key_invalid` and so on.
    #[must_use]
    pub fn code(&self) -> &str {
        self.errors.first().map_or("", |error| &error.code)
    }

    /// All errors; there is at least one.
    #[must_use]
    pub fn errors(&self) -> &[ErrorItem] {
        &self.errors
    }

    /// The id under which the authority's log has the request.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.trace_id.as_deref()
    }

    /// How long the authority asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Why a token does not verify (`unknown`, `revoked`, `expired`, `not_in_scope`), where the authority tells.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.errors.first()?.meta.as_ref()?.reason.as_deref()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.errors.first();
        let text = first.map_or("", |error| &error.long_message);
        write!(
            formatter,
            "{text} ({}, {}",
            self.status.as_u16(),
            self.code()
        )?;
        if let Some(trace_id) = &self.trace_id {
            write!(formatter, ", trace id {trace_id}")?;
        }
        formatter.write_str(")")
    }
}

/// A setting that is missing or cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The address is no URL of an authority. The text says why and what would be right.
    #[error("{0}")]
    Address(String),
    /// The key cannot be one. The text says what would be right.
    #[error("{0}")]
    Key(String),
    /// This machine has no certificate authorities to check another one against. The text says what to do.
    #[error("{0}")]
    Certificates(String),
    /// Variables of the environment that are needed and not set, all of them.
    #[error("not set in the environment: {}", .0.join(", "))]
    Missing(Vec<String>),
}
