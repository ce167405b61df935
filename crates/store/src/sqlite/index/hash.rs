//! Defines hashing for keys that are random or numbers, and a map for many concurrent readers.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{PoisonError, RwLock};

use crate::keys::Digest;

/// A digest as a key. Digests are random, so the first bytes serve as the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sqlite) struct DigestKey(pub(super) Digest);

impl Hash for DigestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0.bytes;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// Hashes numbers and ids. Clients cannot choose the keys of a map: they are row numbers, parts of keyed hashes, or
/// random.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sqlite) struct NumberHash;

/// The hasher of [`NumberHash`].
#[derive(Debug, Default)]
pub(in crate::sqlite) struct NumberHasher(u64);

impl BuildHasher for NumberHash {
    type Hasher = NumberHasher;

    fn build_hasher(&self) -> NumberHasher {
        NumberHasher(0)
    }
}

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut number = [0; 8];
            number.split_at_mut(part.len()).0.copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(number));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Two rounds of multiplication and folding, so that every bit of the number affects every bit of the hash.
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }
}

/// A sharded map, so that readers rarely contend for a lock.
#[derive(Debug)]
pub(in crate::sqlite) struct Sharded<K, V>([RwLock<HashMap<K, V, NumberHash>>; SHARDS]);

const SHARDS: usize = 16;

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| RwLock::default()))
    }
}

impl<K: Eq + Hash, V: Clone> Sharded<K, V> {
    fn shard(&self, key: &K) -> &RwLock<HashMap<K, V, NumberHash>> {
        // The lowest and highest bits choose the position in the shard's own table.
        let number = usize::try_from(NumberHash.hash_one(key) >> 40).unwrap_or_default() % SHARDS;
        self.0
            .get(number)
            .expect("the remainder is below the number of shards")
    }

    /// Returns the value of a key.
    pub(in crate::sqlite) fn get(&self, key: &K) -> Option<V> {
        let shard = self
            .shard(key)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        shard.get(key).cloned()
    }

    /// Inserts or replaces a value.
    pub(in crate::sqlite) fn put(&self, key: K, value: V) {
        let mut shard = self
            .shard(&key)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        shard.insert(key, value);
    }

    /// Removes a value.
    pub(in crate::sqlite) fn remove(&self, key: &K) -> Option<V> {
        let mut shard = self
            .shard(key)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        shard.remove(key)
    }

    /// Returns all values, in no particular order.
    pub(in crate::sqlite) fn values(&self) -> Vec<V> {
        let mut values = Vec::new();
        for shard in &self.0 {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            values.extend(shard.values().cloned());
        }
        values
    }
}
