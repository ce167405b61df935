//! Why the authority refuses: one variant per refusal, without a word of HTTP.

use std::borrow::Cow;

use countersign_protocol::ids::MachineId;
use countersign_store::StoreError;
use thiserror::Error;

/// A refusal or a fault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The key is no live instance key, or something else stands in its place.
    #[error("the instance key is not valid")]
    InstanceKeyInvalid,
    /// The key is no live machine key, or something else stands in its place.
    #[error("the machine key is not valid")]
    MachineKeyInvalid,
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
    /// A signed token cannot be changed, or a token that is not live.
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
    /// The machine has caused so many entries of the change log that it must wait.
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
    #[error("the authority was never initialised")]
    NotInitialised,
    /// The master key does not open the data keys.
    #[error("the master key does not fit this authority")]
    WrongMasterKey,
    /// Something that was sealed or signed by this authority cannot be opened or made.
    #[error("a sealed value or key is damaged: {0}")]
    Damaged(&'static str),
    /// The store cannot answer.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InstanceKeyGone => Self::InstanceKeyInvalid,
            StoreError::MachineKeyGone => Self::MachineKeyInvalid,
            error => Self::Store(error),
        }
    }
}

/// Why a token does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No such token in this instance, or a forged one.
    Unknown,
    /// It was revoked.
    Revoked,
    /// Its life is over, or has not begun.
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

/// A parameter whose value breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name} {problem}")]
pub struct Invalid {
    /// The parameter, by its name on the wire.
    pub name: Cow<'static, str>,
    /// What is wrong and what would be right.
    pub problem: Problem,
}

/// What is wrong with a value, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is absent.
    #[error("must be included")]
    Missing,
    /// It is no parameter of this request.
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

impl Invalid {
    /// Says what is wrong with `name`.
    pub fn new(name: impl Into<Cow<'static, str>>, problem: Problem) -> Self {
        Self {
            name: name.into(),
            problem,
        }
    }
}

pub(crate) fn invalid(name: &'static str, problem: Problem) -> Error {
    Error::Invalid(Invalid::new(name, problem))
}
