//! The rows that are kept in memory, so that a verify does not ask the database.
//!
//! A cache that may show an old row would let a revoked token pass, so each one is a [`GuardedCache`], for which this holds:
//! *once a change was acknowledged, no read that starts later returns what was there before.*
//!
//! Why: keys are spread over stripes, each with an epoch under a lock. A reader that misses notes the epoch **before** it
//! reads the database ([`GuardedCache::watch`]) and puts what it read into the cache only if, under the stripe's lock, the
//! epoch is still the same ([`GuardedCache::fill`]). The writer, after the commit and before any answer leaves, takes the lock,
//! moves the epoch and puts the new row in or takes the old one out. Say a reader's snapshot is older than the commit. Then it
//! noted the epoch before the commit, so before the writer moved it. If its fill comes after the writer's step, the epoch
//! differs and nothing is put in. If it comes before, the writer's step replaces what it put in, and only then is the change
//! acknowledged. A snapshot that is not older than the commit holds the new row. There is one writer and it applies its
//! effects in the order of commits, so no older effect follows a newer one.
//!
//! Hits take no stripe's lock. Absent rows are not remembered. A cache that is too small only misses more often: the writer
//! takes the old row out before it puts the new one in, so a row that finds no room leaves nothing behind.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use countersign_protocol::ids::{InstanceId, Locator, MachineId};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::rows::Texts;
use crate::instances::Instance;
use crate::keys::{Digest, InstanceKeyRow, MachineKeyRow};
use crate::machines::MachineRow;
use crate::tokens::{LastUse, TokenRow};

/// A bounded cache that never shows what an acknowledged change replaced.
pub(super) struct GuardedCache<K, V, W> {
    cache: Cache<K, V, W, NumberHash>,
    epochs: Box<[Mutex<u64>]>,
}

/// The epoch that a reader noted before it read the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch(u64);

impl<K, V, W> fmt::Debug for GuardedCache<K, V, W> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GuardedCache")
            .finish_non_exhaustive()
    }
}

impl<K, V, W> GuardedCache<K, V, W>
where
    K: Eq + Hash + Clone,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    const STRIPES: usize = 256;

    /// Makes a cache for `bytes` by the reckoning of `weigher`, with about `item_bytes` for one row.
    pub(super) fn new(bytes: u64, item_bytes: u64, weigher: W) -> Self {
        let items = usize::try_from(bytes / item_bytes.max(1))
            .unwrap_or(usize::MAX)
            .max(1);
        let options = OptionsBuilder::new()
            .weight_capacity(bytes)
            .estimated_items_capacity(items)
            .ghost_allocation(0.1)
            .shards(16)
            .build()
            .expect("both capacities are given");
        let cache = Cache::with_options(options, weigher, NumberHash, DefaultLifecycle::default());
        Self {
            cache,
            epochs: (0..Self::STRIPES).map(|_| Mutex::new(0)).collect(),
        }
    }

    fn stripe(&self, key: &K) -> usize {
        // The low bits choose the cache's bucket and the high ones its shard; any choice is right here.
        usize::try_from(NumberHash.hash_one(key) >> 16).unwrap_or_default() % Self::STRIPES
    }

    fn epoch(&self, key: &K) -> MutexGuard<'_, u64> {
        let epoch = self
            .epochs
            .get(self.stripe(key))
            .expect("the remainder is below the number of stripes");
        epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row, if it is here.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.cache.get(key)
    }

    /// To be called before the database is read.
    pub(super) fn watch(&self, key: &K) -> Watch {
        Watch(*self.epoch(key))
    }

    /// Keeps what was read, unless it may have changed since `watch`.
    pub(super) fn fill(&self, watch: Watch, key: K, value: V) {
        let epoch = self.epoch(&key);
        if *epoch == watch.0 {
            self.cache.insert(key, value);
        }
    }

    /// To be called before many rows are read whose keys are not known yet.
    pub(super) fn watch_all(&self) -> Vec<Watch> {
        let now = |epoch: &Mutex<u64>| Watch(*epoch.lock().unwrap_or_else(PoisonError::into_inner));
        self.epochs.iter().map(now).collect()
    }

    /// Keeps one of many rows that were read, unless it is here or may have changed since `watches`.
    pub(super) fn fill_absent(&self, watches: &[Watch], key: K, value: V) {
        if let Some(watch) = watches.get(self.stripe(&key))
            && self.cache.peek(&key).is_none()
        {
            self.fill(*watch, key, value);
        }
    }

    /// Whether hardly any room is left, so that a further row would push another out.
    pub(super) fn is_full(&self) -> bool {
        self.cache.weight() >= self.cache.capacity() / 100 * 98
    }

    /// Puts a row in, in place of an older one. The writer calls it after the commit and before the answer.
    pub(super) fn put(&self, key: K, value: V) {
        let mut epoch = self.epoch(&key);
        *epoch += 1;
        self.cache.remove(&key);
        self.cache.insert(key, value);
    }

    /// Puts in a row that no key led to before. A reader that was faster put in the same row, and what was read before that
    /// is not remembered, so no epoch moves.
    pub(super) fn add(&self, key: K, value: V) {
        self.cache.insert(key, value);
    }

    /// Takes a row out. The writer calls it after the commit and before the answer.
    pub(super) fn remove(&self, key: &K) {
        let mut epoch = self.epoch(key);
        *epoch += 1;
        self.cache.remove(key);
    }

    /// Shows the row to `look`, if it is here, and keeps readers from putting in what they read before.
    fn visit(&self, key: &K, look: impl FnOnce(&V)) {
        let mut epoch = self.epoch(key);
        *epoch += 1;
        if let Some(value) = self.cache.peek(key) {
            look(&value);
        }
    }

    /// How many rows are here.
    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }
}

/// A digest is random already: its first bytes are its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DigestKey(pub(super) Digest);

impl Hash for DigestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0.bytes;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// Hashes numbers and ids. Nobody outside chooses those that get into a map: they are rows' keys, parts of keyed hashes, or
/// random.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NumberHash;

/// The hasher of [`NumberHash`].
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

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
        // Two rounds of multiplication and folding; every bit of the number reaches every bit of the hash.
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }
}

/// Reckons what rows cost, all in: the row, its allocations, and its share of the cache's own tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes;

impl Bytes {
    /// A token without claims: 160 for the row, the rest for the cache's tables, which grow by doubling.
    pub(super) const TOKEN: u64 = 232;
    const MACHINE: u64 = 320;
    const KEY: u64 = 288;
    /// Texts of scopes are shared, so only long ones count; else a few machines with many scopes could fill the memory.
    const FREE_SCOPES: usize = 128;
}

impl Weighter<Locator, Arc<TokenRow>> for Bytes {
    fn weight(&self, _: &Locator, row: &Arc<TokenRow>) -> u64 {
        let claims = row
            .claims
            .as_ref()
            .map_or(0, |claims| claims.as_str().len() + 32);
        let reason = row.revoked.as_ref().map_or(0, |revoked| {
            64 + revoked.reason.as_ref().map_or(0, |text| text.len() + 32)
        });
        let scopes = row.scopes.as_str().len().saturating_sub(Self::FREE_SCOPES);
        Self::TOKEN + (claims + reason + scopes) as u64
    }
}

impl<K> Weighter<K, Arc<MachineRow>> for Bytes {
    fn weight(&self, _: &K, row: &Arc<MachineRow>) -> u64 {
        Self::MACHINE + (row.name.len() + row.scopes.as_str().len()) as u64
    }
}

impl Weighter<DigestKey, Arc<MachineKeyRow>> for Bytes {
    fn weight(&self, _: &DigestKey, _: &Arc<MachineKeyRow>) -> u64 {
        Self::KEY
    }
}

impl Weighter<DigestKey, Arc<InstanceKeyRow>> for Bytes {
    fn weight(&self, _: &DigestKey, _: &Arc<InstanceKeyRow>) -> u64 {
        Self::KEY
    }
}

/// What a committed change means for the index.
#[derive(Debug)]
pub(super) enum Effect {
    /// A token is new.
    AddToken(Arc<TokenRow>),
    /// A token is changed.
    PutToken(Arc<TokenRow>),
    /// A token is gone.
    RemoveToken(Locator),
    /// A token was used.
    Touch(LastUse),
    /// A machine is new or changed.
    PutMachine(Arc<MachineRow>),
    /// A machine is gone.
    RemoveMachine(i64, MachineId),
    /// A machine's key is new or changed.
    PutMachineKey(Arc<MachineKeyRow>),
    /// A machine's key is gone.
    RemoveMachineKey(Digest),
    /// An instance is new or changed.
    PutInstance(Arc<Instance>),
    /// An instance's key is new.
    PutInstanceKey(Arc<InstanceKeyRow>),
    /// An instance's key is gone or revoked.
    RemoveInstanceKey(Digest),
}

impl Effect {
    /// Whether it leaves machines, instances and keys as they are.
    pub(super) fn is_of_token(&self) -> bool {
        matches!(
            self,
            Self::AddToken(_) | Self::PutToken(_) | Self::RemoveToken(_) | Self::Touch(_)
        )
    }
}

/// All that is kept in memory.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) tokens: GuardedCache<Locator, Arc<TokenRow>, Bytes>,
    pub(super) machines: GuardedCache<i64, Arc<MachineRow>, Bytes>,
    pub(super) machines_by_id: GuardedCache<MachineId, Arc<MachineRow>, Bytes>,
    pub(super) machine_keys: GuardedCache<DigestKey, Arc<MachineKeyRow>, Bytes>,
    pub(super) instance_keys: GuardedCache<DigestKey, Arc<InstanceKeyRow>, Bytes>,
    instances: RwLock<HashMap<InstanceId, Arc<Instance>, NumberHash>>,
    pub(super) texts: Texts,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}

impl Index {
    /// Makes an empty index with room for `token_bytes` of tokens and `other_bytes` of each other kind of row.
    pub(super) fn new(token_bytes: u64, other_bytes: u64) -> Self {
        Self {
            tokens: GuardedCache::new(token_bytes, Bytes::TOKEN, Bytes),
            machines: GuardedCache::new(other_bytes, Bytes::MACHINE, Bytes),
            machines_by_id: GuardedCache::new(other_bytes, Bytes::MACHINE, Bytes),
            machine_keys: GuardedCache::new(other_bytes, Bytes::KEY, Bytes),
            instance_keys: GuardedCache::new(other_bytes, Bytes::KEY, Bytes),
            instances: RwLock::default(),
            texts: Texts::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// One instance. All of them are here.
    pub(super) fn instance(&self, id: &InstanceId) -> Option<Arc<Instance>> {
        self.instances
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// All instances, oldest first.
    pub(super) fn instances(&self) -> Vec<Arc<Instance>> {
        let mut all: Vec<_> = self
            .instances
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        all.sort_unstable_by_key(|instance| instance.number);
        all
    }

    /// Answers from `cache`, or from the database through `read`.
    pub(super) fn read_through<K, V, W, E>(
        &self,
        cache: &GuardedCache<K, V, W>,
        key: &K,
        read: impl FnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<V>, E>
    where
        K: Eq + Hash + Clone,
        V: Clone,
        W: Weighter<K, V> + Clone,
    {
        if let Some(value) = cache.get(key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(value));
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let watch = cache.watch(key);
        let found = read()?;
        if let Some(value) = &found {
            cache.fill(watch, key.clone(), value.clone());
        }
        Ok(found)
    }

    /// Tells a row that was read from the database when it was last used, where that is not written yet.
    pub(super) fn copy_last_use(&self, row: &TokenRow) {
        if let Some(at) = self
            .tokens
            .cache
            .peek(&row.id.locator())
            .and_then(|here| here.last_used_at())
        {
            row.touch(at);
        }
    }

    /// Brings the index up to date. The writer calls it after each commit, in the order of commits, before any answer.
    pub(super) fn apply(&self, effect: Effect) {
        match effect {
            Effect::AddToken(row) => self.tokens.add(row.id.locator(), row),
            Effect::PutToken(row) => {
                // It may have been used since it was read.
                self.copy_last_use(&row);
                self.tokens.put(row.id.locator(), row);
            }
            Effect::RemoveToken(locator) => self.tokens.remove(&locator),
            Effect::Touch(LastUse { locator, at }) => {
                self.tokens.visit(&locator, |row| row.touch(at));
            }
            Effect::PutMachine(row) => {
                self.machines.put(row.number, Arc::clone(&row));
                self.machines_by_id.put(row.id, row);
            }
            Effect::RemoveMachine(number, id) => {
                self.machines.remove(&number);
                self.machines_by_id.remove(&id);
            }
            Effect::PutMachineKey(row) => self.machine_keys.put(DigestKey(row.digest), row),
            Effect::RemoveMachineKey(digest) => self.machine_keys.remove(&DigestKey(digest)),
            Effect::PutInstance(instance) => {
                self.instances
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(instance.id, instance);
            }
            Effect::PutInstanceKey(row) => self.instance_keys.put(DigestKey(row.digest), row),
            Effect::RemoveInstanceKey(digest) => self.instance_keys.remove(&DigestKey(digest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;

    use quick_cache::UnitWeighter;

    use super::*;

    const KEYS: usize = 8;

    /// Numbers that only grow, with a cache before them; 0 is absent.
    struct Database {
        committed: [AtomicU64; KEYS],
        acknowledged: [AtomicU64; KEYS],
        cache: GuardedCache<u64, u64, UnitWeighter>,
    }

    impl Database {
        fn new(capacity: u64) -> Self {
            let cache = GuardedCache::new(capacity, 1, UnitWeighter);
            Self {
                committed: Default::default(),
                acknowledged: Default::default(),
                cache,
            }
        }

        fn read(&self, key: usize, dawdle: impl Fn()) -> u64 {
            let name = key as u64;
            if let Some(value) = self.cache.get(&name) {
                return value;
            }
            let watch = self.cache.watch(&name);
            dawdle();
            let value = self.committed[key].load(Ordering::SeqCst);
            dawdle();
            self.cache.fill(watch, name, value);
            value
        }

        fn write(&self, key: usize, value: u64) {
            self.committed[key].store(value, Ordering::SeqCst);
            // Sometimes the row is put in, sometimes it is only taken out.
            if value.is_multiple_of(3) {
                self.cache.remove(&(key as u64));
            } else {
                self.cache.put(key as u64, value);
            }
            self.acknowledged[key].store(value, Ordering::SeqCst);
        }
    }

    fn no_read_returns_what_an_acknowledged_write_replaced(capacity: u64) {
        const READERS: usize = 4;
        const WRITES: u64 = 60_000;
        let database = Database::new(capacity);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader in 0..READERS {
                let (database, is_over) = (&database, &is_over);
                scope.spawn(move || {
                    let mut round = reader;
                    while !is_over.load(Ordering::Relaxed) {
                        round = round.wrapping_mul(5).wrapping_add(1);
                        let key = (round >> 3) % KEYS;
                        let least = database.acknowledged[key].load(Ordering::SeqCst);
                        let seen = database.read(key, || {
                            if round.is_multiple_of(2) {
                                thread::yield_now();
                            }
                        });
                        assert!(
                            seen >= least,
                            "key {key}: {seen} was read after {least} had been acknowledged"
                        );
                    }
                });
            }
            for value in 1..=WRITES {
                let key = usize::try_from(value * 7 % KEYS as u64).unwrap();
                database.write(key, value);
                if value.is_multiple_of(16) {
                    thread::yield_now();
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        for key in 0..KEYS {
            assert_eq!(
                database.read(key, || {}),
                database.committed[key].load(Ordering::SeqCst)
            );
        }
    }

    #[test]
    fn no_read_returns_what_an_acknowledged_write_replaced_with_room_for_all() {
        no_read_returns_what_an_acknowledged_write_replaced(1000);
    }

    #[test]
    fn no_read_returns_what_an_acknowledged_write_replaced_with_room_for_few() {
        no_read_returns_what_an_acknowledged_write_replaced(3);
    }

    #[test]
    fn no_read_returns_what_an_acknowledged_write_replaced_with_room_for_none() {
        no_read_returns_what_an_acknowledged_write_replaced(0);
    }

    #[test]
    fn what_was_read_before_a_write_is_not_kept_after_it() {
        for write in [
            (|cache| cache.put(1, 20)) as fn(&GuardedCache<u64, u64, UnitWeighter>),
            |cache| cache.remove(&1),
        ] {
            let cache = GuardedCache::new(100, 1, UnitWeighter);
            let watch = cache.watch(&1);
            write(&cache);
            cache.fill(watch, 1, 10);
            assert_ne!(cache.get(&1), Some(10));
        }
    }

    #[test]
    fn a_row_that_finds_no_room_leaves_no_older_one_behind() {
        #[derive(Clone)]
        struct OwnWeight;
        impl Weighter<u64, u64> for OwnWeight {
            fn weight(&self, _: &u64, value: &u64) -> u64 {
                *value
            }
        }
        let cache: GuardedCache<u64, u64, OwnWeight> = GuardedCache::new(100, 1, OwnWeight);
        cache.put(1, 10);
        assert_eq!(cache.get(&1), Some(10));
        cache.put(1, 100_000);
        assert_eq!(cache.get(&1), None);
    }

    #[test]
    fn a_plain_token_takes_no_more_memory_than_is_reckoned() {
        // The row with the counters of its `Arc`, and the allocator's word before it.
        let row = size_of::<TokenRow>() + 2 * size_of::<usize>() + size_of::<usize>();
        // The cache's slot: key, pointer, links and state; as a vector that was just doubled. Then its hash table.
        let slot = 2 * 32;
        let table = 2 * 5;
        assert!(row as u64 <= 168, "{row}");
        assert!((row + slot + table) as u64 <= 250, "{row}");
        assert!(Bytes::TOKEN >= row as u64 + 32 + 10);
    }
}
