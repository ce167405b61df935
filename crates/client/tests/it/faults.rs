//! An authority that misbehaves: what comes of each kind of answer, and that a key goes nowhere else.

use std::time::Duration;

use countersign_client::{Client, Error, NewToken, PublicDocument};

use crate::support::scripted::{Answer, Scripted};

const KEY: &str = "ak_keyofthetest";

fn client(url: &str) -> Client {
    let builder = Client::builder(url, KEY);
    builder.timeout(Duration::from_millis(300)).build().unwrap()
}

async fn fault(answer: Answer) -> (Error, usize) {
    let scripted = Scripted::always(answer).await;
    let error = client(&scripted.url()).create_token(&NewToken::new()).await;
    (
        error.expect_err("no such answer is a token"),
        scripted.requests().len(),
    )
}

#[tokio::test]
async fn each_fault_is_told_apart() {
    let envelope = r#"{"errors":[{"message":"m","long_message":"l","code":"too_many_requests"}]}"#;
    let html = "<html><body>Bad Gateway</body></html>";
    let retry = "Retry-After: 7\r\nCF-Ray: 8f-trace\r\n";
    for (answer, wanted, is_temporary) in [
        (Answer::Silence, "no answer in time", true),
        (Answer::Half, "no answer in time", true),
        (Answer::Hangup, "cannot reach the authority", true),
        (
            Answer::with(502, "text/html", "", html),
            "answered with status 502",
            true,
        ),
        (
            Answer::with(200, "text/html", "", html),
            "is not a Countersign or Clerk API",
            false,
        ),
        (
            Answer::with(404, "text/html", "", html),
            "answered with status 404",
            false,
        ),
        (Answer::json(200, "{\"object\":"), "cannot be read", false),
        (Answer::json(200, "{}"), "cannot be read", false),
        (
            Answer::json(400, r#"{"errors":[]}"#),
            "no error that an authority writes",
            false,
        ),
        (
            Answer::with(429, "application/json", retry, envelope),
            "(429, too_many_requests, trace id 8f-trace)",
            true,
        ),
        (
            Answer::json(500, envelope),
            "(500, too_many_requests)",
            true,
        ),
    ] {
        let (error, requests) = fault(answer.clone()).await;
        assert!(error.to_string().contains(wanted), "{answer:?}: {error}");
        assert_eq!(error.is_temporary(), is_temporary, "{answer:?}");
        assert_eq!(requests, 1, "{answer:?}");
        assert!(!format!("{error:?} {error}").contains(KEY), "{answer:?}");
    }
}

#[tokio::test]
async fn a_refusal_that_is_far_too_long_is_none() {
    let long = "l".repeat(20_000);
    let envelope =
        format!(r#"{{"errors":[{{"message":"m","long_message":"{long}","code":"c"}}]}}"#);
    let (error, _) = fault(Answer::json(403, &envelope)).await;
    assert!(error.refusal().is_none());
    assert!(error.to_string().len() < 200, "{error}");
}

#[tokio::test]
async fn the_time_to_wait_is_told() {
    let envelope = r#"{"errors":[{"message":"m","long_message":"l","code":"too_many_requests"}]}"#;
    let answer = Answer::with(429, "application/json", "Retry-After: 7\r\n", envelope);
    let (error, _) = fault(answer).await;
    let retry_after = error.refusal().expect("a refusal").retry_after();
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_key_stays() {
    let thief = Scripted::always(Answer::json(200, "{}")).await;
    let location = format!("Location: {}/v1/m2m_tokens\r\n", thief.url());
    let (error, requests) = fault(Answer::with(307, "text/plain", &location, "")).await;
    assert!(error.to_string().contains("it redirects to"), "{error}");
    assert_eq!((requests, thief.requests().len()), (1, 0));
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let error = client("http://127.0.0.1:1").jwks().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("onnection refused"), "{error}");
}

#[tokio::test]
async fn the_path_has_v1_once_whatever_the_address_says() {
    let scripted = Scripted::always(Answer::json(200, r#"{"keys":[]}"#)).await;
    for suffix in ["", "/", "/v1", "/v1/", "/prefix/v1"] {
        let url = format!("{}{suffix}", scripted.url());
        assert_eq!(client(&url).jwks().await.unwrap(), []);
    }
    let paths = scripted.requests();
    let paths: Vec<_> = paths
        .iter()
        .map(|request| request.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "/v1/jwks",
            "/v1/jwks",
            "/v1/jwks",
            "/v1/jwks",
            "/prefix/v1/jwks"
        ]
    );
}

#[tokio::test]
async fn a_public_document_carries_no_key_and_has_a_bound() {
    let scripted = Scripted::always(Answer::json(200, r#"{"keys":[]}"#)).await;
    let document = PublicDocument::new(&scripted.url(), 11).unwrap();
    assert_eq!(document.fetch().await.unwrap(), r#"{"keys":[]}"#);
    assert!(
        !scripted.requests()[0]
            .to_ascii_lowercase()
            .contains("authorization")
    );
    let document = PublicDocument::new(&scripted.url(), 10).unwrap();
    let error = document.fetch().await.unwrap_err();
    assert!(
        error.to_string().contains("longer than 10 bytes"),
        "{error}"
    );
    for url in [
        "http://issuer.example/jwks",
        "ftp://issuer.example",
        "issuer",
    ] {
        assert!(PublicDocument::new(url, 10).is_err(), "{url}");
    }
}

#[test]
fn what_is_no_key_is_refused_before_anything_is_sent() {
    for key in [
        "",
        "mt_token",
        "pk_test_abc",
        "ak_with space",
        "sk_with\nline",
    ] {
        let error = Client::new("http://127.0.0.1:1", key).expect_err(key);
        assert!(matches!(error, Error::Settings(_)), "{error}");
    }
    assert!(!format!("{:?}", client("http://127.0.0.1:1")).contains(KEY));
}

#[tokio::test]
async fn only_json_counts_as_an_answer_of_an_authority() {
    let token = r#"{"id":"mt_1","token":"mt_x"}"#;
    for kind in [
        "text/html",
        "text/plain; charset=utf-8",
        "application/jsonp",
    ] {
        let (error, _) = fault(Answer::with(201, kind, "", token)).await;
        let expected = format!("its response with status 201 is {kind}, not application/json");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    let envelope = r#"{"errors":[{"message":"m","long_message":"l","code":"c"}]}"#;
    let (error, _) = fault(Answer::with(404, "text/html", "", envelope)).await;
    assert!(error.refusal().is_none(), "{error}");
    let (error, _) = fault(Answer::with(
        404,
        "Application/JSON; charset=utf-8",
        "",
        envelope,
    ))
    .await;
    assert!(error.refusal().is_some(), "{error}");
}

#[tokio::test]
async fn a_connection_that_ends_costs_one_more_request_where_nothing_changes() {
    let scripted = Scripted::always(Answer::Hangup).await;
    let client = client(&scripted.url());
    assert!(client.jwks().await.is_err());
    assert_eq!(scripted.requests().len(), 2, "a list is asked for twice");
    assert!(client.verify_token("mt_x").await.is_err());
    assert_eq!(scripted.requests().len(), 4, "so is a verification");
    assert!(client.create_token(&NewToken::new()).await.is_err());
    assert_eq!(scripted.requests().len(), 5, "a token is not");
    let machine = "mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk".parse().unwrap();
    assert!(client.machine_key(machine).await.is_err());
    assert_eq!(
        scripted.requests().len(),
        6,
        "nor is a key, whose every showing is noted"
    );
}
