//! Paths that SDKs may ask for and that are not here

use insta::assert_snapshot;

use crate::support::Api;
use crate::support::http::Request;

#[test]
fn other_kinds_of_token_are_unknown_here() {
    let api = Api::start();
    assert_snapshot!(api.post("/api_keys/verify", &api.sk, r#"{"secret":"ak_test_mismatch"}"#), @r#"
    404
    cache-control: no-store
    clerk-trace-id: 1ce0dc482f6f617017fcf32e4e82d640
    content-type: application/json

    {"errors":[{"message":"not found","long_message":"Resource not found: this authority has neither API keys nor OAuth tokens","code":"resource_not_found"}],"clerk_trace_id":"1ce0dc482f6f617017fcf32e4e82d640"}
    "#);
    let path = "/oauth_applications/access_tokens/verify";
    let body = r#"{"access_token":"oat_test_mismatch"}"#;
    assert_snapshot!(api.post(&format!("/v1{path}"), &api.sk, body).line(), @"404 resource_not_found: Resource not found: this authority has neither API keys nor OAuth tokens");
    for path in ["/v1/api_keys/verify", path] {
        assert_eq!(api.post(path, &api.sk, "{}").status, 404);
    }
}

#[test]
fn paths_that_do_not_exist_answer_in_the_envelope() {
    let api = Api::start();
    let ask = |method: &str, target: &str| api.send(&Request::new(method, target));
    assert_snapshot!(ask("GET", "/v1/"), @r#"
    404
    cache-control: no-store
    clerk-trace-id: 1ce0dc482f6f617017fcf32e4e82d640
    content-type: application/json

    {"errors":[{"message":"not found","long_message":"Resource not found: there is no such path","code":"resource_not_found"}],"clerk_trace_id":"1ce0dc482f6f617017fcf32e4e82d640"}
    "#);
    for (method, path) in [
        ("POST", "/machine_tokens"),
        ("POST", "/v1/machine_tokens"),
        ("GET", "/v1"),
        ("GET", "/v1/"),
        ("GET", "/v2/machines"),
        ("GET", "/v1/v1/machines"),
        ("GET", "//machines"),
        ("GET", "/machines/"),
        ("GET", "/m2m_tokens/"),
        ("GET", "/../machines"),
        ("GET", "/%6dachines"),
        ("GET", "/machines%2f"),
        ("GET", "/v1/healthz"),
        ("BREW", "/coffee"),
        ("OPTIONS", "*"),
    ] {
        let line = ask(method, path).line();
        assert_eq!(
            line, "404 resource_not_found: Resource not found: there is no such path",
            "{method} {path}"
        );
    }
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let api = Api::start();
    let ask = |method: &str, target: &str| api.send(&Request::new(method, target));
    assert_snapshot!(ask("PUT", "/v1/machines/x"), @r#"
    405
    allow: GET, HEAD, PATCH, DELETE
    cache-control: no-store
    clerk-trace-id: 1ce0dc482f6f617017fcf32e4e82d640
    content-type: application/json

    {"errors":[{"message":"Method not allowed","long_message":"This path does not take this method; the Allow header lists those it takes","code":"method_not_allowed"}],"clerk_trace_id":"1ce0dc482f6f617017fcf32e4e82d640"}
    "#);
    let mut table = String::new();
    for path in [
        "/machines",
        "/machines/x",
        "/machines/x/secret_key",
        "/machines/x/secret_key/rotate",
        "/machines/x/scopes",
        "/machines/x/scopes/y",
        "/m2m_tokens",
        "/m2m_tokens/x",
        "/m2m_tokens/x/revoke",
        "/m2m_tokens/verify",
        "/jwks",
        "/api_keys/verify",
        "/countersign/instance",
        "/countersign/instance_keys",
        "/countersign/changes",
        "/openapi.json",
        "/.well-known/jwks.json",
        "/healthz",
    ] {
        for method in ["OPTIONS", "get"] {
            let reply = ask(method, path);
            assert_eq!(reply.status, 405, "{method} {path}");
            if method == "OPTIONS" {
                table += &format!("{path} → {}\n", reply.header("allow").unwrap());
            }
        }
    }
    assert_snapshot!(table, @r"
    /machines → GET, HEAD, POST
    /machines/x → GET, HEAD, PATCH, DELETE
    /machines/x/secret_key → GET, HEAD
    /machines/x/secret_key/rotate → POST
    /machines/x/scopes → POST
    /machines/x/scopes/y → DELETE
    /m2m_tokens → POST, GET, HEAD
    /m2m_tokens/x → PATCH
    /m2m_tokens/x/revoke → POST
    /m2m_tokens/verify → POST
    /jwks → GET, HEAD
    /api_keys/verify → POST
    /countersign/instance → GET, HEAD, PATCH
    /countersign/instance_keys → GET, HEAD, POST
    /countersign/changes → GET, HEAD
    /openapi.json → GET, HEAD
    /.well-known/jwks.json → GET, HEAD
    /healthz → GET, HEAD
    ");
}
