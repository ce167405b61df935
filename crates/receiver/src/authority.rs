//! What the authority says of a token: asked once for all who want to know, believed for a few seconds.
//!
//! A 200 counts only with the right `object`, a machine as subject, neither revoked nor expired, and an expiration in the future or
//! none. Remembered are good answers for at most 5 s, and refusals by the authority's own 404 for 1 s, apart from each other.
//! Everything else is no answer, and then, where that is configured, the last good one may count for a while longer. At most 64 calls are under way and 1,024 tokens waited for; a quarter of both is kept for tokens
//! that were good before, so that a flood of strangers does not shut out those who are known.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use countersign_protocol::body::M2mTokenTag;
use countersign_protocol::ids::MachineId;
use countersign_protocol::scopes::Scopes;
use countersign_protocol::secret::Secret;
use countersign_protocol::time::Timestamp;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::cache::{Cache, Key};
use crate::caller::{ClaimsText, MachineCaller, MachineToken};
use crate::clock::{Moment, Time};
use crate::events::{Event, Events};
use crate::flight::{Boarding, Flights, Lead};
use crate::refusal::{Reason, Refusal};
use crate::remote::{Ask, Reply};

/// How long a good answer is believed at most.
pub(crate) const BELIEVE_MILLIS: i64 = 5_000;
/// How long a refusal is.
const DISBELIEVE_MILLIS: i64 = 1_000;
/// How long the authority is not asked again about a token that is let in by an old answer.
const PAUSE_MILLIS: i64 = 1_000;
/// How many entries each of the caches has.
pub(crate) const CAPACITY: usize = 10_000;
/// How long an answer may take, the wait for a turn included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How many calls may be under way.
const MAX_CALLS: usize = 64;
/// How many of them may be for tokens that were not good before.
const MAX_CALLS_OF_STRANGERS: usize = 48;
/// How many tokens may be waited for.
const MAX_FLIGHTS: usize = 1_024;
/// How many there may be for one more that was not good before.
const MAX_FLIGHTS_OF_STRANGERS: usize = 768;

/// The largest answer that is remembered, which bounds the memory of the cache. Countersign's own are shorter.
const MAX_REMEMBERED_BYTES: usize = 16 * 1024;

/// The digest under which a token is remembered.
pub(crate) fn key_of(token: &str) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    Key(key)
}

/// What the authority says, or why there is no good answer.
type Answer = Result<MachineCaller, Refusal>;

/// The authority, and what is remembered of its answers.
pub(crate) struct Authority {
    remote: Arc<dyn Ask>,
    time: Arc<Time>,
    events: Events,
    /// How old a good answer may be that counts while the authority cannot be asked, in milliseconds; 0 is not at all.
    stale_millis: i64,
    good: Cache<MachineCaller>,
    bad: Cache<()>,
    flights: Arc<Flights<Key, oneshot::Sender<Answer>>>,
    calls: Semaphore,
    calls_of_strangers: Semaphore,
}

impl Authority {
    pub(crate) fn new(
        remote: Arc<dyn Ask>,
        stale_millis: i64,
        time: Arc<Time>,
        events: Events,
    ) -> Arc<Self> {
        Arc::new(Self {
            remote,
            time,
            events,
            stale_millis,
            good: Cache::new(CAPACITY),
            bad: Cache::new(CAPACITY),
            flights: Arc::new(Flights::new()),
            calls: Semaphore::new(MAX_CALLS),
            calls_of_strangers: Semaphore::new(MAX_CALLS_OF_STRANGERS),
        })
    }

    /// What is remembered of a token that was good. The caller evaluates every policy once more.
    pub(crate) fn recall(&self, key: &Key, now: Moment) -> Option<MachineCaller> {
        self.good.get(key, now.monotonic)
    }

    /// What the authority says of a token, now or a moment ago. `is_known` says that it is no stranger's, even if it is new.
    pub(crate) async fn check(self: &Arc<Self>, key: &Key, token: &str, is_known: bool) -> Answer {
        let now = self.time.now().monotonic;
        if let Some(known) = self.look(key, now) {
            return known;
        }
        let (sender, receiver) = oneshot::channel();
        let is_stranger = !is_known && !self.good.knew(key);
        let max_flights = if is_stranger {
            MAX_FLIGHTS_OF_STRANGERS
        } else {
            MAX_FLIGHTS
        };
        let look = || self.look(key, now);
        match self.flights.board(key, sender, max_flights, look) {
            Boarding::Known(known) => return known,
            Boarding::Full => return Err(Refusal::new(Reason::TooManyChecks)),
            Boarding::Follows => {}
            Boarding::Leads(lead) => {
                // It goes on by itself: whoever began it may be cancelled.
                let token = Secret::new(token.to_owned());
                tokio::spawn(Arc::clone(self).fly(lead, *key, token, is_stranger));
            }
        }
        let lost = |_| Err(Refusal::new(Reason::AuthorityUnavailable));
        receiver.await.unwrap_or_else(lost)
    }

    fn look(&self, key: &Key, now: i64) -> Option<Answer> {
        if let Some(known) = self.good.get(key, now) {
            return Some(Ok(known));
        }
        let refused = self.bad.get(key, now);
        refused.map(|()| Err(Refusal::new(Reason::TokenRefused)))
    }

    async fn fly(
        self: Arc<Self>,
        lead: Lead<Key, oneshot::Sender<Answer>>,
        key: Key,
        token: Secret,
        is_stranger: bool,
    ) {
        let began = self.time.now().monotonic;
        let (answer, is_away) = self.ask(&key, token.expose(), is_stranger).await;
        let took = self.time.now().monotonic.saturating_sub(began);
        self.events.tell(&Event::AuthorityAsked {
            refused: answer.as_ref().err().map(Refusal::reason),
            took: Duration::from_millis(u64::try_from(took).unwrap_or(0)),
        });
        let stale = is_away.then(|| self.prolong(&key)).flatten();
        let answer = stale.map_or(answer, Ok);
        for waiter in lead.land() {
            let _ = waiter.send(answer.clone());
        }
    }

    /// Asks, and tells beside the answer whether the authority seems to be away.
    async fn ask(&self, key: &Key, token: &str, is_stranger: bool) -> (Answer, bool) {
        let deadline = Instant::now() + PATIENCE;
        let turn = async {
            let stranger = if is_stranger {
                Some(self.calls_of_strangers.acquire().await)
            } else {
                None
            };
            (stranger, self.calls.acquire().await)
        };
        let Ok(_turn) = timeout_at(deadline, turn).await else {
            tracing::warn!("too many questions to the authority are under way");
            return (Err(Refusal::new(Reason::TooManyChecks)), false);
        };
        // What is remembered counts from before the question: the authority may have answered at once.
        let asked_at = self.time.now().monotonic;
        // Whoever waited long for a turn leaves the authority no time to answer, which says nothing of it.
        let has_time = Instant::now() + PATIENCE / 2 <= deadline;
        let Ok(reply) = timeout_at(deadline, self.remote.ask(token)).await else {
            tracing::warn!("no answer of the authority in time");
            return (Err(Refusal::new(Reason::AuthorityUnavailable)), has_time);
        };
        let is_large = matches!(&reply, Reply::Ok(body) if body.len() > MAX_REMEMBERED_BYTES);
        let is_own_404 = matches!(&reply, Reply::Refused { status, code, .. }
            if *status == StatusCode::NOT_FOUND && code == "resource_not_found");
        // One that limits rates is there. RFC 5861 section 4.
        let is_away = match &reply {
            Reply::Nothing(_) => true,
            Reply::Refused { status, .. } => status.is_server_error(),
            Reply::Ok(_) => false,
        };
        let answer = self.judge(reply, asked_at);
        match &answer {
            Ok(token) if !is_large => self.remember(*key, token),
            Err(refusal) if tells_nothing(refusal.reason()) => {}
            // Whatever was good before is no more.
            _ => self.good.remove(key),
        }
        if is_own_404 {
            self.bad.put(*key, (), asked_at, DISBELIEVE_MILLIS);
        }
        (answer, is_away)
    }

    /// The last good answer, if it is not too old, to be believed for another moment.
    fn prolong(&self, key: &Key) -> Option<MachineCaller> {
        let now = self.time.now().monotonic;
        self.good.prolong(key, |caller| {
            let left = self.stale_millis - now.saturating_sub(caller.0.asked_at);
            (left > 0).then(|| now.saturating_add(left.min(PAUSE_MILLIS)))
        })
    }

    /// Tells of an answer that is believed because there is no newer one.
    pub(crate) fn tell_if_stale(&self, caller: &MachineCaller, now: i64) {
        let age = now.saturating_sub(caller.0.asked_at);
        if age <= BELIEVE_MILLIS {
            return;
        }
        tracing::warn!(
            subject = caller.id().as_str(),
            token.id = caller.token_id(),
            age_seconds = age / 1_000,
            "the authority cannot be asked: an old answer counts"
        );
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        self.events.tell(&Event::StaleUsed { caller, age });
    }

    fn remember(&self, key: Key, token: &MachineCaller) {
        let now = self.time.now().wall;
        let left = token.0.expires_at.map(|end| end.millis_since(now));
        let ttl = left.unwrap_or(i64::MAX).min(BELIEVE_MILLIS);
        if ttl > 0 {
            self.good.put(key, token.clone(), token.0.asked_at, ttl);
        }
    }

    fn judge(&self, reply: Reply, asked_at: i64) -> Answer {
        let unavailable = Refusal::new(Reason::AuthorityUnavailable);
        match reply {
            Reply::Ok(body) => read(&body, self.time.now().wall, asked_at).map_err(|reason| {
                if reason == Reason::AuthorityUnavailable {
                    tracing::warn!("the authority's answer to a verification is none");
                }
                Refusal::new(reason)
            }),
            Reply::Nothing(error) => {
                tracing::warn!(error, "the authority cannot be asked");
                Err(unavailable)
            }
            Reply::Refused {
                status,
                code,
                retry_after,
            } => match status {
                // Which code a token of the wrong form gets is not documented at Clerk.
                StatusCode::NOT_FOUND
                | StatusCode::BAD_REQUEST
                | StatusCode::UNPROCESSABLE_ENTITY => Err(Refusal::new(Reason::TokenRefused)),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    tracing::error!(
                        code,
                        "the authority does not accept this machine's key: set CLERK_MACHINE_SECRET_KEY, or the same with the name of the service behind it, to a live key of the machine"
                    );
                    Err(Refusal::new(Reason::ReceiverKeyRefused))
                }
                _ => {
                    tracing::warn!(
                        status = status.as_u16(),
                        code,
                        "the authority refuses to answer"
                    );
                    Err(unavailable.retry_after(retry_after))
                }
            },
        }
    }
}

/// Whether an answer that is none leaves what was known before as good as it was.
fn tells_nothing(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::AuthorityUnavailable | Reason::ReceiverKeyRefused
    )
}

/// The body of a verification. Members that do not matter here are not read.
#[derive(Deserialize)]
struct Verified<'a> {
    #[serde(rename = "object")]
    _object: M2mTokenTag,
    id: String,
    subject: MachineId,
    scopes: Scopes,
    #[serde(borrow, default)]
    claims: Option<&'a RawValue>,
    revoked: bool,
    expired: bool,
    /// `null` is a token that never ends, as the contract has it. It must be said: an absent member is no answer.
    #[serde(deserialize_with = "Option::deserialize")]
    expiration: Option<Timestamp>,
}

/// Reads the body of a 200. It must say everything that makes a token good, in so many words.
fn read(body: &[u8], now: Timestamp, asked_at: i64) -> Result<MachineCaller, Reason> {
    // A list of the same values would be read as well.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Reason::AuthorityUnavailable);
    }
    let token: Verified<'_> =
        serde_json::from_slice(body).map_err(|_| Reason::AuthorityUnavailable)?;
    if token.revoked {
        return Err(Reason::TokenRefused);
    }
    if token.expired || token.expiration.is_some_and(|end| end <= now) {
        return Err(Reason::TokenExpired);
    }
    let claims = token.claims.map_or("null", RawValue::get);
    Ok(MachineCaller(Arc::new(MachineToken {
        id: token.id.into(),
        subject: token.subject,
        scopes: Some(token.scopes),
        expires_at: token.expiration,
        claims: ClaimsText::Own(claims.into()),
        asked_at,
    })))
}
