//! Values of requests whose bounds are part of their types. The bounds are declared here only: the check and the schema both
//! come from them.
//!
//! A value is read without a check, because problems are reported in this order: types, unknown members, bounds. Only the check gives
//! access to the value.

use serde::{Deserialize, Serialize};

use crate::limits::{
    MAX_NAME_LENGTH, MAX_PREVIOUS_TOKEN_TTL_SECONDS, MAX_REASON_LENGTH, MAX_SAFE_INTEGER,
    MAX_TOKEN_TTL_SECONDS,
};
use crate::problem::Problem;

/// A name for people.
pub type Name = Text<1, MAX_NAME_LENGTH>;
/// Why a token is revoked.
pub type Reason = Text<0, MAX_REASON_LENGTH>;
/// How long the tokens of a machine live.
pub type TokenTtl = Seconds<1, MAX_TOKEN_TTL_SECONDS>;
/// How long older keys go on working.
pub type PreviousTtl = Seconds<0, MAX_PREVIOUS_TOKEN_TTL_SECONDS>;
/// A number of items or records.
pub type Count = Whole<0, MAX_SAFE_INTEGER>;

/// A text of `LEAST` to `MOST` characters, none of which is NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<const LEAST: usize, const MOST: usize>(String);

impl<const LEAST: usize, const MOST: usize> Text<LEAST, MOST> {
    /// Returns the text.
    ///
    /// # Errors
    /// If it is out of bounds.
    pub fn checked(self) -> Result<String, Problem> {
        let length = self.0.chars().count();
        if length < LEAST {
            return Err(Problem::TooShort(LEAST));
        }
        if length > MOST {
            return Err(Problem::TooLong(MOST));
        }
        if self.0.contains('\0') {
            return Err(no_nul());
        }
        Ok(self.0)
    }
}

impl<const LEAST: usize, const MOST: usize, T: Into<String>> From<T> for Text<LEAST, MOST> {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// A whole number from `LEAST` to `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Whole<const LEAST: i64, const MOST: i64>(i64);

impl<const LEAST: i64, const MOST: i64> Whole<LEAST, MOST> {
    /// Returns the number.
    ///
    /// # Errors
    /// If it is out of bounds.
    pub fn checked(self) -> Result<i64, Problem> {
        within(self.0, LEAST, MOST, "")
    }
}

impl<const LEAST: i64, const MOST: i64> From<i64> for Whole<LEAST, MOST> {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

/// A number of whole seconds from `LEAST` to `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds<const LEAST: i64, const MOST: i64>(i64);

impl<const LEAST: i64, const MOST: i64> Seconds<LEAST, MOST> {
    const UNIT: &str = if LEAST == 1 { " second" } else { " seconds" };

    /// Returns the number of seconds.
    ///
    /// # Errors
    /// If it is out of bounds.
    pub fn checked(self) -> Result<i64, Problem> {
        within(self.0, LEAST, MOST, Self::UNIT)
    }
}

impl<const LEAST: i64, const MOST: i64> From<i64> for Seconds<LEAST, MOST> {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

fn within(number: i64, least: i64, most: i64, unit: &str) -> Result<i64, Problem> {
    if number < least {
        return Err(at_least(least, unit));
    }
    if number > most {
        return Err(Problem::TooLarge(most));
    }
    Ok(number)
}

/// The problem of a number that is too small. `unit` is empty, or stands behind the bound.
#[must_use]
pub fn at_least(least: i64, unit: &str) -> Problem {
    Problem::NotAllowed(format!("must be at least {least}{unit}").into())
}

/// The problem of a number that must be greater than another one.
#[must_use]
pub fn greater_than(number: i64) -> Problem {
    Problem::NotAllowed(format!("must be greater than {number}").into())
}

/// The problem of a text with a NUL, which some databases cannot store.
#[must_use]
pub fn no_nul() -> Problem {
    Problem::WrongFormat("must not contain the character U+0000".into())
}

/// How long a token lives, in seconds: more than 0, and at most `MAX_TOKEN_TTL_SECONDS`. Fractions are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lifetime(f64);

impl Lifetime {
    /// Returns the lifetime in whole milliseconds, at least one. `most` is the bound in seconds, where a lower one applies.
    ///
    /// # Errors
    /// If it is out of bounds.
    pub fn millis(self, most: i64) -> Result<i64, Problem> {
        let most = most.min(MAX_TOKEN_TTL_SECONDS);
        if self.0.is_nan() || self.0 <= 0.0 {
            return Err(greater_than(0));
        }
        #[expect(clippy::cast_precision_loss, reason = "the bound is far below 53 bits")]
        if self.0 > most as f64 {
            return Err(Problem::TooLarge(most));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the lines before bound the number"
        )]
        let millis = (self.0 * 1000.0).round() as i64;
        Ok(millis.max(1))
    }
}

impl From<f64> for Lifetime {
    fn from(seconds: f64) -> Self {
        Self(seconds)
    }
}

#[cfg(feature = "schema")]
mod schemas {
    //! The same bounds as JSON Schema.

    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{Lifetime, MAX_TOKEN_TTL_SECONDS, Seconds, Text, Whole};
    use crate::schema::NO_NUL;

    impl<const LEAST: usize, const MOST: usize> JsonSchema for Text<LEAST, MOST> {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "Text".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            let mut schema =
                json_schema!({ "type": "string", "maxLength": MOST, "pattern": NO_NUL });
            if LEAST > 0 {
                schema.insert("minLength".to_owned(), LEAST.into());
            }
            schema
        }
    }

    impl<const LEAST: i64, const MOST: i64> JsonSchema for Whole<LEAST, MOST> {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "Whole".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            let mut schema =
                json_schema!({ "type": "integer", "format": "int64", "minimum": LEAST });
            if MOST < i64::MAX {
                schema.insert("maximum".to_owned(), MOST.into());
            }
            schema
        }
    }

    impl<const LEAST: i64, const MOST: i64> JsonSchema for Seconds<LEAST, MOST> {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "Seconds".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let mut schema = Whole::<LEAST, MOST>::json_schema(generator);
            schema.insert("x-unit".to_owned(), Self::UNIT.into());
            schema
        }
    }

    crate::schema::in_place!(
        Lifetime,
        "Lifetime",
        json_schema!({ "type": "number", "format": "double", "exclusiveMinimum": 0, "maximum": MAX_TOKEN_TTL_SECONDS })
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_in_characters() {
        let checked = |text: &str| Text::<1, 3>::from(text).checked();
        assert_eq!(checked("éàü"), Ok("éàü".to_owned()));
        assert_eq!(checked(""), Err(Problem::TooShort(1)));
        assert_eq!(checked("abcd"), Err(Problem::TooLong(3)));
        assert!(matches!(checked("a\0"), Err(Problem::WrongFormat(_))));
    }

    #[test]
    fn numbers_are_bounded_and_the_error_names_the_unit() {
        let refused = |problem: Result<i64, Problem>| problem.expect_err("refused").to_string();
        assert_eq!(Whole::<0, 9>::from(9).checked(), Ok(9));
        assert_eq!(
            refused(Whole::<0, 9>::from(-1).checked()),
            "must be at least 0"
        );
        assert_eq!(
            refused(Whole::<0, 9>::from(10).checked()),
            "must be at most 9"
        );
        assert_eq!(
            refused(TokenTtl::from(0).checked()),
            "must be at least 1 second"
        );
        assert_eq!(
            refused(PreviousTtl::from(-1).checked()),
            "must be at least 0 seconds"
        );
    }

    #[test]
    fn lifetimes_are_bounded_and_keep_their_fractions() {
        let millis = |seconds: f64| Lifetime::from(seconds).millis(10);
        assert_eq!(millis(0.5), Ok(500));
        assert_eq!(millis(1e-9), Ok(1));
        assert_eq!(millis(10.0), Ok(10_000));
        for seconds in [
            0.0,
            -1.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            10.001,
            1e300,
        ] {
            assert!(millis(seconds).is_err(), "{seconds}");
        }
    }
}
