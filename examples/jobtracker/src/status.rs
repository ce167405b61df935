//! How far an application is, and what it may become: one table.

use std::fmt;
use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use serde::{Deserialize, Serialize};

/// How far an application is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for JobApplier.
    Queued,
    /// It was sent.
    Submitted,
    /// The company talks with the candidate.
    Interviewing,
    /// The company wants the candidate.
    Offered,
    /// The company does not.
    Rejected,
    /// The candidate does not want it any more.
    Withdrawn,
}

/// Each status, its name, and what an application in it may become.
const TABLE: &[(Status, &str, &[Status])] = {
    use Status::{Interviewing, Offered, Queued, Rejected, Submitted, Withdrawn};
    &[
        (Queued, "queued", &[Submitted, Withdrawn]),
        (Submitted, "submitted", &[Interviewing, Rejected, Withdrawn]),
        (
            Interviewing,
            "interviewing",
            &[Offered, Rejected, Withdrawn],
        ),
        (Offered, "offered", &[]),
        (Rejected, "rejected", &[]),
        (Withdrawn, "withdrawn", &[]),
    ]
};

impl Status {
    /// All of them, from the first to the last.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(status, ..)| *status)
    }

    /// The name, as JSON and the database have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// What an application in this status may become.
    #[must_use]
    pub fn next(self) -> &'static [Self] {
        self.row().2
    }

    /// Whether an application in this status may become that one.
    #[must_use]
    pub fn may_become(self, to: Self) -> bool {
        self.next().contains(&to)
    }

    /// What an application in this status may become, in a clause.
    #[must_use]
    pub fn allowed(self) -> String {
        match self.next() {
            [] => format!("{self} is final"),
            [before @ .., last] => {
                let before: Vec<_> = before.iter().map(|status| status.as_str()).collect();
                format!("it may become {} or {last}", before.join(", "))
            }
        }
    }

    fn row(self) -> &'static (Self, &'static str, &'static [Self]) {
        TABLE
            .iter()
            .find(|(status, ..)| *status == self)
            .expect("the table has a row for each status")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| {
                let names: Vec<_> = Self::all().map(Self::as_str).collect();
                format!("'{text}' is no status; one of {} is", names.join(", "))
            })
    }
}

impl FromSql for Status {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value
            .as_str()?
            .parse()
            .map_err(|error: String| FromSqlError::Other(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_goes_from_the_queue_to_an_offer_and_no_step_is_left_out() {
        let way = [
            Status::Queued,
            Status::Submitted,
            Status::Interviewing,
            Status::Offered,
        ];
        for (place, from) in way.iter().enumerate() {
            for (other, to) in way.iter().enumerate() {
                assert_eq!(from.may_become(*to), other == place + 1, "{from} to {to}");
            }
        }
    }

    #[test]
    fn what_is_open_can_be_withdrawn_and_what_is_closed_is_final() {
        for status in Status::all() {
            assert_eq!(
                status.may_become(Status::Withdrawn),
                !status.next().is_empty()
            );
        }
        assert_eq!(Status::Offered.allowed(), "offered is final");
        assert_eq!(
            Status::Queued.allowed(),
            "it may become submitted or withdrawn"
        );
    }

    #[test]
    fn each_name_is_the_same_in_json_and_in_the_database() {
        for status in Status::all() {
            let json = serde_json::to_value(status).unwrap();
            assert_eq!(json, status.as_str());
            assert_eq!(status.as_str().parse(), Ok(status));
        }
    }
}
