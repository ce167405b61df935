//! `/countersign/instance` and `/countersign/instance_keys`, our extensions

use insta::assert_snapshot;

use crate::support::Api;

#[test]
fn an_instance_is_shown_and_its_settings_change() {
    let api = Api::start();
    let path = "/countersign/instance";
    assert_snapshot!(api.get(path, &api.sk), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"created_at":1767225600000,"id":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd","issuer":"https://auth.example.com","name":"test","object":"instance","settings":{"issuer":null,"jwt_scopes_claim":true,"machine_rate_limit":null,"max_jwt_ttl":315360000,"null_expiration":"default","rate_limit":null,"secret_reveal":true,"token_pooling":true}}
    "#);
    let body = r#"{"settings":{"max_jwt_ttl":3600.0,"rate_limit":{"requests":1000,"seconds":10}}}"#;
    assert_snapshot!(api.patch(path, &api.sk, body).line(), @r#"200 {"created_at":1767225600000,"id":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd","issuer":"https://auth.example.com","name":"test","object":"instance","settings":{"issuer":null,"jwt_scopes_claim":true,"machine_rate_limit":null,"max_jwt_ttl":3600,"null_expiration":"default","rate_limit":{"requests":1000,"seconds":10},"secret_reveal":true,"token_pooling":true}}"#);
    assert_snapshot!(api.table("PATCH", path, &api.sk, &[
        "",
        "{}",
        r#"{"settings":[]}"#,
        r#"{"settings":{"color":"red"}}"#,
        r#"{"settings":{"max_jwt_ttl":0}}"#,
        r#"{"settings":{"max_jwt_ttl":true}}"#,
        r#"{"settings":{"max_jwt_ttl":1,"max_jwt_ttl":2}}"#,
        r#"{"settings":{"issuer":"example.com"}}"#,
        r#"{"settings":{},"name":"x"}"#,
    ]), @r#"
     → 422 form_param_missing: settings must be included. {"param_name":"settings"}
    {} → 422 form_param_missing: settings must be included. {"param_name":"settings"}
    {"settings":[]} → 422 form_param_type_invalid: `settings` must be an object. {"param_name":"settings"}
    {"settings":{"color":"red"}} → 422 form_param_value_invalid: settings has no 'color', only issuer, jwt_scopes_claim, machine_rate_limit, max_jwt_ttl, null_expiration, rate_limit, secret_reveal, token_pooling. {"param_name":"settings"}
    {"settings":{"max_jwt_ttl":0}} → 422 form_param_value_invalid: max_jwt_ttl must be between 1 and 315360000 seconds. {"param_name":"max_jwt_ttl"}
    {"settings":{"max_jwt_ttl":true}} → 422 form_param_type_invalid: `max_jwt_ttl` must be a whole number of seconds. {"param_name":"max_jwt_ttl"}
    {"settings":{"max_jwt_ttl":1,"max_jwt_ttl":2}} → 400 request_body_invalid: settings: a member is given twice at line 1 column 30
    {"settings":{"issuer":"example.com"}} → 422 form_param_value_invalid: issuer must be a URL in ASCII of at most 255 characters, without a slash at its end. {"param_name":"issuer"}
    {"settings":{},"name":"x"} → 422 form_param_unknown: name is not a valid parameter for this request. {"param_name":"name"}
    "#);
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let api = Api::start();
    let path = "/v1/countersign/instance_keys";
    let created = api.post(path, &api.sk, "{}");
    assert_snapshot!(created, @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"created_at":1767225600000,"id":"key_5bbe71a127ab","object":"instance_key","secret_key":"sk_live_TiZDVynA923gejiXph5c7CJGMt9uulb40GQXYJuZ720Mmgy9"}
    "#);
    let new = created.value();
    let key = new["secret_key"].as_str().unwrap();
    assert_snapshot!(api.get(path, key), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"data":[{"created_at":1767225600000,"id":"key_c5120bd70c99","revoked_at":null},{"created_at":1767225600000,"id":"key_5bbe71a127ab","revoked_at":null}],"total_count":2}
    "#);
    let test = api.post(path, &api.sk, r#"{"live":false}"#).value();
    assert!(test["secret_key"].as_str().unwrap().starts_with("sk_test_"));
    let one = format!("{path}/{}", new["id"].as_str().unwrap());
    assert_snapshot!(api.delete(&one, key), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"deleted":true,"id":"key_5bbe71a127ab","object":"instance_key"}
    "#);
    assert_eq!(api.get(path, key).status, 401, "at once");
    assert_snapshot!(api.delete(&one, &api.sk).line(), @"404 resource_not_found: Resource not found: no instance key of this id");
    api.delete(&format!("{path}/{}", test["id"].as_str().unwrap()), &api.sk);
    let own = api.get("/countersign/whoami", &api.sk).value()["key_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_snapshot!(api.delete(&format!("{path}/{own}"), &api.sk).line(), @"409 conflict: this is the only live key of the instance; create another one first");
    assert_snapshot!(api.table("POST", path, &api.sk, &[r#"{"live":1}"#, r#"{"name":"x"}"#]), @r#"
    {"live":1} → 422 form_param_type_invalid: `live` must be a boolean. {"param_name":"live"}
    {"name":"x"} → 422 form_param_unknown: name is not a valid parameter for this request. {"param_name":"name"}
    "#);
    for _ in 0..19 {
        assert_eq!(api.post(path, &api.sk, "").status, 200);
    }
    assert_snapshot!(api.post(path, &api.sk, "").line(), @"409 conflict: the instance has 20 live keys, which is the maximum; revoke one first");
}
