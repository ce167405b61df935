//! Keeps this process's state outside the store in step with the change log.
//!
//! The opened signing keys are the only such state. They are read again when a record says that they changed. An
//! operation of this process catches up before it answers. [`Authority::follow`] catches up with the changes of other
//! processes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use countersign_protocol::change::{ChangeKind, Cursor, Log};
use countersign_protocol::ids::InstanceId;
use countersign_store::{After, Change, Changes, Store};
use tokio::sync::Mutex;

use crate::Authority;
use crate::error::{Error, instance_not_found, keep_first};
use crate::rings::{Ring, Rings};
use crate::vault::Vault;

/// Number of records that are read at a time.
const PAGE: u32 = 100;
/// Time between two rounds, so that one round handles many records of a busy authority.
const PAUSE: Duration = Duration::from_millis(100);
/// Maximum time between two rounds while the store fails.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Applies records of the change log to the state in memory.
pub(crate) struct Follower {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    rings: Rings,
    /// Position of the last applied record of each log. Locked while records are applied, so that only one task applies
    /// records.
    places: Mutex<HashMap<Log, Cursor>>,
}

impl Follower {
    pub(crate) fn new(store: Arc<dyn Store>, vault: Arc<Vault>) -> Self {
        Self {
            store,
            vault,
            rings: Rings::default(),
            places: Mutex::default(),
        }
    }

    /// Returns the opened signing keys of an instance.
    pub(crate) fn ring(&self, instance: InstanceId) -> Option<Arc<Ring>> {
        self.rings.of(instance)
    }

    /// Returns the opened signing keys of an existing instance, even if another process created it a moment ago.
    pub(crate) async fn ring_of(&self, instance: InstanceId) -> Result<Arc<Ring>, Error> {
        if let Some(ring) = self.ring(instance) {
            return Ok(ring);
        }
        // Boxed, so that this rare case does not enlarge the future of every issue.
        Box::pin(self.catch_up(Log::Instance(instance))).await?;
        self.ring(instance)
            .ok_or_else(|| instance_not_found(instance))
    }

    /// Opens the signing keys of an instance again, regardless of the log.
    pub(crate) async fn reload(&self, instance: InstanceId) -> Result<(), Error> {
        let _turn = self.places.lock().await;
        self.reload_ring(instance).await
    }

    /// Applies the records of a log that were not applied yet.
    pub(crate) async fn catch_up(&self, log: Log) -> Result<(), Error> {
        let mut places = self.places.lock().await;
        let Some(mut place) = places.get(&log).copied() else {
            return self.start(&mut places, log).await;
        };
        let head = self.store.log_head(log).await?;
        while place != head {
            let changes = match self
                .store
                .list_changes(log, After::Cursor(place), PAGE)
                .await?
            {
                Changes::Listed(changes) => changes,
                Changes::UnknownCursor => {
                    tracing::error!(
                        %log,
                        sequence = place.sequence,
                        "the history of the change log was replaced; reading everything again"
                    );
                    return self.start(&mut places, log).await;
                }
            };
            let Some(last) = changes.last() else {
                break;
            };
            for instance in rings_changed_by(log, &changes) {
                self.reload_ring(instance).await?;
            }
            place = last.cursor();
            places.insert(log, place);
            // New records may follow the head that was read.
            if place.sequence >= head.sequence {
                break;
            }
        }
        Ok(())
    }

    /// Catches up with the authority's log and with the logs of all instances, including new ones.
    pub(crate) async fn catch_up_all(&self) -> Result<(), Error> {
        let mut outcome = self.catch_up(Log::Authority).await;
        for instance in self.store.list_instances().await? {
            let caught_up = self.catch_up(Log::Instance(instance.id)).await;
            keep_first(&mut outcome, caught_up);
        }
        outcome
    }

    /// Waits until there are more than `seen` records, and catches up with them. Returns the number of records.
    async fn round(&self, seen: u64) -> Result<u64, Error> {
        let held = self.store.wait_for_changes(seen).await?;
        self.catch_up_all().await?;
        Ok(held)
    }

    /// Reads the current state that a log describes, and continues after the log's last record.
    async fn start(&self, places: &mut HashMap<Log, Cursor>, log: Log) -> Result<(), Error> {
        // The head is read first. A later change may be applied twice, but none is missed.
        let head = self.store.log_head(log).await?;
        if let Log::Instance(instance) = log {
            self.reload_ring(instance).await?;
        }
        places.insert(log, head);
        Ok(())
    }

    async fn reload_ring(&self, instance: InstanceId) -> Result<(), Error> {
        self.rings.reload(&*self.store, &self.vault, instance).await
    }
}

/// Returns the instances whose signing keys these records changed.
fn rings_changed_by(log: Log, changes: &[Change]) -> BTreeSet<InstanceId> {
    let changed = changes
        .iter()
        .filter_map(|change| match (change.kind, log) {
            (
                ChangeKind::SigningKeyPublished
                | ChangeKind::SigningKeyActivated
                | ChangeKind::SigningKeyDeleted,
                Log::Instance(instance),
            ) => Some(instance),
            // The subject of such a record is the new instance.
            (ChangeKind::InstanceCreated, _) => change.subject.parse().ok(),
            _ => None,
        });
    changed.collect()
}

impl Authority {
    /// Follows the change log, so that this process sees changes by other processes. Never returns: spawn it, and abort
    /// it at shutdown.
    pub async fn follow(&self) {
        let mut seen = 0;
        let mut pause = PAUSE;
        loop {
            match self.follower.round(seen).await {
                Ok(held) => {
                    seen = held;
                    pause = PAUSE;
                }
                Err(error) => {
                    pause = (2 * pause).min(MAX_PAUSE);
                    tracing::warn!(%error, "cannot follow the change log; retrying");
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_protocol::time::Timestamp;

    use super::*;

    fn change(kind: ChangeKind, subject: &str) -> Change {
        Change {
            version: 1,
            sequence: 1,
            at: Timestamp::EPOCH,
            actor: "operator".to_owned(),
            kind,
            subject: subject.to_owned(),
            detail: "{}".to_owned(),
            chain_version: 1,
            code: [0; 32],
        }
    }

    #[test]
    fn records_of_signing_keys_and_new_instances_change_rings_and_no_others_do() {
        let id: InstanceId = "ins_000000000000000000000000001".parse().expect("an id");
        let new: InstanceId = "ins_000000000000000000000000002".parse().expect("an id");
        let changed = |log, kind| {
            let changes = [change(kind, new.as_str()), change(kind, new.as_str())];
            Vec::from_iter(rings_changed_by(log, &changes))
        };
        for kind in ChangeKind::ALL {
            let in_instance = match kind {
                ChangeKind::SigningKeyPublished
                | ChangeKind::SigningKeyActivated
                | ChangeKind::SigningKeyDeleted => vec![id],
                ChangeKind::InstanceCreated => vec![new],
                _ => Vec::new(),
            };
            assert_eq!(changed(Log::Instance(id), *kind), in_instance, "{kind}");
            let in_authority =
                Vec::from_iter((*kind == ChangeKind::InstanceCreated).then_some(new));
            assert_eq!(changed(Log::Authority, *kind), in_authority, "{kind}");
        }
    }
}
