//! The keys of an issuer, fetched when needed and kept for a while.
//!
//! A set is fresh for 300 s and fetched again in the background 30 s before. Where that fails, or brings no usable key, the last good
//! set goes on for up to 24 h, and nobody waits for the attempts to replace it. A key id that the set does not have causes one fetch
//! in 30 s, counted from the attempt, whoever asks and however often; ids that were looked for in vain are remembered, 128 of them,
//! until the set is due again. One fetch is under way at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::{Moment, Time};
use crate::events::{Event, Events};
use crate::flight::{Boarding, Flights, Lead};
use crate::jwks::{KeySet, MAX_KID_LENGTH};
use crate::refusal::Reason;
use crate::remote::Document;

/// How long a fetch may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// When a set is fetched again while it is still used.
const REFRESH_AFTER_MILLIS: i64 = 270_000;
/// When a set is used only if no new one can be had.
const FRESH_MILLIS: i64 = 300_000;
/// When a set is used no more.
const KEEP_MILLIS: i64 = 24 * 3_600_000;
/// The time between two attempts while there is a set.
const PAUSE_MILLIS: i64 = 30_000;
/// The time between two attempts while there is none, so that nothing can be checked.
const EMPTY_PAUSE_MILLIS: i64 = 1_000;
/// How many key ids that were looked for in vain are remembered.
const MAX_UNKNOWN: usize = 128;

/// The keys at one address, for one issuer.
pub(crate) struct Keys {
    document: Arc<dyn Document>,
    rsa_only: bool,
    time: Arc<Time>,
    events: Events,
    state: Mutex<State>,
    flights: Arc<Flights<(), oneshot::Sender<()>>>,
}

/// A key set with its number, which is another one where the keys are others.
#[derive(Clone)]
pub(crate) struct NumberedSet {
    pub(crate) number: u64,
    pub(crate) set: Arc<KeySet>,
}

#[derive(Default)]
struct State {
    set: Option<NumberedSet>,
    /// When the fetch of `set` began.
    fetched_at: i64,
    /// Whether an attempt has failed since.
    has_failed: bool,
    attempt: Option<(i64, Outcome)>,
    unknown: VecDeque<Box<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Pending,
    Failed,
    Succeeded,
}

/// In which situation the state is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// At first: a fetch may be under way.
    First,
    /// While none is under way and the caller would begin one.
    Leading,
    /// After a fetch: nobody waits for two.
    Last,
}

enum Step {
    Use(NumberedSet),
    UseAndRefresh(NumberedSet),
    Fetch,
    Unknown,
    Unavailable,
}

impl Keys {
    pub(crate) fn new(
        document: Arc<dyn Document>,
        rsa_only: bool,
        time: Arc<Time>,
        events: Events,
    ) -> Arc<Self> {
        Arc::new(Self {
            document,
            rsa_only,
            time,
            events,
            state: Mutex::default(),
            flights: Arc::new(Flights::new()),
        })
    }

    /// The set that is in force; where `kid` is given, one that has it.
    pub(crate) async fn set(
        self: &Arc<Self>,
        kid: Option<&str>,
        now: Moment,
    ) -> Result<NumberedSet, Reason> {
        if kid.is_some_and(|kid| kid.len() > MAX_KID_LENGTH) {
            return Err(Reason::KeyUnknown);
        }
        let now = now.monotonic;
        let step = self.state().step(now, kid, Look::First);
        match step {
            Step::Use(set) => return Ok(set),
            Step::UseAndRefresh(set) => {
                drop(self.fetch(now, kid));
                return Ok(set);
            }
            Step::Unknown => return Err(Reason::KeyUnknown),
            Step::Fetch | Step::Unavailable => {}
        }
        match self.fetch(now, kid) {
            Ok(landed) => {
                // Whether it ended well or was lost, the state says.
                let _ = landed.await;
                let now = self.time.now().monotonic;
                let step = self.state().step(now, kid, Look::Last);
                step.result()
            }
            Err(step) => step.result(),
        }
    }

    /// The number of the set that is in force, where nothing is to be done about it.
    pub(crate) fn fresh(&self, now: Moment) -> Option<u64> {
        self.state().fresh(now.monotonic)
    }

    /// The number of the set that is in force.
    pub(crate) async fn number(self: &Arc<Self>, now: Moment) -> Result<u64, Reason> {
        match self.fresh(now) {
            Some(number) => Ok(number),
            None => self.set(None, now).await.map(|set| set.number),
        }
    }

    /// Begins or joins a fetch, or says why there is none.
    fn fetch(self: &Arc<Self>, now: i64, kid: Option<&str>) -> Result<oneshot::Receiver<()>, Step> {
        let (sender, receiver) = oneshot::channel();
        let look = || {
            let mut state = self.state();
            match state.step(now, kid, Look::Leading) {
                Step::Fetch | Step::UseAndRefresh(_) => {
                    state.attempt = Some((now, Outcome::Pending));
                    None
                }
                step => Some(step),
            }
        };
        match self.flights.board(&(), sender, 1, look) {
            Boarding::Known(step) => return Err(step),
            Boarding::Full => return Err(Step::Unavailable),
            Boarding::Follows => {}
            Boarding::Leads(lead) => {
                // It goes on by itself: whoever began it may be cancelled.
                tokio::spawn(Arc::clone(self).fly(lead, now));
            }
        }
        Ok(receiver)
    }

    async fn fly(self: Arc<Self>, lead: Lead<(), oneshot::Sender<()>>, now: i64) {
        let fetched = tokio::time::timeout(PATIENCE, self.document.fetch()).await;
        let set = match fetched {
            Err(_) => Err("no answer in time".to_owned()),
            Ok(Err(error)) => Err(error),
            Ok(Ok(document)) => match KeySet::read(&document, self.rsa_only) {
                Ok(set) if set.len() == 0 => Err("no key of the set can be used".to_owned()),
                Ok(set) => Ok(set),
                Err(_) => Err("what is there is no key set".to_owned()),
            },
        };
        let url = self.document.url();
        match &set {
            Ok(set) => tracing::debug!(jwks.url = url, keys = set.len(), "key set fetched"),
            Err(error) => tracing::warn!(jwks.url = url, error, "cannot fetch the key set"),
        }
        let is_success = set.is_ok();
        // Learnt before anybody is told: an observer that fails costs no keys.
        self.state().learn(now, set.ok());
        self.events.tell(&Event::KeysFetched { url, is_success });
        for waiter in lead.land() {
            let _ = waiter.send(());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Step {
    fn result(self) -> Result<NumberedSet, Reason> {
        match self {
            Self::Use(set) | Self::UseAndRefresh(set) => Ok(set),
            Self::Unknown => Err(Reason::KeyUnknown),
            Self::Fetch | Self::Unavailable => Err(Reason::KeysUnavailable),
        }
    }
}

impl State {
    fn step(&mut self, now: i64, kid: Option<&str>, look: Look) -> Step {
        let age = now.saturating_sub(self.fetched_at);
        let is_pending = look == Look::First && matches!(self.attempt, Some((_, Outcome::Pending)));
        let may_fetch = |pause: i64| {
            let is_rested = self.attempt.is_none_or(|(at, _)| now - at >= pause);
            look != Look::Last && (is_pending || is_rested)
        };
        let Some(set) = self.set.clone().filter(|_| age < KEEP_MILLIS) else {
            return if may_fetch(EMPTY_PAUSE_MILLIS) {
                Step::Fetch
            } else {
                Step::Unavailable
            };
        };
        if let Some(kid) = kid
            && set.set.key(kid).is_none()
        {
            // What was found out counts as long as the set does that it was found out from.
            let is_current = age < REFRESH_AFTER_MILLIS && !self.has_failed;
            if is_current && self.is_known_unknown(kid) {
                return Step::Unknown;
            }
            if may_fetch(PAUSE_MILLIS) {
                return Step::Fetch;
            }
            if !matches!(self.attempt, Some((_, Outcome::Succeeded))) {
                return Step::Unavailable;
            }
            // Only a fetch that ended just now tells that the issuer does not have it.
            if look == Look::Last {
                self.remember_unknown(kid);
            }
            return Step::Unknown;
        }
        if age < REFRESH_AFTER_MILLIS || look == Look::Last {
            return Step::Use(set);
        }
        let must_wait = age >= FRESH_MILLIS && !self.has_failed;
        if !may_fetch(PAUSE_MILLIS) || (!must_wait && is_pending) {
            Step::Use(set)
        } else if must_wait {
            Step::Fetch
        } else {
            Step::UseAndRefresh(set)
        }
    }

    /// The number of the set, where nothing is to be done about it.
    fn fresh(&self, now: i64) -> Option<u64> {
        let age = now.saturating_sub(self.fetched_at);
        let set = self.set.as_ref().filter(|_| age < REFRESH_AFTER_MILLIS);
        set.map(|set| set.number)
    }

    fn learn(&mut self, began: i64, set: Option<KeySet>) {
        let Some(set) = set else {
            self.attempt = Some((began, Outcome::Failed));
            self.has_failed = true;
            return;
        };
        self.attempt = Some((began, Outcome::Succeeded));
        self.fetched_at = began;
        self.has_failed = false;
        let number = match &self.set {
            Some(old) if old.set.has_same_keys_as(&set) => return,
            Some(old) => old.number + 1,
            None => 1,
        };
        self.unknown.clear();
        self.set = Some(NumberedSet {
            number,
            set: Arc::new(set),
        });
    }

    fn is_known_unknown(&self, kid: &str) -> bool {
        self.unknown.iter().any(|unknown| **unknown == *kid)
    }

    fn remember_unknown(&mut self, kid: &str) {
        if self.is_known_unknown(kid) {
            return;
        }
        if self.unknown.len() >= MAX_UNKNOWN {
            self.unknown.pop_front();
        }
        self.unknown.push_back(kid.into());
    }
}
