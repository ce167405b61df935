//! What users may do.

use std::time::{Duration, SystemTime};

use jobtracker::issuer::Issuer;
use reqwest::Method;

use crate::support::{AUDIENCE, World, read};

#[tokio::test]
async fn a_user_sees_what_is_theirs_and_the_rest_is_not_there() {
    let world = World::start().await;
    let ada = world.issuer.token("user_ada");
    let (status, application) = world.get("/applications/app_1001", &ada).await;
    assert_eq!(
        (status, &application["company"]),
        (200, &"Analytical Engines".into())
    );
    let (status, user) = world.get("/users/user_ada", &ada).await;
    assert_eq!((status, &user["name"]), (200, &"Ada Lovelace".into()));

    for path in [
        "/applications/app_1002",
        "/applications/app_1002/resume",
        "/applications/none",
        "/users/user_grace",
    ] {
        let (status, error) = world.get(path, &ada).await;
        assert_eq!(
            (status, &error["reason"]),
            (404, &"not_found".into()),
            "{path}"
        );
    }
    let (status, _) = world.put_status("app_1002", "withdrawn", &ada).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_user_downloads_the_own_resume_as_a_file() {
    let world = World::start().await;
    let ada = world.issuer.token("user_ada");
    let request = world.request(Method::GET, "/applications/app_1001/resume", &ada);
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/pdf");
    let disposition = &response.headers()["content-disposition"];
    assert_eq!(disposition, "attachment; filename=\"ada-lovelace.pdf\"");
    let file = response.bytes().await.unwrap();
    assert!(file.starts_with(b"%PDF-"));
}

#[tokio::test]
async fn a_user_withdraws_an_application_and_cannot_submit_one() {
    let world = World::start().await;
    let ada = world.issuer.token("user_ada");
    let (status, error) = world.put_status("app_1001", "submitted", &ada).await;
    assert_eq!(
        (status, &error["reason"]),
        (403, &"machine_required".into())
    );
    let (status, application) = world.put_status("app_1001", "withdrawn", &ada).await;
    assert_eq!((status, &application["status"]), (200, &"withdrawn".into()));
}

#[tokio::test]
async fn an_illegal_transition_names_both_statuses_and_what_is_allowed() {
    let world = World::start().await;
    let ada = world.issuer.token("user_ada");
    let (status, error) = world.put_status("app_1003", "offered", &ada).await;
    assert_eq!(status, 409);
    assert_eq!(
        error,
        serde_json::json!({
            "reason": "illegal_transition",
            "message": "an application that is submitted cannot become offered: it may become interviewing, rejected or withdrawn",
        })
    );
    let (_, application) = world.get("/applications/app_1003", &ada).await;
    assert_eq!(application["status"], "submitted");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_with_what_is_wrong() {
    let world = World::start().await;
    let ada = world.issuer.token("user_ada");
    let (status, error) = world.put_status("app_1001", "eaten", &ada).await;
    assert_eq!((status, &error["reason"]), (422, &"body_malformed".into()));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("unknown variant `eaten`"), "{message}");
}

#[tokio::test]
async fn an_expired_token_a_forged_one_and_none_at_all_are_refused() {
    let world = World::start().await;
    #[expect(clippy::disallowed_methods, reason = "a token of an hour ago")]
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let expired = world.issuer.token_from("user_ada", hour_ago);
    let (status, error) = world.get("/applications/app_1001", &expired).await;
    assert_eq!((status, &error["reason"]), (401, &"token_expired".into()));
    assert_eq!(error["message"], "Token verification failed");

    let other = Issuer::new(world.issuer.url(), AUDIENCE).unwrap();
    let forged = other.token("user_ada");
    let (status, error) = world.get("/applications/app_1001", &forged).await;
    assert_eq!((status, &error["reason"]), (401, &"key_unknown".into()));

    let (status, error) = world.get_without_token("/applications/app_1001").await;
    assert_eq!((status, &error["reason"]), (401, &"token_missing".into()));
}

#[tokio::test]
async fn a_user_takes_no_application_from_the_queue() {
    let world = World::start().await;
    let ada = world.issuer.token("user_ada");
    let (status, error) = read(world.request(Method::POST, "/applications/take", &ada)).await;
    assert_eq!(
        (status, &error["reason"]),
        (403, &"machine_required".into())
    );
}

#[tokio::test]
async fn the_issuer_hands_out_tokens_that_the_api_accepts() {
    let world = World::start().await;
    let http = &world.http;
    let url = format!("{}/token?user=user_grace", world.issuer.url());
    let token = http.get(url).send().await.unwrap().text().await.unwrap();
    let (status, user) = world.get("/users/user_grace", &token).await;
    assert_eq!((status, &user["email"]), (200, &"grace@example.com".into()));

    let url = format!("{}/.well-known/openid-configuration", world.issuer.url());
    let (_, configuration) = read(http.get(url)).await;
    assert_eq!(configuration["issuer"], world.issuer.url());
    let key_set_url = configuration["jwks_uri"].as_str().unwrap();
    let (status, keys) = read(http.get(key_set_url)).await;
    assert_eq!((status, &keys["keys"][0]["alg"]), (200, &"RS256".into()));
}
