//! Reading the change log, and proving that nobody touched it.

use countersign_store::{Change, NewChange};
use serde::Serialize;

use crate::Authority;
use crate::actor::Actor;
use crate::error::Error;

/// How many entries are read at once.
const PAGE: u32 = 1000;

/// What came of checking a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// How many entries are whole.
    pub verified: u64,
    /// The number of the first entry that is missing, changed or planted.
    pub first_broken: Option<u64>,
}

impl Authority {
    /// Up to 1000 entries of the change log with a number above `after`.
    ///
    /// # Errors
    /// Where the actor is a machine, or the store's error.
    pub async fn list_changes(&self, actor: &Actor, after: u64) -> Result<Vec<Change>, Error> {
        actor.require_instance()?;
        Ok(self
            .store
            .list_changes(actor.instance_id(), after, PAGE)
            .await?)
    }

    /// Follows the chain of the whole log.
    ///
    /// # Errors
    /// Where the actor is a machine, or the store's error.
    pub async fn verify_audit(&self, actor: &Actor) -> Result<AuditReport, Error> {
        actor.require_instance()?;
        let mut previous = [0; 32];
        let mut verified = 0;
        loop {
            let changes = self
                .store
                .list_changes(actor.instance_id(), verified, PAGE)
                .await?;
            if changes.is_empty() {
                return Ok(AuditReport {
                    verified,
                    first_broken: None,
                });
            }
            for change in changes {
                if change.sequence != verified + 1 || !self.is_linked(actor, &previous, &change) {
                    return Ok(AuditReport {
                        verified,
                        first_broken: Some(verified + 1),
                    });
                }
                previous = change.code;
                verified = change.sequence;
            }
        }
    }

    fn is_linked(&self, actor: &Actor, previous: &[u8; 32], change: &Change) -> bool {
        let Some(chain) = self.vault.chain_of_version(change.chain_version) else {
            return false;
        };
        let as_written = NewChange {
            instance: actor.instance_id(),
            at: change.at,
            actor: change.actor.clone(),
            key: None,
            kind: change.kind,
            subject: change.subject.clone(),
            detail: change.detail.clone(),
            chain: chain.clone(),
        };
        chain.link(previous, change.sequence, &as_written) == change.code
    }
}
