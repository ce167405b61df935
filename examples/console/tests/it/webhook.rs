//! Deliveries as GitHub sends them.

use console::rpc::{Job, JobStatus};
use console::webhook::signature::sign;
use countersign_client::TokenFormat;
use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::{GITHUB_SECRET, REPOSITORY, World, handler_with, legacy_of};

const ID: &str = "72d3162e-cc78-11e3-81ab-4c9367dc0958";
/// Where nobody listens: a handler with this API would fail if it called.
const NOWHERE: &str = "http://127.0.0.1:1";

struct Delivery {
    event: &'static str,
    id: &'static str,
    body: String,
    signature: Option<String>,
}

impl Delivery {
    fn of(event: &'static str, body: &(impl ToString + ?Sized)) -> Self {
        let body = body.to_string();
        Self {
            event,
            id: ID,
            signature: Some(sign(GITHUB_SECRET, body.as_bytes())),
            body,
        }
    }

    fn push(repository: u64) -> Self {
        Self::of("push", &push(repository))
    }

    fn signed(self, signature: Option<&str>) -> Self {
        let signature = signature.map(str::to_owned);
        Self { signature, ..self }
    }

    async fn to(&self, handler: &str) -> (u16, Value) {
        let mut request = reqwest::Client::new()
            .post(format!("{handler}/webhooks/github"))
            .header("x-github-event", self.event)
            .header("x-github-delivery", self.id)
            .body(self.body.clone());
        if let Some(signature) = &self.signature {
            request = request.header("x-hub-signature-256", signature);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

fn push(repository: u64) -> Value {
    json!({
        "ref": "refs/heads/main",
        "after": "6dcb09b5b57875f334f61aebed695e2e4193db5e",
        "deleted": false,
        "repository": { "id": repository, "full_name": "octocat/Hello-World" },
    })
}

fn job_of(answer: &Value) -> Job {
    serde_json::from_value(answer["job"].clone()).unwrap()
}

/// A handler that would fail if it called anybody.
async fn handler_to_nowhere() -> String {
    handler_with(NOWHERE, legacy_of("webhook", "unused")).await
}

#[tokio::test]
async fn both_executables_work_by_the_settings_of_the_env_example_and_end_when_asked() {
    let world = World::start().await;
    let path = env!("CARGO_BIN_EXE_console");
    let variables = [
        ("CLERK_API_URL", world.authority_url()),
        ("CLERK_MACHINE_SECRET_KEY_TRPC", world.trpc.key.expose()),
        ("CLERK_M2M_MACHINE_ID_TRPC", world.trpc.machine.id.as_str()),
        (
            "CLERK_M2M_MACHINE_ID_WEBHOOK",
            world.webhook.machine.id.as_str(),
        ),
        (
            "CLERK_M2M_MACHINE_ID_WORKFLOW",
            world.workflow.machine.id.as_str(),
        ),
        ("CONSOLE_API_LISTEN", "127.0.0.1:0"),
    ];
    let api = Program::start(path, "api", &variables);
    let token = world.token(&world.webhook, TokenFormat::Opaque).await;
    let variables = [
        ("CLERK_M2M_TOKEN_WEBHOOK", token.string.expose()),
        ("GITHUB_WEBHOOK_SECRET", GITHUB_SECRET),
        ("CONSOLE_API_URL", api.url.as_str()),
        ("CONSOLE_WEBHOOK_LISTEN", "127.0.0.1:0"),
    ];
    let webhook = Program::start(path, "webhook", &variables);
    let (status, answer) = Delivery::push(REPOSITORY).to(&webhook.url).await;
    assert_eq!((status, job_of(&answer).status), (201, JobStatus::Open));
    assert!(webhook.terminate().success());
    assert!(api.terminate().success());
}

#[tokio::test]
async fn a_push_opens_a_job() {
    let world = World::start().await;
    let handler = world.handler(&world.api().await).await;
    let (status, answer) = Delivery::push(REPOSITORY).to(&handler).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(
        job_of(&answer).commit,
        "6dcb09b5b57875f334f61aebed695e2e4193db5e"
    );
}

#[tokio::test]
async fn the_signature_is_checked_before_anything_else() {
    let handler = handler_to_nowhere().await;
    for (event, body) in [
        ("push", push(REPOSITORY).to_string()),
        ("push", "no JSON".to_owned()),
        ("ping", "{}".to_owned()),
        ("unheard_of", "{}".to_owned()),
    ] {
        let delivery = Delivery::of(event, &body).signed(None);
        let (status, answer) = delivery.to(&handler).await;
        assert_eq!(status, 401);
        assert_eq!(
            answer["message"],
            "the header x-hub-signature-256 must be there once"
        );
        let other = sign("another secret", body.as_bytes());
        let (status, answer) = Delivery::of(event, &body)
            .signed(Some(&other))
            .to(&handler)
            .await;
        assert_eq!(status, 401);
        assert_eq!(answer["message"], "the signature does not fit");
    }
}

#[tokio::test]
async fn a_body_that_was_changed_on_its_way_is_refused() {
    let handler = handler_to_nowhere().await;
    let mut delivery = Delivery::push(REPOSITORY);
    delivery.body.push(' ');
    assert_eq!(delivery.to(&handler).await.0, 401);
}

#[tokio::test]
async fn a_refused_signature_does_not_use_up_the_delivery() {
    let world = World::start().await;
    let handler = world.handler(&world.api().await).await;
    let forged = Delivery::push(REPOSITORY).signed(Some("sha256=00"));
    assert_eq!(forged.to(&handler).await.0, 401);
    assert_eq!(Delivery::push(REPOSITORY).to(&handler).await.0, 201);
}

#[tokio::test]
async fn events_other_than_a_push_call_nobody() {
    let handler = handler_to_nowhere().await;
    assert_eq!(
        Delivery::of("ping", &json!({ "zen": "Keep it." }))
            .to(&handler)
            .await
            .0,
        200
    );
    assert_eq!(Delivery::of("star", &json!({})).to(&handler).await.0, 202);
    let mut gone = push(REPOSITORY);
    gone["deleted"] = true.into();
    assert_eq!(Delivery::of("push", "no JSON").to(&handler).await.0, 400);
    assert_eq!(Delivery::of("push", &gone).to(&handler).await.0, 202);
}

#[tokio::test]
async fn a_push_to_a_repository_that_no_source_has_is_let_be() {
    let world = World::start().await;
    let handler = world.handler(&world.api().await).await;
    assert_eq!(Delivery::push(7).to(&handler).await.0, 202);
}

#[tokio::test]
async fn a_delivery_that_is_replayed_is_not_handled_twice() {
    let world = World::start().await;
    let handler = world.handler(&world.api().await).await;
    assert_eq!(Delivery::push(REPOSITORY).to(&handler).await.0, 201);
    let (status, answer) = Delivery::push(REPOSITORY).to(&handler).await;
    assert_eq!(
        (status, answer["message"].as_str()),
        (200, Some("seen before"))
    );
    // The id is not signed: another one on the same body is no other delivery.
    let mut disguised = Delivery::push(REPOSITORY);
    disguised.id = "00000000-0000-0000-0000-000000000000";
    assert_eq!(disguised.to(&handler).await.1["message"], "seen before");
}

#[tokio::test]
async fn a_handler_that_was_restarted_makes_no_second_job_of_a_delivery() {
    let world = World::start().await;
    let api = world.api().await;
    let (_, first) = Delivery::push(REPOSITORY)
        .to(&world.handler(&api).await)
        .await;
    let (status, second) = Delivery::push(REPOSITORY)
        .to(&world.handler(&api).await)
        .await;
    assert_eq!(status, 201);
    assert_eq!(job_of(&first), job_of(&second));
}

#[tokio::test]
async fn a_delivery_that_failed_is_handled_when_it_comes_again() {
    let handler = handler_to_nowhere().await;
    for _ in 0..2 {
        let (status, answer) = Delivery::push(REPOSITORY).to(&handler).await;
        assert_eq!(status, 502);
        let message = answer["message"].as_str().unwrap();
        assert!(
            message.starts_with("no answer to sources.findByGithubRepoId"),
            "{message}"
        );
    }
}
