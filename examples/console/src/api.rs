//! The API, the only service that is called.
//!
//! Who calls is decided before a byte of the body is read. The receiver decides it: by the token whether it is good, by the
//! procedure whether it is the right machine's. What it refuses goes out as an error of tRPC with its sentence and its reason.

mod data;
mod error;
mod legacy;
mod procedures;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use countersign_protocol::secret::Secret;
use countersign_receiver::{Caller, Receiver, ReceiverBuilder, SetupError};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use data::Data;
use error::RpcError;
use procedures::Procedure;

use crate::rpc::{self, Code, Success};

/// The largest input.
const MAX_INPUT_BYTES: usize = 64 << 10;

/// What the API needs to know.
#[derive(Debug)]
pub struct Settings {
    /// Which machine this is, where its authority is, and which machines `webhook` and `workflow` are.
    pub receiver: ReceiverBuilder,
    /// The shared secret from before, while there are senders that have no token. `None` switches the fallback off.
    pub legacy_secret: Option<Secret>,
}

/// Serves until `stop` is over, then finishes the calls that have begun.
///
/// # Errors
/// Where the settings cannot be used or the listener fails.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let router = router(settings)?;
    tracing::info!(address = %listener.local_addr()?, "the API listens");
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await?;
    Ok(())
}

/// The API without a listener.
///
/// # Errors
/// Where the settings cannot be used.
pub fn router(settings: Settings) -> Result<Router, SetupError> {
    let is_legacy_on = settings.legacy_secret.is_some();
    let receiver = match settings.legacy_secret {
        Some(secret) if secret.expose().is_empty() => {
            let fault = "the shared secret is empty, so everybody would know it";
            return Err(SetupError::Unusable(fault.to_owned()));
        }
        Some(secret) => settings.receiver.legacy(legacy::check(&secret)),
        None => settings.receiver,
    };
    let api = Api {
        receiver: receiver.build()?,
        is_legacy_on,
        procedures: procedures::table(),
        data: Data::seeded(),
    };
    Ok(Router::new()
        .route("/trpc/{procedure}", post(call))
        .route("/migration", get(migration))
        .with_state(Arc::new(api)))
}

struct Api {
    receiver: Receiver,
    is_legacy_on: bool,
    procedures: HashMap<&'static str, Procedure>,
    data: Data,
}

async fn call(
    State(api): State<Arc<Api>>,
    Path(procedure): Path<String>,
    request: Request,
) -> Result<Json<Success<Value>>, Response> {
    let answer = api.call(&procedure, request).await;
    let data = answer.map_err(|error| error.into_response(&procedure))?;
    Ok(Json(Success {
        result: rpc::Data { data },
    }))
}

impl Api {
    async fn call(&self, name: &str, request: Request) -> Result<Value, RpcError> {
        let Some(procedure) = self.procedures.get(name) else {
            let message = format!("No procedure found on path \"{name}\"");
            return Err(RpcError::new(Code::NotFound, message));
        };
        let (parts, body) = request.into_parts();
        let caller = self
            .receiver
            .check(&parts.headers, &procedure.accept)
            .await?;
        log(name, &caller);
        let input = to_bytes(body, MAX_INPUT_BYTES).await.map_err(|_| {
            let message = format!("The input is longer than {MAX_INPUT_BYTES} bytes");
            RpcError::new(Code::PayloadTooLarge, message)
        })?;
        (procedure.run)(&self.data, &input)
    }
}

fn log(procedure: &str, caller: &Caller) {
    match caller {
        Caller::Machine(machine) => tracing::info!(
            procedure,
            machine.id = machine.id().as_str(),
            token.id = machine.token_id(),
            "called"
        ),
        // The receiver has said "using legacy auth" and by whom.
        _ => tracing::info!(procedure, "called without a token"),
    }
}

/// Tells operators who still uses the shared secret. It names no secret, but is for the inside: the listener is on loopback
/// unless told otherwise.
async fn migration(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!({
        "legacyAuth": if api.is_legacy_on { "on" } else { "off" },
        "usesSinceStart": api.receiver.legacy_uses(),
    }))
}
