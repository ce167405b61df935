//! Strict JSON: one object, UTF-8, each member once, bounded depth, nothing behind it.
//!
//! Two parsers that disagree about a document are a way past one of them, so what is ambiguous is refused. The values keep
//! their text: `claims` are stored and answered as they came.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::limits::MAX_JSON_DEPTH;

/// Why a document was refused. The text names a place, never a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct JsonError(String);

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// An object whose members are still text, in the order of the document.
#[derive(Debug, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads a document that must be one object.
    ///
    /// # Errors
    /// Where the text is no JSON object, has a member twice at its top level, or has something behind it.
    pub fn parse(text: &'a [u8]) -> Result<Self, JsonError> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let object = deserializer.deserialize_any(ObjectVisitor)?;
        deserializer.end()?;
        Ok(object)
    }

    /// Takes a member out.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let place = self.0.iter().position(|(member, _)| member == name)?;
        Some(self.0.swap_remove(place).1)
    }

    /// The names of the members that are left.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }
}

/// Checks a value all the way down: depth, members given twice, numbers and strings that cannot be represented.
///
/// # Errors
/// Says what is wrong and where.
pub fn check(value: &RawValue) -> Result<(), JsonError> {
    let mut deserializer = serde_json::Deserializer::from_str(value.get());
    // One level is spent on the object that holds the value.
    Strict {
        levels_left: MAX_JSON_DEPTH - 1,
    }
    .deserialize(&mut deserializer)?;
    Ok(())
}

/// Removes the white space between tokens. The text must be valid JSON.
#[must_use]
pub fn compact(text: &str) -> String {
    let mut compacted = String::with_capacity(text.len());
    let mut is_in_string = false;
    let mut is_escaped = false;
    for character in text.chars() {
        if is_in_string {
            is_in_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
        } else if character.is_ascii_whitespace() {
            continue;
        } else {
            is_in_string = character == '"';
        }
        compacted.push(character);
    }
    compacted
}

/// The same text for equal values: members sorted, escapes resolved, numbers in one notation.
///
/// # Errors
/// Where the text is no JSON.
pub fn canonical(text: &str) -> Result<String, JsonError> {
    let mut value: serde_json::Value = serde_json::from_str(text)?;
    unify_numbers(&mut value);
    Ok(value.to_string())
}

/// Writes floats without a fraction as integers, so that `1.0` and `1` are equal, as they are in JSON.
fn unify_numbers(value: &mut serde_json::Value) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(unify_numbers),
        serde_json::Value::Object(members) => members.values_mut().for_each(unify_numbers),
        serde_json::Value::Number(number) => {
            if let Some(float) = number
                .as_f64()
                .filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT)
            {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a whole number of at most 53 bits"
                )]
                let integer = float as i64;
                *number = integer.into();
            }
        }
        _ => {}
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            if members.iter().any(|(member, _)| *member == name) {
                return Err(A::Error::custom("a member is given twice"));
            }
            members.push((name, map.next_value()?));
            if members.len() > 1024 {
                return Err(A::Error::custom("an object has more than 1024 members"));
            }
        }
        Ok(Object(members))
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a member")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// Walks a value and keeps nothing of it.
#[derive(Clone, Copy)]
struct Strict {
    levels_left: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let levels_left = self.levels_left.checked_sub(1).ok_or_else(|| {
            E::custom(format_args!(
                "nested more than {MAX_JSON_DEPTH} levels deep"
            ))
        })?;
        Ok(Self { levels_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while items.next_element_seed(deeper)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        let mut names = std::collections::HashSet::new();
        while let Some(Name(name)) = map.next_key()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a member is given twice"));
            }
            map.next_value_seed(deeper)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checked(text: &str) -> Result<(), JsonError> {
        check(serde_json::from_str::<&RawValue>(text)?)
    }

    #[test]
    fn members_given_twice_are_refused_at_every_level_and_in_every_spelling() {
        assert!(Object::parse(br#"{"token":"a","token":"b"}"#).is_err());
        assert!(Object::parse(br#"{"token":"a","\u0074oken":"b"}"#).is_err());
        assert!(checked(r#"[{"a":{"b":1,"b":2}}]"#).is_err());
    }

    #[test]
    fn what_is_no_single_object_is_refused() {
        for text in [
            "",
            "null",
            "[]",
            "1",
            "\"a\"",
            "{",
            "{} {}",
            "{}x",
            "{\"a\":}",
            "{\"a\":NaN}",
            "{'a':1}",
        ] {
            assert!(Object::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Object::parse(b"{\"a\":\"\xff\"}").is_err());
        assert!(Object::parse(b"{\"\xff\":1}").is_err());
    }

    #[test]
    fn the_depth_is_bounded() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(checked(&nested(MAX_JSON_DEPTH - 1)).is_ok());
        assert!(checked(&nested(MAX_JSON_DEPTH)).is_err());
        assert!(checked(&nested(10_000)).is_err());
    }

    #[test]
    fn numbers_and_strings_that_cannot_be_represented_are_refused() {
        assert!(checked("1e999").is_err());
        assert!(checked(r#""\ud800""#).is_err());
        assert!(checked("1.0").is_ok());
    }

    #[test]
    fn equal_values_have_one_canonical_text() {
        let one = canonical(r#"{ "b": [1.0, "\u0041"], "a": null }"#);
        assert_eq!(one, canonical(r#"{"a":null,"b":[1,"A"]}"#));
        assert_ne!(one, canonical(r#"{"a":null,"b":["A",1]}"#));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Object::parse(&bytes);
        }

        #[test]
        fn compacting_changes_no_value(text in r#"\{"[a-z \\\\]{0,4}": ?[0-9]{1,3}, ?"z\\"  ": ?"[ a\\n]{0,3}"\}"#) {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                let compacted = compact(&text);
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&compacted).expect("still JSON"), &value);
                prop_assert!(compacted.len() <= text.len());
            }
        }
    }
}
