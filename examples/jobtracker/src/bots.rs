//! The two machines that call the API: CandidateRepresenter answers candidates, JobApplier sends their applications.
//!
//! Neither knows anything of tokens but where they come from. The token source makes one at the start, keeps it for its hour, and
//! renews it five minutes before its end; the wrapper of reqwest repeats a request once with a fresh token after a 401.

mod applier;
mod representer;

use std::time::Duration;

use countersign_client::{ReqwestClient, ReqwestError, TokenSource};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use applier::JobApplier;
pub use representer::CandidateRepresenter;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a bot could not do its work.
#[derive(Debug, Error)]
pub enum BotError {
    /// The API answered with an error of its own.
    #[error("{message} ({}, {reason}){}", .status.as_u16(), .hint.as_ref().map(|hint| format!(". {hint}")).unwrap_or_default())]
    Refused {
        /// The status.
        status: StatusCode,
        /// Why, for programs.
        reason: String,
        /// Why, for people.
        message: String,
        /// What to do, where the API knows.
        hint: Option<String>,
    },
    /// There is no token: the authority refuses, or cannot be reached.
    #[error("no token: {0}")]
    Token(#[from] countersign_client::Error),
    /// The request could not be sent, or no answer came.
    #[error(transparent)]
    NoAnswer(#[from] ReqwestError),
    /// A setting cannot be used; nothing was sent.
    #[error("{0}")]
    Settings(String),
    /// The answer is not what the API promises.
    #[error("the API's answer cannot be read: {0}")]
    Malformed(String),
    /// The résumé of an application is nothing that can be sent to anybody.
    #[error("the résumé of {application_id} cannot be sent: {fault}")]
    Resume {
        /// The application.
        application_id: String,
        /// What is wrong with it.
        fault: String,
    },
}

/// The API, as the bots see it.
#[derive(Clone, Debug)]
struct Api {
    url: String,
    http: ReqwestClient,
}

impl Api {
    /// Gets the first token now, so that a bot that may not call is told at its start.
    async fn connect(url: &str, tokens: TokenSource) -> Result<Self, BotError> {
        if !tokens.is_off() {
            tokens.token().await?;
        }
        let url = url.trim_end_matches('/').to_owned();
        let is_plain = url.starts_with("http://");
        if !is_plain && !url.starts_with("https://") {
            return Err(BotError::Settings(format!(
                "JOBTRACKER_API_URL is '{url}'; write it like http://127.0.0.1:4850"
            )));
        }
        let mut http = reqwest::Client::builder().timeout(TIMEOUT);
        if is_plain {
            // A proxy of the environment would read the token; and certificate authorities, which not every machine has, are
            // not wanted.
            http = http.no_proxy().tls_certs_only([]);
        }
        let http = http.build().map_err(ReqwestError::from)?;
        Ok(Self {
            url,
            http: ReqwestClient::new(http, tokens),
        })
    }

    /// Sends a request with a token; `body` is JSON. Any answer but a good one is an error.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Response, BotError> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.with(|it| it.header("content-type", "application/json").body(body));
        }
        let response = request.send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(ReqwestError::from)?;
        Err(match serde_json::from_slice(&body) {
            Ok(ErrorBody {
                reason,
                message,
                hint,
            }) => BotError::Refused {
                status,
                reason,
                message,
                hint,
            },
            Err(_) => BotError::Malformed(format!("status {} without a reason", status.as_u16())),
        })
    }
}

/// What the API says where it refuses.
#[derive(Deserialize)]
struct ErrorBody {
    reason: String,
    message: String,
    hint: Option<String>,
}

async fn json<T: DeserializeOwned>(response: Response) -> Result<T, BotError> {
    let body = response.bytes().await.map_err(ReqwestError::from)?;
    serde_json::from_slice(&body).map_err(|error| BotError::Malformed(error.to_string()))
}
