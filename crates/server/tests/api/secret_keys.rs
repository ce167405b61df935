//! `/machines/{machine_id}/secret_key`, `/machines/{machine_id}/secret_key/rotate`

use insta::assert_snapshot;

use crate::support::Api;

const NOBODY: &str = "/machines/mch_000000000000000000000000000/secret_key";

#[test]
fn a_key_is_shown_again() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let path = format!("/machines/{}/secret_key", sender.id);
    assert_snapshot!(api.get(&path, &api.sk), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"object":"machine_secret_key","secret":"ak_6XYJmIfUwtvl2tPtIU4ut8yknjqDXYXqmOkbQNmjxa4DvJoq"}
    "#);
    assert_eq!(
        api.get(&format!("/v1{path}"), &api.sk).value()["secret"],
        sender.ak
    );
    assert_snapshot!(api.get(NOBODY, &api.sk).line(), @"404 resource_not_found: Resource not found: no machine mch_000000000000000000000000000");
}

#[test]
fn a_key_is_not_shown_where_the_instance_says_so() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let path = format!("/machines/{}/secret_key", sender.id);
    api.set(r#"{"secret_reveal":false}"#);
    assert_snapshot!(api.get(&path, &api.sk), @r#"
    403
    cache-control: no-store
    clerk-trace-id: 8f4a5b0c0b0bc764afec512727877516
    content-type: application/json

    {"errors":[{"message":"Unauthorized request","long_message":"You are not authorized to perform this request: this instance does not show secrets again (secret_reveal is off); rotate the key for a new one","code":"authorization_invalid"}],"clerk_trace_id":"8f4a5b0c0b0bc764afec512727877516"}
    "#);
    api.set(r#"{"secret_reveal":true}"#);
    assert_snapshot!(api.get(&path, &api.sk).line(), @"403 authorization_invalid: You are not authorized to perform this request: this key was made while secrets were not kept; rotate the key for a new one");
}

#[test]
fn ten_keys_are_shown_in_a_minute() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let path = format!("/machines/{}/secret_key", sender.id);
    for _ in 0..10 {
        assert_eq!(api.get(&path, &api.sk).status, 200);
    }
    assert_snapshot!(api.get(&path, &api.sk), @r#"
    429
    cache-control: no-store
    clerk-trace-id: 8f4a5b0c0b0bc764afec512727877516
    content-type: application/json
    retry-after: 60

    {"errors":[{"message":"Too many requests","long_message":"Too many requests in a given period of time, please retry later","code":"too_many_requests"}],"clerk_trace_id":"8f4a5b0c0b0bc764afec512727877516"}
    "#);
}

#[test]
fn a_rotation_answers_with_the_new_key() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let path = format!("/v1/machines/{}/secret_key/rotate", sender.id);
    let rotated = api.post(&path, &api.sk, r#"{"previous_token_ttl":60.0}"#);
    assert_snapshot!(rotated, @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"object":"machine_secret_key","secret":"ak_IjMhYyqzaO6QwcJGCEwI44bhXMOWxHYynpMXDUIh4X4T3Ssb"}
    "#);
    let new = rotated.value()["secret"].as_str().unwrap().to_owned();
    for key in [&sender.ak, &new] {
        assert_eq!(api.post("/m2m_tokens", key, "{}").status, 201);
    }
    api.clock.advance(60_000);
    assert_snapshot!(api.post("/m2m_tokens", &sender.ak, "{}"), @r#"
    401
    cache-control: no-store
    clerk-trace-id: 6125eca09e3e66298711a227eb1ec6d2
    content-type: application/json
    www-authenticate: Bearer

    {"errors":[{"message":"The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.","long_message":"The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.","code":"machine_secret_key_invalid"}],"clerk_trace_id":"6125eca09e3e66298711a227eb1ec6d2"}
    "#);
    assert_eq!(api.post("/m2m_tokens", &new, "{}").status, 201);
    assert_snapshot!(api.table("POST", &path, &api.sk, &[
        "",
        "{}",
        "null",
        r#"{"previous_token_ttl":null}"#,
        r#"{"previous_token_ttl":-1}"#,
        r#"{"previous_token_ttl":28801}"#,
        r#"{"previous_token_ttl":0.5}"#,
        r#"{"previous_token_ttl":"0"}"#,
        r#"{"previous_token_ttl":0,"now":true}"#,
    ]), @r#"
     → 422 form_param_missing: previous_token_ttl must be included. {"param_name":"previous_token_ttl"}
    {} → 422 form_param_missing: previous_token_ttl must be included. {"param_name":"previous_token_ttl"}
    null → 400 request_body_invalid: The request body must be a JSON object: the text is no JSON object
    {"previous_token_ttl":null} → 422 form_param_type_invalid: `previous_token_ttl` must be an integer. {"param_name":"previous_token_ttl"}
    {"previous_token_ttl":-1} → 422 form_param_value_invalid: previous_token_ttl must be at least 0 seconds. {"param_name":"previous_token_ttl"}
    {"previous_token_ttl":28801} → 422 form_param_value_too_large: previous_token_ttl must be at most 28800. {"param_name":"previous_token_ttl"}
    {"previous_token_ttl":0.5} → 422 form_param_type_invalid: `previous_token_ttl` must be an integer. {"param_name":"previous_token_ttl"}
    {"previous_token_ttl":"0"} → 422 form_param_type_invalid: `previous_token_ttl` must be an integer. {"param_name":"previous_token_ttl"}
    {"previous_token_ttl":0,"now":true} → 422 form_param_unknown: now is not a valid parameter for this request. {"param_name":"now"}
    "#);
    assert_snapshot!(api.post(&format!("{NOBODY}/rotate"), &api.sk, r#"{"previous_token_ttl":0}"#).line(), @"404 resource_not_found: Resource not found: no machine mch_000000000000000000000000000");
}
