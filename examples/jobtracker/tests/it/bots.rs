//! The bots, from their first token to the end of it.

use std::collections::BTreeSet;

use countersign_client::TokenSource;
use jobtracker::bots::{BotError, CandidateRepresenter, JobApplier};
use jobtracker::status::Status;

use crate::support::World;

const TWO_HOURS_MILLIS: i64 = 2 * 3_600_000;

#[tokio::test]
async fn the_representer_answers_from_the_data_of_the_api() {
    let world = World::start().await;
    let tokens = world.tokens_of(&world.candidate_representer);
    let representer = CandidateRepresenter::new(&world.api_url, tokens)
        .await
        .unwrap();
    let answer = representer.answer("app_1004", "When was it sent?").await;
    assert_eq!(answer.unwrap(), "Your application was sent on 2026-04-02.");
    let answer = representer.answer("app_1004", "Do they like me?").await;
    assert!(answer.unwrap().starts_with("I do not know. "));
    let error = representer
        .answer("none", "What is the status?")
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no application none (404, not_found)"
    );
}

#[tokio::test]
async fn the_applier_submits_the_oldest_queued_application() {
    let world = World::start().await;
    let tokens = world.tokens_of(&world.job_applier);
    let applier = JobApplier::new(&world.api_url, tokens).await.unwrap();
    let application = applier.apply_to_next().await.unwrap().unwrap();
    assert_eq!(
        (application.id.as_str(), application.status),
        ("app_1001", Status::Submitted)
    );
    assert!(application.submitted_at.is_some());
    assert_eq!(
        applier.apply_to_next().await.unwrap().unwrap().id,
        "app_1002"
    );
    assert_eq!(applier.apply_to_next().await.unwrap(), None);
}

#[tokio::test]
async fn two_appliers_at_once_never_submit_the_same_application() {
    let world = World::start().await;
    let tokens = world.tokens_of(&world.job_applier);
    let one = JobApplier::new(&world.api_url, tokens.clone())
        .await
        .unwrap();
    let two = JobApplier::new(&world.api_url, tokens).await.unwrap();
    let (one, two) = tokio::join!(one.apply_to_next(), two.apply_to_next());
    let submitted: BTreeSet<_> = [one, two].map(|it| it.unwrap().unwrap().id).into();
    assert_eq!(
        submitted,
        BTreeSet::from(["app_1001".to_owned(), "app_1002".to_owned()])
    );
}

#[tokio::test]
async fn the_representer_cannot_do_the_work_of_the_applier() {
    let world = World::start().await;
    let tokens = world.tokens_of(&world.candidate_representer);
    let impostor = JobApplier::new(&world.api_url, tokens).await.unwrap();
    let error = impostor.apply_to_next().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "This endpoint requires job-applier machine token (403, wrong_machine). \
         The token is good, but of a machine that may not call this endpoint."
    );
}

#[tokio::test]
async fn a_bot_whose_token_was_revoked_gets_another_one_and_goes_on() {
    let world = World::start().await;
    let tokens = world.tokens_of(&world.candidate_representer);
    let representer = CandidateRepresenter::new(&world.api_url, tokens.clone())
        .await
        .unwrap();
    let first = tokens.token().await.unwrap();
    let id = world.admin.verify_token(first.expose()).await.unwrap().id;
    world.admin.revoke_token(id, None).await.unwrap();
    let (status, error) = world.get("/applications/app_1001", first.expose()).await;
    assert_eq!((status, &error["reason"]), (401, &"token_refused".into()));
    let answer = representer.answer("app_1001", "Which company?").await;
    assert_eq!(answer.unwrap(), "You applied at Analytical Engines.");
    assert_ne!(tokens.token().await.unwrap(), first);
}

#[tokio::test]
async fn a_bot_whose_token_expired_gets_another_one_and_goes_on() {
    let world = World::start().await;
    let tokens = world.tokens_of(&world.job_applier);
    let applier = JobApplier::new(&world.api_url, tokens.clone())
        .await
        .unwrap();
    let first = tokens.token().await.unwrap();
    // The bot's own clock stands, as it does while a machine sleeps.
    world.authority_clock.advance(TWO_HOURS_MILLIS);
    let (status, _) = world.get("/applications/app_1001", first.expose()).await;
    assert_eq!(status, 401);
    let application = applier.apply_to_next().await.unwrap().unwrap();
    assert_eq!(application.status, Status::Submitted);
    assert_ne!(tokens.token().await.unwrap(), first);
}

#[tokio::test]
async fn a_bot_that_may_not_call_is_told_why_each_time_and_one_without_a_key_at_its_start() {
    let world = World::start().await;
    let tokens = world.tokens_of(&world.stranger);
    let representer = CandidateRepresenter::new(&world.api_url, tokens)
        .await
        .unwrap();
    let error = representer
        .answer("app_1001", "What is the status?")
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("Token verification failed (401, "),
        "{error}"
    );

    let nobody = countersign_client::Client::new("http://127.0.0.1:1", "ak_nobody").unwrap();
    let started = CandidateRepresenter::new(&world.api_url, TokenSource::new(nobody)).await;
    assert!(matches!(started, Err(BotError::Token(_))), "{started:?}");
}

#[tokio::test]
async fn a_bot_whose_tokens_are_off_sends_none() {
    let world = World::start().await;
    let representer = CandidateRepresenter::new(&world.api_url, TokenSource::off())
        .await
        .unwrap();
    let error = representer
        .answer("app_1001", "What is the status?")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("(401, token_missing)"),
        "{error}"
    );
}

#[tokio::test]
async fn after_a_scope_was_added_a_new_token_lets_the_machine_in() {
    let world = World::start().await;
    let before = world.token_of(&world.stranger).await;
    assert_eq!(world.get("/applications/app_1001", &before).await.0, 401);
    let me = world
        .admin
        .verify_token(&world.token_of(&world.job_applier).await)
        .await
        .unwrap();
    let [me] = me.scopes[..] else {
        panic!("the applier may call one machine")
    };
    world
        .admin
        .create_scope(world.stranger.machine.id, me)
        .await
        .unwrap();
    let after = world.token_of(&world.stranger).await;
    assert_eq!(world.get("/applications/app_1001", &after).await.0, 200);
}
