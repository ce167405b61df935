//! The webhook handler: hears from GitHub, asks the API for a job.
//!
//! The signature is checked first, over the body as it came, before anything of it is parsed and before anybody is called. A
//! delivery that was handled is not handled again; one that failed is, when GitHub sends it once more.

mod deliveries;
pub mod signature;

use std::future::Future;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use countersign_protocol::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use deliveries::Deliveries;
use signature::SIGNATURE_HEADER;

use crate::client::{self, CallError, RpcClient};
use crate::rpc::{ByGithubRepoId, CreateJob, Job, Source};

/// What GitHub sends at most.
const MAX_BODY_BYTES: usize = 25 << 20;
/// The longest delivery id that is looked at. GitHub's have 36 characters.
const MAX_DELIVERY_ID_LENGTH: usize = 64;

const EVENT_HEADER: HeaderName = HeaderName::from_static("x-github-event");
const DELIVERY_HEADER: HeaderName = HeaderName::from_static("x-github-delivery");

/// What the webhook handler needs to know.
#[derive(Debug)]
pub struct Settings {
    /// How to call the API.
    pub api: client::Settings,
    /// The secret that was given to GitHub with the webhook's address.
    pub github_secret: Secret,
}

/// Serves until `stop` is over, then finishes the deliveries that have begun.
///
/// # Errors
/// Where the settings cannot be used or the listener fails.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let router = router(settings)?;
    tracing::info!(address = %listener.local_addr()?, "the webhook handler listens");
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await?;
    Ok(())
}

/// The webhook handler without a listener.
///
/// # Errors
/// Where the settings cannot be used.
pub fn router(settings: Settings) -> Result<Router, CallError> {
    if settings.github_secret.expose().is_empty() {
        let reason = "the secret of the webhook is empty, so everybody could sign";
        return Err(CallError::Settings(reason.to_owned()));
    }
    let handler = Handler {
        key: signature::key(settings.github_secret.expose()),
        api: RpcClient::new(settings.api)?,
        deliveries: Deliveries::default(),
    };
    Ok(Router::new()
        .route("/webhooks/github", post(receive))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(handler)))
}

struct Handler {
    key: aws_lc_rs::hmac::Key,
    api: RpcClient,
    deliveries: Deliveries,
}

/// A status and why, for the list of deliveries that GitHub shows.
type Answer = (StatusCode, Json<Value>);

async fn receive(State(handler): State<Arc<Handler>>, headers: HeaderMap, body: Bytes) -> Answer {
    if let Err(error) = signature::verify(&handler.key, &headers, &body) {
        tracing::warn!(%error, "webhook refused");
        return answer(StatusCode::UNAUTHORIZED, &error.to_string());
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text(EVENT_HEADER) {
        Some("ping") => answer(StatusCode::OK, "pong"),
        Some("push") => match text(DELIVERY_HEADER) {
            Some(delivery_id) if delivery_id.len() <= MAX_DELIVERY_ID_LENGTH => {
                // The id is not signed, the body is: one that is sent again under another id is still the same.
                let signature = text(SIGNATURE_HEADER).unwrap_or_default();
                handler.push_once(delivery_id, signature, &body).await
            }
            _ => answer(StatusCode::BAD_REQUEST, "the delivery has no id"),
        },
        Some(_) => answer(StatusCode::ACCEPTED, "nothing to do for this event"),
        None => answer(StatusCode::BAD_REQUEST, "the delivery names no event"),
    }
}

/// The parts of a push that are needed.
#[derive(Deserialize)]
struct Push {
    /// The commit after the push.
    after: String,
    /// Whether the push has deleted the branch, so that there is no such commit.
    #[serde(default)]
    deleted: bool,
    repository: Repository,
}

#[derive(Deserialize)]
struct Repository {
    id: u64,
}

impl Handler {
    async fn push_once(&self, delivery_id: &str, signature: &str, body: &[u8]) -> Answer {
        let Some(begun) = self.deliveries.begin([delivery_id, signature]) else {
            tracing::info!(delivery.id = delivery_id, "the delivery was seen before");
            return answer(StatusCode::OK, "seen before");
        };
        let push: Push = match serde_json::from_slice(body) {
            Ok(push) => push,
            Err(error) => {
                let message = format!("the push cannot be read: {error}");
                return answer(StatusCode::BAD_REQUEST, &message);
            }
        };
        match self.push(delivery_id, push).await {
            Ok(answer) => {
                begun.keep();
                answer
            }
            Err(error) => {
                tracing::error!(delivery.id = delivery_id, %error, "the push was not handled");
                answer(StatusCode::BAD_GATEWAY, &error.to_string())
            }
        }
    }

    async fn push(&self, delivery_id: &str, push: Push) -> Result<Answer, CallError> {
        if push.deleted {
            return Ok(answer(StatusCode::ACCEPTED, "the branch is gone"));
        }
        let by_id = ByGithubRepoId {
            github_repo_id: push.repository.id,
        };
        let source: Option<Source> = self.api.call("sources.findByGithubRepoId", &by_id).await?;
        let Some(source) = source else {
            return Ok(answer(
                StatusCode::ACCEPTED,
                "no source has this repository",
            ));
        };
        let create = CreateJob {
            source_id: source.id,
            commit: push.after,
            delivery_id: delivery_id.to_owned(),
        };
        let job: Job = self.api.call("jobs.create", &create).await?;
        tracing::info!(delivery.id = delivery_id, job.id, "the push has a job");
        Ok((
            StatusCode::CREATED,
            Json(json!({ "message": "a job is open", "job": job })),
        ))
    }
}

fn answer(status: StatusCode, message: &str) -> Answer {
    (status, Json(json!({ "message": message })))
}
