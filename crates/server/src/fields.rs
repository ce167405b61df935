//! Parameters of a request, from the body or the query, read into types with an exact word about what is wrong.

use std::borrow::Cow;

use countersign_authority::{Invalid, Place, Problem};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::json::Object;
use serde_json::value::RawValue;

use crate::reply::{ApiError, Habit};

/// The members of a JSON body.
pub(crate) struct Body<'a> {
    object: Object<'a>,
    habit: Habit,
}

/// Whether a request without a body is one with an empty object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
}

impl<'a> Body<'a> {
    pub(crate) fn parse(
        bytes: &'a [u8],
        habit: Habit,
        presence: Presence,
    ) -> Result<Self, ApiError> {
        let is_absent =
            bytes.is_empty() || (presence == Presence::Optional && bytes.trim_ascii() == b"null");
        let object = match (is_absent, presence, habit) {
            // The service for machines then misses the first of its required parameters.
            (true, Presence::Optional, _) | (true, Presence::Required, Habit::Parameters) => {
                Object::default()
            }
            (true, Presence::Required, Habit::BadRequest) => {
                return Err(ApiError::saying(
                    ErrorCode::RequestBodyInvalid,
                    "The request body must be a JSON object; it is empty",
                ));
            }
            (false, _, _) => Object::parse(bytes).map_err(|error| {
                ApiError::saying(
                    ErrorCode::RequestBodyInvalid,
                    format!("The request body must be a JSON object: {error}"),
                )
            })?,
        };
        Ok(Self { object, habit })
    }

    /// The error about the member `name`.
    pub(crate) fn wrong(&self, name: &'static str, problem: Problem) -> ApiError {
        ApiError::invalid(self.habit, &Invalid::new(Place::Body, name, problem))
    }

    /// A member as it was written.
    pub(crate) fn raw(&mut self, name: &'static str) -> Option<&'a RawValue> {
        self.object.take(name)
    }

    fn typed<T>(
        &mut self,
        name: &'static str,
        right: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.raw(name) else {
            return Ok(None);
        };
        read(value.get())
            .map(Some)
            .ok_or_else(|| self.wrong(name, Problem::WrongType(right)))
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<Cow<'a, str>>, ApiError> {
        self.typed(name, "a string", read_text)
    }

    /// A text or `null`; the outer `None` is for an absent member.
    pub(crate) fn nullable_text(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Option<Cow<'a, str>>>, ApiError> {
        self.typed(name, "a string or null", |text| {
            if text == "null" {
                Some(None)
            } else {
                read_text(text).map(Some)
            }
        })
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "a boolean", |text| text.parse().ok())
    }

    /// A whole number; `3600.0` is one.
    pub(crate) fn integer(&mut self, name: &'static str) -> Result<Option<i64>, ApiError> {
        self.typed(name, "an integer", read_json_integer)
    }

    /// A number or `null`; the outer `None` is for an absent member.
    pub(crate) fn nullable_number(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Option<f64>>, ApiError> {
        self.typed(name, "a number or null", |text| {
            if text == "null" {
                Some(None)
            } else {
                serde_json::from_str(text).ok().map(Some)
            }
        })
    }

    pub(crate) fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, ApiError> {
        self.typed(name, "an array of strings", |text| {
            serde_json::from_str(text).ok()
        })
    }

    /// Refuses members that nobody asked for.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.object.names().next() {
            None => Ok(()),
            Some(name) => {
                // Only what looks like a name is repeated; it could be anything, a secret in the wrong place included.
                let is_name = name.len() <= 40
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                let name = if is_name {
                    name.to_owned()
                } else {
                    "(a member of another name)".to_owned()
                };
                Err(ApiError::invalid(
                    self.habit,
                    &Invalid::new(Place::Body, name, Problem::Unknown),
                ))
            }
        }
    }
}

/// Text without escapes is borrowed, so that the common case copies nothing.
fn read_text(text: &str) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(text).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

fn read_json_integer(text: &str) -> Option<i64> {
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number: f64 = serde_json::from_str(text).ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the condition bounds the number and its fraction is zero"
    )]
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

/// The parameters of a query.
pub(crate) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    habit: Habit,
}

impl<'a> Query<'a> {
    pub(crate) fn parse(query: Option<&'a str>, habit: Habit) -> Result<Self, ApiError> {
        let query = query.unwrap_or_default();
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        // The decoder puts U+FFFD where the bytes are no UTF-8: then there are more of them than were sent.
        let decoded: usize = pairs
            .iter()
            .map(|(name, value)| replacements(name) + replacements(value))
            .sum();
        if decoded > 0 && decoded != query.to_ascii_uppercase().matches("%EF%BF%BD").count() {
            return Err(ApiError::new(ErrorCode::MalformedRequestParameters));
        }
        Ok(Self { pairs, habit })
    }

    pub(crate) fn wrong(&self, name: &'static str, problem: Problem) -> ApiError {
        ApiError::invalid(self.habit, &Invalid::new(Place::Query, name, problem))
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<Cow<'a, str>>, ApiError> {
        let Some(place) = self
            .pairs
            .iter()
            .position(|(candidate, _)| candidate == name)
        else {
            return Ok(None);
        };
        let (_, value) = self.pairs.swap_remove(place);
        if self.pairs.iter().any(|(candidate, _)| candidate == name) {
            return Err(self.wrong(name, Problem::Duplicate));
        }
        Ok(Some(value))
    }

    /// A whole number; `10.0` is one.
    pub(crate) fn integer(&mut self, name: &'static str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        read_json_integer(&text)
            .map(Some)
            .ok_or_else(|| self.wrong(name, Problem::WrongType("an integer")))
    }

    /// A text that is owned.
    pub(crate) fn owned(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        Ok(self.text(name)?.map(Cow::into_owned))
    }

    /// `true` or `false`; absent and empty are `false`.
    pub(crate) fn boolean(&mut self, name: &'static str) -> Result<bool, ApiError> {
        match self.text(name)?.as_deref() {
            None | Some("" | "false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.wrong(name, Problem::WrongType("a boolean, true or false"))),
        }
    }
}

fn replacements(text: &str) -> usize {
    text.matches('\u{fffd}').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_must_be_utf_8_and_may_hold_any_character() {
        let parse = |query| Query::parse(Some(query), Habit::Parameters).is_ok();
        assert!(parse("query=%EF%BF%BD&x=%ef%bf%bd"));
        assert!(parse("query=%C3%A9+b"));
        for query in [
            "query=%FF",
            "query=%EF%EF%BF%BD",
            "%FF=1",
            "query=%ED%A0%80",
        ] {
            assert!(!parse(query), "{query}");
        }
    }

    #[test]
    fn an_absent_body_is_worded_as_the_service_does() {
        assert!(Body::parse(b"", Habit::Parameters, Presence::Required).is_ok());
        assert!(Body::parse(b"", Habit::BadRequest, Presence::Optional).is_ok());
        let refused = Body::parse(b"", Habit::BadRequest, Presence::Required)
            .err()
            .map(|error| error.code);
        assert_eq!(refused, Some(ErrorCode::RequestBodyInvalid));
    }

    #[test]
    fn integers_may_be_written_as_floats_and_nothing_else() {
        assert_eq!(read_json_integer("3600"), Some(3600));
        assert_eq!(read_json_integer("3600.0"), Some(3600));
        assert_eq!(read_json_integer("1e3"), Some(1000));
        assert_eq!(read_json_integer("-0.0"), Some(0));
        for text in [
            "3600.5", "\"1\"", "+1", "1e400", "NaN", "", "true", " 1", "9e18", "0x1",
        ] {
            assert_eq!(read_json_integer(text), None, "{text}");
        }
    }
}
