//! Strict JSON: one object, UTF-8, each member once, bounded depth, nothing behind it.
//!
//! Two parsers that disagree about a document are a way past one of them, so what is ambiguous is refused. The values keep
//! their text: `claims` are stored and answered as they came.

use std::borrow::Cow;
use std::collections::BTreeMap;
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
        use serde_json::error::Category;
        let what = match error.classify() {
            Category::Eof => "the text ends too early",
            // Only the visitors below speak here, in fixed words.
            Category::Data => return Self(error.to_string()),
            Category::Syntax | Category::Io => "the text is no JSON",
        };
        Self(format!(
            "{what} (line {}, column {})",
            error.line(),
            error.column()
        ))
    }
}

/// How many members an object may have.
pub const MAX_MEMBERS: usize = 1024;
/// How many members an object within a value may have: a few less, so that a JWT with claims of a caller stays within
/// [`MAX_MEMBERS`].
const MAX_MEMBERS_WITHIN: usize = 1000;

/// An object whose members are still text, in the order of the document.
#[derive(Debug, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads a document that must be one object.
    ///
    /// # Errors
    /// Where the text is no JSON object, has a member twice at its top level, or has something behind it.
    pub fn parse(text: &'a [u8]) -> Result<Self, JsonError> {
        Self::parse_up_to(MAX_MEMBERS, text)
    }

    /// The same with a bound of its own on the number of members, whose names are all compared.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_up_to(max_members: usize, text: &'a [u8]) -> Result<Self, JsonError> {
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(JsonError("the text is no JSON object".to_owned()));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let object = deserializer.deserialize_any(ObjectVisitor { max_members })?;
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

/// The text that a value is; `None` where it is something else.
#[must_use]
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let Text(text) = serde_json::from_str(value.get()).ok()?;
    Some(text)
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
/// Numbers that 64 bits cannot hold exactly keep their digits: two of them are equal where they are written alike.
///
/// # Errors
/// Where the text is no JSON.
pub fn canonical(text: &str) -> Result<String, JsonError> {
    let mut canonical = String::with_capacity(text.len());
    write_canonical(serde_json::from_str(text)?, &mut canonical)?;
    Ok(canonical)
}

fn write_canonical(value: &RawValue, out: &mut String) -> Result<(), JsonError> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            out.push('{');
            for (place, (name, member)) in members.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::to_string(&name)?);
                out.push(':');
                write_canonical(member, out)?;
            }
            out.push('}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            out.push('[');
            for (place, item) in items.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_canonical(item, out)?;
            }
            out.push(']');
        }
        Some(b'"') => out.push_str(&serde_json::to_string(&serde_json::from_str::<String>(
            text,
        )?)?),
        Some(b'-' | b'0'..=b'9') => out.push_str(&canonical_number(text)),
        _ => out.push_str(text),
    }
    Ok(())
}

/// `1.0`, `1e0` and `1` are one number.
fn canonical_number(text: &str) -> Cow<'_, str> {
    /// Decimal digits that every 64-bit float keeps apart.
    const EXACT_DIGITS: usize = 15;
    let is_exact = text.bytes().filter(u8::is_ascii_digit).count() <= EXACT_DIGITS;
    match serde_json::from_str::<f64>(text) {
        Ok(number) if is_exact => Cow::Owned(format!("{:?}", number + 0.0)),
        _ => Cow::Borrowed(text),
    }
}

struct ObjectVisitor {
    max_members: usize,
}

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(8);
        while let Some(Text(name)) = map.next_key()? {
            if members.iter().any(|(member, _)| *member == name) {
                return Err(A::Error::custom("a member is given twice"));
            }
            members.push((name, map.next_value()?));
            if members.len() > self.max_members {
                return Err(too_many());
            }
        }
        Ok(Object(members))
    }
}

fn too_many<E: serde::de::Error>() -> E {
    E::custom("an object has too many members")
}

/// A text, borrowed where it has no escapes.
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(TextVisitor)
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
        while let Some(Text(name)) = map.next_key()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a member is given twice"));
            }
            if names.len() > MAX_MEMBERS_WITHIN {
                return Err(too_many());
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
    fn the_number_of_members_is_bounded_everywhere() {
        let object = |count: usize| {
            let members: Vec<_> = (0..count)
                .map(|number| format!("\"m{number}\":0"))
                .collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(checked(&object(MAX_MEMBERS_WITHIN)).is_ok());
        assert!(checked(&object(MAX_MEMBERS_WITHIN + 1)).is_err());
        assert!(checked(&format!("[{}]", object(MAX_MEMBERS_WITHIN + 1))).is_err());
        assert!(Object::parse(object(MAX_MEMBERS).as_bytes()).is_ok());
        assert!(Object::parse(object(MAX_MEMBERS + 1).as_bytes()).is_err());
    }

    #[test]
    fn an_error_repeats_nothing_of_the_text() {
        for text in [
            "\"sk_live_secret\"",
            "[\"sk_live_secret\"]",
            "{\"sk_live_secret\"}",
            "{\"a\":sk_live_secret}",
            "sk_live_secret",
        ] {
            let error = Object::parse(text.as_bytes())
                .expect_err("refused")
                .to_string();
            assert!(!error.contains("sk_live"), "{error}");
        }
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
        assert_eq!(
            canonical("[1.50,1e3,-0.0,{}]"),
            canonical("[1.5, 1000, 0, { }]")
        );
        assert_ne!(
            canonical("123456789012345678901"),
            canonical("123456789012345678902")
        );
        assert_ne!(canonical("9007199254740993"), canonical("9007199254740992"));
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
