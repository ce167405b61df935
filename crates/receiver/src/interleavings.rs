//! Single flight in the orders of events that a scheduler chooses: nobody waits for ever, one call answers all.
//!
//! `flight.rs` is compiled a second time, on primitives whose every step is such a choice. A failure prints the schedule.

#[path = "flight.rs"]
#[expect(clippy::duplicate_mod, reason = "the point of this file")]
mod flight;

/// What `flight.rs` is compiled on.
mod sync {
    pub(super) use shuttle::sync::{Mutex, MutexGuard, PoisonError};
}

use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Mutex;
use shuttle::sync::mpsc::{Sender, channel};
use shuttle::thread;

use flight::{Boarding, Flights};

const SEED: u64 = 11;
const ROUNDS: usize = 5_000;
const CHECKS: usize = 4;

/// Tries a scenario in many orders, always the same ones.
fn explore(scenario: fn()) {
    let random = RandomScheduler::new_from_seed(SEED, ROUNDS);
    let few_changes = PctScheduler::new_from_seed(SEED, 3, ROUNDS);
    shuttle::Runner::new(random, shuttle::Config::default()).run(scenario);
    shuttle::Runner::new(few_changes, shuttle::Config::default()).run(scenario);
}

/// An authority, what is remembered of it, and how often it was asked.
struct World {
    flights: Arc<Flights<u8, Sender<u32>>>,
    cache: Mutex<Option<u32>>,
    calls: Mutex<u32>,
    max_flights: usize,
}

impl World {
    fn new(max_flights: usize) -> Arc<Self> {
        Arc::new(Self {
            flights: Arc::new(Flights::new()),
            cache: Mutex::new(None),
            calls: Mutex::new(0),
            max_flights,
        })
    }

    fn look(&self) -> Option<u32> {
        *self.cache.lock().unwrap()
    }

    /// One check, as the receiver makes it. `is_lost` says that the call with this number never answers.
    fn check(self: &Arc<Self>, key: u8, is_lost: fn(u32) -> bool) -> Option<u32> {
        if let Some(known) = self.look() {
            return Some(known);
        }
        let (sender, receiver) = channel();
        let board = self
            .flights
            .board(&key, sender, self.max_flights, || self.look());
        match board {
            Boarding::Known(known) => return Some(known),
            Boarding::Full => return None,
            Boarding::Follows => {}
            Boarding::Leads(lead) => {
                let world = Arc::clone(self);
                // The call goes on by itself: whoever began it may be cancelled.
                thread::spawn(move || {
                    let number = {
                        let mut calls = world.calls.lock().unwrap();
                        *calls += 1;
                        *calls
                    };
                    if is_lost(number) {
                        drop(lead);
                        return;
                    }
                    *world.cache.lock().unwrap() = Some(number);
                    for waiter in lead.land() {
                        let _ = waiter.send(number);
                    }
                });
            }
        }
        receiver.recv().ok()
    }

    fn check_at_once(
        self: &Arc<Self>,
        keys: [u8; CHECKS],
        is_lost: fn(u32) -> bool,
    ) -> Vec<Option<u32>> {
        let checks: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let world = Arc::clone(self);
                thread::spawn(move || world.check(key, is_lost))
            })
            .collect();
        checks
            .into_iter()
            .map(|check| check.join().unwrap())
            .collect()
    }
}

#[test]
fn checks_of_one_token_cause_one_call_and_all_get_its_answer() {
    explore(|| {
        let world = World::new(8);
        let answers = world.check_at_once([7; CHECKS], |_| false);
        assert_eq!(answers, [Some(1); CHECKS]);
        assert_eq!(*world.calls.lock().unwrap(), 1);
    });
}

#[test]
fn a_call_that_never_answers_releases_those_who_wait_and_the_next_asks_again() {
    explore(|| {
        let world = World::new(8);
        let answers = world.check_at_once([7; CHECKS], |number| number == 1);
        assert!(
            answers
                .iter()
                .all(|answer| matches!(answer, None | Some(2)))
        );
        assert!(answers.contains(&None), "somebody led the lost call");
        assert_eq!(world.check(7, |_| false), Some(2));
    });
}

#[test]
fn one_who_stops_waiting_takes_the_answer_from_nobody() {
    explore(|| {
        let world = World::new(8);
        let impatient = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let (sender, receiver) = channel();
                drop(receiver);
                if let Boarding::Leads(lead) = world.flights.board(&7, sender, 8, || world.look()) {
                    let world = Arc::clone(&world);
                    thread::spawn(move || {
                        *world.cache.lock().unwrap() = Some(9);
                        for waiter in lead.land() {
                            let _ = waiter.send(9);
                        }
                    });
                }
            })
        };
        let answer = world.check(7, |_| false);
        assert!(matches!(answer, Some(1 | 9)), "{answer:?}");
        impatient.join().unwrap();
    });
}

#[test]
fn no_more_flights_than_allowed_are_under_way_and_none_is_left_behind() {
    explore(|| {
        let world = World::new(1);
        let answers = world.check_at_once([1, 2, 3, 4], |_| true);
        assert_eq!(answers, [None; CHECKS]);
        // Every place is free again.
        assert!(world.check(5, |_| false).is_some());
    });
}
