//! Checks values that several kinds of objects have.

use countersign_protocol::limits::{DEFAULT_PAGE, MAX_NAME_LENGTH, MAX_SAFE_INTEGER};
use countersign_protocol::page::Page;

use crate::error::{Error, Problem, invalid, invalid_query};

/// Checks a display name: 1 to 255 characters, without NUL.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(invalid("name", Problem::TooShort(1)));
    }
    check_text("name", name, MAX_NAME_LENGTH)
}

/// Checks a free text: at most `most` characters, without NUL.
pub(crate) fn check_text(name: &'static str, text: &str, most: usize) -> Result<(), Error> {
    if text.chars().count() > most {
        return Err(invalid(name, Problem::TooLong(most)));
    }
    if text.contains('\0') {
        let rule = "must not contain the character U+0000";
        return Err(invalid(name, Problem::WrongFormat(rule.into())));
    }
    Ok(())
}

/// Checks a number in the query.
pub(crate) fn check_range(
    name: &'static str,
    number: i64,
    least: i64,
    most: i64,
) -> Result<(), Error> {
    if number < least {
        let rule = format!("must be at least {least}");
        return Err(invalid_query(name, Problem::NotAllowed(rule.into())));
    }
    if number > most {
        return Err(invalid_query(name, Problem::TooLarge(most)));
    }
    Ok(())
}

/// Returns the part of a list that `limit` and `offset` request.
pub(crate) fn page(limit: Option<i64>, offset: Option<i64>, most: i64) -> Result<Page, Error> {
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    check_range("limit", limit, 1, most)?;
    let offset = offset.unwrap_or(0);
    check_range("offset", offset, 0, MAX_SAFE_INTEGER)?;
    Ok(Page {
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        offset: u64::try_from(offset).unwrap_or_default(),
    })
}

/// Converts the number of all matches for a body.
pub(crate) fn total(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_defaults_and_bounds() {
        let wrong = |limit, offset| page(limit, offset, 100).expect_err("wrong").to_string();
        let first = page(None, None, 100).expect("the first page");
        assert_eq!((first.limit, first.offset), (10, 0));
        let other = page(Some(100), Some(7), 100).expect("another page");
        assert_eq!((other.limit, other.offset), (100, 7));
        assert_eq!(wrong(Some(0), None), "limit must be at least 1");
        assert_eq!(wrong(Some(101), None), "limit must be at most 100");
        assert_eq!(wrong(None, Some(-1)), "offset must be at least 0");
        assert_eq!(
            wrong(Some(0), Some(-1)),
            "limit must be at least 1",
            "limit is checked first"
        );
    }
}
