//! What is wrong with a parameter of a request, in words that both kinds of routes share.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

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
    WrongType(Cow<'static, str>),
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
