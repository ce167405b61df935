//! What real sockets bring: silence, halves, redirects, other people's pages. None of it lets anybody in.

use countersign_receiver::{MachineIssuer, Reason, Receiver, Refusal};

use crate::support::scripted::{Answer, Scripted};

const ME: &str = "mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk";
const TOKEN: &str = "mt_00000000000000000000000000000000";
const JWT: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Imluc18yR0lvUWhiVXB5MGhYN0IyY1ZrdVRNaW5Yb0QiLCJjYXQiOiJjbF9CN2Q0UEQzMzNBQUEifQ.e30.AAAA";
/// What an authority would say of a good token.
const GOOD: &str = r#"{"object":"machine_to_machine_token","id":"mt_f7f0ba8c3b4843ce7d85fcdd5e71853e",
    "subject":"mch_3senderSENDERsenderSENDERse","scopes":["mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk"],"claims":null,
    "revoked":false,"revocation_reason":null,"expired":false,"expiration":null,"last_used_at":null,
    "created_at":1753743316590,"updated_at":1753743316590}"#;
const NOT_FOUND: &str =
    r#"{"errors":[{"message":"not found","long_message":"x","code":"resource_not_found"}]}"#;

fn answers() -> Vec<(&'static str, Answer, Reason)> {
    let unavailable = Reason::AuthorityUnavailable;
    let html = "<html>Welcome</html>";
    vec![
        ("silence", Answer::Silence, unavailable),
        ("half", Answer::Half, unavailable),
        ("hang-up", Answer::Hangup, unavailable),
        (
            "no HTTP",
            Answer::Bytes("SSH-2.0-x\r\n".to_owned()),
            unavailable,
        ),
        (
            "HTML",
            Answer::with(200, "text/html", "", html),
            unavailable,
        ),
        (
            "404 in HTML",
            Answer::with(404, "text/html", "", html),
            unavailable,
        ),
        (
            "401 in HTML",
            Answer::with(401, "text/html", "", html),
            unavailable,
        ),
        ("garbage", Answer::json(200, "{\"object\":"), unavailable),
        (
            "too much",
            Answer::json(
                200,
                &GOOD.replacen("null", &format!("\"{}\"", "x".repeat(70_000)), 1),
            ),
            unavailable,
        ),
        ("201", Answer::json(201, GOOD), unavailable),
        ("204", Answer::json(204, ""), unavailable),
        ("500", Answer::json(500, GOOD), unavailable),
        ("503", Answer::json(503, NOT_FOUND), unavailable),
        (
            "429",
            Answer::with(429, "application/json", "Retry-After: 7\r\n", NOT_FOUND),
            unavailable,
        ),
        (
            "a redirect",
            Answer::with(302, "text/plain", "Location: /v1/m2m_tokens/verify\r\n", ""),
            unavailable,
        ),
        (
            "a redirect that keeps the method",
            Answer::with(307, "text/plain", "Location: http://127.0.0.1:1/\r\n", ""),
            unavailable,
        ),
        (
            "the authority's 404",
            Answer::json(404, NOT_FOUND),
            Reason::TokenRefused,
        ),
        (
            "the authority's 401",
            Answer::json(401, NOT_FOUND),
            Reason::ReceiverKeyRefused,
        ),
    ]
}

async fn verify(url: &str, token: &str) -> Result<(), Refusal> {
    let receiver = Receiver::builder(ME.parse().unwrap()).authority(url, "ak_key");
    receiver.build().unwrap().verify(token).await.map(|_| ())
}

#[tokio::test]
async fn nothing_that_an_address_may_answer_lets_a_token_in_that_is_not_good() {
    let good = Scripted::always(Answer::json(200, GOOD)).await;
    assert!(
        verify(&good.url(), TOKEN).await.is_ok(),
        "the table would prove nothing"
    );
    let cases: Vec<_> = answers()
        .into_iter()
        .flat_map(|(what, answer, reason)| {
            [TOKEN, JWT].map(|token| (what, answer.clone(), reason, token))
        })
        .map(|(what, answer, reason, token)| {
            tokio::spawn(async move {
                let scripted = Scripted::always(answer).await;
                let refusal = verify(&scripted.url(), token).await.expect_err(what);
                assert_eq!(refusal.reason(), reason, "{what}");
                if what == "429" {
                    assert_eq!(refusal.wait().map(|it| it.as_secs()), Some(7));
                }
                // A verification changes nothing, so a connection that ends costs one more try. No redirect is followed.
                let most = if ["hang-up", "no HTTP"].contains(&what) {
                    2
                } else {
                    1
                };
                assert!(scripted.requests().len() <= most, "{what}");
            })
        })
        .collect();
    for case in cases {
        case.await.unwrap();
    }
}

#[tokio::test]
async fn no_fault_of_an_issuer_lets_a_jwt_in() {
    let set = Answer::json(200, r#"{"keys":[]}"#);
    for (what, answer, reason) in [
        ("no keys", set, Reason::KeysUnavailable),
        (
            "HTML",
            Answer::with(200, "text/html", "", "<html>"),
            Reason::KeysUnavailable,
        ),
        ("404", Answer::json(404, NOT_FOUND), Reason::KeysUnavailable),
        (
            "a redirect",
            Answer::with(302, "text/plain", "Location: /keys\r\n", ""),
            Reason::KeysUnavailable,
        ),
        (
            "too much",
            Answer::json(
                200,
                &format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(70_000)),
            ),
            Reason::KeysUnavailable,
        ),
        ("hang-up", Answer::Hangup, Reason::KeysUnavailable),
    ] {
        let scripted = Scripted::always(answer).await;
        let issuer = MachineIssuer::new("https://auth.example.com").jwks_url(&scripted.url());
        let receiver = Receiver::builder(ME.parse().unwrap()).machine_issuer(issuer);
        let refusal = receiver.build().unwrap().verify(JWT).await.expect_err(what);
        assert_eq!(refusal.reason(), reason, "{what}");
        assert_eq!(scripted.requests().len(), 1, "{what}");
    }
}
