//! The change log: what changed, by whom, chained by HMAC.
//!
//! Sequence numbers count per instance, without gaps, and are never used twice. Each entry's code covers the entry before it,
//! so that a missing, changed or planted one shows. The log is the audit log, and it is what others follow.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use countersign_protocol::ids::InstanceId;
use countersign_protocol::time::Timestamp;

/// The key that chains entries.
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

    /// The version that an entry names.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The code of an entry that follows the one with the code `previous`; the first entry follows 32 zero bytes.
    #[must_use]
    pub fn link(&self, previous: &[u8; 32], sequence: u64, change: &NewChange) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(previous);
        context.update(&sequence.to_be_bytes());
        context.update(&change.at.as_millis().to_be_bytes());
        for text in [
            change.instance.as_str(),
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

/// What kind of change an entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// An instance was made.
    InstanceCreated,
    /// An instance's settings changed.
    InstanceUpdated,
    /// An instance key was added.
    InstanceKeyCreated,
    /// An instance key was revoked.
    InstanceKeyRevoked,
    /// A signing key was published.
    SigningKeyPublished,
    /// A signing key became the active one.
    SigningKeyActivated,
    /// A signing key was deleted.
    SigningKeyDeleted,
    /// A machine was made.
    MachineCreated,
    /// A machine's name or token lifetime changed.
    MachineUpdated,
    /// A machine was deleted.
    MachineDeleted,
    /// A machine's key was rotated.
    MachineKeyRotated,
    /// A machine's key was shown.
    MachineKeyRevealed,
    /// A scope was made.
    ScopeCreated,
    /// A scope was taken away.
    ScopeDeleted,
    /// A token was revoked.
    TokenRevoked,
    /// A token's claims or lifetime changed.
    TokenUpdated,
}

impl ChangeKind {
    /// All kinds with their stored names.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::InstanceCreated, "instance.created"),
        (Self::InstanceUpdated, "instance.updated"),
        (Self::InstanceKeyCreated, "instance_key.created"),
        (Self::InstanceKeyRevoked, "instance_key.revoked"),
        (Self::SigningKeyPublished, "signing_key.published"),
        (Self::SigningKeyActivated, "signing_key.activated"),
        (Self::SigningKeyDeleted, "signing_key.deleted"),
        (Self::MachineCreated, "machine.created"),
        (Self::MachineUpdated, "machine.updated"),
        (Self::MachineDeleted, "machine.deleted"),
        (Self::MachineKeyRotated, "machine_key.rotated"),
        (Self::MachineKeyRevealed, "machine_key.revealed"),
        (Self::ScopeCreated, "scope.created"),
        (Self::ScopeDeleted, "scope.deleted"),
        (Self::TokenRevoked, "token.revoked"),
        (Self::TokenUpdated, "token.updated"),
    ];

    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("unknown", |(_, name)| name)
    }

    /// The kind with this stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, candidate)| *candidate == name)
            .map(|(kind, _)| *kind)
    }
}

/// A key that asks for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActingKey {
    /// An instance key, by its id.
    Instance(String),
    /// A machine key, by its number.
    Machine(i64),
}

/// An entry to be appended. It holds no secret.
#[derive(Clone, Debug)]
pub struct NewChange {
    /// The instance whose log it goes to.
    pub instance: InstanceId,
    /// When.
    pub at: Timestamp,
    /// Who: an id of a key or machine, or `operator` for the local command line.
    pub actor: String,
    /// The key that asked for the change; `None` for the operator. Not part of the entry: it must be alive when the change is
    /// made, else nothing changes.
    pub key: Option<ActingKey>,
    /// What kind of change.
    pub kind: ChangeKind,
    /// The id of what changed.
    pub subject: String,
    /// What changed, a JSON object.
    pub detail: String,
    /// The key that chains it to the entry before.
    pub chain: ChainKey,
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its number within the instance, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What kind of change, by its stored name.
    pub kind: ChangeKind,
    /// The id of what changed.
    pub subject: String,
    /// What changed, a JSON object.
    pub detail: String,
    /// The version of the key that chains it.
    pub chain_version: u32,
    /// Its code.
    pub code: [u8; 32],
}
