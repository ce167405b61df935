//! The renewal under schedulers that choose every order of events: `renewed` as it is, with locks and tasks that they control.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler};

use super::tests::issued_for_an_hour;
use super::{Issue, Issuing};
use crate::error::Error;

/// What `renewed` waits with.
mod sync {
    pub(super) use shuttle::future::spawn;
    pub(super) use shuttle::sync::{Mutex, MutexGuard, PoisonError};
}

#[path = "renewed.rs"]
#[expect(clippy::duplicate_mod, reason = "the point of this file")]
mod renewed;

use renewed::{Renewed, Settings};

/// Orders that are tried by each scheduler.
const SCHEDULES: usize = 5_000;
const SEED: u64 = 7;

/// An authority that takes its time, may fail, and notices two attempts at once.
#[derive(Clone, Default)]
struct Slow(Arc<Seen>);

#[derive(Default)]
struct Seen {
    asked: AtomicUsize,
    is_busy: AtomicBool,
    fails_first: bool,
}

impl Issue for Slow {
    fn address(&self) -> &'static str {
        "https://auth.example.com"
    }

    fn issue(&self, _: bool) -> Issuing<'_> {
        Box::pin(async move {
            let was_busy = self.0.is_busy.swap(true, Ordering::SeqCst);
            assert!(!was_busy, "two attempts overlap");
            let number = self.0.asked.fetch_add(1, Ordering::SeqCst);
            for _ in 0..2 {
                shuttle::future::yield_now().await;
            }
            self.0.is_busy.store(false, Ordering::SeqCst);
            if self.0.fails_first && number == 0 {
                return Err(Error::Unreachable {
                    address: "an address".to_owned(),
                    reason: "a reason".to_owned(),
                    status: None,
                });
            }
            Ok(issued_for_an_hour(number))
        })
    }
}

fn source(slow: &Slow) -> Arc<Renewed> {
    let settings = Settings {
        renew_before: Duration::from_secs(300),
        // No pause after a failure.
        chance: || 0.0,
    };
    Arc::new(Renewed::new(Box::new(slow.clone()), settings))
}

fn check(scenario: impl Fn() -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync + 'static) {
    let scenario = Arc::new(scenario);
    let run = {
        let scenario = Arc::clone(&scenario);
        move || shuttle::future::block_on(scenario())
    };
    let random = RandomScheduler::new_from_seed(SEED, SCHEDULES);
    shuttle::Runner::new(random, shuttle::Config::default()).run(run.clone());
    let few_changes = PctScheduler::new_from_seed(SEED, 3, SCHEDULES);
    shuttle::Runner::new(few_changes, shuttle::Config::default()).run(run);
}

#[test]
fn all_who_ask_a_cold_source_share_one_attempt() {
    check(|| {
        Box::pin(async {
            let slow = Slow::default();
            let source = source(&slow);
            let calls: Vec<_> = (0..3)
                .map(|_| {
                    let source = Arc::clone(&source);
                    shuttle::future::spawn(async move { source.token().await })
                })
                .collect();
            for call in calls {
                let token = call.await.expect("no panic").expect("a token");
                assert_eq!(token.expose(), "mt_0");
            }
            assert_eq!(slow.0.asked.load(Ordering::SeqCst), 1);
        })
    });
}

#[test]
fn all_who_were_refused_share_one_replacement() {
    check(|| {
        Box::pin(async {
            let slow = Slow::default();
            let source = source(&slow);
            let refused = source.token().await.expect("a token");
            let calls: Vec<_> = (0..3)
                .map(|_| {
                    let (source, refused) = (Arc::clone(&source), refused.clone());
                    shuttle::future::spawn(async move { source.replacement(&refused).await })
                })
                .collect();
            for call in calls {
                let token = call.await.expect("no panic").expect("good").expect("one");
                assert_eq!(token.expose(), "mt_1");
            }
            assert_eq!(slow.0.asked.load(Ordering::SeqCst), 2);
        })
    });
}

#[test]
fn a_failure_is_told_to_all_who_waited_and_the_next_call_succeeds() {
    check(|| {
        Box::pin(async {
            let slow = Slow(Arc::new(Seen {
                fails_first: true,
                ..Seen::default()
            }));
            let source = source(&slow);
            let calls: Vec<_> = (0..3)
                .map(|_| {
                    let source = Arc::clone(&source);
                    shuttle::future::spawn(async move { source.token().await.is_ok() })
                })
                .collect();
            let mut failed = 0;
            for call in calls {
                failed += usize::from(!call.await.expect("no panic"));
            }
            assert!(failed >= 1);
            assert!(source.token().await.is_ok());
            assert_eq!(slow.0.asked.load(Ordering::SeqCst), 2);
        })
    });
}

#[test]
fn who_gives_up_waiting_leaves_the_attempt_to_the_others() {
    check(|| {
        Box::pin(async {
            let slow = Slow::default();
            let source = source(&slow);
            let ask = || {
                let source = Arc::clone(&source);
                shuttle::future::spawn(async move { source.token().await })
            };
            let (first, second) = (ask(), ask());
            first.abort();
            assert!(second.await.expect("no panic").is_ok());
            assert_eq!(slow.0.asked.load(Ordering::SeqCst), 1);
        })
    });
}
