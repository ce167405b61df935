//! A bounded cache that may forget rows and never shows an old one.
//!
//! A cache that may show an old row would let a revoked token pass, so this holds:
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

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::hash::NumberHash;

/// A bounded cache that never shows what an acknowledged change replaced.
pub(in crate::sqlite) struct GuardedCache<K, V, W> {
    cache: Cache<K, V, W, NumberHash>,
    epochs: Box<[Mutex<u64>]>,
}

/// The epoch that a reader noted before it read the database.
#[derive(Clone, Copy, Debug)]
pub(in crate::sqlite) struct Watch(u64);

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

    /// Creates a cache of `bytes`, as estimated by `weigher`, for rows of about `item_bytes` each.
    pub(in crate::sqlite) fn new(bytes: u64, item_bytes: u64, weigher: W) -> Self {
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

    /// Returns the row, if it is cached.
    pub(in crate::sqlite) fn get(&self, key: &K) -> Option<V> {
        self.cache.get(key)
    }

    /// Notes the epoch of a key. Call it before reading the database.
    pub(in crate::sqlite) fn watch(&self, key: &K) -> Watch {
        Watch(*self.epoch(key))
    }

    /// Caches the row that was read, unless it may have changed since `watch`.
    pub(in crate::sqlite) fn fill(&self, watch: Watch, key: K, value: V) {
        let epoch = self.epoch(&key);
        if *epoch == watch.0 {
            self.cache.insert(key, value);
        }
    }

    /// Notes the epochs of all keys. Call it before reading many rows whose keys are not known yet.
    pub(in crate::sqlite) fn watch_all(&self) -> Vec<Watch> {
        let now = |epoch: &Mutex<u64>| Watch(*epoch.lock().unwrap_or_else(PoisonError::into_inner));
        self.epochs.iter().map(now).collect()
    }

    /// Caches one of many rows that were read, unless it is cached already or may have changed since `watches`.
    pub(in crate::sqlite) fn fill_absent(&self, watches: &[Watch], key: K, value: V) {
        if let Some(watch) = watches.get(self.stripe(&key))
            && self.cache.peek(&key).is_none()
        {
            self.fill(*watch, key, value);
        }
    }

    /// Returns whether the cache is almost full, so that another row would evict one.
    pub(in crate::sqlite) fn is_full(&self) -> bool {
        self.cache.weight() >= self.cache.capacity() / 100 * 98
    }

    /// Inserts or replaces a row. The writer calls it after the commit and before the answer.
    pub(in crate::sqlite) fn put(&self, key: K, value: V) {
        let mut epoch = self.epoch(&key);
        *epoch += 1;
        self.cache.remove(&key);
        self.cache.insert(key, value);
    }

    /// Inserts the row of a new key. The epoch need not move: a faster reader cached the same row, and an earlier
    /// reader found no row, which is not cached.
    pub(in crate::sqlite) fn add(&self, key: K, value: V) {
        self.cache.insert(key, value);
    }

    /// Removes a row. The writer calls it after the commit and before the answer.
    pub(in crate::sqlite) fn remove(&self, key: &K) {
        let mut epoch = self.epoch(key);
        *epoch += 1;
        self.cache.remove(key);
    }

    /// Returns the number of cached rows.
    pub(in crate::sqlite) fn len(&self) -> usize {
        self.cache.len()
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
}
