//! What machines may do, with either kind of token.

use countersign_client::{TokenFormat, TokenSource};
use reqwest::Method;

use crate::support::{World, read};

#[tokio::test]
async fn opaque_tokens_and_jwts_of_machines_are_accepted_beside_those_of_users() {
    let world = World::start().await;
    let opaque = world.token_of(&world.candidate_representer).await;
    assert!(opaque.starts_with("mt_"));
    let jwt = TokenSource::builder(world.client_of(&world.candidate_representer))
        .format(TokenFormat::Jwt)
        .build();
    let jwt = jwt.token().await.unwrap();
    for token in [
        opaque.as_str(),
        jwt.expose(),
        &world.issuer.token("user_ada"),
    ] {
        let (status, application) = world.get("/applications/app_1001", token).await;
        assert_eq!((status, &application["id"]), (200, &"app_1001".into()));
    }
}

#[tokio::test]
async fn a_machine_sees_the_applications_of_every_user() {
    let world = World::start().await;
    let token = world.token_of(&world.candidate_representer).await;
    for path in [
        "/applications/app_1001",
        "/applications/app_1002",
        "/users/user_alan",
    ] {
        assert_eq!(world.get(path, &token).await.0, 200, "{path}");
    }
    let (status, error) = world.get("/applications/none", &token).await;
    assert_eq!(
        (status, &error["message"]),
        (404, &"there is no application none".into())
    );
}

#[tokio::test]
async fn the_wrong_machine_is_refused_with_the_reason() {
    let world = World::start().await;
    let token = world.token_of(&world.candidate_representer).await;
    let (status, error) = world.put_status("app_1001", "submitted", &token).await;
    assert_eq!((status, &error["reason"]), (403, &"wrong_machine".into()));
    assert_eq!(
        error["message"],
        "This endpoint requires job-applier machine token"
    );
    let (status, error) = read(world.request(Method::POST, "/applications/take", &token)).await;
    assert_eq!((status, &error["reason"]), (403, &"wrong_machine".into()));
}

#[tokio::test]
async fn a_machine_without_the_scope_is_refused() {
    let world = World::start().await;
    let token = world.token_of(&world.stranger).await;
    let (status, error) = world.get("/applications/app_1001", &token).await;
    assert_eq!(
        (status, &error["message"]),
        (401, &"Token verification failed".into())
    );
}

#[tokio::test]
async fn two_takes_get_two_applications_the_oldest_first_and_then_there_is_none() {
    let world = World::start().await;
    let token = world.token_of(&world.job_applier).await;
    let mut taken = Vec::new();
    for _ in 0..2 {
        let (status, application) =
            read(world.request(Method::POST, "/applications/take", &token)).await;
        assert_eq!(status, 200);
        taken.push(application["id"].clone());
    }
    assert_eq!(taken, ["app_1001", "app_1002"]);
    let (status, _) = read(world.request(Method::POST, "/applications/take", &token)).await;
    assert_eq!(status, 204);
}
