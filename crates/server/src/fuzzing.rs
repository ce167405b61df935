//! What a request's head says, for the fuzz target `head`. No part of the product.

use http::{HeaderMap, Method};

use crate::app::check_api_version;
use crate::call::only_credential;
use crate::fields::Query;
use crate::reply::Habit;
use crate::route::{Found, find};

/// The credential that would be looked up.
#[must_use]
pub fn credential(headers: &HeaderMap) -> Option<&str> {
    only_credential(headers)
}

/// The pattern of the operation that would answer, and what stands for its `{…}`.
#[must_use]
pub fn route<'a>(method: &Method, path: &'a str) -> Option<(&'static str, [&'a str; 2])> {
    match find(method, path) {
        Found::Operation(row, captures) => Some((row.path, captures)),
        Found::WrongMethod(_) | Found::Nothing => None,
    }
}

/// Whether the version that is asked for is accepted.
#[must_use]
pub fn is_version_accepted(headers: &HeaderMap, query: &str) -> bool {
    check_api_version(headers, Some(query)).is_ok()
}

/// Parameters of a query: a text, a whole number, a boolean; each `None` where it is refused. `None` for a query that
/// is refused as a whole.
#[must_use]
#[expect(clippy::type_complexity, reason = "read in one place")]
pub fn query(query: &str) -> Option<(Option<Option<String>>, Option<Option<i64>>, Option<bool>)> {
    let mut query = Query::parse(Some(query), Habit::Parameters).ok()?;
    let text = query.text("query").map(|text| text.map(Into::into));
    Some((
        text.ok(),
        query.integer("limit").ok(),
        query.boolean("revoked").ok(),
    ))
}
