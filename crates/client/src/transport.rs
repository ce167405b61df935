//! How this crate speaks HTTP: no redirects, which would take a key along, bounds on time and size, and errors in plain words.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::redirect::Policy;

use crate::error::SettingsError;

/// The name under which the authority's statistics know this crate.
const USER_AGENT: &str = concat!("countersign-client/", env!("CARGO_PKG_VERSION"));

/// How long an unused connection is kept: less than servers keep theirs, which is 60 s here and mostly elsewhere. A request on a
/// connection that the server is about to close would fail.
const POOL_IDLE: Duration = Duration::from_secs(45);
/// How often a connection of HTTP/2 is tried, and how long the other side may take. One that does not answer is closed, because
/// all requests to the authority share it.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for addresses that are plain HTTP, or for those that are not.
pub(crate) fn client(
    is_plain: bool,
    connect_timeout: Duration,
    timeout: Duration,
) -> Result<reqwest::Client, SettingsError> {
    let http = builder(connect_timeout, timeout);
    finish(if is_plain { without_tls(http) } else { http })
}

/// A client for a Unix socket.
#[cfg(unix)]
pub(crate) fn client_at(
    socket: &std::path::Path,
    connect_timeout: Duration,
    timeout: Duration,
) -> Result<reqwest::Client, SettingsError> {
    finish(without_tls(builder(connect_timeout, timeout)).unix_socket(socket))
}

fn builder(connect_timeout: Duration, timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(Policy::none())
        .connect_timeout(connect_timeout)
        .timeout(timeout)
        .user_agent(USER_AGENT)
        .pool_idle_timeout(POOL_IDLE)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
}

/// A proxy of the environment would read the key. Nor are certificate authorities wanted, which not every machine has.
fn without_tls(http: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    http.no_proxy().tls_certs_only([])
}

fn finish(http: reqwest::ClientBuilder) -> Result<reqwest::Client, SettingsError> {
    http.build().map_err(|error| {
        SettingsError::Certificates(format!(
            "no certificate authority can be trusted ({}); install the package ca-certificates, or name a PEM file in SSL_CERT_FILE",
            words(&error)
        ))
    })
}

/// The body, or why there is none.
pub(crate) async fn read(mut answer: reqwest::Response, limit: usize) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    while let Some(part) = answer.chunk().await.map_err(|error| words(&error))? {
        if body.len() + part.len() > limit {
            return Err(format!("its answer is longer than {limit} bytes"));
        }
        body.extend_from_slice(&part);
    }
    Ok(body.freeze())
}

/// What happened, without the URL, which every message names anyway.
pub(crate) fn words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    // The innermost source says it best: "connection refused" instead of "error sending request".
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    let words = source.to_string();
    // So rustls calls an answer that is no TLS at all.
    if words.contains("InvalidContentType") {
        return "what answers there does not speak TLS".to_owned();
    }
    words
}
