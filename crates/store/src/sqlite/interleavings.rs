//! The queue in the orders of events that a scheduler chooses: nobody waits for ever, is answered twice or forgotten.
//!
//! `queue.rs` is compiled a second time, on primitives whose every step is such a choice. A failure prints the schedule.

#[path = "queue.rs"]
#[expect(clippy::duplicate_mod, reason = "the point of this file")]
mod queue;

/// What `queue.rs` is compiled on.
mod sync {
    use std::sync::LockResult;
    use std::time::Duration;

    use shuttle::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
    pub(super) use shuttle::sync::{Mutex, MutexGuard, PoisonError};
    use shuttle::thread;

    /// Shuttle's, with time: a wait may be over at any moment.
    pub(super) struct Condvar(Arc<shuttle::sync::Condvar>);

    impl Condvar {
        pub(super) fn new() -> Self {
            Self(Arc::default())
        }

        pub(super) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(super) fn wait<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
        ) -> LockResult<MutexGuard<'a, T>> {
            self.0.wait(guard)
        }

        pub(super) fn wait_timeout_while<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            _patience: Duration,
            condition: impl Fn(&mut T) -> bool,
        ) -> LockResult<(MutexGuard<'a, T>, ())> {
            let (is_over, is_awake) = (
                Arc::new(AtomicBool::new(false)),
                Arc::new(AtomicBool::new(false)),
            );
            let (over, awake, condvar) = (
                Arc::clone(&is_over),
                Arc::clone(&is_awake),
                Arc::clone(&self.0),
            );
            thread::spawn(move || {
                over.store(true, Ordering::SeqCst);
                while !awake.load(Ordering::SeqCst) {
                    condvar.notify_all();
                    thread::yield_now();
                }
            });
            while condition(&mut guard) && !is_over.load(Ordering::SeqCst) {
                guard = self.0.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            is_awake.store(true, Ordering::SeqCst);
            Ok((guard, ()))
        }
    }
}

use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::mpsc::{Sender, channel};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread::{self, JoinHandle};

use queue::Queue;

const MAX_BATCH: usize = 2;
const MAX_WAITING: usize = 3;
const CLIENTS: usize = 4;
const SEED: u64 = 7;
const ROUNDS: usize = 10_000;

/// Like a job: holds the end of the channel on which somebody waits.
type Question = Sender<()>;

/// Tries a scenario in many orders, always the same ones.
fn explore(scenario: fn()) {
    let random = RandomScheduler::new_from_seed(SEED, ROUNDS);
    let few_changes = PctScheduler::new_from_seed(SEED, 3, ROUNDS);
    shuttle::Runner::new(random, shuttle::Config::default()).run(scenario);
    shuttle::Runner::new(few_changes, shuttle::Config::default()).run(scenario);
}

/// Asks twice, like a client of the store. How often it was let in, and how often answered.
fn client(queue: &Arc<Queue<Question>>, tally: &Arc<Mutex<(usize, usize)>>) -> JoinHandle<()> {
    let (queue, tally) = (Arc::clone(queue), Arc::clone(tally));
    thread::spawn(move || {
        for _ in 0..2 {
            let (sender, receiver) = channel();
            if queue.push(sender).is_ok() {
                let answers = receiver.iter().count();
                let mut tally = tally.lock().unwrap();
                *tally = (tally.0 + 1, tally.1 + answers);
                assert!(answers <= 1, "answered twice");
            }
        }
    })
}

/// Takes and answers like the writer, so many batches at most, and ends like it.
fn writer(queue: &Arc<Queue<Question>>, max_batches: usize) -> JoinHandle<()> {
    let queue = Arc::clone(queue);
    thread::spawn(move || {
        let mut expected = 1;
        for _ in 0..max_batches {
            let Some(batch) = queue.take(expected, Duration::ZERO) else {
                break;
            };
            assert!((1..=MAX_BATCH).contains(&batch.len()), "{}", batch.len());
            expected = (batch.len() + queue.waiting()).min(MAX_BATCH);
            for question in batch {
                question.send(()).unwrap();
            }
        }
        queue.abandon();
    })
}

/// Runs clients and a writer, closes the queue before or after the clients are done, and returns the tally.
fn run(max_batches: usize, closes_early: bool) -> (usize, usize) {
    let (queue, tally) = (Arc::new(Queue::new(MAX_BATCH, MAX_WAITING)), Arc::default());
    let writer = writer(&queue, max_batches);
    let clients: Vec<_> = (0..CLIENTS).map(|_| client(&queue, &tally)).collect();
    if closes_early {
        queue.close();
    }
    for client in clients {
        client.join().unwrap();
    }
    queue.close();
    writer.join().unwrap();
    assert_eq!(queue.waiting(), 0);
    let (sender, _receiver) = channel();
    assert!(queue.push(sender).is_err(), "let in after the end");
    *tally.lock().unwrap()
}

#[test]
fn everybody_who_is_let_in_is_answered_once() {
    explore(|| {
        let (let_in, answered) = run(usize::MAX, false);
        assert!(
            let_in >= MAX_WAITING && answered == let_in,
            "{let_in} {answered}"
        );
    });
}

#[test]
fn who_is_let_in_before_the_end_is_answered_and_nobody_after_it() {
    explore(|| {
        let (let_in, answered) = run(usize::MAX, true);
        assert_eq!(answered, let_in);
    });
}

#[test]
fn nobody_waits_for_a_writer_that_has_given_up() {
    explore(|| {
        let (let_in, answered) = run(1, false);
        assert!(answered <= MAX_BATCH && answered <= let_in);
    });
}
