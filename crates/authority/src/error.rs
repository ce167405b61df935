//! Why the authority refuses: one variant per refusal, without a word of HTTP.

use std::borrow::Cow;

use countersign_protocol::ids::{InstanceId, MachineId};
pub use countersign_protocol::problem::{Invalid, Place, Problem};
use countersign_store::StoreError;
use thiserror::Error;

/// A refusal or a fault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The credential is not a live instance key.
    #[error("the instance key is not valid")]
    InstanceKeyInvalid,
    /// The credential is not a live machine key.
    #[error("the machine key is not valid")]
    MachineKeyInvalid,
    /// The credential is neither a key nor a token.
    #[error("the credential is neither a key nor a token")]
    CredentialMalformed,
    /// The actor may not do this; the text says what is missing.
    #[error("not allowed: {0}")]
    Forbidden(&'static str),
    /// There is no such thing.
    #[error("{noun} {id} was not found")]
    NotFound {
        /// What was looked for.
        noun: &'static str,
        /// Its id.
        id: String,
    },
    /// The token does not verify.
    #[error("the token was refused: {}", refusal.as_str())]
    TokenRefused {
        /// Why.
        refusal: Refusal,
        /// Whether the verifier may know why.
        is_disclosed: bool,
        /// The machine that the token names, where it is known, for the log.
        subject: Option<MachineId>,
    },
    /// A value breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A JWT was asked for with a claim that the authority writes itself.
    #[error("the claim '{0}' is reserved")]
    ReservedClaim(String),
    /// The token cannot be changed, because it is signed or not live.
    #[error("{0}")]
    NotChangeable(&'static str),
    /// It exists already, or a bound is reached.
    #[error("{0}")]
    Conflict(String),
    /// Too many requests.
    #[error("too many requests; retry after {retry_after_seconds} s")]
    RateLimited {
        /// How long to wait.
        retry_after_seconds: u32,
    },
    /// The machine has caused too many records of the change log and must wait.
    #[error(
        "the machine has used up its {max} changes and revocations of tokens, of which one comes back each second; change and \
         revoke fewer, or have an instance key do it"
    )]
    TooManyChanges {
        /// How many it may make at once.
        max: u32,
        /// How long to wait.
        retry_after_seconds: u32,
    },
    /// Too much work is waiting.
    #[error("the authority is overloaded")]
    Overloaded,
    /// `init` has not run.
    #[error("the authority was never initialized")]
    NotInitialized,
    /// The master key does not open the data keys.
    #[error("the master key does not fit this authority")]
    WrongMasterKey,
    /// Stored, sealed or signed data cannot be read, opened or created.
    #[error("the stored data is damaged: {0}")]
    Damaged(Cow<'static, str>),
    /// The store cannot answer now, or it is unknown whether a change took effect.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Too many requests need slow work. Nothing was changed.
    #[error("the store is busy: {0}")]
    Busy(&'static str),
    /// An invariant of the program does not hold. This is a bug.
    #[error("internal fault: {0}")]
    Fault(String),
}

impl Error {
    pub(crate) fn damaged(what: &'static str) -> Self {
        Self::Damaged(Cow::Borrowed(what))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InstanceKeyGone => Self::InstanceKeyInvalid,
            StoreError::MachineKeyGone => Self::MachineKeyInvalid,
            StoreError::Unavailable(reason) => Self::Unavailable(reason),
            StoreError::Busy(reason) => Self::Busy(reason),
            StoreError::Corrupt(what) => Self::Damaged(Cow::Owned(what)),
            // Expected conflicts are handled before they get here.
            error => Self::Fault(error.to_string()),
        }
    }
}

/// Why a token does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No such token in this instance, or a forged one.
    Unknown,
    /// It was revoked, alone or by a cut-off of its machine or instance.
    Revoked,
    /// It is expired or not yet valid.
    Expired,
    /// It is not for this verifier.
    NotInScope,
}

impl Refusal {
    /// All refusals.
    pub const ALL: [Self; 4] = [
        Self::Unknown,
        Self::Revoked,
        Self::Expired,
        Self::NotInScope,
    ];

    /// The word of `meta.reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::NotInScope => "not_in_scope",
        }
    }
}

/// Returns the error for a member of the body that breaks a rule.
pub(crate) fn invalid(name: &'static str, problem: Problem) -> Error {
    Invalid::new(Place::Body, name, problem).into()
}

/// Makes an error of a problem with a member of the body.
pub(crate) fn about(name: &'static str) -> impl FnOnce(Problem) -> Error {
    move |problem| invalid(name, problem)
}

/// Returns the error for a query parameter that breaks a rule.
pub(crate) fn invalid_query(name: &'static str, problem: Problem) -> Error {
    Invalid::new(Place::Query, name, problem).into()
}

pub(crate) fn machine_not_found(id: MachineId) -> Error {
    Error::NotFound {
        noun: "machine",
        id: id.to_string(),
    }
}

pub(crate) fn instance_not_found(id: InstanceId) -> Error {
    Error::NotFound {
        noun: "instance",
        id: id.to_string(),
    }
}

/// Keeps the first error for the caller and logs later errors.
pub(crate) fn keep_first(outcome: &mut Result<(), Error>, next: Result<(), Error>) {
    match next {
        Err(error) if outcome.is_err() => {
            tracing::warn!(%error, "another part of the same round failed");
        }
        Err(error) => *outcome = Err(error),
        Ok(()) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use countersign_protocol::settings::SettingsUpdate;

    #[test]
    fn a_wrong_setting_is_worded_as_a_parameter() {
        let wrong = |name, value| {
            let error = SettingsUpdate::default().set(name, value);
            Invalid::from(error.expect_err("is wrong")).to_string()
        };
        assert_eq!(
            wrong("null_expiration", json!("x")),
            r#"null_expiration must be "default" or "never""#
        );
        assert_eq!(
            wrong("max_jwt_ttl", json!("x")),
            "max_jwt_ttl must be a whole number of seconds"
        );
        let unknown = wrong("nope", json!(1));
        assert!(
            unknown.starts_with("settings has no 'nope', only issuer, "),
            "{unknown}"
        );
    }
}
