//! From the shared secret to tokens: the fallback on, off, counted, and never after a refused token.

use console::rpc::{ByGithubRepoId, Code, Source};
use console::workflow::{self, Outcome};
use countersign_client::TokenFormat;
use serde_json::{Value, json};

use crate::support::{
    LEGACY_SECRET, REPOSITORY, World, api_of, migration, refusal, serve, with_legacy, with_token,
};

const FIND: &str = "sources.findByGithubRepoId";
const HELLO: ByGithubRepoId = ByGithubRepoId {
    github_repo_id: REPOSITORY,
};

#[tokio::test]
async fn while_it_is_on_the_shared_secret_lets_in_and_is_counted_per_caller() {
    let world = World::start().await;
    let url = serve(api_of(world.receiver(), Some(LEGACY_SECRET))).await;
    let webhook = with_legacy(&url, "webhook", LEGACY_SECRET);
    for _ in 0..2 {
        let source: Option<Source> = webhook.call(FIND, &HELLO).await.unwrap();
        assert!(source.is_some());
    }
    let workflow = with_legacy(&url, "workflow", LEGACY_SECRET);
    let outcome = workflow::run(&workflow, REPOSITORY).await.unwrap();
    assert_eq!(outcome, Outcome::NothingToDo);
    let old_script = with_legacy(&url, "whatever it says", LEGACY_SECRET);
    let _: Value = old_script.call(FIND, &HELLO).await.unwrap();
    assert_eq!(
        migration(&url).await,
        json!({
            "legacyAuth": "on",
            "usesSinceStart": { "unknown": 1, "webhook": 2, "workflow": 1 },
        })
    );
}

#[tokio::test]
async fn while_it_is_off_the_shared_secret_is_worth_nothing() {
    let world = World::start().await;
    let url = world.api().await;
    let error = refusal(
        with_legacy(&url, "webhook", LEGACY_SECRET)
            .call::<Value>(FIND, &HELLO)
            .await,
    );
    assert_eq!(error.data.code, Code::Unauthorized);
    assert_eq!(error.data.reason.as_deref(), Some("token_missing"));
    assert_eq!(
        migration(&url).await,
        json!({ "legacyAuth": "off", "usesSinceStart": {} })
    );
}

#[tokio::test]
async fn a_wrong_secret_lets_nobody_in_and_an_empty_one_makes_no_api() {
    let world = World::start().await;
    let url = serve(api_of(world.receiver(), Some(LEGACY_SECRET))).await;
    for wrong in ["", "the old shared secre", "the old shared secrets"] {
        let caller = with_legacy(&url, "webhook", wrong);
        let error = refusal(caller.call::<Value>(FIND, &HELLO).await);
        assert_eq!(
            error.data.reason.as_deref(),
            Some("token_missing"),
            "{wrong}"
        );
    }
    let settings = console::api::Settings {
        receiver: world.receiver(),
        legacy_secret: Some(countersign_protocol::secret::Secret::new(String::new())),
    };
    assert!(console::api::router(settings).is_err());
}

#[tokio::test]
async fn a_refused_token_is_not_saved_by_the_secret_beside_it() {
    let world = World::start().await;
    let receiver = world
        .receiver()
        .service("webhook", world.webhook.machine.id);
    let url = serve(api_of(receiver, Some(LEGACY_SECRET))).await;
    let token = world.token(&world.webhook, TokenFormat::Opaque).await;
    world
        .admin
        .revoke_token(token.token.id, None)
        .await
        .unwrap();
    let response = reqwest::Client::new()
        .post(format!("{url}/trpc/{FIND}"))
        .header("authorization", token.string.authorization())
        .header("x-internal-secret", LEGACY_SECRET)
        .body(json!({ "githubRepoId": REPOSITORY }).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(migration(&url).await["usesSinceStart"], json!({}));
}

#[tokio::test]
async fn a_machine_that_has_moved_is_checked_while_others_still_use_the_secret() {
    let world = World::start().await;
    let receiver = world
        .receiver()
        .service("webhook", world.webhook.machine.id)
        .service("workflow", world.workflow.machine.id);
    let url = serve(api_of(receiver, Some(LEGACY_SECRET))).await;
    let _: Value = world
        .caller(&url, &world.webhook)
        .await
        .call(FIND, &HELLO)
        .await
        .unwrap();
    let wrong = world.caller(&url, &world.workflow).await;
    let error = refusal(wrong.call::<Value>(FIND, &HELLO).await);
    assert_eq!(
        error.message,
        "This endpoint requires webhook machine token"
    );
    let workflow = with_legacy(&url, "workflow", LEGACY_SECRET);
    workflow::run(&workflow, REPOSITORY).await.unwrap();
    assert_eq!(
        migration(&url).await["usesSinceStart"],
        json!({ "workflow": 1 })
    );
}

#[tokio::test]
async fn a_token_for_a_service_whose_machine_is_not_set_says_m2m_not_configured() {
    let world = World::start().await;
    for legacy in [None, Some(LEGACY_SECRET)] {
        let url = serve(api_of(world.receiver(), legacy)).await;
        let token = world.token(&world.webhook, TokenFormat::Opaque).await;
        let error = refusal(with_token(&url, &token).call::<Value>(FIND, &HELLO).await);
        assert_eq!(error.message, "M2M not configured");
        assert_eq!(error.data.code, Code::ServiceUnavailable);
        assert_eq!(error.data.reason.as_deref(), Some("not_configured"));
    }
}
