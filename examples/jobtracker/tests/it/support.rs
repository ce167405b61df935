//! A real authority, the issuer and the API in this process. The authority's clock can be set.

#[path = "../../../../crates/client/tests/it/support/world.rs"]
#[expect(
    dead_code,
    reason = "other tests use the default clock, and some act as the operator"
)]
mod authority;
#[path = "../../../../crates/client/tests/it/support/program.rs"]
pub(crate) mod program;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use countersign_authority::{Clock, SystemClock};
use countersign_client::{Client, CreatedMachine, TokenSource};
use countersign_protocol::time::Timestamp;
use countersign_receiver::{Receiver, UserIssuer};
use jobtracker::database::Database;
use jobtracker::issuer::Issuer;
use jobtracker::{api, issuer};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::net::TcpListener;

pub(crate) const AUDIENCE: &str = "jobtracker";

/// The operating system's clock, and what it is set forward by.
#[derive(Default)]
pub(crate) struct ShiftedClock {
    clock: SystemClock,
    shift_millis: AtomicI64,
}

impl ShiftedClock {
    pub(crate) fn advance(&self, millis: i64) {
        self.shift_millis.fetch_add(millis, Ordering::SeqCst);
    }

    fn shift(&self) -> i64 {
        self.shift_millis.load(Ordering::SeqCst)
    }
}

impl Clock for ShiftedClock {
    fn wall(&self) -> Timestamp {
        self.clock.wall().plus_millis(self.shift()).unwrap()
    }

    fn monotonic_millis(&self) -> i64 {
        self.clock.monotonic_millis() + self.shift()
    }
}

/// An authority with the machines of this example, the issuer, and the API.
pub(crate) struct World {
    pub(crate) api_url: String,
    pub(crate) authority_clock: Arc<ShiftedClock>,
    pub(crate) issuer: Arc<Issuer>,
    /// With the instance key.
    pub(crate) admin: Client,
    /// The machine that the API is.
    pub(crate) me: CreatedMachine,
    pub(crate) job_applier: CreatedMachine,
    pub(crate) candidate_representer: CreatedMachine,
    /// A machine that may not call the API.
    pub(crate) stranger: CreatedMachine,
    pub(crate) http: reqwest::Client,
    authority: authority::World,
}

impl World {
    pub(crate) async fn start() -> Self {
        let authority_clock = Arc::new(ShiftedClock::default());
        let authority = authority::World::start_with(Arc::clone(&authority_clock) as _).await;
        let me = authority.machine("Job tracker", &[]).await;
        let calling = [me.machine.id];
        let job_applier = authority.machine("JobApplier", &calling).await;
        let candidate_representer = authority.machine("CandidateRepresenter", &calling).await;
        let stranger = authority.machine("Stranger", &[]).await;

        let issuer = start_issuer().await;
        let receiver = Receiver::builder(me.machine.id)
            .authority(&authority.url, me.key.expose())
            .user_issuer(UserIssuer::new(issuer.url()).audience(AUDIENCE))
            .service(api::JOB_APPLIER, job_applier.machine.id)
            .build()
            .unwrap();
        let (listener, api_url) = listener().await;
        let database = Database::in_memory().unwrap();
        tokio::spawn(api::serve(
            listener,
            database,
            receiver,
            std::future::pending(),
        ));
        Self {
            api_url,
            authority_clock,
            issuer,
            me,
            job_applier,
            candidate_representer,
            stranger,
            admin: authority.admin.clone(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            authority,
        }
    }

    pub(crate) fn authority_url(&self) -> &str {
        &self.authority.url
    }

    /// A client with a machine's key.
    pub(crate) fn client_of(&self, machine: &CreatedMachine) -> Client {
        self.authority.client_of(machine)
    }

    /// The tokens of a machine.
    pub(crate) fn tokens_of(&self, machine: &CreatedMachine) -> TokenSource {
        TokenSource::new(self.client_of(machine))
    }

    /// A new opaque token of a machine.
    pub(crate) async fn token_of(&self, machine: &CreatedMachine) -> String {
        let token = self.tokens_of(machine).token().await.unwrap();
        token.expose().to_owned()
    }

    pub(crate) fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.api_url);
        self.http.request(method, url).bearer_auth(token)
    }

    /// The status and the body of an answer.
    pub(crate) async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        read(self.request(Method::GET, path, token)).await
    }

    pub(crate) async fn get_without_token(&self, path: &str) -> (u16, Value) {
        read(self.http.get(format!("{}{path}", self.api_url))).await
    }

    /// Asks for another status of an application.
    pub(crate) async fn put_status(&self, id: &str, status: &str, token: &str) -> (u16, Value) {
        let path = format!("/applications/{id}/status");
        let body = serde_json::json!({ "status": status }).to_string();
        let request = self.request(Method::PUT, &path, token);
        read(
            request
                .header("content-type", "application/json")
                .body(body),
        )
        .await
    }
}

/// The status and the JSON of an answer; `null` where the body is none.
pub(crate) async fn read(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn start_issuer() -> Arc<Issuer> {
    let (listener, url) = listener().await;
    let issuer = Arc::new(Issuer::new(&url, AUDIENCE).unwrap());
    let shutdown = std::future::pending();
    tokio::spawn(issuer::serve(listener, Arc::clone(&issuer), shutdown));
    issuer
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}
