//! A token's own claims: any JSON value, kept and answered as it came, without the white space.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::json::{self, JsonError, Object};
use crate::limits::MAX_CLAIMS_BYTES;

/// The claims that a JWT carries for itself; a caller may not set them (contract: JWT M2M tokens).
pub const RESERVED_CLAIMS: [&str; 6] = ["iss", "sub", "exp", "nbf", "iat", "jti"];

/// A JSON value other than `null`.
#[derive(Clone, Debug)]
pub struct Claims(Arc<RawValue>);

/// Why claims were refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClaimsError {
    /// The compact JSON is too long.
    #[error("must not exceed {MAX_CLAIMS_BYTES} bytes of JSON")]
    TooLarge,
    /// The value is ambiguous or cannot be represented.
    #[error("must be unambiguous JSON: {0}")]
    Malformed(#[from] JsonError),
}

impl Claims {
    /// Takes a value of a request. `null` is no claims.
    ///
    /// # Errors
    /// Where the value is too large, too deep or ambiguous.
    pub fn new(value: &RawValue) -> Result<Option<Self>, ClaimsError> {
        json::check(value)?;
        let text = json::compact(value.get());
        if text.len() > MAX_CLAIMS_BYTES {
            return Err(ClaimsError::TooLarge);
        }
        Ok(Self::from_stored(text)?)
    }

    /// Takes a value back from the store.
    ///
    /// # Errors
    /// Where the text is no JSON.
    pub fn from_stored(text: String) -> Result<Option<Self>, JsonError> {
        let value = RawValue::from_string(text)?;
        Ok(if value.get() == "null" {
            None
        } else {
            Some(Self(Arc::from(value)))
        })
    }

    /// The compact JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether the value is an object, as a JWT needs.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }

    /// The names of the members, where the value is an object.
    ///
    /// # Errors
    /// Where the value is no object that can be read.
    pub fn names(&self) -> Result<Vec<String>, JsonError> {
        let object = Object::parse(self.as_str().as_bytes())?;
        Ok(object.names().map(str::to_owned).collect())
    }

    /// Whether the value is an object that has this member, or one that cannot be read and so may have it.
    #[must_use]
    pub fn may_have_member(&self, name: &str) -> bool {
        self.is_object()
            && Object::parse(self.as_str().as_bytes())
                .map_or(true, |mut object| object.take(name).is_some())
    }

    /// A member's text, where the value is an object that has it and it is a string.
    #[must_use]
    pub fn text_member(&self, name: &str) -> Option<String> {
        let value = Object::parse(self.as_str().as_bytes())
            .ok()?
            .take(name)?
            .get()
            .to_owned();
        serde_json::from_str(&value).ok()
    }

    /// The text that equal values share.
    #[must_use]
    pub fn canonical(&self) -> String {
        json::canonical(self.as_str()).expect("claims were checked when they were made")
    }
}

impl PartialEq for Claims {
    /// Compares as JSON: the order of members does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str() || self.canonical() == other.canonical()
    }
}

impl Serialize for Claims {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Arc::from(Box::<RawValue>::deserialize(deserializer)?)))
    }
}

#[cfg(feature = "schema")]
crate::schema::in_place!(
    Claims,
    "Claims",
    // Any value.
    schemars::json_schema!({})
);

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Result<Option<Claims>, ClaimsError> {
        Claims::new(serde_json::from_str(text).expect("a JSON value"))
    }

    #[test]
    fn claims_keep_their_text_and_order() {
        let claims = claims("{ \"b\": 1.0,\n \"a\": [\"x y\"] }")
            .expect("good")
            .expect("some");
        assert_eq!(claims.as_str(), r#"{"b":1.0,"a":["x y"]}"#);
        assert_eq!(claims.names(), Ok(vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(
            serde_json::to_string(&claims).expect("serializes"),
            claims.as_str()
        );
    }

    #[test]
    fn null_is_no_claims() {
        assert_eq!(claims(" null "), Ok(None));
    }

    #[test]
    fn the_size_counts_without_white_space() {
        let longest = format!("\"{}\"", "x".repeat(MAX_CLAIMS_BYTES - 2));
        assert!(claims(&format!("   {longest}")).is_ok());
        assert_eq!(
            claims(&format!("\"x{}", &longest[1..])),
            Err(ClaimsError::TooLarge)
        );
    }

    #[test]
    fn claims_are_equal_as_json() {
        assert_eq!(claims(r#"{"a":1,"b":2}"#), claims(r#"{"b":2,"a":1.0}"#));
        assert_ne!(claims("[1,2]"), claims("[2,1]"));
    }
}
