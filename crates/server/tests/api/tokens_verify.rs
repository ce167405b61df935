//! `POST /m2m_tokens/verify`

use insta::assert_snapshot;

use crate::support::Api;
use crate::support::http::Request;

#[test]
fn a_receiver_in_scope_learns_all_about_the_token() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, r#"{"claims":{"role":"bot"}}"#);
    api.clock.advance(1000);
    assert_snapshot!(api.verify(&receiver.ak, &token.string), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"object":"machine_to_machine_token","id":"mt_03ad222d000000008f4a5b0c0b0bc764","subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","scopes":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"claims":{"role":"bot"},"revoked":false,"revocation_reason":null,"expired":false,"expiration":1767229200000,"last_used_at":1767225601000,"created_at":1767225600000,"updated_at":1767225601000}
    "#);
    for path in ["/m2m_tokens/verify", "/v1/m2m_tokens/verify"] {
        for key in [&receiver.ak, &api.sk] {
            // As older SDKs and helpers ask.
            let body = format!(r#"{{"secret":"{}"}}"#, token.string);
            assert_eq!(api.post(path, key, &body).status, 200);
        }
    }
}

#[test]
fn a_jwt_verifies_like_an_opaque_token() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, r#"{"token_format":"jwt","claims":{"role":"bot"}}"#);
    api.clock.advance(1000);
    assert_snapshot!(api.verify(&receiver.ak, &token.string), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"object":"machine_to_machine_token","id":"mt_03ad222d000000008f4a5b0c0b0bc764","subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","scopes":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"claims":{"role":"bot"},"revoked":false,"revocation_reason":null,"expired":false,"expiration":1767229200000,"last_used_at":null,"created_at":1767225600000,"updated_at":1767225600000}
    "#);
    assert_eq!(api.verify(&api.sk, &token.string).status, 200);
}

#[test]
fn a_stranger_learns_nothing_not_even_whether_a_token_exists() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let other = api.machine("other", &[]);
    let live = api.token(&sender, "{}");
    let signed = api.token(&sender, r#"{"token_format":"jwt"}"#);
    let revoked = api.token(&sender, "{}");
    api.post(&format!("/m2m_tokens/{}/revoke", revoked.id), &api.sk, "{}");
    let expired = api.token(&sender, r#"{"seconds_until_expiration":1}"#);
    api.clock.advance(1000);
    let stranger = api.machine_of(&api.second_instance(), "stranger", &[]);
    let foreign = api.token(&stranger, "{}");
    let mut forged = live.string.clone();
    forged.pop();
    let expected = api.verify(&other.ak, "mt_junk");
    assert_snapshot!(expected, @r#"
    404
    cache-control: no-store
    clerk-trace-id: 53ec5151405dbf965baee4bd3fe53daa
    content-type: application/json

    {"errors":[{"message":"not found","long_message":"Resource not found","code":"resource_not_found"}],"clerk_trace_id":"53ec5151405dbf965baee4bd3fe53daa"}
    "#);
    for token in [
        &live.string,
        &signed.string,
        &revoked.string,
        &expired.string,
        &foreign.string,
        &forged,
        &live.id,
        &signed.id,
        &format!("{}A", signed.string),
        "",
        "mt_",
        "m2m_x",
        &other.ak,
        &api.sk,
        "a.b.c",
        "\\u0000",
    ] {
        let reply = api.verify(&other.ak, token);
        assert_eq!(reply.without_trace(), expected.without_trace(), "{token}");
    }
    // The minter is a stranger to its own token.
    assert_eq!(
        api.verify(&sender.ak, &live.string).without_trace(),
        expected.without_trace()
    );
}

#[test]
fn those_who_may_know_are_told_why() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let revoked = api.token(&sender, "{}");
    api.post(&format!("/m2m_tokens/{}/revoke", revoked.id), &api.sk, "{}");
    let expired = api.token(&sender, r#"{"seconds_until_expiration":0.001}"#);
    api.clock.advance(1);
    for key in [&receiver.ak, &api.sk] {
        let lines = [&revoked, &expired].map(|token| api.verify(key, &token.string).line());
        assert_eq!(
            lines,
            [
                r#"404 resource_not_found: Resource not found: the token was revoked {"reason":"revoked"}"#,
                r#"404 resource_not_found: Resource not found: the token is expired {"reason":"expired"}"#,
            ]
        );
    }
    assert_snapshot!(api.verify(&receiver.ak, &revoked.string), @r#"
    404
    cache-control: no-store
    clerk-trace-id: 6125eca09e3e66298711a227eb1ec6d2
    content-type: application/json

    {"errors":[{"message":"not found","long_message":"Resource not found: the token was revoked","code":"resource_not_found","meta":{"reason":"revoked"}}],"clerk_trace_id":"6125eca09e3e66298711a227eb1ec6d2"}
    "#);
    assert_snapshot!(api.verify(&api.sk, &revoked.id).line(), @r#"404 resource_not_found: Resource not found: the token is unknown {"reason":"unknown"}"#);
    let live = api.token(&sender, "{}");
    let owner = api.second_instance();
    assert_snapshot!(api.verify(&owner, &live.string).line(), @r#"404 resource_not_found: Resource not found: the token is unknown {"reason":"unknown"}"#);
    api.delete(&format!("/machines/{}", sender.id), &api.sk);
    assert_snapshot!(api.verify(&api.sk, &live.string).line(), @r#"404 resource_not_found: Resource not found: the token is unknown {"reason":"unknown"}"#);
    assert_snapshot!(api.verify(&receiver.ak, &live.string).line(), @"404 resource_not_found: Resource not found");
}

#[test]
fn the_token_is_one_string() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}").string;
    assert_snapshot!(api.table("POST", "/m2m_tokens/verify", &receiver.ak, &[
        "",
        "null",
        "{}",
        r#"{"token":null}"#,
        r#"{"token":1}"#,
        r#"{"token":["mt_x"]}"#,
        r#"{"token":"a","token":"b"}"#,
        r#"{"token":"a","machine":"b"}"#,
        r#"{"secret":1}"#,
        r#"{"token":"a","secret":null}"#,
    ]), @r#"
     → 400 request_body_invalid: The request body must be a JSON object; it is empty
    null → 400 request_body_invalid: The request body must be a JSON object: the text is no JSON object
    {} → 400 bad_request: body.token must be included
    {"token":null} → 400 bad_request: body.token must be a string
    {"token":1} → 400 bad_request: body.token must be a string
    {"token":["mt_x"]} → 400 bad_request: body.token must be a string
    {"token":"a","token":"b"} → 400 request_body_invalid: The request body must be a JSON object: a member is given twice at line 1 column 20
    {"token":"a","machine":"b"} → 400 bad_request: body.machine is not a parameter of this request
    {"secret":1} → 400 bad_request: body.secret must be a string
    {"token":"a","secret":null} → 400 bad_request: body.secret must be a string
    "#);
    // `token` wins over `secret`.
    let verify = |body: String| api.post("/m2m_tokens/verify", &receiver.ak, &body).status;
    assert_eq!(
        verify(format!(r#"{{"secret":"mt_x","token":"{token}"}}"#)),
        200
    );
    assert_eq!(
        verify(format!(r#"{{"secret":"{token}","token":"mt_x"}}"#)),
        404
    );
    let escaped = token.replacen('m', "\\u006d", 1);
    assert_eq!(verify(format!(r#"{{"token":"{escaped}"}}"#)), 200);
}

#[test]
fn every_kind_of_credential_has_its_answer() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let request = Request::new("POST", "/m2m_tokens/verify").json(r#"{"token":"mt_x"}"#);
    assert_snapshot!(api.credentials(&request, &sender), @r#"
    none → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    empty → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    Basic → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    sk → 404 resource_not_found: Resource not found: the token is unknown {"reason":"unknown"}
    unknown sk → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    ak → 404 resource_not_found: Resource not found
    unknown ak → 401 machine_secret_key_invalid: The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.
    token → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    token id → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    garbage → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    "#);
}

#[test]
fn a_bad_key_is_told_before_a_bad_body() {
    let api = Api::start();
    let (_, receiver) = api.pair();
    let json = Request::new("POST", "/m2m_tokens/verify").json("{}");
    let bodies = [
        json.clone(),
        json.clone().body("{"),
        json.clone().body(r#"{"token":1}"#),
        json.clone().body(r#"{"token":"mt_x","machine":"b"}"#),
        Request::new("POST", "/m2m_tokens/verify")
            .header("Content-Type", "text/plain")
            .body(r#"{"token":"mt_x"}"#),
        json.body(format!(r#"{{"token":"{}"}}"#, "x".repeat(64 * 1024))),
    ];
    for request in &bodies {
        let statuses = [
            "sk_unknown",
            "ak_unknown",
            "mt_x",
            "",
            &receiver.ak,
            &api.sk,
        ]
        .map(|key| api.send(&request.clone().key(key)).status);
        assert_eq!(statuses, [401, 401, 401, 401, 400, 400], "{request:?}");
        assert_eq!(api.send(request).status, 401, "{request:?}");
        api.clock.advance(10_000);
    }
    // Bad keys are counted whatever the body is.
    for _ in 0..10 {
        for request in bodies.iter().take(2) {
            assert_eq!(api.send(&request.clone().key("ak_unknown")).status, 401);
        }
    }
    for request in &bodies {
        assert_eq!(api.send(&request.clone().key("ak_unknown")).status, 429);
        assert_eq!(api.send(&request.clone().key(&receiver.ak)).status, 400);
    }
}

#[test]
fn a_verification_is_one_operation_of_the_store() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let opaque = api.token(&sender, "{}");
    let jwt = api.token(&sender, r#"{"token_format":"jwt"}"#);
    let revoked = api.token(&sender, "{}");
    api.post(&format!("/m2m_tokens/{}/revoke", revoked.id), &api.sk, "{}");
    let operations = |key: &str, token: &str| {
        let before = api.store.calls();
        let status = api.verify(key, token).status;
        (status, api.store.calls() - before)
    };
    for key in [&receiver.ak, &api.sk] {
        assert_eq!(operations(key, &opaque.string), (200, 1));
        assert_eq!(operations(key, &jwt.string), (200, 1));
        assert_eq!(operations(key, &revoked.string), (404, 1));
        // Of junk, only the key is looked up.
        assert_eq!(operations(key, "mt_x"), (404, 1));
    }
    assert_eq!(operations("ak_unknown", &opaque.string), (401, 1));
    // What cannot be a key is not looked up at all.
    assert_eq!(operations("mt_x", &opaque.string), (401, 0));
}
