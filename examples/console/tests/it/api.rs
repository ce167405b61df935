//! Who may call what.

use console::rpc::{ByGithubRepoId, ById, Code, CreateJob, Job, JobStatus, OpenJob, Source};
use countersign_client::{NewMachine, TokenFormat};
use serde_json::{Value, json};

use crate::support::{REPOSITORY, World, refusal, serve, with_token};

const HELLO: ByGithubRepoId = ByGithubRepoId {
    github_repo_id: REPOSITORY,
};

fn push() -> CreateJob {
    CreateJob {
        source_id: "src_1".to_owned(),
        commit: "6dcb09b5b57875f334f61aebed695e2e4193db5e".to_owned(),
        delivery_id: "72d3162e-cc78-11e3-81ab-4c9367dc0958".to_owned(),
    }
}

#[tokio::test]
async fn the_webhook_machine_may_find_a_source_and_create_a_job() {
    let world = World::start().await;
    let url = world.api().await;
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let token = world.token(&world.webhook, format).await;
        let webhook = with_token(&url, &token);
        let source: Option<Source> = webhook
            .call("sources.findByGithubRepoId", &HELLO)
            .await
            .unwrap();
        assert_eq!(source.unwrap().full_name, "octocat/Hello-World");
        let job: Job = webhook.call("jobs.create", &push()).await.unwrap();
        assert_eq!((job.id.as_str(), job.status), ("job_1", JobStatus::Open));
    }
}

#[tokio::test]
async fn the_workflow_machine_may_not_call_what_is_the_webhooks() {
    let world = World::start().await;
    let url = world.api().await;
    let workflow = world.caller(&url, &world.workflow).await;
    let error = refusal(
        workflow
            .call::<Value>("sources.findByGithubRepoId", &HELLO)
            .await,
    );
    assert_eq!(
        error.message,
        "This endpoint requires webhook machine token"
    );
    assert_eq!(error.code, -32003);
    assert_eq!(error.data.code, Code::Forbidden);
    assert_eq!(error.data.http_status, 403);
    assert_eq!(error.data.path, "sources.findByGithubRepoId");
    assert_eq!(error.data.reason.as_deref(), Some("wrong_machine"));
}

#[tokio::test]
async fn the_webhook_machine_may_not_call_what_is_the_workflows() {
    let world = World::start().await;
    let url = world.api().await;
    let webhook = world.caller(&url, &world.webhook).await;
    let error = refusal(
        webhook
            .call::<Option<OpenJob>>("jobs.findOpen", &HELLO)
            .await,
    );
    assert_eq!(
        error.message,
        "This endpoint requires workflow machine token"
    );
}

#[tokio::test]
async fn both_machines_may_look_at_a_job_and_a_third_may_not() {
    let world = World::start().await;
    let url = world.api().await;
    let (webhook, workflow) = (
        world.caller(&url, &world.webhook).await,
        world.caller(&url, &world.workflow).await,
    );
    let job: Job = webhook.call("jobs.create", &push()).await.unwrap();
    let by_id = ById { id: job.id.clone() };
    assert_eq!(webhook.call::<Job>("jobs.get", &by_id).await.unwrap(), job);
    assert_eq!(workflow.call::<Job>("jobs.get", &by_id).await.unwrap(), job);

    let third = NewMachine::named("Third").calling([world.trpc.machine.id]);
    let third = world.admin.create_machine(&third).await.unwrap();
    let third = world.caller(&url, &third).await;
    let error = refusal(third.call::<Job>("jobs.get", &by_id).await);
    assert_eq!(
        error.message,
        "This endpoint requires webhook or workflow machine token"
    );
    assert_eq!(error.data.reason.as_deref(), Some("wrong_machine"));
}

#[tokio::test]
async fn a_machine_without_a_scope_is_refused_and_told_what_to_do() {
    let world = World::start().await;
    let url = world.api().await;
    let stranger = NewMachine::named("Stranger");
    let stranger = world.admin.create_machine(&stranger).await.unwrap();
    let stranger = world.caller(&url, &stranger).await;
    let error = refusal(stranger.call::<Value>("jobs.create", &push()).await);
    assert_eq!(error.message, "Token verification failed");
    assert_eq!(error.data.code, Code::Unauthorized);
    let hint = error.data.hint.unwrap();
    assert!(hint.contains("add the scope"), "{hint}");
}

#[tokio::test]
async fn a_token_that_was_revoked_is_refused_before_its_year_is_over() {
    let world = World::start().await;
    let url = world.api().await;
    let token = world.token(&world.webhook, TokenFormat::Opaque).await;
    let id = token.token.id;
    world
        .admin
        .revoke_token(id, Some("left in a log"))
        .await
        .unwrap();
    let error = refusal(
        with_token(&url, &token)
            .call::<Value>("jobs.create", &push())
            .await,
    );
    assert_eq!(error.message, "Token verification failed");
    assert_eq!(error.data.code, Code::Unauthorized);
    assert_eq!(error.data.http_status, 401);
    assert_eq!(error.data.reason.as_deref(), Some("token_refused"));
}

#[tokio::test]
async fn a_refusal_carries_the_challenge_of_rfc_6750() {
    let world = World::start().await;
    let url = format!("{}/trpc/jobs.create", world.api().await);
    let http = reqwest::Client::new();
    let bare = http.post(&url).body("no JSON").send().await.unwrap();
    assert_eq!(bare.status(), 401);
    assert_eq!(bare.headers()["www-authenticate"], r#"Bearer realm="api""#);
    assert_eq!(bare.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(&bare.bytes().await.unwrap()).unwrap();
    assert_eq!(
        body,
        json!({ "error": {
            "message": "No token was sent",
            "code": -32001,
            "data": {
                "code": "UNAUTHORIZED",
                "httpStatus": 401,
                "path": "jobs.create",
                "reason": "token_missing",
                "hint": "Send a token in the header 'Authorization: Bearer ...'.",
            },
        }})
    );
    let wrong = http
        .post(&url)
        .header("authorization", "Bearer mt_wrong")
        .send()
        .await
        .unwrap();
    let challenge = wrong.headers()["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.contains(r#"error="invalid_token""#),
        "{challenge}"
    );
}

#[tokio::test]
async fn mistakes_of_a_good_caller_are_errors_of_trpc() {
    let world = World::start().await;
    let url = world.api().await;
    let webhook = world.caller(&url, &world.webhook).await;
    let none: Option<Source> = webhook
        .call(
            "sources.findByGithubRepoId",
            &ByGithubRepoId { github_repo_id: 1 },
        )
        .await
        .unwrap();
    assert_eq!(none, None);
    let error = refusal(webhook.call::<Value>("sources.drop", &HELLO).await);
    assert_eq!(
        error.message,
        r#"No procedure found on path "sources.drop""#
    );
    assert_eq!(error.data.code, Code::NotFound);
    let error = refusal(webhook.call::<Value>("jobs.create", &HELLO).await);
    assert_eq!(error.data.code, Code::BadRequest);
    let unknown = CreateJob {
        source_id: "src_9".to_owned(),
        ..push()
    };
    let error = refusal(webhook.call::<Value>("jobs.create", &unknown).await);
    assert_eq!(error.message, "There is no source src_9");
    let large = "x".repeat(70_000);
    let error = refusal(webhook.call::<Value>("jobs.get", &ById { id: large }).await);
    assert_eq!(error.data.code, Code::PayloadTooLarge);
}

#[tokio::test]
async fn an_authority_that_is_away_refuses_nobody_for_good() {
    let world = World::start().await;
    let receiver = countersign_receiver::Receiver::builder(world.trpc.machine.id)
        .authority("http://127.0.0.1:1", world.trpc.key.expose())
        .service("webhook", world.webhook.machine.id);
    let url = serve(crate::support::api_of(receiver, None)).await;
    let webhook = world.caller(&url, &world.webhook).await;
    let error = refusal(webhook.call::<Value>("jobs.create", &push()).await);
    assert_eq!(error.data.code, Code::ServiceUnavailable);
    assert_eq!(error.data.reason.as_deref(), Some("authority_unavailable"));
}
