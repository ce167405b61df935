//! Checks what several kinds of lists have.

use countersign_protocol::bounds::{Count, Whole};
use countersign_protocol::limits::DEFAULT_PAGE;
use countersign_protocol::page::Page;

use crate::error::{Error, invalid_query};

/// Returns the part of a list that `limit` and `offset` request.
pub(crate) fn page<const MOST: i64>(
    limit: Option<Whole<1, MOST>>,
    offset: Option<Count>,
) -> Result<Page, Error> {
    let limit = limit.map_or(Ok(DEFAULT_PAGE), Whole::checked);
    let limit = limit.map_err(|problem| invalid_query("limit", problem))?;
    let offset = count("offset", offset)?;
    Ok(Page {
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        offset,
    })
}

/// Returns a number in the query, 0 where it is absent.
pub(crate) fn count(name: &'static str, count: Option<Count>) -> Result<u64, Error> {
    let count = count.map_or(Ok(0), Whole::checked);
    let count = count.map_err(|problem| invalid_query(name, problem))?;
    Ok(u64::try_from(count).unwrap_or_default())
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
        let page = |limit: Option<i64>, offset: Option<i64>| {
            page::<100>(limit.map(Whole::from), offset.map(Whole::from))
        };
        let wrong = |limit, offset| page(limit, offset).expect_err("wrong").to_string();
        let first = page(None, None).expect("the first page");
        assert_eq!((first.limit, first.offset), (10, 0));
        let other = page(Some(100), Some(7)).expect("another page");
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
