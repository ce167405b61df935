//! The services of a chapter, as tasks of this process, and requests to them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::header::AUTHORIZATION;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Within this a revocation is seen: what receivers believe at most.
pub(crate) const REVOCATION_BOUND: Duration = Duration::from_secs(5);
/// The pause between two looks.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// What runs for a chapter; it ends when this is dropped.
#[derive(Default)]
pub(crate) struct Services(JoinSet<()>);

impl Services {
    /// Runs a service on a free port of this machine. The address.
    pub(crate) async fn start<F>(&mut self, serve: impl FnOnce(TcpListener) -> F) -> Result<String>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = listener().await?;
        let url = url(&listener)?;
        self.run(serve(listener));
        Ok(url)
    }

    /// Runs a service that has its listener already.
    pub(crate) fn run(&mut self, service: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(service);
    }
}

/// A free port.
pub(crate) async fn listener() -> Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0")
        .await
        .context("a free port")
}

/// Where a listener is.
pub(crate) fn url(listener: &TcpListener) -> Result<String> {
    Ok(format!("http://{}", listener.local_addr()?))
}

/// An answer: status, when to come back, and body.
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Seen {
    /// A member of the body as text; empty where there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.body
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// Sends a request with a token and without any help.
pub(crate) async fn send(request: reqwest::RequestBuilder, token: &str) -> Result<Seen> {
    let response = request
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .send()
        .await?;
    let retry_after = response.headers().get("retry-after");
    let retry_after = retry_after.and_then(|value| value.to_str().ok());
    Ok(Seen {
        status: response.status().as_u16(),
        retry_after: retry_after.map(str::to_owned),
        body: serde_json::from_slice(&response.bytes().await?).unwrap_or_default(),
    })
}

/// An HTTP client that goes through no proxy.
pub(crate) fn http() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()?)
}
