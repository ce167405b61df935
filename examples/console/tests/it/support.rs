//! A real authority with the three machines of the console, and its services on ports of their own.

#[path = "../../../../crates/client/tests/it/support/world.rs"]
#[expect(dead_code, reason = "these tests do not act as the operator")]
mod authority;
#[path = "../../../../crates/client/tests/it/support/program.rs"]
pub(crate) mod program;

use std::time::Duration;

use axum::Router;
use console::client::{CallError, Credential, Retry, RpcClient};
use console::rpc::ErrorShape;
use console::{api, client, webhook};
use countersign_client::{Client, CreatedMachine, IssuedToken, NewToken, TokenFormat, TokenSource};
use countersign_protocol::secret::Secret;
use countersign_receiver::{Receiver, ReceiverBuilder};
use serde_json::Value;
use tokio::net::TcpListener;

pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
pub(crate) const LEGACY_SECRET: &str = "the old shared secret";
pub(crate) const GITHUB_SECRET: &str = "what GitHub knows";
/// octocat/Hello-World.
pub(crate) const REPOSITORY: u64 = 1_296_269;

/// An authority with the machines of the console.
pub(crate) struct World {
    pub(crate) admin: Client,
    pub(crate) trpc: CreatedMachine,
    pub(crate) webhook: CreatedMachine,
    pub(crate) workflow: CreatedMachine,
    authority: authority::World,
}

impl World {
    pub(crate) async fn start() -> Self {
        let authority = authority::World::start().await;
        let trpc = authority.machine("tRPC API", &[]).await;
        let calling = [trpc.machine.id];
        Self {
            admin: authority.admin.clone(),
            webhook: authority.machine("Webhook Handler", &calling).await,
            workflow: authority.machine("Workflow Runner", &calling).await,
            trpc,
            authority,
        }
    }

    /// A token for 365 days.
    pub(crate) async fn token(&self, machine: &CreatedMachine, format: TokenFormat) -> IssuedToken {
        let sender = self.authority.client_of(machine);
        let new = NewToken::new().lifetime(YEAR).format(format);
        sender.create_token(&new).await.unwrap()
    }

    pub(crate) fn authority_url(&self) -> &str {
        &self.authority.url
    }

    /// The API as machine, without its services.
    pub(crate) fn receiver(&self) -> ReceiverBuilder {
        Receiver::builder(self.trpc.machine.id)
            .authority(&self.authority.url, self.trpc.key.expose())
    }

    /// An API that knows both of its callers, without the fallback.
    pub(crate) async fn api(&self) -> String {
        let receiver = self
            .receiver()
            .service("webhook", self.webhook.machine.id)
            .service("workflow", self.workflow.machine.id);
        serve(api_of(receiver, None)).await
    }

    /// A caller of the API at `url` with a new token of a machine.
    pub(crate) async fn caller(&self, url: &str, machine: &CreatedMachine) -> RpcClient {
        let token = self.token(machine, TokenFormat::Opaque).await;
        with_token(url, &token)
    }

    /// A webhook handler with a new token, which calls the API at `url`.
    pub(crate) async fn handler(&self, url: &str) -> String {
        let token = self.token(&self.webhook, TokenFormat::Opaque).await;
        handler_with(url, token_of(&token)).await
    }
}

pub(crate) fn api_of(receiver: ReceiverBuilder, legacy_secret: Option<&str>) -> Router {
    let settings = api::Settings {
        receiver,
        legacy_secret: legacy_secret.map(|secret| Secret::new(secret.to_owned())),
    };
    api::router(settings).unwrap()
}

pub(crate) async fn handler_with(url: &str, credential: Credential) -> String {
    let settings = webhook::Settings {
        api: settings(url, credential),
        github_secret: Secret::new(GITHUB_SECRET.to_owned()),
    };
    serve(webhook::router(settings).unwrap()).await
}

/// Puts a router on a port of its own.
pub(crate) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    url
}

/// A caller that repeats at once.
pub(crate) fn settings(url: &str, credential: Credential) -> client::Settings {
    client::Settings {
        api_url: url.to_owned(),
        credential,
        retry: Retry {
            attempts: 3,
            first_pause: Duration::ZERO,
        },
    }
}

pub(crate) fn token_of(token: &IssuedToken) -> Credential {
    let expires_at = token.token.expires_at;
    Credential::Token(TokenSource::ready_made(token.string.clone(), expires_at))
}

pub(crate) fn with_token(url: &str, token: &IssuedToken) -> RpcClient {
    RpcClient::new(settings(url, token_of(token))).unwrap()
}

pub(crate) fn legacy_of(caller: &str, secret: &str) -> Credential {
    Credential::Legacy {
        caller: caller.to_owned(),
        secret: Secret::new(secret.to_owned()),
    }
}

pub(crate) fn with_legacy(url: &str, caller: &str, secret: &str) -> RpcClient {
    RpcClient::new(settings(url, legacy_of(caller, secret))).unwrap()
}

/// The error of a call that the API refused.
pub(crate) fn refusal<T: std::fmt::Debug>(called: Result<T, CallError>) -> ErrorShape {
    let error = called.expect_err("the call is refused");
    let shape = error.refusal();
    shape
        .unwrap_or_else(|| panic!("not refused by the API: {error}"))
        .clone()
}

/// What the API tells operators.
pub(crate) async fn migration(url: &str) -> Value {
    let response = reqwest::get(format!("{url}/migration")).await.unwrap();
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}
