//! Single flight: many want the same answer, one asks for it, all get it.
//!
//! The order of steps is what makes it right, and `interleavings` tries them all: the one who asks puts the answer where others
//! look first and lands only then; a newcomer who finds no flight looks there once more before it takes off. Whoever waits is
//! released when the flight ends in any way, a panic and the end of the runtime included.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use super::sync::{Mutex, MutexGuard, PoisonError};

/// The flights under way and who waits for each.
pub(super) struct Flights<K, W> {
    waiting: Mutex<HashMap<K, Vec<W>>>,
}

/// What became of one who wants an answer.
pub(super) enum Boarding<K: Eq + Hash, W, V> {
    /// The answer is there already.
    Known(V),
    /// Nobody asks yet: the caller must, and land.
    Leads(Lead<K, W>),
    /// Somebody asks; the one who waits will be released.
    Follows,
    /// As many flights are under way as this one may find.
    Full,
}

impl<K: Eq + Hash + Clone, W> Flights<K, W> {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::new(HashMap::new()),
        }
    }

    /// Joins the flight of `key`, or begins it where `look` finds nothing and fewer than `max_flights` are under way. Who is
    /// given a larger number gets in where others find all full.
    pub(super) fn board<V>(
        self: &Arc<Self>,
        key: &K,
        waiter: W,
        max_flights: usize,
        look: impl FnOnce() -> Option<V>,
    ) -> Boarding<K, W, V> {
        let mut waiting = self.waiting();
        let flights = waiting.len();
        match waiting.entry(key.clone()) {
            Entry::Occupied(mut flight) => {
                flight.get_mut().push(waiter);
                Boarding::Follows
            }
            Entry::Vacant(place) => {
                if let Some(known) = look() {
                    return Boarding::Known(known);
                }
                if flights >= max_flights {
                    return Boarding::Full;
                }
                place.insert(vec![waiter]);
                Boarding::Leads(Lead {
                    flights: Arc::clone(self),
                    key: Some(key.clone()),
                })
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<K, Vec<W>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to land. Dropped without an answer, it releases those who wait with none.
pub(super) struct Lead<K: Eq + Hash, W> {
    flights: Arc<Flights<K, W>>,
    key: Option<K>,
}

impl<K: Eq + Hash, W> Lead<K, W> {
    /// Ends the flight. Those who waited, to be told the answer.
    pub(super) fn land(mut self) -> Vec<W> {
        self.end()
    }

    fn end(&mut self) -> Vec<W> {
        let Some(key) = self.key.take() else {
            return Vec::new();
        };
        let mut waiting = self
            .flights
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&key).unwrap_or_default()
    }
}

impl<K: Eq + Hash, W> Drop for Lead<K, W> {
    fn drop(&mut self) {
        self.end();
    }
}
