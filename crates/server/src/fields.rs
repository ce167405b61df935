//! Reads the members of a body or the parameters of a query into the type of a request, with an exact message about what is wrong.
//!
//! The types of `countersign_protocol::request` derive `Deserialize`; this is the deserializer that they are read by. It asks for the
//! members that a type names, in declaration order, so the first mistake in that order is reported.

use std::borrow::Cow;
use std::fmt;

use countersign_authority::{Invalid, Place, Problem};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::json::{self, Object};
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;

use crate::reply::{ApiError, Habit};

/// What a request gives: members of a JSON body, or parameters of a query.
pub(crate) struct Members<'a> {
    given: Given<'a>,
    habit: Habit,
}

enum Given<'a> {
    Body(Object<'a>),
    Query(Vec<(Cow<'a, str>, Cow<'a, str>)>),
}

/// Whether a request without a body is one with an empty object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
}

impl<'a> Members<'a> {
    pub(crate) fn of_body(
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
        let given = Given::Body(object);
        Ok(Self { given, habit })
    }

    pub(crate) fn of_query(query: Option<&'a str>, habit: Habit) -> Result<Self, ApiError> {
        let query = query.unwrap_or_default();
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        // The decoder puts U+FFFD for invalid UTF-8: then the result has more of these characters than the request.
        let decoded: usize = pairs
            .iter()
            .map(|(name, value)| replacements(name) + replacements(value))
            .sum();
        if decoded > 0 && decoded != query.to_ascii_uppercase().matches("%EF%BF%BD").count() {
            return Err(ApiError::new(ErrorCode::MalformedRequestParameters));
        }
        let given = Given::Query(pairs);
        Ok(Self { given, habit })
    }

    /// Takes the members that `T` names.
    pub(crate) fn read<T: Deserialize<'a>>(&mut self) -> Result<T, ApiError> {
        T::deserialize(&mut *self).map_err(|wrong| match wrong {
            Wrong::Member(name, problem) => self.wrong(name.unwrap_or_default(), problem),
            Wrong::Unreadable(text) => ApiError::saying(ErrorCode::RequestBodyInvalid, text),
        })
    }

    /// The error about the member `name`.
    pub(crate) fn wrong(&self, name: impl Into<Cow<'static, str>>, problem: Problem) -> ApiError {
        let place = match self.given {
            Given::Body(_) => Place::Body,
            Given::Query(_) => Place::Query,
        };
        ApiError::invalid(self.habit, &Invalid::new(place, name, problem))
    }

    /// Refuses members that nobody asked for.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let Given::Body(object) = &self.given else {
            return Ok(());
        };
        let Some(name) = object.names().next() else {
            return Ok(());
        };
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
        Err(self.wrong(name, Problem::Unknown))
    }

    fn take(&mut self, name: &str) -> Result<Option<Value<'a>>, Problem> {
        match &mut self.given {
            Given::Body(object) => Ok(object.take(name).map(Value::Json)),
            Given::Query(pairs) => {
                let is_named = |(known, _): &(Cow<'_, str>, _)| known == name;
                let Some(place) = pairs.iter().position(is_named) else {
                    return Ok(None);
                };
                let (_, value) = pairs.swap_remove(place);
                if pairs.iter().any(is_named) {
                    return Err(Problem::Duplicate);
                }
                Ok(Some(Value::Text(value)))
            }
        }
    }
}

impl<'a> Deserializer<'a> for &mut Members<'a> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'a>>(self, _: V) -> Result<V::Value, Wrong> {
        Err(de::Error::custom("a request is a struct"))
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_map(Walk {
            members: self,
            names: names.iter(),
            name: "",
        })
    }

    forward_to_deserialize_any! {
        <W: Visitor<'a>>
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// All members of a type, those that are absent included.
struct Walk<'w, 'a> {
    members: &'w mut Members<'a>,
    names: std::slice::Iter<'static, &'static str>,
    name: &'static str,
}

impl<'a> MapAccess<'a> for Walk<'_, 'a> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, key: K) -> Result<Option<K::Value>, Wrong> {
        let Some(name) = self.names.next() else {
            return Ok(None);
        };
        self.name = name;
        key.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        let given = self.members.take(self.name);
        given
            .map_err(|problem| Wrong::Member(None, problem))
            .and_then(|value| seed.deserialize(Member { value, options: 0 }))
            .map_err(|wrong| wrong.about(self.name))
    }
}

/// Why a request cannot be read.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// A problem with a member; its name is added once it is known.
    Member(Option<Cow<'static, str>>, Problem),
    /// The body cannot be read unambiguously.
    Unreadable(String),
}

impl Wrong {
    fn about(self, name: &'static str) -> Self {
        match self {
            Self::Member(inner, problem) => {
                Self::Member(inner.or(Some(Cow::Borrowed(name))), problem)
            }
            Self::Unreadable(text) => Self::Unreadable(format!("{name}: {text}")),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(_, problem) => problem.fmt(formatter),
            Self::Unreadable(text) => formatter.write_str(text),
        }
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    /// A type that is read from a text says what would be right.
    fn custom<T: fmt::Display>(rule: T) -> Self {
        Self::Member(None, Problem::NotAllowed(rule.to_string().into()))
    }

    /// A member within a member names itself.
    fn invalid_type(member: de::Unexpected<'_>, right: &dyn de::Expected) -> Self {
        Self::Member(named(member), Problem::WrongType(right.to_string().into()))
    }

    fn invalid_value(member: de::Unexpected<'_>, right: &dyn de::Expected) -> Self {
        Self::Member(named(member), Problem::NotAllowed(right.to_string().into()))
    }
}

fn named(member: de::Unexpected<'_>) -> Option<Cow<'static, str>> {
    match member {
        de::Unexpected::Other(name) => Some(name.to_owned().into()),
        _ => None,
    }
}

/// A member, as far as it is given.
struct Member<'a> {
    value: Option<Value<'a>>,
    /// How many `Option`s stand around the type: the first is for an absent member, the second for `null`.
    options: u8,
}

enum Value<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

impl<'a> Value<'a> {
    fn as_str(&self) -> &str {
        match self {
            Self::Json(value) => value.get(),
            Self::Text(text) => text,
        }
    }

    /// A string. One without escapes is borrowed, so that the common case copies nothing.
    fn text(self) -> Option<Cow<'a, str>> {
        let json = match self {
            Self::Json(value) => value.get(),
            Self::Text(text) => return Some(text),
        };
        let inner = json.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            serde_json::from_str(json).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inner))
        }
    }

    fn boolean(self) -> Option<bool> {
        match self {
            Self::Text(text) if text.is_empty() => Some(false),
            value => value.as_str().parse().ok(),
        }
    }
}

impl<'a> Member<'a> {
    /// Reads the member. `right` says what it must be, and what it must be where `null` will do as well.
    fn typed<T>(
        self,
        right: [&'static str; 2],
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<T, Wrong> {
        let [right, or_null] = right;
        let right = if self.options > 1 { or_null } else { right };
        let value = self.value.ok_or(Wrong::Member(None, Problem::Missing))?;
        read(value).ok_or_else(|| Wrong::Member(None, Problem::WrongType(right.into())))
    }

    fn text(self) -> Result<Cow<'a, str>, Wrong> {
        self.typed(["a string", "a string or null"], Value::text)
    }

    fn json(self) -> Result<&'a RawValue, Wrong> {
        self.typed(["JSON"; 2], |value| match value {
            Value::Json(value) => Some(value),
            Value::Text(_) => None,
        })
    }
}

impl<'a> Deserializer<'a> for Member<'a> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'a>>(self, _: V) -> Result<V::Value, Wrong> {
        Err(de::Error::custom("requests have no such type"))
    }

    fn deserialize_option<V: Visitor<'a>>(mut self, visitor: V) -> Result<V::Value, Wrong> {
        let is_null = |value: &Value<'_>| value.as_str() == "null";
        if self.value.is_none() || (self.options > 0 && self.value.as_ref().is_some_and(is_null)) {
            return visitor.visit_none();
        }
        self.options += 1;
        visitor.visit_some(self)
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.text()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let text = self.text()?;
        if !variants.contains(&text.as_ref()) {
            let rule = format!("must be '{}'", variants.join("' or '"));
            return Err(de::Error::custom(rule));
        }
        visitor.visit_enum(text.as_ref().into_deserializer())
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let right = match self.value {
            Some(Value::Text(_)) => "a boolean, true or false",
            _ => "a boolean",
        };
        visitor.visit_bool(self.typed([right; 2], Value::boolean)?)
    }

    /// A whole number; `3600.0` is accepted.
    fn deserialize_i64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let right = ["an integer", "an integer or null"];
        visitor.visit_i64(self.typed(right, |value| read_integer(value.as_str()))?)
    }

    fn deserialize_f64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let right = ["a number", "a number or null"];
        let number = self.typed(right, |value| serde_json::from_str(value.as_str()).ok())?;
        visitor.visit_f64(number)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let items = self.json()?;
        let items = items.deserialize_seq(visitor);
        items.map_err(|_| Wrong::Member(None, Problem::WrongType("an array of strings".into())))
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let object = self.json()?;
        json::check(object).map_err(|error| Wrong::Unreadable(error.to_string()))?;
        let members = object.deserialize_map(visitor);
        members.map_err(|_| Wrong::Member(None, Problem::WrongType("an object".into())))
    }

    /// A value that keeps its text.
    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let value = self.json()?.deserialize_newtype_struct(name, visitor);
        value.map_err(de::Error::custom)
    }

    forward_to_deserialize_any! {
        <W: Visitor<'a>>
        i8 i16 i32 u8 u16 u32 u64 f32 char bytes byte_buf unit unit_struct tuple tuple_struct struct identifier
        ignored_any
    }
}

fn read_integer(text: &str) -> Option<i64> {
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

fn replacements(text: &str) -> usize {
    text.matches('\u{fffd}').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_must_be_utf_8_and_may_hold_any_character() {
        let parse = |query| Members::of_query(Some(query), Habit::Parameters).is_ok();
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
        let parse = |habit, presence| Members::of_body(b"", habit, presence);
        assert!(parse(Habit::Parameters, Presence::Required).is_ok());
        assert!(parse(Habit::BadRequest, Presence::Optional).is_ok());
        let refused = parse(Habit::BadRequest, Presence::Required)
            .err()
            .map(|error| error.code);
        assert_eq!(refused, Some(ErrorCode::RequestBodyInvalid));
    }

    #[test]
    fn integers_may_be_written_as_floats_and_nothing_else() {
        assert_eq!(read_integer("3600"), Some(3600));
        assert_eq!(read_integer("3600.0"), Some(3600));
        assert_eq!(read_integer("1e3"), Some(1000));
        assert_eq!(read_integer("-0.0"), Some(0));
        for text in [
            "3600.5", "\"1\"", "+1", "1e400", "NaN", "", "true", " 1", "9e18", "0x1",
        ] {
            assert_eq!(read_integer(text), None, "{text}");
        }
    }

    #[test]
    fn texts_without_escapes_are_not_copied() {
        use countersign_protocol::request::VerifyRequest;
        let body = br#"{"token":"mt_1","secret":"\u0061k"}"#;
        let members = Members::of_body(body, Habit::BadRequest, Presence::Required);
        let read: VerifyRequest<'_> = members.and_then(|mut members| members.read()).unwrap();
        assert!(matches!(read.token, Some(Cow::Borrowed("mt_1"))));
        assert!(matches!(read.secret, Some(Cow::Owned(text)) if text == "ak"));
    }
}
