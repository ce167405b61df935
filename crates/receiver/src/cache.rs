//! A bounded memory of what was found out about tokens. Each entry has a deadline on the monotonic clock.
//!
//! Keys are SHA-256 digests of whole tokens, or the ends of signatures. What is good and what is bad live in two caches, so junk never displaces what is
//! good: only an answer of the authority, or a signature that fits, puts something into a cache of good entries. Entries stay
//! after their deadline until their place is needed: [`Cache::knew`] tells a token that was good a moment ago from a stranger.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Stands for a token. Nobody can choose it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) [u8; 32]);

impl Hash for Key {
    /// A quarter spreads as well as the whole, and nobody finds many tokens that agree in it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// How many parts there are, each with a lock of its own, so that cores rarely wait for each other.
const SHARDS: usize = 16;
/// How many live entries are passed over in the search for one to displace.
const SECOND_CHANCES: usize = 8;

/// A map with a bound.
pub(crate) struct Cache<V> {
    shards: [Mutex<Shard<V>>; SHARDS],
    capacity_of_shard: usize,
    chance: Chance,
}

struct Shard<V> {
    entries: HashMap<Key, Entry<V>>,
    /// The keys of `entries`, each once, in the order in which they are looked at when room is needed.
    order: VecDeque<Key>,
}

struct Entry<V> {
    value: V,
    deadline: i64,
}

impl<V> Cache<V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| {
                Mutex::new(Shard {
                    entries: HashMap::new(),
                    order: VecDeque::new(),
                })
            }),
            capacity_of_shard: capacity.div_ceil(SHARDS).max(1),
            chance: Chance::default(),
        }
    }

    /// What is known, where its deadline is not over.
    pub(crate) fn get(&self, key: &Key, now: i64) -> Option<V>
    where
        V: Clone,
    {
        self.read(key, now, |value| Some(value.clone()))
    }

    /// What is wanted of what is known, where its deadline is not over.
    pub(crate) fn read<T>(
        &self,
        key: &Key,
        now: i64,
        read: impl FnOnce(&V) -> Option<T>,
    ) -> Option<T> {
        let shard = self.shard(key);
        let entry = shard.entries.get(key)?;
        (now < entry.deadline).then(|| read(&entry.value)).flatten()
    }

    /// What was known last, even if its deadline is over; it is known until `deadline_of` it from now on, unless that is none.
    pub(crate) fn prolong(
        &self,
        key: &Key,
        deadline_of: impl FnOnce(&V) -> Option<i64>,
    ) -> Option<V>
    where
        V: Clone,
    {
        let mut shard = self.shard(key);
        let entry = shard.entries.get_mut(key)?;
        entry.deadline = deadline_of(&entry.value)?;
        Some(entry.value.clone())
    }

    /// Whether something was known that may be over.
    pub(crate) fn knew(&self, key: &Key) -> bool {
        self.shard(key).entries.contains_key(key)
    }

    /// Remembers for `ttl_millis`, shortened at random by up to a fifth, so that what was learnt together is not asked again
    /// together.
    pub(crate) fn put(&self, key: Key, value: V, now: i64, ttl_millis: i64) {
        let ttl = ttl_millis.saturating_sub(self.chance.up_to(ttl_millis / 5));
        let entry = Entry {
            value,
            deadline: now.saturating_add(ttl),
        };
        let mut shard = self.shard(&key);
        if let Some(place) = shard.entries.get_mut(&key) {
            *place = entry;
            return;
        }
        if shard.entries.len() >= self.capacity_of_shard {
            shard.displace(now);
        }
        shard.order.push_back(key);
        shard.entries.insert(key, entry);
    }

    /// Forgets.
    pub(crate) fn remove(&self, key: &Key) {
        // The place in the order stays until it is looked at, which `put` of the same key must not double.
        let mut shard = self.shard(key);
        if shard.entries.remove(key).is_some() {
            shard.order.retain(|other| other != key);
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard<V>> {
        // The last characters of a signature have but a few values each, and no character of a text has all.
        let (first, _) = key.0.split_at(8);
        let sum: usize = first.iter().map(|byte| usize::from(*byte)).sum();
        let shard = self
            .shards
            .get(sum % SHARDS)
            .expect("the remainder is the number of a shard");
        // Each change of a shard leaves it whole, so a panic elsewhere does not spoil it.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let lengths = self.shards.iter().map(|shard| {
            let shard = shard.lock().expect("nobody panics");
            assert_eq!(shard.entries.len(), shard.order.len());
            shard.entries.len()
        });
        lengths.sum()
    }
}

impl<V> Shard<V> {
    /// Makes room for one. What is over goes first; live entries get a second chance, but not without end.
    fn displace(&mut self, now: i64) {
        for _ in 0..SECOND_CHANCES {
            let Some(key) = self.order.pop_front() else {
                return;
            };
            if self.entries.get(&key).is_some_and(|it| now < it.deadline) {
                self.order.push_back(key);
            } else {
                self.entries.remove(&key);
                return;
            }
        }
        if let Some(key) = self.order.pop_front() {
            self.entries.remove(&key);
        }
    }
}

/// Numbers that spread deadlines. Nothing secret hangs on them.
#[derive(Default)]
struct Chance {
    state: RandomState,
    drawn: AtomicU64,
}

impl Chance {
    /// A number from 0 to `bound`.
    fn up_to(&self, bound: i64) -> i64 {
        let Ok(bound) = u64::try_from(bound) else {
            return 0;
        };
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        let number = self.state.hash_one(drawn) % bound.saturating_add(1);
        i64::try_from(number).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TTL: i64 = 5_000;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u32, i64),
        Get(u8),
        Remove(u8),
        Pass(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (any::<u8>(), any::<u32>(), 0..TTL)
                .prop_map(|(key, value, ttl)| Step::Put(key, value, ttl)),
            any::<u8>().prop_map(Step::Get),
            any::<u8>().prop_map(Step::Remove),
            (0..2_000_i64).prop_map(Step::Pass),
        ]
    }

    fn key(number: u8) -> Key {
        Key([number; 32])
    }

    proptest! {
        /// The model: the last value put and the range in which its deadline may lie.
        #[test]
        fn a_cache_with_room_is_a_map_with_deadlines(steps in prop::collection::vec(step(), 1..200)) {
            let cache = Cache::new(16 * 256);
            let (mut model, mut now) = (HashMap::new(), 0);
            for step in steps {
                match step {
                    Step::Put(number, value, ttl) => {
                        cache.put(key(number), value, now, ttl);
                        model.insert(number, (value, now + ttl - ttl / 5, now + ttl));
                    }
                    Step::Remove(number) => {
                        cache.remove(&key(number));
                        model.remove(&number);
                    }
                    Step::Pass(millis) => now += millis,
                    Step::Get(number) => {
                        let found = cache.get(&key(number), now);
                        match model.get(&number) {
                            None => prop_assert_eq!(found, None),
                            Some((value, earliest, latest)) => {
                                if now < *earliest {
                                    prop_assert_eq!(found, Some(*value));
                                } else if now >= *latest {
                                    prop_assert_eq!(found, None);
                                } else {
                                    prop_assert!(found.is_none_or(|found| found == *value));
                                }
                            }
                        }
                        prop_assert_eq!(cache.knew(&key(number)), model.contains_key(&number));
                    }
                }
            }
            prop_assert_eq!(cache.len(), model.len());
        }

        /// A small cache may forget, but never says what was not put, never outlives a deadline and never grows.
        #[test]
        fn a_full_cache_forgets_and_never_invents(steps in prop::collection::vec(step(), 1..400)) {
            let cache = Cache::new(32);
            let (mut model, mut now) = (HashMap::new(), 0);
            for step in steps {
                match step {
                    Step::Put(number, value, ttl) => {
                        cache.put(key(number), value, now, ttl);
                        model.insert(number, (value, now + ttl));
                        let is_kept = cache.get(&key(number), now) == Some(value);
                        prop_assert!(is_kept || ttl == 0);
                    }
                    Step::Remove(number) => {
                        cache.remove(&key(number));
                        model.remove(&number);
                    }
                    Step::Pass(millis) => now += millis,
                    Step::Get(number) => {
                        if let Some(found) = cache.get(&key(number), now) {
                            let (value, latest) = model[&number];
                            prop_assert_eq!(found, value);
                            prop_assert!(now < latest);
                        }
                    }
                }
                prop_assert!(cache.len() <= 32);
            }
        }
    }

    #[test]
    fn what_is_over_makes_room_before_what_is_live() {
        let cache = Cache::new(SHARDS * 2);
        let keys: [Key; 3] = std::array::from_fn(|number| {
            let mut key = [0; 32];
            key[0] = u8::try_from(number * SHARDS).expect("small");
            Key(key)
        });
        cache.put(keys[0], "live", 0, 100_000);
        cache.put(keys[1], "over", 0, 10);
        cache.put(keys[2], "new", 50, 100_000);
        assert_eq!(cache.get(&keys[0], 50), Some("live"));
        assert!(!cache.knew(&keys[1]));
        assert_eq!(cache.get(&keys[2], 50), Some("new"));
    }

    #[test]
    fn ends_of_signatures_use_all_the_room() {
        // Such as those of Ed25519, whose last characters are nearly always the same.
        let cache = Cache::new(4_000);
        let key = |number: u64| {
            let digest =
                aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &number.to_ne_bytes());
            let text =
                base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, digest);
            let mut key = [b'A'; 32];
            key[..28].copy_from_slice(&text.as_bytes()[..28]);
            Key(key)
        };
        for number in 0..4_000 {
            cache.put(key(number), (), 0, 100_000);
        }
        assert!(cache.len() > 3_700, "{}", cache.len());
    }

    #[test]
    fn deadlines_of_what_is_learnt_together_are_spread() {
        let chance = Chance::default();
        let drawn: std::collections::BTreeSet<_> = (0..100).map(|_| chance.up_to(1_000)).collect();
        assert!(drawn.len() > 50 && drawn.iter().all(|number| (0..=1_000).contains(number)));
    }
}
