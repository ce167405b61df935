//! One request from head to answer: route, version, credential, body, handler; and what is counted and logged about it.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use countersign_protocol::error::{ErrorCode, NO_SUCH_PATH};
use countersign_protocol::random::{Random, random_bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Version};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;

use crate::api;
use crate::body::{BodyProblem, read_body};
use crate::budget::QUEUE_TIMEOUT;
use crate::call::{App, Call, Exposure};
use crate::connection::{Phase, Watch};
use crate::reply::{Answer, ApiError, Habit};
use crate::route::{Found, Operation, find};

/// The largest block of headers, counted as names and values.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// The longest path and query.
const MAX_TARGET_BYTES: usize = 8 * 1024;
/// The time in which a request must be answered once its head was read.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(8);
/// The time in which a body must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const API_VERSION: HeaderName = HeaderName::from_static("clerk-api-version");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Answers a request. It never fails: what goes wrong becomes an answer.
pub(crate) async fn answer(
    app: &App,
    request: Request<Incoming>,
    peer: IpAddr,
    watch: &Watch,
) -> Answer {
    let (head, incoming) = request.into_parts();
    let found = find(&head.method, head.uri.path());
    let (operation, route, habit) = match &found {
        Found::Operation(row, _) => (Some(row.operation), row.path, row.habit),
        Found::WrongMethod(_) | Found::Nothing => (None, "", habit_of_path(head.uri.path())),
    };
    // For traces; it costs next to nothing where nobody collects them. Names of the OpenTelemetry conventions for HTTP.
    let span = tracing::debug_span!(
        target: "countersign::request",
        "request",
        otel.kind = "server",
        http.request.method = known_method(&head.method),
        http.route = route,
        http.response.status_code = tracing::field::Empty,
    );
    let takes_body = !matches!(head.method, Method::GET | Method::HEAD | Method::DELETE);
    // A body that nobody reads. hyper would go on behind it while the answer is still being written.
    let ends_connection =
        !takes_body && !incoming.is_end_stream() && head.version < Version::HTTP_2;
    let body = if takes_body {
        watch.enter(Phase::Body);
        match guarded(pin!(read_body(incoming, &head.headers)), BODY_TIMEOUT).await {
            Guarded::Done(body) => body,
            Guarded::TimedOut | Guarded::Panicked => Err(BodyProblem::Broken),
        }
    } else {
        Ok(Bytes::new())
    };
    watch.enter(Phase::Handling);
    let stopwatch = app.metrics.start();
    let outcome = match app.turn(operation).await {
        Turn::None => Err(ApiError::overloaded()),
        // Pinned here, because to hand the future over by value would copy kilobytes for each request.
        _turn => match guarded(
            pin!(serve(app, &head, found, body, peer).instrument(span.clone())),
            HANDLER_TIMEOUT,
        )
        .await
        {
            Guarded::Done(outcome) => outcome,
            Guarded::TimedOut => Err(ApiError::overloaded()),
            Guarded::Panicked => Err(ApiError {
                source: Some("a handler panicked".to_owned()),
                ..ApiError::new(ErrorCode::InternalClerkError)
            }),
        },
    };
    let mut answer = outcome.unwrap_or_else(|error| app.refuse(operation, habit, error));
    if head.method == Method::HEAD {
        strip_body(&mut answer);
    }
    if ends_connection {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
    let status = i64::from(answer.status().as_u16());
    span.record("http.response.status_code", status);
    app.metrics.finish(operation, answer.status(), stopwatch);
    watch.enter(Phase::Writing);
    answer
}

async fn serve(
    app: &App,
    head: &Parts,
    found: Found<'_>,
    body: Result<Bytes, BodyProblem>,
    peer: IpAddr,
) -> Result<Answer, ApiError> {
    if head
        .uri
        .path_and_query()
        .is_some_and(|target| target.as_str().len() > MAX_TARGET_BYTES)
    {
        return Err(ApiError::new(ErrorCode::UriTooLong));
    }
    if head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum::<usize>()
        > MAX_HEADER_BYTES
    {
        return Err(ApiError::new(ErrorCode::RequestHeaderFieldsTooLarge));
    }
    let (row, captures) = match found {
        Found::Operation(row, captures) if app.exposure.includes(row.operation) => (row, captures),
        Found::WrongMethod(methods) if app.exposure != Exposure::Metrics => {
            let allow = Some(methods.join(", "));
            return Err(ApiError {
                allow,
                ..ApiError::new(ErrorCode::MethodNotAllowed)
            });
        }
        Found::Operation(..) | Found::WrongMethod(_) | Found::Nothing => {
            return Err(ApiError::saying(ErrorCode::ResourceNotFound, NO_SUCH_PATH));
        }
    };
    check_api_version(&head.headers, head.uri.query())?;
    let address = app.address_of(peer, &head.headers);
    let mut call = Call {
        app,
        row,
        captures,
        query: head.uri.query(),
        headers: &head.headers,
        body,
        address,
        actor: None,
    };
    if !row.operation.checks_credential() {
        if let Some(accepts) = row.accepts {
            call.actor = Some(call.authenticate(accepts).await?);
        }
        call.body()?;
    }
    let answer = api::handle(&call).await?;
    match &call.actor {
        Some(actor) => app.large.hold(actor.instance_id(), answer).await,
        // What everybody may read is small, or is in memory once.
        None => Ok(answer),
    }
}

impl App {
    /// The address that counts for limits: the peer's, or what a trusted proxy says.
    fn address_of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if self.trusted_proxies.is_empty() || !self.trusted_proxies.contains(&peer.to_canonical()) {
            return peer;
        }
        // The last entry is the one that the trusted proxy itself wrote.
        let forwarded = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .next_back()
            .and_then(|line| line.to_str().ok());
        forwarded
            .and_then(|line| line.rsplit(',').next()?.trim().parse().ok())
            .unwrap_or(peer)
    }

    /// A place among the requests in flight, for those that may wait for the disk or the signer.
    async fn turn(&self, operation: Option<Operation>) -> Turn<'_> {
        if operation.is_none_or(Operation::never_waits) {
            return Turn::NotNeeded;
        }
        if let Ok(turn) = self.turns.try_acquire() {
            return Turn::Taken(turn);
        }
        match tokio::time::timeout(QUEUE_TIMEOUT, self.turns.acquire()).await {
            Ok(Ok(turn)) => Turn::Taken(turn),
            Ok(Err(_)) | Err(_) => Turn::None,
        }
    }

    /// Turns an error into an answer and writes what only the log may know.
    fn refuse(&self, operation: Option<Operation>, habit: Habit, error: ApiError) -> Answer {
        let trace_id = new_trace_id(&*self.random);
        let error = if habit == Habit::BadRequest {
            error.in_token_statuses()
        } else {
            error
        };
        // Absent where the path is of no operation.
        let operation = operation.map(tracing::field::debug);
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

/// The whole answer to bytes that are no request, for which hyper would answer `status` without a body.
pub(crate) fn refuse_unreadable(app: &App, status: u16) -> Vec<u8> {
    let error = match status {
        414 => ApiError::new(ErrorCode::UriTooLong),
        431 => ApiError::new(ErrorCode::RequestHeaderFieldsTooLarge),
        _ => ApiError::saying(
            ErrorCode::MalformedRequestParameters,
            "The request is not valid HTTP/1.1",
        ),
    };
    let stopwatch = app.metrics.start();
    let (head, body) = app.refuse(None, Habit::Parameters, error).into_parts();
    app.metrics.finish(None, head.status, stopwatch);
    let body = body.into_inner().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {}\r\nconnection: close\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(format!("{name}: ").as_bytes());
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
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
    let mut lines = headers.get_all(API_VERSION).iter();
    let header = lines.next();
    let has_query = query.is_some_and(|query| query.contains("__clerk_api_version"));
    if header.is_none() && !has_query {
        return Ok(());
    }
    let mut given: Vec<String> = header
        .into_iter()
        .chain(lines)
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
    *answer.body_mut() = Full::new(Bytes::new());
}

/// A place among the requests in flight, held while one is worked on.
enum Turn<'a> {
    Taken(#[expect(dead_code, reason = "held, not looked at")] SemaphorePermit<'a>),
    NotNeeded,
    /// All were taken for too long.
    None,
}

enum Guarded<T> {
    Done(T),
    TimedOut,
    Panicked,
}

/// Runs a handler with a limit of time, and turns a panic into an answer. Most handlers never wait, and only those that do
/// pay for a timer.
async fn guarded<T>(mut handler: Pin<&mut impl Future<Output = T>>, limit: Duration) -> Guarded<T> {
    let mut timer = None;
    std::future::poll_fn(|context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context))) {
            Ok(Poll::Ready(outcome)) => return Poll::Ready(Guarded::Done(outcome)),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(Guarded::Panicked),
        }
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(context).map(|()| Guarded::TimedOut)
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
