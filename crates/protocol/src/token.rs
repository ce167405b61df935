//! Defines the two formats of a token.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whether a token is opaque or a JWT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenFormat {
    /// A random string.
    #[default]
    Opaque,
    /// A signed JWT.
    Jwt,
}

impl TokenFormat {
    /// Returns `opaque` or `jwt`, as on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Jwt => "jwt",
        }
    }
}

/// The error for text that is not a token format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 'opaque' or 'jwt'")]
pub struct TokenFormatError;

impl FromStr for TokenFormat {
    type Err = TokenFormatError;

    fn from_str(text: &str) -> Result<Self, TokenFormatError> {
        match text {
            "opaque" => Ok(Self::Opaque),
            "jwt" => Ok(Self::Jwt),
            _ => Err(TokenFormatError),
        }
    }
}

/// The token formats to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenFormats {
    /// Opaque tokens only, as Clerk lists them.
    #[default]
    Opaque,
    /// JWTs only.
    Jwt,
    /// Both.
    All,
}

impl TokenFormats {
    /// Returns whether tokens of this format are listed.
    #[must_use]
    pub fn includes(self, format: TokenFormat) -> bool {
        match self {
            Self::Opaque => format == TokenFormat::Opaque,
            Self::Jwt => format == TokenFormat::Jwt,
            Self::All => true,
        }
    }
}

/// The error for text that is not a choice of token formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 'opaque', 'jwt' or 'all'")]
pub struct TokenFormatsError;

impl FromStr for TokenFormats {
    type Err = TokenFormatsError;

    fn from_str(text: &str) -> Result<Self, TokenFormatsError> {
        match text {
            "opaque" => Ok(Self::Opaque),
            "jwt" => Ok(Self::Jwt),
            "all" => Ok(Self::All),
            _ => Err(TokenFormatsError),
        }
    }
}

#[cfg(feature = "schema")]
crate::schema::in_place!(
    TokenFormat,
    "TokenFormat",
    schemars::json_schema!({ "type": "string", "enum": [Self::Opaque, Self::Jwt] })
);
