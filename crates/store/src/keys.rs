//! Keys: the authority's data keys, the keys of instances and machines, and the signing keys of JWTs.
//!
//! Keys that others present are stored as digests; the keyed hash is the authority's. Bytes that must come back are sealed;
//! the store never sees what is inside.

use std::fmt;

use countersign_protocol::change::{Cause, Event};
use countersign_protocol::ids::{InstanceId, KeyId, MachineId, SigningKeyId};
use countersign_protocol::time::Timestamp;

/// What a data key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataKeyPurpose {
    /// The keyed hash of secrets.
    Lookup,
    /// Encryption of what must be shown again.
    Sealing,
    /// The chain of the change log.
    Audit,
}

impl DataKeyPurpose {
    /// All purposes with their stored names.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Lookup, "lookup"),
        (Self::Sealing, "sealing"),
        (Self::Audit, "audit"),
    ];

    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(purpose, _)| *purpose == self)
            .map_or("unknown", |(_, name)| name)
    }

    /// The purpose with this stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, candidate)| *candidate == name)
            .map(|(purpose, _)| *purpose)
    }
}

/// Bytes that only the authority can open.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedBytes(pub Vec<u8>);

impl fmt::Debug for SealedBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealedBytes({} bytes)", self.0.len())
    }
}

/// The sealed copy of a key, and the digest that identifies the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKey {
    /// The key.
    pub id: KeyId,
    /// The digest of the key.
    pub digest: Digest,
    /// The key, sealed.
    pub sealed: SealedBytes,
    /// When it expires; `None` for the newest.
    pub expires_at: Option<Timestamp>,
}

/// A data key, wrapped by the master key.
#[derive(Clone, Debug)]
pub struct DataKey {
    /// What it is for.
    pub purpose: DataKeyPurpose,
    /// Which of this purpose, from 1.
    pub version: u32,
    /// The key, wrapped.
    pub wrapped: SealedBytes,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The keyed hash of a secret, and which key made it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    /// The hash.
    pub bytes: [u8; 32],
    /// The version of the lookup key.
    pub version: u32,
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest(version {})", self.version)
    }
}

/// A key of an instance.
#[derive(Clone, Debug)]
pub struct InstanceKeyRow {
    /// Its id.
    pub id: KeyId,
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// Its digest.
    pub digest: Digest,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A key of a machine, to be added.
#[derive(Clone, Debug)]
pub struct NewMachineKey {
    /// Its id.
    pub id: KeyId,
    /// Its digest.
    pub digest: Digest,
    /// The key itself, sealed, where it may be shown again.
    pub sealed: Option<SealedBytes>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A key of a machine.
#[derive(Clone, Debug)]
pub struct MachineKeyRow {
    /// Its id.
    pub id: KeyId,
    /// The instance of the machine.
    pub instance: InstanceId,
    /// The machine it belongs to.
    pub machine: MachineId,
    /// Its digest.
    pub digest: Digest,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires; `None` for the newest.
    pub expires_at: Option<Timestamp>,
}

/// The state of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKeyState {
    /// Shown in the JWKS, not used yet.
    Published,
    /// Signs.
    Active,
    /// Verifies what it signed before.
    VerifyOnly,
}

impl SigningKeyState {
    /// All states with their stored names.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Published, "published"),
        (Self::Active, "active"),
        (Self::VerifyOnly, "verify_only"),
    ];

    /// The stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("unknown", |(_, name)| name)
    }

    /// The state with this stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, candidate)| *candidate == name)
            .map(|(state, _)| *state)
    }
}

/// The outcome of publishing a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertSigningKey {
    /// It is published.
    Inserted,
    /// Another one is published already and not active yet.
    NextWaits,
    /// The instance has the maximum number of signing keys.
    TooMany,
}

/// A signing key of an instance.
#[derive(Clone, Debug)]
pub struct SigningKeyRow {
    /// The `kid`.
    pub id: SigningKeyId,
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// The private key, PKCS #8, sealed.
    pub sealed: SealedBytes,
    /// Where it is in its life.
    pub state: SigningKeyState,
    /// When it was published.
    pub published_at: Timestamp,
    /// When it became active.
    pub active_at: Option<Timestamp>,
    /// When it became verify-only.
    pub retired_at: Option<Timestamp>,
    /// No JWT that it signed expires later.
    pub last_expires_at: Option<Timestamp>,
}

/// Returns the event for a deleted signing key. Only the schedule names the time since which the key was not used.
pub(crate) fn signing_key_deleted(kid: SigningKeyId, unused_since: Option<Timestamp>) -> Event {
    let cause = match unused_since {
        Some(_) => Cause::Schedule,
        None => Cause::Request,
    };
    Event::SigningKeyDeleted { kid, cause }
}
