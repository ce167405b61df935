//! A token that is renewed.
//!
//! One attempt is in flight at a time, in a task of its own, so that nobody who gives up waiting takes the others along. All
//! times are counted by the monotonic clock from the moment at which the request was sent. An attempt that fails leaves a token
//! that still lives in use; further attempts wait longer and longer, half a minute at most. `interleavings` shows that nobody
//! waits for ever and that two attempts never overlap.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Issue;
use super::sync::{Mutex, MutexGuard, PoisonError, spawn};
use crate::error::Error;
use crate::tokens::{IssuedToken, TokenString};

/// The shortest time between two tokens that were asked for because of a 401.
const BETWEEN_FORCED: Duration = Duration::from_secs(10);
/// The first pause after a failure, doubled by each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The source.
pub(super) struct Renewed {
    issue: Box<dyn Issue>,
    settings: Settings,
    state: Mutex<State>,
}

/// What decides about times.
pub(super) struct Settings {
    pub(super) renew_before: Duration,
    /// A number from 0 to 1.
    pub(super) chance: fn() -> f64,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    flight: Option<Flight>,
    /// Attempts that failed in a row.
    failures: u32,
    /// The error of the last attempt and when the next one may begin, while there were failures.
    pause: Option<(Error, Instant)>,
    /// When a token was last replaced because of a 401.
    forced_at: Option<Instant>,
}

/// A token and its times; `None` for never.
struct Held {
    token: TokenString,
    renewal: Option<Instant>,
    end: Option<Instant>,
}

/// What whoever wants a token does.
enum Next {
    /// Presents this one, which has so many seconds left.
    Present(TokenString, Option<u64>),
    Wait(Flight),
}

/// What those who wait for an attempt look at.
type Flight = watch::Receiver<Option<Result<TokenString, Error>>>;

impl State {
    /// The token, if it lives.
    fn living(&self, now: Instant) -> Option<&Held> {
        self.held
            .as_ref()
            .filter(|held| held.end.is_none_or(|end| now < end))
    }

    /// The error to answer with while no attempt may begin.
    fn paused(&self, now: Instant) -> Option<Error> {
        let (error, until) = self.pause.as_ref()?;
        (now < *until).then(|| error.clone())
    }
}

impl Renewed {
    pub(super) fn new(issue: Box<dyn Issue>, settings: Settings) -> Self {
        Self {
            issue,
            settings,
            state: Mutex::new(State::default()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn token(self: &Arc<Self>) -> Result<TokenString, Error> {
        let (next, attempt) = self.next()?;
        begin(attempt, false);
        match next {
            Next::Present(token, seconds_left) => {
                tracing::debug!(seconds_left, "cached token used");
                Ok(token)
            }
            Next::Wait(flight) => self.landed(flight).await,
        }
    }

    /// What whoever wants a token does next, and the attempt to begin before. The error while attempts pause.
    fn next(self: &Arc<Self>) -> Result<(Next, Option<Attempt>), Error> {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(held) = state.living(now) {
            let seconds_left = held.end.map(|end| (end - now).as_secs());
            let next = Next::Present(held.token.clone(), seconds_left);
            let is_due = held.renewal.is_some_and(|renewal| now >= renewal);
            let may_depart = state.flight.is_none() && state.paused(now).is_none();
            let attempt = (is_due && may_depart).then(|| self.depart(&mut state).1);
            return Ok((next, attempt));
        }
        if let Some(flight) = &state.flight {
            return Ok((Next::Wait(flight.clone()), None));
        }
        if let Some(error) = state.paused(now) {
            return Err(error);
        }
        let (flight, attempt) = self.depart(&mut state);
        Ok((Next::Wait(flight), Some(attempt)))
    }

    pub(super) async fn replacement(
        self: &Arc<Self>,
        refused: &TokenString,
    ) -> Result<Option<TokenString>, Error> {
        let (flight, attempt) = {
            let mut state = self.state();
            let now = Instant::now();
            let other = state.living(now).filter(|held| held.token != *refused);
            if let Some(other) = other {
                return Ok(Some(other.token.clone()));
            }
            let is_too_soon = state
                .forced_at
                .is_some_and(|forced_at| now < forced_at + BETWEEN_FORCED);
            match &state.flight {
                // It began before the 401, or because of another one.
                Some(flight) => (flight.clone(), None),
                None if is_too_soon || state.paused(now).is_some() => return Ok(None),
                None => {
                    // The one that was refused goes when the other is there: elsewhere it may be good.
                    state.forced_at = Some(now);
                    let (flight, attempt) = self.depart(&mut state);
                    (flight, Some(attempt))
                }
            }
        };
        begin(attempt, true);
        let token = self.landed(flight).await?;
        Ok((token != *refused).then_some(token))
    }

    /// Waits for an attempt.
    async fn landed(&self, mut flight: Flight) -> Result<TokenString, Error> {
        match flight.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().expect("it was waited for"),
            Err(_) => Err(self.cut_off()),
        }
    }

    /// What those are told whose attempt ended with the runtime that it ran in.
    fn cut_off(&self) -> Error {
        Error::Unreachable {
            address: self.issue.address().to_owned(),
            reason: "the attempt was cut off".to_owned(),
            status: None,
        }
    }

    /// Makes an attempt, to be begun when the lock is free.
    fn depart(self: &Arc<Self>, state: &mut State) -> (Flight, Attempt) {
        let (sender, receiver) = watch::channel(None);
        state.flight = Some(receiver.clone());
        let attempt = Attempt {
            renewed: Arc::clone(self),
            sender,
            outcome: None,
        };
        (receiver, attempt)
    }

    /// Takes over what came of an attempt that was sent at `sent`.
    fn land(&self, outcome: &Result<IssuedToken, Error>, sent: Instant) {
        match outcome {
            Ok(issued) => self.take(issued, sent),
            Err(error) => self.pause(error),
        }
    }

    fn take(&self, issued: &IssuedToken, sent: Instant) {
        let end = issued.time_left.and_then(|left| sent.checked_add(left));
        let renewal = end.zip(issued.time_left).map(|(end, left)| {
            let ahead = self.settings.ahead(left);
            end.checked_sub(ahead).unwrap_or(sent)
        });
        {
            let mut state = self.state();
            state.held = Some(Held {
                token: issued.string.clone(),
                renewal,
                end,
            });
            state.failures = 0;
            state.pause = None;
        }
        tracing::info!(
            token.id = %issued.token.id,
            expires_in_seconds = issued.time_left.map(|left| left.as_secs()),
            renewal_in_seconds = renewal.map(|renewal| (renewal - sent).as_secs()),
            "token created"
        );
    }

    fn pause(&self, error: &Error) {
        let (is_token_in_use, pause) = {
            let mut state = self.state();
            let now = Instant::now();
            let longest = FIRST_PAUSE * (1 << state.failures.min(7));
            let pause = longest.min(LONGEST_PAUSE).mul_f64(self.settings.chance());
            let asked = error.refusal().and_then(crate::Refusal::retry_after);
            let pause = pause.max(asked.unwrap_or_default().min(LONGEST_PAUSE));
            state.failures = state.failures.saturating_add(1);
            state.pause = Some((error.clone(), now + pause));
            (state.living(now).is_some(), pause)
        };
        // As a text, which logs escape: it may have words of whatever answered.
        let error = error.to_string();
        tracing::warn!(
            error,
            is_token_in_use,
            next_attempt_in_ms = pause.as_millis(),
            "no new token"
        );
    }
}

impl Settings {
    /// How long before its end a token is renewed that has `left` to live.
    fn ahead(&self, left: Duration) -> Duration {
        let ahead = self.renew_before.min(left / 5);
        ahead.mul_f64(0.9 + 0.2 * self.chance())
    }

    fn chance(&self) -> f64 {
        (self.chance)()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("renew_before", &self.renew_before)
            .finish_non_exhaustive()
    }
}

/// Begins an attempt, if there is one to begin. Not under the lock: a runtime that ends drops it at once.
fn begin(attempt: Option<Attempt>, is_forced: bool) {
    if let Some(attempt) = attempt {
        spawn(attempt.fly(is_forced));
    }
}

/// An attempt under way. Wherever it ends, even with its runtime, the next one can begin.
struct Attempt {
    renewed: Arc<Renewed>,
    sender: watch::Sender<Option<Result<TokenString, Error>>>,
    outcome: Option<Result<TokenString, Error>>,
}

impl Attempt {
    async fn fly(mut self, is_forced: bool) {
        let sent = Instant::now();
        let outcome = self.renewed.issue.issue(is_forced).await;
        // A token that is over would be made anew for each call.
        let outcome = outcome.and_then(|issued| {
            if issued.time_left.is_some_and(|left| left <= sent.elapsed()) {
                return Err(Error::Malformed {
                    address: self.renewed.issue.address().to_owned(),
                    reason: "the token's life was over when it came".to_owned(),
                });
            }
            Ok(issued)
        });
        self.renewed.land(&outcome, sent);
        self.outcome = Some(outcome.map(|issued| issued.string));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.renewed.state().flight = None;
        let cut_off = || Err(self.renewed.cut_off());
        let outcome = self.outcome.take().unwrap_or_else(cut_off);
        // Nobody may be waiting.
        self.sender.send_replace(Some(outcome));
    }
}
