//! Which deliveries were handled, so that none is handled twice.
//!
//! The list is bounded and in memory. What is older than the list, or than this process, meets `jobs.create`, which makes one job for
//! one delivery.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many marks are kept.
const CAPACITY: usize = 20_000;

/// The marks of deliveries: each has two, its id and its signature.
#[derive(Default)]
pub(super) struct Deliveries(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    marks: HashSet<String>,
    /// Those that are kept, oldest first.
    kept: VecDeque<String>,
}

/// A delivery that is being handled. Unless it is kept, it is forgotten with this value, and may come again.
pub(super) struct Begun<'a> {
    deliveries: &'a Deliveries,
    marks: [String; 2],
    is_kept: bool,
}

impl Deliveries {
    /// Begins a delivery. `None` where one with any of these marks has begun before.
    pub(super) fn begin(&self, marks: [&str; 2]) -> Option<Begun<'_>> {
        let mut seen = self.seen();
        if marks.iter().any(|mark| seen.marks.contains(*mark)) {
            return None;
        }
        let marks = marks.map(str::to_owned);
        seen.marks.extend(marks.clone());
        Some(Begun {
            deliveries: self,
            marks,
            is_kept: false,
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun<'_> {
    /// Keeps the delivery: it was handled.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
        let mut seen = self.deliveries.seen();
        seen.kept.extend(self.marks.clone());
        while seen.kept.len() > CAPACITY {
            if let Some(oldest) = seen.kept.pop_front() {
                seen.marks.remove(&oldest);
            }
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            let mut seen = self.deliveries.seen();
            for mark in &self.marks {
                seen.marks.remove(mark);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_begun_once_under_its_id_and_under_its_signature() {
        let deliveries = Deliveries::default();
        deliveries.begin(["one", "signature"]).unwrap().keep();
        assert!(deliveries.begin(["one", "other"]).is_none());
        assert!(deliveries.begin(["two", "signature"]).is_none());
        assert!(deliveries.begin(["two", "other"]).is_some());
    }

    #[test]
    fn a_delivery_that_failed_may_come_again_and_one_under_way_may_not() {
        let deliveries = Deliveries::default();
        let begun = deliveries.begin(["one", "signature"]).unwrap();
        assert!(deliveries.begin(["one", "signature"]).is_none());
        drop(begun);
        assert!(deliveries.begin(["one", "signature"]).is_some());
    }

    #[test]
    fn the_oldest_deliveries_make_room() {
        let deliveries = Deliveries::default();
        for number in 0..=CAPACITY / 2 {
            let (id, signature) = (format!("id {number}"), format!("signature {number}"));
            deliveries.begin([&id, &signature]).unwrap().keep();
        }
        assert_eq!(deliveries.seen().marks.len(), CAPACITY);
        assert!(deliveries.begin(["id 0", "signature 0"]).is_some());
    }
}
