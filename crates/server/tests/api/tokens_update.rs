//! `PATCH /m2m_tokens/{m2m_token_id}`, our extension

use insta::assert_snapshot;

use crate::support::Api;
use crate::support::http::Request;

#[test]
fn claims_and_end_of_a_live_token_change() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    let path = format!("/m2m_tokens/{}", token.id);
    api.clock.advance(1000);
    assert_snapshot!(api.patch(&path, &sender.ak, r#"{"claims":{"a":1},"seconds_until_expiration":60}"#), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"object":"machine_to_machine_token","id":"mt_03ad222d000000008f4a5b0c0b0bc764","subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","scopes":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"claims":{"a":1},"revoked":false,"revocation_reason":null,"expired":false,"expiration":1767225661000,"last_used_at":null,"created_at":1767225600000,"updated_at":1767225600000}
    "#);
    for body in ["", "null", "{}"] {
        assert_eq!(
            api.patch(&format!("/v1{path}"), &api.sk, body).value()["claims"]["a"],
            1
        );
    }
    let cleared = api
        .patch(
            &path,
            &api.sk,
            r#"{"claims":null,"seconds_until_expiration":null}"#,
        )
        .value();
    assert_eq!(
        (&cleared["claims"], &cleared["expiration"]),
        (&serde_json::Value::Null, &1_767_229_201_000_i64.into())
    );
    let revoked = api
        .patch(
            &path,
            &sender.ak,
            r#"{"revoked":true,"revocation_reason":"over"}"#,
        )
        .value();
    assert_eq!(
        (&revoked["revoked"], &revoked["revocation_reason"]),
        (&true.into(), &"over".into())
    );
    assert_eq!(api.verify(&receiver.ak, &token.string).status, 404);
    assert_snapshot!(api.patch(&path, &api.sk, r#"{"claims":1}"#), @r#"
    400
    cache-control: no-store
    clerk-trace-id: 14cee25cb0d1c5867fb775103ab28011
    content-type: application/json

    {"errors":[{"message":"Bad Request","long_message":"a token that is revoked or expired cannot be changed","code":"bad_request"}],"clerk_trace_id":"14cee25cb0d1c5867fb775103ab28011"}
    "#);
}

#[test]
fn what_cannot_be_changed_is_said() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    let signed = api.token(&sender, r#"{"token_format":"jwt"}"#);
    let path = format!("/m2m_tokens/{}", token.id);
    assert_snapshot!(api.table("PATCH", &path, &sender.ak, &[
        r#"{"revoked":false}"#,
        r#"{"revoked":"true"}"#,
        r#"{"revocation_reason":"why"}"#,
        r#"{"seconds_until_expiration":0}"#,
        r#"{"token_format":"jwt"}"#,
        r#"{"name":"x"}"#,
        "[]",
    ]), @r#"
    {"revoked":false} → 400 bad_request: body.revoked must be true: a revoked token stays revoked
    {"revoked":"true"} → 400 bad_request: body.revoked must be a boolean
    {"revocation_reason":"why"} → 400 bad_request: body.revocation_reason goes with revoked: true only
    {"seconds_until_expiration":0} → 400 bad_request: body.seconds_until_expiration must be greater than 0
    {"token_format":"jwt"} → 400 bad_request: body.token_format is not a parameter of this request
    {"name":"x"} → 400 bad_request: body.name is not a parameter of this request
    [] → 400 request_body_invalid: The request body must be a JSON object: the text is no JSON object
    "#);
    let change = r#"{"claims":1}"#;
    let of_signed = format!("/m2m_tokens/{}", signed.id);
    assert_eq!(api.patch(&of_signed, &api.sk, "{}").status, 200);
    assert_snapshot!(api.patch(&of_signed, &api.sk, change).line(), @"400 bad_request: a JWT cannot be changed, because its content is signed");
    assert_snapshot!(api.patch("/m2m_tokens/x", &api.sk, "{}").line(), @"400 bad_request: url_parameter.m2m_token_id must match the pattern ^mt_[0-9A-Fa-f]{32}$ (a token's id, not the token itself)");
    assert!(
        api.patch(&path, &receiver.ak, "{}")
            .line()
            .starts_with("404 ")
    );
    api.clock.advance(3_600_000);
    assert_snapshot!(api.patch(&path, &api.sk, change).line(), @"400 bad_request: a token that is revoked or expired cannot be changed");
}

#[test]
fn every_kind_of_credential_has_its_answer() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let token = api.token(&sender, "{}");
    let request = Request::new("PATCH", &format!("/m2m_tokens/{}", token.id)).json("{}");
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
