//! `POST /m2m_tokens/{m2m_token_id}/revoke`

use insta::assert_snapshot;

use crate::support::Api;
use crate::support::http::Request;

#[test]
fn a_revocation_counts_at_once_and_its_first_reason_stays() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    let path = format!("/m2m_tokens/{}/revoke", token.id);
    api.clock.advance(1000);
    let first = api.post(&path, &sender.ak, r#"{"revocation_reason":"leaked"}"#);
    assert_snapshot!(first, @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"object":"machine_to_machine_token","id":"mt_03ad222d000000008f4a5b0c0b0bc764","subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","scopes":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"claims":null,"revoked":true,"revocation_reason":"leaked","expired":false,"expiration":1767229200000,"last_used_at":null,"created_at":1767225600000,"updated_at":1767225601000}
    "#);
    assert_eq!(api.verify(&receiver.ak, &token.string).status, 404);
    api.clock.advance(1000);
    let second = api.post(
        &format!("/v1{path}"),
        &api.sk,
        r#"{"revocation_reason":"again"}"#,
    );
    assert_eq!((second.status, second.body), (200, first.body));
}

#[test]
fn a_reason_is_optional_and_a_jwt_can_be_revoked() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    for body in ["{}", r#"{"revocation_reason":null}"#, "", "null"] {
        let token = api.token(&sender, r#"{"token_format":"jwt"}"#);
        assert_eq!(api.verify(&receiver.ak, &token.string).status, 200);
        let reply = api.post(&format!("/m2m_tokens/{}/revoke", token.id), &api.sk, body);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.value()["revoked"], true);
        assert_eq!(api.verify(&receiver.ak, &token.string).status, 404);
    }
}

#[test]
fn an_id_must_be_one_and_name_a_token_of_the_caller() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    let upper = token.id.to_uppercase().replace("MT_", "mt_");
    let mut table = String::new();
    for (what, id) in [
        ("(unknown)", "mt_0123456789abcdef0123456789abcdef"),
        ("(largest)", "mt_ffffffffffffffffffffffffffffffff"),
        ("(in capitals)", &upper),
        ("(string)", &token.string),
        ("x", "x"),
        ("%00", "%00"),
    ] {
        let line = api
            .post(&format!("/m2m_tokens/{id}/revoke"), &api.sk, "{}")
            .line();
        table += &format!("{what} → {}\n", line.replace(&upper, "(id)"));
    }
    assert_snapshot!(table, @r"
    (unknown) → 404 resource_not_found: Resource not found: no token mt_0123456789abcdef0123456789abcdef
    (largest) → 404 resource_not_found: Resource not found: no token mt_ffffffffffffffffffffffffffffffff
    (in capitals) → 404 resource_not_found: Resource not found: no token (id); ids are lower-case
    (string) → 400 bad_request: url_parameter.m2m_token_id must match the pattern ^mt_[0-9A-Fa-f]{32}$ (a token's id, not the token itself)
    x → 400 bad_request: url_parameter.m2m_token_id must match the pattern ^mt_[0-9A-Fa-f]{32}$ (a token's id, not the token itself)
    %00 → 400 bad_request: url_parameter.m2m_token_id must match the pattern ^mt_[0-9A-Fa-f]{32}$ (a token's id, not the token itself)
    ");
    let path = format!("/m2m_tokens/{}/revoke", token.id);
    let other = api.second_instance();
    for key in [&receiver.ak, &other] {
        assert_eq!(
            api.post(&path, key, "{}").line(),
            format!(
                "404 resource_not_found: Resource not found: no token {}",
                token.id
            )
        );
    }
    assert_eq!(api.verify(&receiver.ak, &token.string).status, 200);
    let long = format!(r#"{{"revocation_reason":"{}"}}"#, "x".repeat(256));
    assert_snapshot!(api.post(&path, &api.sk, &long).line(), @"400 bad_request: body.revocation_reason should not exceed 255 characters");
    assert_snapshot!(api.table("POST", &path, &api.sk, &[
        r#"{"revocation_reason":1}"#,
        r#"{"revocation_reason":"a\u0000b"}"#,
        r#"{"reason":"x"}"#,
        "[]",
    ]), @r#"
    {"revocation_reason":1} → 400 bad_request: body.revocation_reason must be a string or null
    {"revocation_reason":"a\u0000b"} → 400 bad_request: body.revocation_reason must not contain the character U+0000
    {"reason":"x"} → 400 bad_request: body.reason is not a parameter of this request
    [] → 400 request_body_invalid: The request body must be a JSON object: the text is no JSON object
    "#);
}

#[test]
fn every_kind_of_credential_has_its_answer() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let token = api.token(&sender, "{}");
    let request = Request::new("POST", &format!("/m2m_tokens/{}/revoke", token.id)).json("{}");
    assert_snapshot!(api.credentials(&request, &sender), @r"
    none → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    empty → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    Basic → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    sk → 200
    unknown sk → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    ak → 200
    unknown ak → 401 machine_secret_key_invalid: The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.
    token → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    token id → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    garbage → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    ");
}
