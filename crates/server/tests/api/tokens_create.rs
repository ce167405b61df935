//! `POST /m2m_tokens`

use insta::assert_snapshot;

use crate::support::Api;
use crate::support::http::Request;

#[test]
fn an_opaque_token_is_created() {
    let api = Api::start();
    let (sender, _) = api.pair();
    // As the JavaScript SDK asks for it.
    let body = r#"{"seconds_until_expiration":null,"claims":null,"token_format":"opaque"}"#;
    assert_snapshot!(api.post("/m2m_tokens", &sender.ak, body), @r#"
    201
    cache-control: no-store
    content-type: application/json

    {"object":"machine_to_machine_token","id":"mt_03ad222d000000008f4a5b0c0b0bc764","subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","scopes":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"claims":null,"revoked":false,"revocation_reason":null,"expired":false,"expiration":1767229200000,"last_used_at":null,"created_at":1767225600000,"updated_at":1767225600000,"token":"mt_0JZGkP8slns6QwcJGCEwI44bhXMOWxHYynpMX2NPzLX"}
    "#);
    let body = r#"{ "seconds_until_expiration": 1800.5, "claims": { "b": 1.0, "a": ["x y"] } }"#;
    assert_snapshot!(api.post("/v1/m2m_tokens", &sender.ak, body), @r#"
    201
    cache-control: no-store
    content-type: application/json

    {"object":"machine_to_machine_token","id":"mt_03ad222d000000015262f0bfb24055f5","subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","scopes":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"claims":{"b":1.0,"a":["x y"]},"revoked":false,"revocation_reason":null,"expired":false,"expiration":1767227400500,"last_used_at":null,"created_at":1767225600000,"updated_at":1767225600000,"token":"mt_0JZGkP8slnt6eEVAlAX56mlCEx0hvaYxpcbkm3bbuVR"}
    "#);
}

#[test]
fn a_jwt_is_created() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let body =
        r#"{"token_format":"jwt","claims":{"role":"bot"},"min_remaining_ttl_seconds":1000000}"#;
    let reply = api.post("/m2m_tokens", &sender.ak, body);
    let token = reply.value()["token"].as_str().unwrap().to_owned();
    // The signature is the one thing that no seed decides.
    let (_, signature) = token.rsplit_once('.').unwrap();
    assert_snapshot!(reply.to_string().replace(signature, "(signature)"), @r#"
    201
    cache-control: no-store
    content-type: application/json

    {"object":"machine_to_machine_token","id":"mt_03ad222d000000008f4a5b0c0b0bc764","subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","scopes":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"claims":{"role":"bot"},"revoked":false,"revocation_reason":null,"expired":false,"expiration":1767229200000,"last_used_at":null,"created_at":1767225600000,"updated_at":1767225600000,"token":"eyJhbGciOiJSUzI1NiIsImNhdCI6ImNsX0I3ZDRQRDMzM0FBQSIsImtpZCI6Imluc18zN2RHYXMzb1F0SkhmNVhWOExwbjlnT05xR2QiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwczovL2F1dGguZXhhbXBsZS5jb20iLCJzdWIiOiJtY2hfMzdkR2FwazNqd05BTFlkQ3RQSGNtelFEMFBtIiwiaWF0IjoxNzY3MjI1NjAwLCJuYmYiOjE3NjcyMjU1OTAsImV4cCI6MTc2NzIyOTIwMCwianRpIjoibXRfMDNhZDIyMmQwMDAwMDAwMDhmNGE1YjBjMGIwYmM3NjQiLCJzY29wZXMiOiJtY2hfMzdkR2FtZ1EzOUdiREJ5VDBnMWtiN1hWeWFXIiwicm9sZSI6ImJvdCJ9.(signature)"}
    "#);
}

#[test]
fn a_token_is_handed_out_again_with_201() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let body = r#"{"min_remaining_ttl_seconds":60}"#;
    let first = api.post("/m2m_tokens", &sender.ak, body);
    api.clock.advance(1000);
    let second = api.post(
        "/m2m_tokens",
        &sender.ak,
        r#"{"min_remaining_ttl_seconds":60.0,"claims":null}"#,
    );
    assert_eq!((second.status, &second.body), (201, &first.body));
    assert_ne!(api.post("/m2m_tokens", &sender.ak, "{}").body, first.body);
}

#[test]
fn the_first_sdks_read_the_token_from_secret_and_nobody_else_gets_it_there() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let ask = |agent: &str| {
        let request = Request::new("POST", "/m2m_tokens")
            .key(&sender.ak)
            .json("{}");
        api.send(&request.header("User-Agent", agent))
    };
    assert_snapshot!(ask("@clerk/backend@2.7.1"), @r#"
    201
    cache-control: no-store
    content-type: application/json

    {"object":"machine_to_machine_token","id":"mt_03ad222d000000008f4a5b0c0b0bc764","subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","scopes":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"claims":null,"revoked":false,"revocation_reason":null,"expired":false,"expiration":1767229200000,"last_used_at":null,"created_at":1767225600000,"updated_at":1767225600000,"token":"mt_0JZGkP8slns6QwcJGCEwI44bhXMOWxHYynpMX2NPzLX","secret":"mt_0JZGkP8slns6QwcJGCEwI44bhXMOWxHYynpMX2NPzLX"}
    "#);
    for (agent, has_secret) in [
        ("@clerk/backend@2.8.0", true),
        ("@clerk/backend@2.9.0", false),
        ("@clerk/backend@2.70.0", false),
        ("@clerk/backend@3.25.0", false),
        ("x @clerk/backend@2.7.0", false),
        ("", false),
    ] {
        let body = ask(agent).value();
        assert_eq!(body.get("secret").is_some(), has_secret, "{agent}");
        if has_secret {
            assert_eq!(body["secret"], body["token"]);
        }
    }
}

#[test]
fn create_says_what_is_wrong() {
    let api = Api::start();
    let (sender, _) = api.pair();
    assert_snapshot!(api.post("/m2m_tokens", &sender.ak, r#"{"token_format":"paseto"}"#), @r#"
    400
    cache-control: no-store
    clerk-trace-id: 8f4a5b0c0b0bc764afec512727877516
    content-type: application/json

    {"errors":[{"message":"Bad Request","long_message":"body.token_format must be 'opaque' or 'jwt'","code":"bad_request"}],"clerk_trace_id":"8f4a5b0c0b0bc764afec512727877516"}
    "#);
    assert_snapshot!(api.table("POST", "/m2m_tokens", &sender.ak, &[
        "",
        "null",
        "[]",
        "{} {}",
        "{'a':1}",
        r#"{"token_format":1}"#,
        r#"{"token_format":null}"#,
        r#"{"token_format":"opaque","token_format":"jwt"}"#,
        r#"{"seconds_until_expiration":0}"#,
        r#"{"seconds_until_expiration":-0.001}"#,
        r#"{"seconds_until_expiration":315360000.5}"#,
        r#"{"seconds_until_expiration":1e300}"#,
        r#"{"seconds_until_expiration":1e999}"#,
        r#"{"seconds_until_expiration":Infinity}"#,
        r#"{"seconds_until_expiration":"60"}"#,
        r#"{"seconds_until_expiration":true}"#,
        r#"{"min_remaining_ttl_seconds":-1}"#,
        r#"{"min_remaining_ttl_seconds":0.5}"#,
        r#"{"min_remaining_ttl_seconds":null}"#,
        r#"{"min_remaining_ttl_seconds":3600}"#,
        r#"{"min_remaining_ttl_seconds":1e18}"#,
        r#"{"claims":{"a":1,"a":2}}"#,
        r#"{"claims":{"a":[{"b":1,"\u0062":2}]}}"#,
        r#"{"claims":1e999}"#,
        r#"{"claims":"\ud800"}"#,
        r#"{"token_format":"jwt","claims":[1]}"#,
        r#"{"token_format":"jwt","claims":{"sub":"mch_x"}}"#,
        r#"{"token_format":"jwt","claims":{"scopes":"x"}}"#,
        r#"{"subject":"mch_x"}"#,
        r#"{"sk_test_4eC39HqLyjW":1}"#,
        r#"{"expires_in_seconds":60}"#,
    ]), @r#"
     → 400 request_body_invalid: The request body must be a JSON object; it is empty
    null → 400 request_body_invalid: The request body must be a JSON object: the text is no JSON object
    [] → 400 request_body_invalid: The request body must be a JSON object: the text is no JSON object
    {} {} → 400 request_body_invalid: The request body must be a JSON object: the text is no JSON (line 1, column 4)
    {'a':1} → 400 request_body_invalid: The request body must be a JSON object: the text is no JSON (line 1, column 2)
    {"token_format":1} → 400 bad_request: body.token_format must be a string
    {"token_format":null} → 400 bad_request: body.token_format must be a string
    {"token_format":"opaque","token_format":"jwt"} → 400 request_body_invalid: The request body must be a JSON object: a member is given twice at line 1 column 39
    {"seconds_until_expiration":0} → 400 bad_request: body.seconds_until_expiration must be greater than 0
    {"seconds_until_expiration":-0.001} → 400 bad_request: body.seconds_until_expiration must be greater than 0
    {"seconds_until_expiration":315360000.5} → 400 bad_request: body.seconds_until_expiration must be at most 315360000
    {"seconds_until_expiration":1e300} → 400 bad_request: body.seconds_until_expiration must be at most 315360000
    {"seconds_until_expiration":1e999} → 400 bad_request: body.seconds_until_expiration must be a number or null
    {"seconds_until_expiration":Infinity} → 400 request_body_invalid: The request body must be a JSON object: the text is no JSON (line 1, column 29)
    {"seconds_until_expiration":"60"} → 400 bad_request: body.seconds_until_expiration must be a number or null
    {"seconds_until_expiration":true} → 400 bad_request: body.seconds_until_expiration must be a number or null
    {"min_remaining_ttl_seconds":-1} → 400 bad_request: body.min_remaining_ttl_seconds must be at least 0
    {"min_remaining_ttl_seconds":0.5} → 400 bad_request: body.min_remaining_ttl_seconds must be an integer
    {"min_remaining_ttl_seconds":null} → 400 bad_request: body.min_remaining_ttl_seconds must be an integer
    {"min_remaining_ttl_seconds":3600} → 400 bad_request: body.min_remaining_ttl_seconds must be less than the lifetime of the token
    {"min_remaining_ttl_seconds":1e18} → 400 bad_request: body.min_remaining_ttl_seconds must be an integer
    {"claims":{"a":1,"a":2}} → 400 bad_request: body.claims must be unambiguous JSON: a member is given twice at line 1 column 10
    {"claims":{"a":[{"b":1,"\u0062":2}]}} → 400 bad_request: body.claims must be unambiguous JSON: a member is given twice at line 1 column 21
    {"claims":1e999} → 400 bad_request: body.claims must be unambiguous JSON: the text is no JSON (line 1, column 5)
    {"claims":"\ud800"} → 400 bad_request: body.claims must be unambiguous JSON: the text is no JSON (line 1, column 8)
    {"token_format":"jwt","claims":[1]} → 400 bad_request: body.claims must be an object or null for a JWT
    {"token_format":"jwt","claims":{"sub":"mch_x"}} → 400 machine_token_reserved_claim: You can't use the reserved claim: 'sub' {"param_name":"sub"}
    {"token_format":"jwt","claims":{"scopes":"x"}} → 400 machine_token_reserved_claim: You can't use the reserved claim: 'scopes' {"param_name":"scopes"}
    {"subject":"mch_x"} → 400 bad_request: body.subject is not a parameter of this request
    {"sk_test_4eC39HqLyjW":1} → 400 bad_request: body.(a member of another name) is not a parameter of this request
    {"expires_in_seconds":60} → 400 bad_request: body.expires_in_seconds is not a parameter of this request
    "#);
    let list = api
        .get(
            &format!("/m2m_tokens?subject={}&format=all", sender.id),
            &api.sk,
        )
        .value();
    assert_eq!(list["total_count"], 0, "nothing was half done");
}

#[test]
fn claims_have_a_size_and_a_depth() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let text = |length: usize| format!(r#"{{"claims":"{}"}}"#, "x".repeat(length - 2));
    let nested = |depth: usize| {
        format!(
            r#"{{"claims":{}1{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    for body in [text(8192), nested(31)] {
        assert_eq!(api.post("/m2m_tokens", &sender.ak, &body).status, 201);
    }
    assert_snapshot!(api.post("/m2m_tokens", &sender.ak, &text(8193)).line(), @"400 bad_request: body.claims must not exceed 8192 bytes of JSON");
    assert_snapshot!(api.post("/m2m_tokens", &sender.ak, &nested(32)).line(), @"400 bad_request: body.claims must be unambiguous JSON: nested more than 32 levels deep at line 1 column 32");
    assert_snapshot!(api.post("/m2m_tokens", &sender.ak, &nested(30_000)).line(), @"400 bad_request: body.claims must be unambiguous JSON: nested more than 32 levels deep at line 1 column 32");
}

#[test]
fn only_a_machine_creates_tokens() {
    let api = Api::start();
    let (sender, _) = api.pair();
    assert_snapshot!(api.credentials(&Request::new("POST", "/m2m_tokens").json("{}"), &sender), @r"
    none → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    empty → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    Basic → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    sk → 401 machine_secret_key_invalid: The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.
    unknown sk → 401 machine_secret_key_invalid: The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.
    ak → 201
    unknown ak → 401 machine_secret_key_invalid: The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.
    token → 401 machine_secret_key_invalid: The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.
    token id → 401 machine_secret_key_invalid: The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.
    garbage → 401 machine_secret_key_invalid: The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.
    ");
}
