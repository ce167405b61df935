//! Defines the change log as a store keeps it: records in order, each chained to the previous one by HMAC.
//!
//! Each log has its own sequence numbers, without gaps, and never uses a number twice. Each record's chain code covers
//! the previous code, so a missing, altered or forged record is detected. [`Event`] defines the content of a record.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use countersign_protocol::change::{ChangeKind, Cursor, Event, FORMAT_VERSION, Log};
use countersign_protocol::ids::{KeyId, MachineId};
use countersign_protocol::time::Timestamp;

/// The key that chains records.
#[derive(Clone)]
pub struct ChainKey {
    version: u32,
    key: Arc<hmac::Key>,
}

impl fmt::Debug for ChainKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ChainKey")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl ChainKey {
    /// Takes the key's 32 bytes.
    #[must_use]
    pub fn new(version: u32, bytes: &[u8; 32]) -> Self {
        Self {
            version,
            key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
        }
    }

    /// Returns the key version that records name.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Computes the chain code of the record that follows the one with the code `previous`. The first record follows 32
    /// zero bytes.
    #[must_use]
    pub fn link(&self, previous: &[u8; 32], log: Log, change: &Change) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(previous);
        context.update(&change.version.to_be_bytes());
        context.update(&change.sequence.to_be_bytes());
        context.update(&change.at.as_millis().to_be_bytes());
        for text in [
            &log.to_string(),
            &change.actor,
            change.kind.as_str(),
            &change.subject,
            &change.detail,
        ] {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        let mut code = [0; 32];
        code.copy_from_slice(context.sign().as_ref());
        code
    }
}

/// A key that requests a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActingKey {
    /// A key of the instance.
    Instance(KeyId),
    /// A key of one of its machines.
    Machine(MachineId, KeyId),
}

/// Who requests a change, and when. Together with the resulting [`Event`], it becomes a record.
#[derive(Clone, Debug)]
pub struct NewChange {
    /// When the change happens.
    pub at: Timestamp,
    /// Id of the key or machine that requests the change, or `operator`.
    pub actor: String,
    /// The requesting key; `None` for the operator. It is not part of the record. If the key is no longer live when the
    /// change is made, nothing changes.
    pub key: Option<ActingKey>,
    /// The key that chains the record to the previous one.
    pub chain: ChainKey,
}

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Format version of the record.
    pub version: u32,
    /// Its number within the log, from 1.
    pub sequence: u64,
    /// When the change happened.
    pub at: Timestamp,
    /// Id of the key or machine that requested the change, or `operator`.
    pub actor: String,
    /// The kind of change.
    pub kind: ChangeKind,
    /// Id of the object that changed.
    pub subject: String,
    /// The kind-specific members, as a JSON object; [`Change::event`] reads them.
    pub detail: String,
    /// The version of the key that chains the record.
    pub chain_version: u32,
    /// The record's chain code.
    pub code: [u8; 32],
}

impl Change {
    /// Creates the record of `event` that follows the record `last`, given by its number and whole chain code.
    #[must_use]
    pub fn new(new: &NewChange, log: Log, last: Option<(u64, [u8; 32])>, event: &Event) -> Self {
        let (last, previous) = last.unwrap_or((0, [0; 32]));
        let mut change = Self {
            version: FORMAT_VERSION,
            sequence: last + 1,
            at: new.at,
            actor: new.actor.clone(),
            kind: event.kind(),
            subject: event.subject(),
            detail: event.detail(),
            chain_version: new.chain.version(),
            code: [0; 32],
        };
        change.code = new.chain.link(&previous, log, &change);
        change
    }

    /// Reads the event. `None` if this version cannot read the record.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        (self.version == FORMAT_VERSION)
            .then(|| Event::from_stored(self.kind, &self.detail).ok())
            .flatten()
    }

    /// Returns the position of this record.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor::at(self.sequence, &self.code)
    }
}

/// Where to continue reading a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// After the record with this number, without checking its chain code.
    Sequence(u64),
    /// After exactly this record.
    Cursor(Cursor),
}

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// The records after the requested position, in order.
    Listed(Vec<Change>),
    /// The log does not contain the record that the cursor names: its history was replaced.
    UnknownCursor,
}
