//! Reading the change log, and checking its chain.

use countersign_protocol::body;
use countersign_protocol::bounds::Count;
use countersign_protocol::change::Log;
use countersign_store::{After, Change, Changes};
use serde_json::Value;

use crate::Authority;
use crate::actor::Actor;
use crate::error::{Error, Problem, invalid_query};
use crate::rules::count;

/// Number of records that are read at a time.
const PAGE: u32 = 1000;

/// Number of pages that one check reads at most, so that it takes a bounded time.
const MAX_PAGES: usize = 20;

/// The result of checking a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// Number of the last record up to which the log is intact.
    pub verified: u64,
    /// Number of the first record that is missing, altered or forged.
    pub first_broken: Option<u64>,
    /// Whether the check reached the end of the log, or a broken record.
    pub is_complete: bool,
}

impl Authority {
    /// Lists up to 1000 records of the change log after the number `after`, in order.
    ///
    /// # Errors
    /// [`Error::Invalid`], a refusal if the actor is a machine, or the store's error.
    pub async fn list_changes(
        &self,
        actor: &Actor,
        after: Option<Count>,
    ) -> Result<Vec<body::Change>, Error> {
        actor.require_instance()?;
        let after = count("after", after)?;
        let changes = self.changes_after(actor, after).await?;
        Ok(changes.into_iter().map(change_body).collect())
    }

    /// Follows the chain of the log, beginning with the record after the number `after`, for 20,000 records at most. If
    /// the report is not complete, the next check begins after the number that this one verified.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the log has no record of this number, a refusal if the actor is a machine, or the store's
    /// error.
    pub async fn verify_audit(
        &self,
        actor: &Actor,
        after: Option<Count>,
    ) -> Result<AuditReport, Error> {
        actor.require_instance()?;
        let mut verified = count("after", after)?;
        let log = Log::Instance(actor.instance_id());
        let mut previous = self.code_of(actor, verified).await?;
        for _ in 0..MAX_PAGES {
            let changes = self.changes_after(actor, verified).await?;
            if changes.is_empty() {
                return Ok(AuditReport {
                    verified,
                    first_broken: None,
                    is_complete: true,
                });
            }
            for change in changes {
                if change.sequence != verified + 1 || !self.is_linked(log, &previous, &change) {
                    return Ok(AuditReport {
                        verified,
                        first_broken: Some(verified + 1),
                        is_complete: true,
                    });
                }
                previous = change.code;
                verified = change.sequence;
            }
        }
        Ok(AuditReport {
            verified,
            first_broken: None,
            is_complete: false,
        })
    }

    /// Returns the chain code of a record, from which the next one continues.
    async fn code_of(&self, actor: &Actor, sequence: u64) -> Result<[u8; 32], Error> {
        let Some(before) = sequence.checked_sub(1) else {
            return Ok([0; 32]);
        };
        let changes = self.changes_after(actor, before).await?;
        let found = changes.first().filter(|change| change.sequence == sequence);
        let rule = "must be the number of a record of the change log";
        found
            .map(|change| change.code)
            .ok_or_else(|| invalid_query("after", Problem::NotAllowed(rule.into())))
    }

    async fn changes_after(&self, actor: &Actor, after: u64) -> Result<Vec<Change>, Error> {
        let log = Log::Instance(actor.instance_id());
        match self
            .store
            .list_changes(log, After::Sequence(after), PAGE)
            .await?
        {
            Changes::Listed(changes) => Ok(changes),
            Changes::UnknownCursor => Err(Error::Fault("a bare number is not a cursor".to_owned())),
        }
    }

    fn is_linked(&self, log: Log, previous: &[u8; 32], change: &Change) -> bool {
        self.vault
            .chain_of_version(change.chain_version)
            .is_some_and(|chain| chain.link(previous, log, change) == change.code)
    }
}

fn change_body(change: Change) -> body::Change {
    body::Change {
        actor: change.actor,
        at: change.at,
        detail: serde_json::from_str(&change.detail).unwrap_or(Value::Null),
        kind: change.kind,
        object: body::ChangeTag::Tag,
        sequence: change.sequence,
        subject: change.subject,
    }
}
