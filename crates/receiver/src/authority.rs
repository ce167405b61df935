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
const PATIENCE: Duration = Duration::from_secs(2);
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
        let caller = self.good.get(key, now.monotonic)?;
        self.count_if_stale(&caller, now.monotonic);
        Some(caller)
    }

    /// What the authority says of a token, now or a moment ago. `is_known` says that it is no stranger's, even if it is new.
    pub(crate) async fn check(self: &Arc<Self>, key: &Key, token: &str, is_known: bool) -> Answer {
        let answer = self.find_out(key, token, is_known).await;
        if let Ok(caller) = &answer {
            self.count_if_stale(caller, self.time.now().monotonic);
        }
        answer
    }

    async fn find_out(self: &Arc<Self>, key: &Key, token: &str, is_known: bool) -> Answer {
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
            Boarding::Full => return self.or_stale(key, Err(Refusal::new(Reason::TooManyChecks))),
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
        let answer = tokio::time::timeout(PATIENCE, self.ask(&key, token.expose(), is_stranger))
            .await
            .unwrap_or_else(|_| {
                tracing::warn!("no answer of the authority in time");
                Err(Refusal::new(Reason::AuthorityUnavailable))
            });
        let took = self.time.now().monotonic.saturating_sub(began);
        self.events.tell(&Event::AuthorityAsked {
            refused: answer.as_ref().err().map(Refusal::reason),
            took: Duration::from_millis(u64::try_from(took).unwrap_or(0)),
        });
        let answer = self.or_stale(&key, answer);
        for waiter in lead.land() {
            let _ = waiter.send(answer.clone());
        }
    }

    async fn ask(&self, key: &Key, token: &str, is_stranger: bool) -> Answer {
        let unavailable = || Refusal::new(Reason::AuthorityUnavailable);
        let _stranger = if is_stranger {
            let turn = self.calls_of_strangers.acquire().await;
            Some(turn.map_err(|_| unavailable())?)
        } else {
            None
        };
        let _turn = self.calls.acquire().await.map_err(|_| unavailable())?;
        // What is remembered counts from before the question: the authority may have answered at once.
        let asked_at = self.time.now().monotonic;
        let reply = self.remote.ask(token).await;
        let is_own_404 = matches!(&reply, Reply::Refused { status, code, .. }
            if *status == StatusCode::NOT_FOUND && code == "resource_not_found");
        let is_large = matches!(&reply, Reply::Ok(body) if body.len() > MAX_REMEMBERED_BYTES);
        let answer = self.judge(reply, asked_at);
        match &answer {
            Ok(_) if is_large => {}
            Ok(token) => self.remember(*key, token),
            Err(_) if is_own_404 => {
                self.good.remove(key);
                self.bad.put(*key, (), asked_at, DISBELIEVE_MILLIS);
            }
            Err(_) => {}
        }
        answer
    }

    /// The last good answer in place of none, if it is not too old.
    fn or_stale(&self, key: &Key, answer: Answer) -> Answer {
        let has_none = |refusal: &Refusal| {
            let reason = refusal.reason();
            matches!(reason, Reason::AuthorityUnavailable | Reason::TooManyChecks)
        };
        if !answer.as_ref().is_err_and(has_none) {
            return answer;
        }
        let now = self.time.now().monotonic;
        let Some(caller) = self.good.last(key) else {
            return answer;
        };
        let left = self.stale_millis - now.saturating_sub(caller.0.asked_at);
        if left <= 0 {
            return answer;
        }
        self.good
            .put(*key, caller.clone(), now, left.min(PAUSE_MILLIS));
        Ok(caller)
    }

    fn count_if_stale(&self, caller: &MachineCaller, now: i64) {
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
                        "the authority does not accept this machine's key: set CLERK_MACHINE_SECRET_KEY to a live key of the machine"
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
