//! Why the authority refuses: one variant per refusal, without a word of HTTP.

use std::borrow::Cow;
use std::fmt;

use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::settings::SettingError;
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

/// The location of a parameter in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// A member of the body.
    #[default]
    Body,
    /// A parameter of the query.
    Query,
    /// A part of the path.
    Path,
}

impl Place {
    /// Returns `body`, `query` or `path`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Query => "query",
            Self::Path => "path",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A parameter whose value breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name} {problem}")]
pub struct Invalid {
    /// The parameter, by its name on the wire.
    pub name: Cow<'static, str>,
    /// Its location in the request.
    pub place: Place,
    /// What is wrong and what would be right.
    pub problem: Problem,
}

impl Invalid {
    /// Creates the error for the parameter `name` in `place`.
    pub fn new(place: Place, name: impl Into<Cow<'static, str>>, problem: Problem) -> Self {
        Self {
            name: name.into(),
            place,
            problem,
        }
    }
}

impl From<SettingError> for Invalid {
    fn from(error: SettingError) -> Self {
        let (name, problem) = match error {
            SettingError::WrongType { name, right } if name == "null_expiration" => {
                (name, Problem::NotAllowed(format!("must be {right}").into()))
            }
            SettingError::WrongType { name, right } => (name, Problem::WrongType(right)),
            error @ SettingError::Unknown(_) => {
                ("settings", Problem::NotAllowed(error.to_string().into()))
            }
        };
        Self::new(Place::Body, name, problem)
    }
}

/// What is wrong with a value, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is absent.
    #[error("must be included")]
    Missing,
    /// It is not a parameter of this request.
    #[error("is not a parameter of this request")]
    Unknown,
    /// It is given more than once.
    #[error("must be given once")]
    Duplicate,
    /// It has another JSON type; the text names the right one with its article.
    #[error("must be {0}")]
    WrongType(&'static str),
    /// It is not written as it must be; the text says how.
    #[error("{0}")]
    WrongFormat(Cow<'static, str>),
    /// It is not among what is allowed; the text says what is.
    #[error("{0}")]
    NotAllowed(Cow<'static, str>),
    /// The text is too long.
    #[error("should not exceed {0} characters")]
    TooLong(usize),
    /// The text is too short.
    #[error("should have at least {0} characters")]
    TooShort(usize),
    /// The list is too long.
    #[error("should not exceed {0} items")]
    TooMany(usize),
    /// The number is too large.
    #[error("must be at most {0}")]
    TooLarge(i64),
    /// It names a machine that does not exist here.
    #[error("names a machine that was not found")]
    NotFound,
}

/// Returns the error for a member of the body that breaks a rule.
pub(crate) fn invalid(name: &'static str, problem: Problem) -> Error {
    Invalid::new(Place::Body, name, problem).into()
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
