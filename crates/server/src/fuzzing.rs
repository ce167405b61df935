//! What a request's head says, for the fuzz target `head`. No part of the product.

use http::{HeaderMap, Method};
use serde::Deserialize;

use crate::app::check_api_version;
use crate::call::only_credential;
use crate::fields::Members;
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
    #[derive(Deserialize)]
    struct Text {
        query: Option<String>,
    }
    #[derive(Deserialize)]
    struct Number {
        limit: Option<i64>,
    }
    #[derive(Deserialize)]
    struct Boolean {
        revoked: Option<bool>,
    }
    let mut members = Members::of_query(Some(query), Habit::Parameters).ok()?;
    let text = members.read().map(|Text { query }| query);
    let number = members.read().map(|Number { limit }| limit);
    let boolean = members.read();
    let boolean = boolean.map(|Boolean { revoked }| revoked.unwrap_or_default());
    Some((text.ok(), number.ok(), boolean.ok()))
}
