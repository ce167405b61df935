//! `/jwks` and the public documents under `/.well-known`

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::Api;
use crate::support::http::{Reply, Request};

/// The modulus is the one thing that no seed decides.
fn without_modulus(reply: &Reply) -> String {
    let modulus = reply.value()["keys"][0]["n"].as_str().unwrap().to_owned();
    reply.to_string().replace(&modulus, "(modulus)")
}

#[test]
fn both_kinds_of_key_get_the_instances_keys() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let reply = api.get("/v1/jwks", &api.sk);
    assert_snapshot!(without_modulus(&reply), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"keys":[{"use":"sig","kty":"RSA","kid":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd","alg":"RS256","n":"(modulus)","e":"AQAB"}]}
    "#);
    assert_eq!(api.get("/jwks", &sender.ak).body, reply.body);
    let credentials = api.credentials(&Request::new("GET", "/jwks"), &sender);
    assert_snapshot!(credentials, @r"
    none → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    empty → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    Basic → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    sk → 200
    unknown sk → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    ak → 200
    unknown ak → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    token → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    token id → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    garbage → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    ");
}

#[test]
fn anybody_gets_the_public_documents() {
    let api = Api::start();
    let second = api.second_instance();
    let id = api.get("/countersign/instance", &second).value()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let get = |path: &str| api.send(&Request::new("GET", path));
    assert_snapshot!(without_modulus(&get("/.well-known/jwks.json")), @r#"
    200
    cache-control: public, max-age=300
    content-type: application/json

    {"keys":[{"use":"sig","kty":"RSA","kid":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd","alg":"RS256","n":"(modulus)","e":"AQAB"}]}
    "#);
    assert_snapshot!(get("/.well-known/openid-configuration"), @r#"
    200
    cache-control: public, max-age=300
    content-type: application/json

    {"id_token_signing_alg_values_supported":["RS256"],"issuer":"https://auth.example.com","jwks_uri":"https://auth.example.com/.well-known/jwks.json","response_types_supported":["none"],"subject_types_supported":["public"]}
    "#);
    assert_snapshot!(get(&format!("/{id}/.well-known/openid-configuration")), @r#"
    200
    cache-control: public, max-age=300
    content-type: application/json

    {"id_token_signing_alg_values_supported":["RS256"],"issuer":"https://auth.example.com/ins_37dGamgQ39GbDByT0g1kb7XVyaW","jwks_uri":"https://auth.example.com/ins_37dGamgQ39GbDByT0g1kb7XVyaW/.well-known/jwks.json","response_types_supported":["none"],"subject_types_supported":["public"]}
    "#);
    assert_eq!(
        get("/.well-known/jwks.json").body,
        api.get("/jwks", &api.sk).body
    );
    assert_eq!(
        get(&format!("/{id}/.well-known/jwks.json")).body,
        api.get("/jwks", &second).body
    );
    assert_snapshot!(get("/ins_x/.well-known/jwks.json").line(), @"404 resource_not_found: Resource not found: there is no such instance");
    assert_eq!(get("/v1/.well-known/jwks.json").status, 404);
}

#[test]
fn a_new_key_is_shown_before_it_signs() {
    let api = Api::start();
    let kids = || {
        let keys = api.get("/jwks", &api.sk).value()["keys"].clone();
        keys.as_array()
            .unwrap()
            .iter()
            .map(|key| key["kid"].clone())
            .collect::<Vec<Value>>()
    };
    let before = kids();
    let next = api
        .post("/countersign/signing_keys/rotate", &api.sk, "")
        .value();
    assert_eq!(kids(), [before[0].clone(), next["kid"].clone()]);
}
