//! One request from head to answer: route, version, credential, body, handler; and what is counted and logged about it.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use countersign_protocol::error::{ErrorCode, NO_SUCH_PATH};
use countersign_protocol::random::{Random, random_bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::answer::{Answer, AnswerBody};
use crate::body::Arriving;
use crate::budget::is_large;
use crate::call::{App, Call, Exposure};
use crate::connection::{Phase, Watch};
use crate::forwarded::client_address;
use crate::metrics::Stopwatch;
use crate::mount::Mount;
use crate::operation::{Listeners, Row};
use crate::operator;
use crate::pace::Pace;
use crate::reply::{ApiError, Habit};
use crate::route::{Found, find};

/// The largest block of headers, counted as names and values.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// The same over HTTP/2, where a field can cost the peer a byte and this process a hundred; and the most fields there. Over HTTP/1,
/// hyper takes 100.
const MAX_HTTP2_HEADER_BYTES: usize = 16 * 1024;
const MAX_HTTP2_FIELDS: usize = 100;
/// The longest path and query.
const MAX_TARGET_BYTES: usize = 8 * 1024;
/// The time in which route, head and credential are decided.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(8);
/// The time in which a body must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const API_VERSION: HeaderName = HeaderName::from_static("clerk-api-version");

/// Answers a request. It never fails: what goes wrong becomes an answer.
pub(crate) async fn answer(
    app: &App,
    request: Request<Incoming>,
    peer: IpAddr,
    watch: &Watch,
) -> Answer {
    let (head, incoming) = request.into_parts();
    let found = app.find(&head);
    let mount = app.mount(&found, head.uri.path());
    let (label, path, habit) = match (&found, mount) {
        (Found::Operation(row, _), _) => (Some(row.name), row.path, row.habit),
        (_, Some(mount)) => (Some(mount.prefix()), mount.prefix(), Habit::Parameters),
        (_, None) => (None, "", habit_of_path(head.uri.path())),
    };
    // For traces; it costs next to nothing where nobody collects them. Names of the OpenTelemetry conventions for HTTP.
    let span = tracing::debug_span!(
        target: "countersign::request",
        "request",
        otel.kind = "server",
        http.request.method = known_method(&head.method),
        http.route = path,
        http.response.status_code = tracing::field::Empty,
    );
    let (is_head, is_http1) = (head.method == Method::HEAD, head.version < Version::HTTP_2);
    let mut stopwatch = app.metrics.start();
    watch.enter(Phase::Handling);
    let (outcome, is_body_left) = if let Some(mount) = mount {
        // Boxed, because few requests come here and all would be as large otherwise.
        let visit = Box::pin(app.visit(
            mount,
            Request::from_parts(head.clone(), incoming),
            peer,
            watch,
        ));
        (visit.instrument(span.clone()).await, false)
    } else {
        let mut body = Arriving::new(incoming);
        let operate = app.operate(&head, found, &mut body, peer, watch, &mut stopwatch);
        let outcome = pin!(operate).instrument(span.clone()).await;
        (outcome, !body.is_whole())
    };
    let mut answer = outcome.unwrap_or_else(|error| app.refuse(label, habit, error));
    if is_head {
        strip_body(&mut answer);
    }
    // hyper would go on behind a body that nobody reads, while the answer is still being written.
    if is_body_left && is_http1 {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
    let status = i64::from(answer.status().as_u16());
    span.record("http.response.status_code", status);
    app.metrics.finish(label, answer.status(), stopwatch);
    watch.enter(Phase::Writing);
    answer
}

impl App {
    /// Finds the operation of a request, among those that this listener serves.
    fn find<'a>(&self, head: &'a Parts) -> Found<'a> {
        match find(&head.method, head.uri.path()) {
            Found::Operation(row, _) if !row.is_served_by(self.exposure) => Found::Nothing,
            Found::WrongMethod(_) if self.exposure == Exposure::Metrics => Found::Nothing,
            found => found,
        }
    }

    /// The routes beside the table that a path without an operation belongs to.
    fn mount(&self, found: &Found<'_>, path: &str) -> Option<&Mount> {
        let is_served = matches!(found, Found::Nothing) && self.exposure != Exposure::Metrics;
        self.mounts
            .iter()
            .find(|mount| is_served && mount.holds(path))
    }

    /// Has an operation answer. Route, head and credential are decided first; only then is a body read that has not come with the
    /// head, so that nobody without a key makes this process hold one.
    async fn operate(
        &self,
        head: &Parts,
        found: Found<'_>,
        body: &mut Arriving,
        peer: IpAddr,
        watch: &Watch,
        stopwatch: &mut Stopwatch,
    ) -> Result<Answer, ApiError> {
        let takes_body = !matches!(head.method, Method::GET | Method::HEAD | Method::DELETE);
        // A client that sends `Expect: 100-continue` waits for an answer. Reading would ask it for a body that nobody may want.
        let asks = head.headers.contains_key(EXPECT);
        if takes_body && !asks {
            body.read_arrived().await;
        }
        let is_whole = body.is_whole() || !takes_body;
        let admitted = guarded(
            pin!(self.admit(head, found, peer, is_whole)),
            ADMISSION_TIMEOUT,
        )
        .await;
        if !is_whole {
            watch.enter(Phase::Body);
            // Boxed, because most bodies come with their heads and all requests would be as large otherwise.
            let rest = Box::pin(async {
                match &admitted {
                    Ok(_) => body.read_rest().await,
                    // A stream of HTTP/2 ends by itself, and what has come of its body is let go at once.
                    Err(_) if asks || head.version >= Version::HTTP_2 => {}
                    Err(_) => body.discard().await,
                }
            });
            // A body that does not come in time is a broken one.
            let _ = timeout(BODY_TIMEOUT, rest).await;
            *stopwatch = self.metrics.start();
            watch.enter(Phase::Handling);
        }
        let (row, mut call) = admitted?;
        if takes_body {
            call.body = body.take(&head.headers);
        }
        if !row.checks_credential {
            call.body()?;
        }
        let _turn = self.turns.take(row.pace).await?;
        let mut handling = match (&self.operator, row.at_door) {
            (Some(operator), Some(handler)) => handler(&call, operator),
            _ => (row.handler)(&call),
        };
        let answer = guarded(handling.as_mut(), row.pace.limit()).await?;
        match &call.actor {
            // Boxed, because few answers are large and all requests would be otherwise.
            Some(actor) if is_large(&answer) => {
                Box::pin(self.large.hold(actor.instance_id(), answer)).await
            }
            // What everybody may read is small, or is in memory once.
            _ => Ok(answer.map(AnswerBody::released)),
        }
    }

    /// Decides about everything but the body.
    async fn admit<'a>(
        &'a self,
        head: &'a Parts,
        found: Found<'a>,
        peer: IpAddr,
        is_whole: bool,
    ) -> Result<(&'static Row, Call<'a>), ApiError> {
        check_size(head)?;
        let is_for_metrics =
            matches!(&found, Found::Operation(row, _) if row.listeners == Listeners::Metrics);
        self.hosts.check(head, is_for_metrics)?;
        let (row, captures) = match found {
            Found::Operation(row, captures) => (row, captures),
            Found::WrongMethod(methods) => {
                let allow = Some(methods.join(", "));
                return Err(ApiError {
                    allow,
                    ..ApiError::new(ErrorCode::MethodNotAllowed)
                });
            }
            Found::Nothing => {
                return Err(ApiError::saying(ErrorCode::ResourceNotFound, NO_SUCH_PATH));
            }
        };
        check_api_version(&head.headers, head.uri.query())?;
        let mut call = Call {
            app: self,
            habit: row.habit,
            presence: row.presence,
            captures,
            query: head.uri.query(),
            headers: &head.headers,
            body: Ok(Bytes::new()),
            address: client_address(peer, &head.headers, &self.trusted_proxies),
            actor: None,
        };
        if self.operator.is_some() {
            operator::refuse_credential(&head.headers)?;
        }
        match row.accepts {
            // The handler decides about credential and body in one, which costs one look-up less.
            Some(_) if row.checks_credential && is_whole => {}
            // The handler for the door needs no credential.
            Some(_) if self.operator.is_some() && row.at_door.is_some() => {}
            Some(accepts) if row.checks_credential => call.admit(accepts).await?,
            Some(accepts) => call.actor = Some(call.authenticate(accepts).await?),
            None => {}
        }
        Ok((row, call))
    }

    /// Has the routes beside the table answer.
    async fn visit(
        &self,
        mount: &Mount,
        request: Request<Incoming>,
        peer: IpAddr,
        watch: &Watch,
    ) -> Result<Answer, ApiError> {
        let (head, body) = request.into_parts();
        check_size(&head)?;
        self.hosts.check(&head, false)?;
        let address = client_address(peer, &head.headers, &self.trusted_proxies);
        let request = Request::from_parts(head, body);
        let _turn = self.turns.take(mount.pace()).await?;
        let answer = pin!(async { Ok(mount.answer(request, address).await) });
        let answer = guarded(answer, mount.pace().limit());
        if mount.pace() != Pace::Waiting {
            return answer.await;
        }
        let _wait = watch.begin_wait();
        let mut stop = self.stop.clone();
        tokio::select! {
            answer = answer => answer,
            // A client that tries again reaches another node, or this one after its restart.
            _ = stop.wait_for(|is_stopping| *is_stopping) => Err(ApiError::overloaded()),
        }
    }
}

/// Refuses heads that are too large.
fn check_size(head: &Parts) -> Result<(), ApiError> {
    let target = head.uri.path_and_query();
    if target.is_some_and(|target| target.as_str().len() > MAX_TARGET_BYTES) {
        return Err(ApiError::new(ErrorCode::UriTooLong));
    }
    let lines = head.headers.iter();
    let size: usize = lines
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let is_http2 = head.version >= Version::HTTP_2;
    let most = if is_http2 {
        MAX_HTTP2_HEADER_BYTES
    } else {
        MAX_HEADER_BYTES
    };
    if size > most || (is_http2 && head.headers.len() > MAX_HTTP2_FIELDS) {
        return Err(ApiError::new(ErrorCode::RequestHeaderFieldsTooLarge));
    }
    Ok(())
}

impl App {
    /// Turns an error into an answer and writes what only the log may know.
    fn refuse(&self, operation: Option<&'static str>, habit: Habit, error: ApiError) -> Answer {
        let trace_id = new_trace_id(&*self.random);
        let error = if habit == Habit::BadRequest {
            error.in_token_statuses()
        } else {
            error
        };
        match &error.source {
            Some(source) => tracing::error!(
                trace_id,
                operation,
                code = error.code.name(),
                source = source.as_str(),
                "request failed"
            ),
            None => tracing::debug!(
                trace_id,
                operation,
                code = error.code.name(),
                "request refused"
            ),
        }
        error.into_answer(trace_id)
    }
}

/// A method by its name. Others are text of strangers, who may well have put a secret there.
fn known_method(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH => method.as_str(),
        Method::DELETE | Method::OPTIONS | Method::CONNECT | Method::TRACE => method.as_str(),
        _ => "_OTHER",
    }
}

/// 32 hexadecimal digits.
fn new_trace_id(random: &dyn Random) -> String {
    format!("{:032x}", u128::from_be_bytes(random_bytes(random)))
}

/// How errors about a path are worded that no operation answers for.
fn habit_of_path(path: &str) -> Habit {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    if path.starts_with("/m2m_tokens") {
        Habit::BadRequest
    } else {
        Habit::Parameters
    }
}

/// Accepts any well-formed date, once, in the header or the query (contract: request conventions).
pub(crate) fn check_api_version(headers: &HeaderMap, query: Option<&str>) -> Result<(), ApiError> {
    let has_query = query.is_some_and(|query| query.contains("__clerk_api_version"));
    if !headers.contains_key(API_VERSION) && !has_query {
        return Ok(());
    }
    let mut given: Vec<String> = headers
        .get_all(API_VERSION)
        .iter()
        .map(|line| line.to_str().unwrap_or_default().to_owned())
        .collect();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name == "__clerk_api_version" {
            given.push(value.into_owned());
        }
    }
    match given.as_slice() {
        [] => Ok(()),
        [version] if is_date(version) => Ok(()),
        _ => Err(ApiError::new(ErrorCode::ApiVersionInvalid)),
    }
}

/// Whether `text` is a date of the form `2026-05-12`.
fn is_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut number = |digits: usize| {
        parts
            .next()
            .filter(|part| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))?
            .parse::<u32>()
            .ok()
    };
    let (year, month, day) = (number(4), number(2), number(2));
    year.is_some()
        && month.is_some_and(|month| (1..=12).contains(&month))
        && day.is_some_and(|day| (1..=31).contains(&day))
        && parts.next().is_none()
}

/// Keeps the head of an answer to HEAD and drops its body.
fn strip_body(answer: &mut Answer) {
    let length = answer.body().size_hint().exact().unwrap_or_default();
    answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    *answer.body_mut() = AnswerBody::ready(Bytes::new());
}

/// Runs a part of a request with a limit of time, and turns a panic into an error. Most never wait, and only those that do pay for a
/// timer.
async fn guarded<T, F>(mut part: Pin<&mut F>, limit: Duration) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>> + ?Sized,
{
    let mut timer = None;
    std::future::poll_fn(|context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| part.as_mut().poll(context))) {
            Ok(Poll::Ready(outcome)) => return Poll::Ready(outcome),
            Ok(Poll::Pending) => {}
            Err(_) => {
                return Poll::Ready(Err(ApiError {
                    source: Some("a handler panicked".to_owned()),
                    ..ApiError::new(ErrorCode::InternalClerkError)
                }));
            }
        }
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer
            .as_mut()
            .poll(context)
            .map(|()| Err(ApiError::overloaded()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_version_is_any_date_given_once() {
        let check = |header: &[&'static str], query: Option<&str>| {
            let mut headers = HeaderMap::new();
            for line in header {
                headers.append(API_VERSION, http::HeaderValue::from_static(line));
            }
            check_api_version(&headers, query).is_ok()
        };
        assert!(check(&[], None));
        assert!(check(&["2026-05-12"], None));
        assert!(check(&["1999-01-01"], Some("limit=1")));
        assert!(check(&[], Some("__clerk_api_version=2025-11-10")));
        assert!(!check(
            &["2026-05-12"],
            Some("__clerk_api_version=2025-11-10")
        ));
        assert!(!check(&["2026-05-12", "2026-05-12"], None));
        assert!(!check(&["latest"], None));
        assert!(!check(&["2026-13-12"], None));
        assert!(!check(&["2026-05-12-1"], None));
        assert!(!check(&[], Some("__clerk_api_version=")));
    }
}
