//! The authority's own keys: the master key and the data keys that it wraps.
//!
//! Data keys hash, seal and chain; each has a version, so that one can be replaced while the older ones still open what they
//! closed. The master key touches nothing but them. A sealed value is bound to its purpose, instance, owner and row: moved
//! anywhere else it does not open.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use countersign_protocol::random::{Random, random_bytes};
use countersign_protocol::time::Timestamp;
use countersign_store::{ChainKey, DataKey, DataKeyPurpose, Digest, SealedBytes};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::error::Error;

/// The length of an AES-GCM nonce.
const NONCE: usize = 12;
/// The length of the key version in front of a sealed value.
const VERSION: usize = 4;

/// The key that wraps the data keys: 32 bytes, written as 64 hexadecimal digits.
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MasterKey([redacted])")
    }
}

/// A text that is no master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a master key is 64 hexadecimal digits")]
pub struct MasterKeyError;

impl MasterKey {
    /// Makes a new key.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        Self(Zeroizing::new(random_bytes(random)))
    }

    /// Reads 64 hexadecimal digits; white space around them is ignored.
    ///
    /// # Errors
    /// Where the text is anything else.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let text = text.trim().as_bytes();
        let mut key = Zeroizing::new([0_u8; 32]);
        if text.len() != 2 * key.len() {
            return Err(MasterKeyError);
        }
        for (byte, digits) in key.iter_mut().zip(text.chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| MasterKeyError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| MasterKeyError)?;
        }
        Ok(Self(key))
    }

    /// The key as 64 hexadecimal digits, for its file.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        use std::fmt::Write as _;
        let mut text = Zeroizing::new(String::with_capacity(64));
        for byte in self.0.iter() {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    fn aead(&self) -> LessSafeKey {
        aead(&self.0)
    }
}

/// What a sealed value is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealContext<'a> {
    pub(crate) purpose: &'static str,
    pub(crate) instance: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) row: &'a str,
}

impl SealContext<'_> {
    fn aad(&self, version: u32) -> Vec<u8> {
        let mut aad = version.to_be_bytes().to_vec();
        for part in [self.purpose, self.instance, self.owner, self.row] {
            aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
            aad.extend_from_slice(part.as_bytes());
        }
        aad
    }
}

/// The opened data keys. The newest version of each purpose is the one in use.
pub(crate) struct Vault {
    lookup: Vec<(u32, hmac::Key)>,
    sealing: Vec<(u32, LessSafeKey)>,
    audit: Vec<ChainKey>,
    random: Arc<dyn Random>,
}

/// Makes the first data key of each purpose.
pub(crate) fn new_data_keys(
    master: &MasterKey,
    now: Timestamp,
    random: &dyn Random,
) -> Vec<DataKey> {
    let aead = master.aead();
    let wrap = |purpose: DataKeyPurpose| {
        let key = Zeroizing::new(random_bytes::<32>(random));
        let wrapped = seal_with(&aead, 1, &wrapping(purpose, "1"), key.as_ref(), random);
        DataKey {
            purpose,
            version: 1,
            wrapped,
            created_at: now,
        }
    };
    DataKeyPurpose::ALL
        .iter()
        .map(|(purpose, _)| wrap(*purpose))
        .collect()
}

impl Vault {
    pub(crate) fn open(
        master: &MasterKey,
        rows: &[DataKey],
        random: Arc<dyn Random>,
    ) -> Result<Self, Error> {
        let master = master.aead();
        let mut vault = Self {
            lookup: Vec::new(),
            sealing: Vec::new(),
            audit: Vec::new(),
            random,
        };
        for row in rows {
            let version = row.version.to_string();
            let opened = open_with(&master, &wrapping(row.purpose, &version), &row.wrapped)
                .ok_or(Error::WrongMasterKey)?;
            let key: Zeroizing<[u8; 32]> = Zeroizing::new(
                opened
                    .as_slice()
                    .try_into()
                    .map_err(|_| Error::damaged("a data key"))?,
            );
            match row.purpose {
                DataKeyPurpose::Lookup => vault
                    .lookup
                    .push((row.version, hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))),
                DataKeyPurpose::Sealing => vault.sealing.push((row.version, aead(&key))),
                DataKeyPurpose::Audit => vault.audit.push(ChainKey::new(row.version, &key)),
            }
        }
        vault.lookup.sort_by_key(|(version, _)| *version);
        vault.sealing.sort_by_key(|(version, _)| *version);
        vault.audit.sort_by_key(ChainKey::version);
        if vault.lookup.is_empty() || vault.sealing.is_empty() || vault.audit.is_empty() {
            return Err(Error::NotInitialized);
        }
        Ok(vault)
    }

    /// The digest to store.
    pub(crate) fn digest(&self, secret: &str) -> Digest {
        let (version, key) = self.lookup.last().expect("a vault has a lookup key");
        hash(*version, key, secret)
    }

    /// The digests to look for, newest key first.
    pub(crate) fn digests<'a>(
        &'a self,
        secret: &'a str,
    ) -> impl Iterator<Item = Digest> + Send + 'a {
        self.lookup
            .iter()
            .rev()
            .map(move |(version, key)| hash(*version, key, secret))
    }

    /// Whether `secret` has the digest, in a time that does not depend on where they differ.
    pub(crate) fn matches(&self, secret: &str, stored: &Digest) -> bool {
        self.lookup
            .iter()
            .find(|(version, _)| *version == stored.version)
            .is_some_and(|(version, key)| same(&hash(*version, key, secret), stored))
    }

    pub(crate) fn seal(&self, context: &SealContext<'_>, secret: &[u8]) -> SealedBytes {
        let (version, key) = self.sealing.last().expect("a vault has a sealing key");
        seal_with(key, *version, context, secret, &*self.random)
    }

    pub(crate) fn open_sealed(
        &self,
        context: &SealContext<'_>,
        sealed: &SealedBytes,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let version = version_of(sealed).ok_or(Error::damaged("a sealed value"))?;
        let (_, key) = self
            .sealing
            .iter()
            .find(|(candidate, _)| *candidate == version)
            .ok_or(Error::damaged("a sealed value of an unknown key"))?;
        open_with(key, context, sealed).ok_or(Error::damaged("a sealed value"))
    }

    pub(crate) fn chain(&self) -> ChainKey {
        self.audit.last().expect("a vault has an audit key").clone()
    }

    pub(crate) fn chain_of_version(&self, version: u32) -> Option<&ChainKey> {
        self.audit.iter().find(|key| key.version() == version)
    }
}

/// Compares in constant time.
pub(crate) fn same(one: &Digest, other: &Digest) -> bool {
    one.version == other.version && verify_slices_are_equal(&one.bytes, &other.bytes).is_ok()
}

fn wrapping(purpose: DataKeyPurpose, version: &str) -> SealContext<'_> {
    SealContext {
        purpose: "data-key",
        instance: "",
        owner: purpose.as_str(),
        row: version,
    }
}

fn hash(version: u32, key: &hmac::Key, secret: &str) -> Digest {
    let mut bytes = [0; 32];
    hmac::sign_to_buffer(key, secret.as_bytes(), &mut bytes)
        .expect("32 bytes hold an HMAC-SHA-256");
    Digest { bytes, version }
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key"))
}

fn seal_with(
    key: &LessSafeKey,
    version: u32,
    context: &SealContext<'_>,
    secret: &[u8],
    random: &dyn Random,
) -> SealedBytes {
    let nonce: [u8; NONCE] = random_bytes(random);
    let mut sealed = version.to_be_bytes().to_vec();
    sealed.extend_from_slice(&nonce);
    let mut text = secret.to_vec();
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(context.aad(version)),
        &mut text,
    )
    .expect("a value far below 64 GiB can be sealed");
    sealed.append(&mut text);
    SealedBytes(sealed)
}

fn open_with(
    key: &LessSafeKey,
    context: &SealContext<'_>,
    sealed: &SealedBytes,
) -> Option<Zeroizing<Vec<u8>>> {
    let version = version_of(sealed)?;
    let (nonce, text) = sealed.0.get(VERSION..)?.split_at_checked(NONCE)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = Zeroizing::new(text.to_vec());
    let length = key
        .open_in_place(nonce, Aad::from(context.aad(version)), &mut text)
        .ok()?
        .len();
    text.truncate(length);
    Some(text)
}

fn version_of(sealed: &SealedBytes) -> Option<u32> {
    Some(u32::from_be_bytes(
        sealed.0.get(..VERSION)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    fn vault(master: &MasterKey) -> Vault {
        let rows = new_data_keys(master, Timestamp::EPOCH, &SystemRandom);
        Vault::open(master, &rows, Arc::new(SystemRandom)).expect("opens")
    }

    const CONTEXT: SealContext<'static> = SealContext {
        purpose: "key",
        instance: "a",
        owner: "b",
        row: "c",
    };

    #[test]
    fn another_master_key_is_noticed() {
        let rows = new_data_keys(
            &MasterKey::generate(&SystemRandom),
            Timestamp::EPOCH,
            &SystemRandom,
        );
        let other = MasterKey::generate(&SystemRandom);
        assert!(matches!(
            Vault::open(&other, &rows, Arc::new(SystemRandom)),
            Err(Error::WrongMasterKey)
        ));
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_belongs() {
        let vault = vault(&MasterKey::generate(&SystemRandom));
        let sealed = vault.seal(&CONTEXT, b"secret");
        assert_eq!(
            vault
                .open_sealed(&CONTEXT, &sealed)
                .expect("opens")
                .as_slice(),
            b"secret"
        );
        let moved = [
            SealContext {
                purpose: "token",
                ..CONTEXT
            },
            SealContext {
                instance: "x",
                ..CONTEXT
            },
            SealContext {
                owner: "x",
                ..CONTEXT
            },
            SealContext {
                row: "x",
                ..CONTEXT
            },
            SealContext {
                instance: "ab",
                owner: "",
                ..CONTEXT
            },
        ];
        for context in moved {
            assert!(vault.open_sealed(&context, &sealed).is_err(), "{context:?}");
        }
        for place in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            changed.0[place] ^= 1;
            assert!(
                vault.open_sealed(&CONTEXT, &changed).is_err(),
                "byte {place}"
            );
        }
        assert!(
            vault
                .open_sealed(&CONTEXT, &SealedBytes(sealed.0[..20].to_vec()))
                .is_err()
        );
        assert!(
            vault
                .open_sealed(&CONTEXT, &SealedBytes(Vec::new()))
                .is_err()
        );
    }

    #[test]
    fn a_digest_is_keyed() {
        let one = vault(&MasterKey::generate(&SystemRandom));
        let other = vault(&MasterKey::generate(&SystemRandom));
        assert!(one.matches("ak_x", &one.digest("ak_x")));
        assert!(!one.matches("ak_y", &one.digest("ak_x")));
        assert!(!other.matches("ak_x", &one.digest("ak_x")));
    }

    #[test]
    fn a_master_key_survives_its_text() {
        let key = MasterKey::generate(&SystemRandom);
        let text = key.expose();
        assert_eq!(
            MasterKey::parse(&format!("{}\n", *text))
                .expect("parses")
                .expose(),
            text
        );
        assert!(MasterKey::parse("abc").is_err());
        assert!(MasterKey::parse(&"x".repeat(64)).is_err());
        assert_eq!(format!("{key:?}"), "MasterKey([redacted])");
    }
}
