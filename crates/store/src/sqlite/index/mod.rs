//! Keeps data in memory, so that a verification need not read the database: all instances, machines and keys in the
//! [`directory`], and tokens in a bounded [`guarded`] cache.
//!
//! Both guarantee: *once a change is acknowledged, no read that starts later returns the old state.* The writer applies
//! the [`Effect`]s of a commit in order, after the commit and before any answer.

mod directory;
mod entry;
mod guarded;
mod hash;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_protocol::change::{Cursor, Log};
use countersign_protocol::ids::{Locator, SigningKeyId};

pub(super) use self::directory::{Directory, MachineSlot};
pub(super) use self::entry::{Bytes, TokenEntry};
pub(super) use self::guarded::GuardedCache;
pub(super) use self::hash::NumberHash;
use super::rows::{RawToken, Texts};
use crate::instances::Instance;
use crate::keys::{Digest, InstanceKeyRow, MachineKeyRow, SigningKeyState};
use crate::machines::MachineRow;

/// The effect of a committed change on the index.
#[derive(Debug)]
pub(super) enum Effect {
    /// A token was inserted.
    AddToken(RawToken),
    /// A token was changed.
    PutToken(RawToken),
    /// A token was deleted.
    RemoveToken(Locator),
    /// The machine with this number was inserted or changed.
    PutMachine(i64, Arc<MachineRow>),
    /// The machine with this number was deleted.
    RemoveMachine(i64),
    /// A machine key was inserted or changed.
    PutMachineKey(Arc<MachineKeyRow>),
    /// A machine key was deleted.
    RemoveMachineKey(Digest),
    /// The instance with this number was inserted or changed.
    PutInstance(i64, Arc<Instance>),
    /// The instance with this number now has these signing keys.
    PutSigningKeys(i64, Vec<(SigningKeyId, SigningKeyState)>),
    /// An instance key was inserted.
    PutInstanceKey(Arc<InstanceKeyRow>),
    /// An instance key was revoked or deleted.
    RemoveInstanceKey(Digest),
}

impl Effect {
    /// Returns whether the effect changes no machine, instance or key.
    pub(super) fn is_of_token(&self) -> bool {
        matches!(
            self,
            Self::AddToken(_) | Self::PutToken(_) | Self::RemoveToken(_)
        )
    }
}

/// All data that is kept in memory.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) tokens: GuardedCache<Locator, TokenEntry, Bytes>,
    pub(super) directory: Directory,
    pub(super) texts: Texts,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}

impl Index {
    /// Creates an empty index with room for `token_bytes` of tokens.
    pub(super) fn new(token_bytes: u64) -> Self {
        Self {
            tokens: GuardedCache::new(token_bytes, Bytes::TOKEN, Bytes),
            directory: Directory::default(),
            texts: Texts::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Returns the entry of a token, from memory or from the database through `read`. `None` if the token does not
    /// exist or its machine is deleted.
    pub(super) fn token<E>(
        &self,
        locator: Locator,
        read: impl FnOnce() -> Result<Option<RawToken>, E>,
    ) -> Result<Option<TokenEntry>, E> {
        if let Some(entry) = self.tokens.get(&locator) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(entry));
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let watch = self.tokens.watch(&locator);
        let entry = read()?.and_then(|raw| self.entry(raw));
        if let Some(entry) = &entry {
            self.tokens.fill(watch, locator, entry.clone());
        }
        Ok(entry)
    }

    /// Builds the entry of a token that was read; `None` if its machine is deleted.
    pub(super) fn entry(&self, raw: RawToken) -> Option<TokenEntry> {
        let machine: Arc<MachineSlot> = self.directory.machine_slot(raw.machine)?;
        Some(TokenEntry::new(raw, machine))
    }

    /// Applies an effect. The writer calls it after each commit, in the order of commits, before any answer.
    pub(super) fn apply(&self, effect: Effect) {
        let directory = &self.directory;
        match effect {
            Effect::AddToken(raw) => {
                let locator = raw.id.locator();
                if let Some(entry) = self.entry(raw) {
                    self.tokens.add(locator, entry);
                }
            }
            Effect::PutToken(raw) => {
                let locator = raw.id.locator();
                match self.entry(raw) {
                    Some(entry) => self.tokens.put(locator, entry),
                    None => self.tokens.remove(&locator),
                }
            }
            Effect::RemoveToken(locator) => self.tokens.remove(&locator),
            Effect::PutMachine(number, row) => directory.put_machine(number, row),
            Effect::RemoveMachine(number) => directory.remove_machine(number),
            Effect::PutMachineKey(row) => directory.put_machine_key(row),
            Effect::RemoveMachineKey(digest) => directory.remove_machine_key(digest),
            Effect::PutInstance(number, instance) => directory.put_instance(number, instance),
            Effect::PutSigningKeys(number, keys) => directory.put_signing_keys(number, keys),
            Effect::PutInstanceKey(row) => directory.put_instance_key(row),
            Effect::RemoveInstanceKey(digest) => directory.remove_instance_key(digest),
        }
    }

    /// Advances the heads of logs. The writer calls it after all effects of the appended records.
    pub(super) fn appended(&self, records: &[(Log, Cursor)]) {
        for (log, cursor) in records {
            self.directory.put_head(*log, *cursor);
        }
        if !records.is_empty() {
            self.directory.count_records(records.len() as u64);
        }
    }
}
