//! Recorded behavior of Clerk's Backend API: the differences that the crate must bear.
//!
//! The bodies are the examples of Clerk's OpenAPI document and of its SDKs' fixtures.

use std::time::{Duration, SystemTime};

use countersign_client::{Client, ListMachines, ListTokens, NewToken, TokenSource};

use crate::support::scripted::{Answer, Scripted};

/// Ids of tokens are 32 hexadecimal digits without a meaning, and members that we do not know may stand beside ours.
const TOKEN: &str = r#"{"object":"machine_to_machine_token","id":"mt_f7f0ba8c3b4843ce7d85fcdd5e71853e",
    "subject":"mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk","claims":null,"scopes":["mch_2yGkLpQ7Y3rXSwuW24CzTk9I7Ef"],
    "token":"mt_XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX","revoked":false,"revocation_reason":null,"expired":false,
    "expiration":1753746916590,"last_used_at":null,"created_at":1753743316590,"updated_at":1753743316590,
    "something_new":{"a":1}}"#;

const MACHINE: &str = r#"{"object":"machine","id":"mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk","name":"My Machine",
    "instance_id":"ins_2xhFjEI5X2qWRvtV13BzSj8H6Dk","created_at":1753743316590,"updated_at":1753743316590,
    "default_token_ttl":3600,"scoped_machines":[]}"#;

async fn clerk() -> (Scripted, Client) {
    let scripted = Scripted::by(|request| {
        let headers = "Date: Mon, 28 Jul 2025 22:55:17 GMT\r\nCF-Ray: 9-FRA\r\n";
        let json = |status, body: &str| Answer::with(status, "application/json", headers, body);
        let line = request.lines().next().unwrap_or_default();
        match line.strip_suffix(" HTTP/1.1").unwrap_or_default() {
            "POST /v1/m2m_tokens" => json(201, TOKEN),
            "POST /v1/m2m_tokens/verify" => json(200, TOKEN),
            line if line.starts_with("GET /v1/m2m_tokens?") => {
                json(200, &format!(r#"{{"m2m_tokens":[{TOKEN}],"total_count":1}}"#))
            }
            line if line.starts_with("GET /v1/machines?") => {
                json(200, &format!(r#"{{"data":[{MACHINE}],"total_count":1}}"#))
            }
            "GET /v1/jwks" => json(
                200,
                r#"{"keys":[{"use":"sig","kty":"RSA","kid":"ins_2xhFjEI5X2qWRvtV13BzSj8H6Dk","alg":"RS256","n":"AQ","e":"AQAB"}]}"#,
            ),
            // Errors of Clerk have no trace id in the body where the request did not get far.
            _ => json(
                404,
                r#"{"errors":[{"message":"not found","long_message":"Resource not found","code":"resource_not_found"}],"meta":{"x":1}}"#,
            ),
        }
    })
    .await;
    let client = Client::new(&format!("{}/v1", scripted.url()), "ak_clerk").unwrap();
    (scripted, client)
}

#[tokio::test]
async fn tokens_of_clerk_are_read() {
    let (_, client) = clerk().await;
    let issued = client.create_token(&NewToken::new()).await.unwrap();
    assert_eq!(
        issued.token.id.to_string(),
        "mt_f7f0ba8c3b4843ce7d85fcdd5e71853e"
    );
    assert_eq!(issued.string.expose().len(), 35);
    let expires_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_753_746_916_590);
    assert_eq!(issued.token.expires_at, Some(expires_at));
    assert_eq!(issued.time_left, Some(Duration::from_secs(3600)));
    // One that may have lived already: by the `Date` of the answer, which has no fractions of seconds.
    let pooled = NewToken::new().reuse(Duration::from_secs(600));
    let issued_again = client.create_token(&pooled).await.unwrap();
    assert_eq!(
        issued_again.time_left,
        Some(Duration::from_millis(3_599_590))
    );
    let verified = client
        .verify_token("mt_XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX")
        .await
        .unwrap();
    assert_eq!(verified, issued.token);
    let page = client
        .tokens_page(&ListTokens::of(verified.subject), 10, 0)
        .await
        .unwrap();
    assert_eq!(page.items, [verified]);
}

#[tokio::test]
async fn machines_and_keys_of_clerk_are_read() {
    let (_, client) = clerk().await;
    let page = client
        .list_machines(&ListMachines::new().limit(10))
        .await
        .unwrap();
    assert_eq!(page.items[0].name, "My Machine");
    assert_eq!(
        client.jwks().await.unwrap()[0].kid,
        "ins_2xhFjEI5X2qWRvtV13BzSj8H6Dk"
    );
}

#[tokio::test]
async fn an_error_without_a_trace_id_has_the_one_of_the_header() {
    let (_, client) = clerk().await;
    let id = "mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk".parse().unwrap();
    let error = client.machine(id).await.unwrap_err();
    let refusal = error.refusal().expect("a refusal");
    assert_eq!(
        (refusal.code(), refusal.trace_id()),
        ("resource_not_found", Some("9-FRA"))
    );
}

#[tokio::test]
async fn a_sender_makes_one_token_and_asks_as_clerk_wants_it() {
    let (clerk, client) = clerk().await;
    let tokens = TokenSource::builder(client)
        .lifetime(Duration::from_secs(3600))
        .build();
    for _ in 0..5 {
        tokens.token().await.unwrap();
    }
    let requests = clerk.requests();
    assert_eq!(requests.len(), 1);
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/m2m_tokens HTTP/1.1"), "{head}");
    assert!(
        head.to_ascii_lowercase()
            .contains("\r\nauthorization: bearer ak_clerk"),
        "{head}"
    );
    assert!(
        head.to_ascii_lowercase()
            .contains("\r\ncontent-type: application/json"),
        "{head}"
    );
    assert_eq!(body, r#"{"seconds_until_expiration":3600}"#);
}
