//! A caller of the API: puts the credential on each call and tells errors apart.
//!
//! Each procedure of the API may be called twice with one effect, so a call that failed for the moment is repeated without fear.

use std::time::Duration;

use countersign_client::{ReqwestClient, ReqwestError, TokenSource};
use countersign_protocol::secret::Secret;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::rpc::{ErrorShape, Failure, LEGACY_CALLER_HEADER, LEGACY_SECRET_HEADER, Success};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take. The API itself waits 2 s for its authority.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a caller presents.
#[derive(Debug)]
pub enum Credential {
    /// An M2M token.
    Token(TokenSource),
    /// The shared secret from before, where no token is configured.
    Legacy { caller: String, secret: Secret },
}

/// Where the API is and how to call it.
#[derive(Debug)]
pub struct Settings {
    /// Such as `http://127.0.0.1:5100`.
    pub api_url: String,
    pub credential: Credential,
    pub retry: Retry,
}

/// How often and how fast a call is repeated that failed for the moment.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// How many attempts there are in all; at least one is made.
    pub attempts: u32,
    /// The pause after the first attempt, doubled by each further one.
    pub first_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            // As long as the API asks for in `Retry-After` where its authority is away.
            first_pause: Duration::from_secs(1),
        }
    }
}

/// Calls the API.
#[derive(Debug)]
pub struct RpcClient {
    http: ReqwestClient,
    base: String,
    /// The value of both legacy headers: caller and secret.
    legacy: Option<(HeaderValue, HeaderValue)>,
    retry: Retry,
}

/// Why a call has no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// A setting cannot be used; nothing was sent.
    #[error("{0}")]
    Settings(String),
    /// There is no token to present; nothing was sent.
    #[error("no token for {procedure}: {reason}")]
    NoToken { procedure: String, reason: String },
    /// No answer came.
    #[error("no answer to {procedure}: {reason}")]
    Unreachable { procedure: String, reason: String },
    /// An answer came that the API never gives.
    #[error("the answer to {procedure} with status {status} cannot be read: {reason}")]
    Malformed {
        procedure: String,
        status: u16,
        reason: String,
    },
    /// The API answered with an error.
    #[error("{}: {}{}", .0.data.path, .0.message, reason_of(.0))]
    Refused(Box<ErrorShape>),
}

impl CallError {
    /// Whether the same call may succeed in a moment. A refused credential stays refused.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Malformed { status, .. } => *status >= 500,
            // What its operator has to set first is not set in a moment.
            Self::Refused(error) => {
                let is_set_up = !matches!(
                    error.data.reason.as_deref(),
                    Some("not_configured" | "receiver_key_refused")
                );
                error.data.http_status >= 500 && is_set_up
            }
            Self::Settings(_) | Self::NoToken { .. } => false,
        }
    }

    /// What the API said, where it said something.
    #[must_use]
    pub fn refusal(&self) -> Option<&ErrorShape> {
        match self {
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }
}

impl RpcClient {
    /// Makes a client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`CallError::Settings`] where the legacy secret fits in no header.
    pub fn new(settings: Settings) -> Result<Self, CallError> {
        let unusable = |reason: String| CallError::Settings(reason);
        // A redirect would take the secret along to wherever it leads.
        let mut http = reqwest::Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT);
        let is_plain = settings.api_url.starts_with("http://");
        if !is_plain && !settings.api_url.starts_with("https://") {
            return Err(unusable(format!(
                "CONSOLE_API_URL is '{}'; write it like http://127.0.0.1:5100",
                settings.api_url
            )));
        }
        if is_plain {
            // A proxy of the environment would read the credential; and certificate authorities, which not every machine has, are
            // not wanted.
            http = http.no_proxy().tls_certs_only([]);
        }
        let http = http.build().map_err(|error| unusable(error.to_string()))?;
        let (tokens, legacy) = match settings.credential {
            Credential::Token(tokens) => (tokens, None),
            Credential::Legacy { caller, secret } => {
                tracing::warn!(caller, "M2M not configured, using legacy auth");
                let wrong = |_| unusable("a header cannot hold the legacy secret".to_owned());
                let mut secret = HeaderValue::from_str(secret.expose()).map_err(wrong)?;
                secret.set_sensitive(true);
                let caller = HeaderValue::from_str(&caller).map_err(wrong)?;
                (TokenSource::off(), Some((caller, secret)))
            }
        };
        Ok(Self {
            http: ReqwestClient::new(http, tokens),
            base: settings.api_url.trim_end_matches('/').to_owned(),
            legacy,
            retry: settings.retry,
        })
    }

    /// Calls a procedure, again where it failed for the moment.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn call<T: DeserializeOwned>(
        &self,
        procedure: &str,
        input: &impl Serialize,
    ) -> Result<T, CallError> {
        let input = serde_json::to_vec(input)
            .map_err(|error| CallError::Settings(format!("{procedure}: {error}")))?;
        let mut pause = self.retry.first_pause;
        for attempt in 1.. {
            match self.attempt(procedure, &input).await {
                Err(error) if error.is_temporary() && attempt < self.retry.attempts => {
                    tracing::warn!(procedure, attempt, %error, "the call failed and is repeated");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
                finished => return finished,
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        procedure: &str,
        input: &[u8],
    ) -> Result<T, CallError> {
        let url = format!("{}/trpc/{procedure}", self.base);
        let request = self.http.post(url).with(|request| {
            let request = request
                .header(CONTENT_TYPE, "application/json")
                .body(input.to_vec());
            match &self.legacy {
                Some((caller, secret)) => request
                    .header(LEGACY_CALLER_HEADER, caller)
                    .header(LEGACY_SECRET_HEADER, secret),
                None => request,
            }
        });
        let response = request.send().await;
        let response = response.map_err(|error| no_answer(procedure, &error))?;
        let status = response.status();
        let body = response.bytes().await;
        let body = body.map_err(|error| no_answer(procedure, &error.into()))?;
        read(status, &body).map_err(|error| match error {
            Unread::Refused(shape) => CallError::Refused(shape),
            Unread::Malformed(error) => CallError::Malformed {
                procedure: procedure.to_owned(),
                status: status.as_u16(),
                reason: error.to_string(),
            },
        })
    }
}

fn no_answer(procedure: &str, error: &ReqwestError) -> CallError {
    let procedure = procedure.to_owned();
    match error {
        ReqwestError::Token(error) => CallError::NoToken {
            procedure,
            reason: error.to_string(),
        },
        error => CallError::Unreachable {
            procedure,
            reason: error.to_string(),
        },
    }
}

/// The reason of a refused credential, in parentheses, and what to do.
fn reason_of(error: &ErrorShape) -> String {
    let reason = error.data.reason.as_deref();
    let reason = reason.map(|it| format!(" ({it})")).unwrap_or_default();
    let hint = error.data.hint.as_deref();
    let hint = hint.map(|it| format!(". {it}")).unwrap_or_default();
    format!("{reason}{hint}")
}

enum Unread {
    Refused(Box<ErrorShape>),
    Malformed(serde_json::Error),
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, Unread> {
    if status.is_success() {
        let success: Success<T> = serde_json::from_slice(body).map_err(Unread::Malformed)?;
        return Ok(success.result.data);
    }
    let failure: Failure = serde_json::from_slice(body).map_err(Unread::Malformed)?;
    Err(Unread::Refused(Box::new(failure.error)))
}
