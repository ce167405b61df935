//! The token that a sender presents: made on first use, kept for its life, renewed ahead, replaced once after a 401.
//!
//! One renewal is in flight at a time, in a task of its own, so that nobody who gives up waiting takes the others along. All
//! times are counted by the monotonic clock from the moment at which the request was sent. A renewal that fails leaves a token
//! that still lives in use; further attempts wait longer and longer, half a minute at most.

mod ready_made;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, SettingsError};
use crate::tokens::{IssuedToken, NewToken, TokenString};
use ready_made::ReadyMade;
use settings::Settings;
pub use settings::TokenSourceBuilder;

/// The shortest time between two tokens that were asked for because of a 401.
const BETWEEN_FORCED: Duration = Duration::from_secs(10);
/// The first pause after a failure, doubled by each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where a sender gets its token from. Cheap to clone; clones share the token.
///
/// ```no_run
/// # async fn example() -> Result<(), countersign_client::Error> {
/// let tokens = countersign_client::TokenSource::from_env()?;
/// let token = tokens.token().await?;
/// let header = token.authorization(); // for the `Authorization` header of a request
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenSource(Kind);

#[derive(Clone)]
enum Kind {
    Renewed(Arc<Renewed>),
    ReadyMade(Arc<ReadyMade>),
    Off(TokenString),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Kind::Renewed(_) => "TokenSource(renewed)",
            Kind::ReadyMade(_) => "TokenSource(ready-made)",
            Kind::Off(_) => "TokenSource(off)",
        })
    }
}

/// Makes tokens; a seam for tests.
trait Issue: Send + Sync {
    /// Makes one. One that is `forced` must not be one that exists already.
    fn issue(&self, is_forced: bool) -> Issuing<'_>;
}

type Issuing<'a> = Pin<Box<dyn Future<Output = Result<IssuedToken, Error>> + Send + 'a>>;

/// Asks the authority.
struct Authority {
    client: Client,
    new: NewToken,
}

impl Issue for Authority {
    fn issue(&self, is_forced: bool) -> Issuing<'_> {
        Box::pin(async move {
            if is_forced {
                self.client.create_token(&self.new.without_reuse()).await
            } else {
                self.client.create_token(&self.new).await
            }
        })
    }
}

impl TokenSource {
    /// Tokens of the machine whose key the client has, of the default life and format.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::builder(client).build()
    }

    /// The same with choices.
    #[must_use]
    pub fn builder(client: Client) -> TokenSourceBuilder {
        TokenSourceBuilder::new(client)
    }

    /// A token that was made before and is never renewed, such as one for 365 days. Where its end is known, from a JWT or from
    /// `expires_at`, the log warns each day from 30 days before it.
    #[must_use]
    pub fn ready_made(token: TokenString, expires_at: Option<std::time::SystemTime>) -> Self {
        Self(Kind::ReadyMade(Arc::new(ReadyMade::new(token, expires_at))))
    }

    /// No token: for tests of a service whose calls go to something that wants none. Layers send requests as they are.
    #[must_use]
    pub fn off() -> Self {
        tracing::warn!("M2M tokens are switched off: requests carry none");
        let placeholder = TokenString::new("m2m-tokens-are-switched-off");
        Self(Kind::Off(placeholder.expect("the text is one word")))
    }

    /// Asks `CLERK_API_URL` (or `CLERK_API_BASE_URL`) with the key of `CLERK_MACHINE_SECRET_KEY`.
    ///
    /// # Errors
    /// [`Error::Settings`] that names every variable that is missing.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_environment(&crate::environment::Environment::of_process(), None)
    }

    /// The same for a process that is several machines, or has a ready-made token: `CLERK_M2M_TOKEN_<SERVICE>`, or else the key
    /// `CLERK_MACHINE_SECRET_KEY_<SERVICE>`, or else `CLERK_MACHINE_SECRET_KEY`.
    ///
    /// # Errors
    /// [`Error::Settings`] that names every variable that is missing.
    pub fn from_env_for(service: &str) -> Result<Self, Error> {
        Self::from_environment(
            &crate::environment::Environment::of_process(),
            Some(service),
        )
    }

    fn from_environment(
        environment: &crate::environment::Environment,
        service: Option<&str>,
    ) -> Result<Self, Error> {
        if let Some(token) = service.and_then(|service| environment.token(service)) {
            return Ok(Self::ready_made(TokenString::new(token)?, None));
        }
        let mut missing = Vec::new();
        let address = environment.address(&mut missing);
        let key = environment.machine_key(service, &mut missing);
        match (address, key) {
            (Some(address), Some(key)) => Ok(Self::new(Client::new(&address, &key)?)),
            _ => Err(SettingsError::Missing(missing).into()),
        }
    }

    /// The token to present now. Waits only where there is none that still lives.
    ///
    /// # Errors
    /// The error of the attempt that was waited for, or of the last one while further attempts wait.
    pub async fn token(&self) -> Result<TokenString, Error> {
        match &self.0 {
            Kind::Renewed(renewed) => renewed.token().await,
            Kind::ReadyMade(ready_made) => Ok(ready_made.token()),
            Kind::Off(placeholder) => Ok(placeholder.clone()),
        }
    }

    /// The value of the `Authorization` header for a request; `None` where tokens are switched off.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub async fn authorization(&self) -> Result<Option<HeaderValue>, Error> {
        if self.is_off() {
            return Ok(None);
        }
        Ok(Some(self.token().await?.authorization()))
    }

    /// Another token in the place of one that a receiver answered with 401. `None` where there can be none: the token is
    /// ready-made, or one was replaced less than 10 seconds ago, and so the 401 is the answer.
    ///
    /// # Errors
    /// The error of the attempt.
    pub async fn replacement(&self, refused: &TokenString) -> Result<Option<TokenString>, Error> {
        match &self.0 {
            Kind::Renewed(renewed) => renewed.replacement(refused).await,
            Kind::ReadyMade(_) | Kind::Off(_) => Ok(None),
        }
    }

    /// Whether tokens are switched off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        matches!(self.0, Kind::Off(_))
    }
}

/// A token that is renewed.
struct Renewed {
    issue: Box<dyn Issue>,
    settings: Settings,
    state: Mutex<State>,
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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn token(self: &Arc<Self>) -> Result<TokenString, Error> {
        let flight = {
            let mut state = self.state();
            let now = Instant::now();
            if let Some(held) = state.living(now) {
                let token = held.token.clone();
                let left = held.end.map(|end| (end - now).as_secs());
                let is_due = held.renewal.is_some_and(|renewal| now >= renewal);
                if is_due && state.flight.is_none() && state.paused(now).is_none() {
                    self.depart(&mut state, false);
                }
                tracing::debug!(seconds_left = left, "cached token used");
                return Ok(token);
            }
            match &state.flight {
                Some(flight) => flight.clone(),
                None => match state.paused(now) {
                    Some(error) => return Err(error),
                    None => self.depart(&mut state, false),
                },
            }
        };
        landed(flight).await
    }

    async fn replacement(
        self: &Arc<Self>,
        refused: &TokenString,
    ) -> Result<Option<TokenString>, Error> {
        let flight = {
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
                Some(flight) => flight.clone(),
                None if is_too_soon || state.paused(now).is_some() => return Ok(None),
                None => {
                    state.held = None;
                    state.forced_at = Some(now);
                    self.depart(&mut state, true)
                }
            }
        };
        let token = landed(flight).await?;
        Ok((token != *refused).then_some(token))
    }

    /// Begins an attempt.
    fn depart(self: &Arc<Self>, state: &mut State, is_forced: bool) -> Flight {
        let (sender, receiver) = watch::channel(None);
        state.flight = Some(receiver.clone());
        let attempt = Attempt {
            renewed: Arc::clone(self),
            sender,
            outcome: None,
        };
        tokio::spawn(attempt.fly(is_forced));
        receiver
    }

    /// Takes over what came of an attempt that was sent at `sent`.
    fn land(&self, outcome: &Result<IssuedToken, Error>, sent: Instant) {
        let mut state = self.state();
        match outcome {
            Ok(issued) => {
                let end = issued.time_left.and_then(|left| sent.checked_add(left));
                let renewal = end.zip(issued.time_left).map(|(end, left)| {
                    let ahead = self.settings.ahead(left);
                    end.checked_sub(ahead).unwrap_or(sent)
                });
                tracing::info!(
                    token.id = %issued.token.id,
                    expires_in_seconds = issued.time_left.map(|left| left.as_secs()),
                    renewal_in_seconds = renewal.map(|renewal| (renewal - sent).as_secs()),
                    "token created"
                );
                state.held = Some(Held {
                    token: issued.string.clone(),
                    renewal,
                    end,
                });
                state.failures = 0;
                state.pause = None;
            }
            Err(error) => {
                let now = Instant::now();
                let longest = FIRST_PAUSE * (1 << state.failures.min(7));
                let pause = longest.min(LONGEST_PAUSE).mul_f64(self.settings.chance());
                let asked = error.refusal().and_then(crate::Refusal::retry_after);
                let pause = pause.max(asked.unwrap_or_default().min(LONGEST_PAUSE));
                state.failures = state.failures.saturating_add(1);
                tracing::warn!(
                    %error,
                    is_token_in_use = state.living(now).is_some(),
                    next_attempt_in_ms = pause.as_millis(),
                    "no new token"
                );
                state.pause = Some((error.clone(), now + pause));
            }
        }
    }
}

/// Waits for an attempt.
async fn landed(mut flight: Flight) -> Result<TokenString, Error> {
    match flight.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().expect("it was waited for"),
        Err(_) => Err(cut_off()),
    }
}

/// What those are told whose attempt ended with the runtime that it ran in.
fn cut_off() -> Error {
    Error::Unreachable {
        address: "its address".to_owned(),
        reason: "the attempt was cut off".to_owned(),
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
        self.renewed.land(&outcome, sent);
        self.outcome = Some(outcome.map(|issued| issued.string));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.renewed.state().flight = None;
        let outcome = self.outcome.take().unwrap_or_else(|| Err(cut_off()));
        // Nobody may be waiting.
        self.sender.send_replace(Some(outcome));
    }
}
