//! The change log of the instance: who changed what, and whether the log is intact. An extension of Countersign.

use std::time::SystemTime;

use countersign_protocol::body;
use serde_json::Value;

use crate::client::Client;
use crate::error::Error;
use crate::request::Request;

/// A record of the change log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// The record's number within the log, from 1, without gaps.
    pub sequence: u64,
    /// When the change happened.
    pub at: SystemTime,
    /// The id of the key or machine that asked for the change, or `operator`.
    pub actor: String,
    /// The kind of change, such as `machine.created`.
    pub kind: String,
    /// The id of what changed.
    pub subject: String,
    /// The ids and values that a reader needs to act. Its members depend on the kind.
    pub detail: Value,
}

/// The result of checking the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangeLogReport {
    /// Number of the last record up to which the log is intact.
    pub verified: u64,
    /// Number of the first record that is missing, altered or forged.
    pub first_broken: Option<u64>,
}

/// Lists up to 1000 records of the change log after the number `after`.
#[must_use]
pub fn list_changes(after: u64) -> Request<body::ChangeList> {
    Request::get(format!("/countersign/changes?after={after}"))
}

/// Checks a part of the change log, beginning after the number `after`.
#[must_use]
pub fn verify_changes(after: u64) -> Request<body::ChangeLogReport> {
    Request::get(format!("/countersign/changes/verify?after={after}"))
}

impl Client {
    /// Lists up to 1000 records of the change log after the number `after`, in order.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn list_changes(&self, after: u64) -> Result<Vec<Change>, Error> {
        let list = self.send(list_changes(after)).await?;
        Ok(list.data.into_iter().map(Change::from).collect())
    }

    /// Checks the chain of the whole change log. The authority checks it; this takes several requests for a long log.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn verify_changes(&self) -> Result<ChangeLogReport, Error> {
        let mut after = 0;
        loop {
            let report = self.send(verify_changes(after)).await?;
            let is_further = report.verified > after;
            if report.complete {
                return Ok(ChangeLogReport {
                    verified: report.verified,
                    first_broken: report.first_broken,
                });
            }
            if !is_further {
                return Err(self.malformed("its check of the change log makes no progress"));
            }
            after = report.verified;
        }
    }
}

impl From<body::Change> for Change {
    fn from(change: body::Change) -> Self {
        Self {
            sequence: change.sequence,
            at: change.at.into(),
            actor: change.actor,
            kind: change.kind.as_str().to_owned(),
            subject: change.subject,
            detail: change.detail,
        }
    }
}
