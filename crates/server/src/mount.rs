//! Ordinary axum routes beside the table of operations: pages, forms, static files, and requests that wait.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::Router;
use http::Request;
use http_body_util::Limited;
use hyper::body::Incoming;
use tower_service::Service as _;

use countersign_protocol::limits::MAX_BODY_BYTES;

use crate::answer::{Answer, AnswerBody};
use crate::pace::Pace;

/// The client's address for limits, as an extension of each request to a [`Mount`]: the peer's, or the one that a trusted proxy reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// axum routes below a path, under the server's own limits on connections, heads, bodies (64 KiB) and time, with its TLS,
/// shutdown and metrics.
///
/// The routes do their own authentication. If a handler panics or takes too long, the server sends an error response.
#[derive(Clone, Debug)]
pub struct Mount {
    prefix: &'static str,
    pace: Pace,
    router: Router,
}

impl Mount {
    /// Routes that answer soon: each request has 8 s. `prefix` is a path like `/dashboard`; the paths of `router` begin with it. It is
    /// the requests' label in the metrics, too.
    #[must_use]
    pub fn pages(prefix: &'static str, router: Router) -> Self {
        Self {
            prefix,
            pace: Pace::Queued,
            router,
        }
    }

    /// Routes whose requests wait for something to happen (long polls): each has 60 s, and thousands may wait at a time, in a budget of their
    /// own. When the server stops, those that still wait are answered with 503.
    #[must_use]
    pub fn waiting(prefix: &'static str, router: Router) -> Self {
        Self {
            prefix,
            pace: Pace::Waiting,
            router,
        }
    }

    pub(crate) fn prefix(&self) -> &'static str {
        self.prefix
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    /// Whether a path is the prefix or below it.
    pub(crate) fn holds(&self, path: &str) -> bool {
        path.strip_prefix(self.prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Has the routes answer.
    pub(crate) async fn answer(&self, request: Request<Incoming>, address: IpAddr) -> Answer {
        let mut request =
            request.map(|body| axum::body::Body::new(Limited::new(body, MAX_BODY_BYTES)));
        request.extensions_mut().insert(ClientAddress(address));
        let answered: Result<_, Infallible> = self.router.clone().call(request).await;
        let Ok(answer) = answered;
        answer.map(AnswerBody::coming)
    }
}
