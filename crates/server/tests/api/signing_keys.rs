//! `/countersign/signing_keys`, our extension

use insta::assert_snapshot;

use crate::support::Api;

#[test]
fn a_signing_key_is_rotated_listed_and_deleted() {
    let api = Api::start();
    let path = "/v1/countersign/signing_keys";
    assert_snapshot!(api.get(path, &api.sk), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"data":[{"active_at":1767225600000,"kid":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd","last_expires_at":null,"published_at":1767225600000,"retired_at":null,"state":"active"}],"total_count":1}
    "#);
    let rotate = format!("{path}/rotate");
    assert_snapshot!(api.post(&rotate, &api.sk, "{}"), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"kid":"ins_37dGamgQ39GbDByT0g1kb7XVyaW","state":"published","published_at":1767225600000,"active_at":1767229200000,"retired_at":null,"last_expires_at":null}
    "#);
    assert_snapshot!(api.post(&rotate, &api.sk, r#"{"immediate":false}"#).line(), @"409 conflict: the signing key ins_37dGamgQ39GbDByT0g1kb7XVyaW is published already and becomes active by itself; to use it now, rotate at once");
    api.clock.advance(1000);
    assert_snapshot!(api.post(&rotate, &api.sk, r#"{"immediate":true}"#).line(), @r#"200 {"kid":"ins_37dGamgQ39GbDByT0g1kb7XVyaW","state":"active","published_at":1767225600000,"active_at":1767225601000,"retired_at":null,"last_expires_at":null}"#);
    assert_snapshot!(api.table("POST", &rotate, &api.sk, &[r#"{"immediate":1}"#, r#"{"now":true}"#, "[]"]), @r#"
    {"immediate":1} → 422 form_param_type_invalid: `immediate` must be a boolean. {"param_name":"immediate"}
    {"now":true} → 422 form_param_unknown: now is not a valid parameter for this request. {"param_name":"now"}
    [] → 400 request_body_invalid: The request body must be a JSON object: the text is no JSON object
    "#);
    let keys = api.get(path, &api.sk).value();
    let [old, active] = [0, 1].map(|place| keys["data"][place]["kid"].as_str().unwrap().to_owned());
    assert_snapshot!(api.delete(&format!("{path}/{active}"), &api.sk).line(), @"409 conflict: ins_37dGamgQ39GbDByT0g1kb7XVyaW is the active signing key; rotate at once first, then delete it");
    assert_snapshot!(api.delete(&format!("{path}/{old}"), &api.sk), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"deleted":true,"kid":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd"}
    "#);
    assert_snapshot!(api.delete(&format!("{path}/{old}"), &api.sk).line(), @"404 resource_not_found: Resource not found: no signing key ins_37dGas3oQtJHf5XV8Lpn9gONqGd");
    assert_snapshot!(api.delete(&format!("{path}/x"), &api.sk).line(), @"404 resource_not_found: Resource not found: no such signing key");
}
