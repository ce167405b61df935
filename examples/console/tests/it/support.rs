//! A real authority with the three machines of the console, and its services on ports of their own.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use console::client::{CallError, Credential, Retry, RpcClient};
use console::rpc::ErrorShape;
use console::{api, client, webhook};
use countersign_authority::{Authority, AuthorityOptions, MasterKey, SystemClock, SystemRandom};
use countersign_client::{
    Client, CreatedMachine, IssuedToken, MachineId, NewMachine, NewToken, TokenFormat, TokenSource,
};
use countersign_protocol::secret::Secret;
use countersign_receiver::{Receiver, ReceiverBuilder};
use countersign_server::{Server, ServerOptions};
use countersign_store::Store;
use countersign_store::sqlite::{SqliteOptions, SqliteStore};
use serde_json::Value;
use tempfile::TempDir;
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
    url: String,
    _server: Server,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
        let master = MasterKey::generate(&*random);
        let store = SqliteStore::create(folder.path(), SqliteOptions::default()).unwrap();
        let store = Arc::new(store) as Arc<dyn Store>;
        Authority::initialise(&*store, &master, &*clock, &*random)
            .await
            .unwrap();
        let options = AuthorityOptions {
            public_url: "https://auth.example.com".to_owned(),
            ..AuthorityOptions::default()
        };
        let authority = Authority::open(store, &master, clock, Arc::clone(&random) as _, options);
        let authority = Arc::new(authority.await.unwrap());
        let created = authority.create_instance("console", false).await.unwrap();
        let options = ServerOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            admin_listen: None,
            threads: 1,
            tls: None,
            trusted_proxies: Vec::new(),
        };
        let server = Server::start(Arc::clone(&authority), random, &options).unwrap();
        let url = format!("http://{}", server.address());
        let admin = Client::new(&url, created.key.expose()).unwrap();
        let trpc = machine(&admin, "tRPC API", &[]).await;
        let calling = [trpc.machine.id];
        Self {
            webhook: machine(&admin, "Webhook Handler", &calling).await,
            workflow: machine(&admin, "Workflow Runner", &calling).await,
            admin,
            trpc,
            url,
            _server: server,
            _folder: folder,
        }
    }

    /// A token for 365 days.
    pub(crate) async fn token(&self, machine: &CreatedMachine, format: TokenFormat) -> IssuedToken {
        let sender = Client::new(&self.url, machine.key.expose()).unwrap();
        let new = NewToken::new().lifetime(YEAR).format(format);
        sender.create_token(&new).await.unwrap()
    }

    /// The API as machine, without its services.
    pub(crate) fn receiver(&self) -> ReceiverBuilder {
        Receiver::builder(self.trpc.machine.id).authority(&self.url, self.trpc.key.expose())
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

async fn machine(admin: &Client, name: &str, calling: &[MachineId]) -> CreatedMachine {
    let new = NewMachine::named(name).calling(calling.iter().copied());
    admin.create_machine(&new).await.unwrap()
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
