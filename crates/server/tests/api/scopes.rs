//! `/machines/{machine_id}/scopes`, `/machines/{machine_id}/scopes/{other_machine_id}`

use insta::assert_snapshot;

use crate::support::Api;

const NOBODY: &str = "mch_000000000000000000000000000";

#[test]
fn a_scope_is_made_and_removed() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let path = format!("/v1/machines/{}/scopes", receiver.id);
    let body = format!(r#"{{"to_machine_id":"{}"}}"#, sender.id);
    assert_snapshot!(api.post(&path, &api.sk, &body), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"object":"machine_scope","from_machine_id":"mch_37dGamgQ39GbDByT0g1kb7XVyaW","to_machine_id":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","created_at":1767225600000}
    "#);
    assert_snapshot!(api.post(&path, &api.sk, &body), @r#"
    409
    cache-control: no-store
    clerk-trace-id: 8f4a5b0c0b0bc764afec512727877516
    content-type: application/json

    {"errors":[{"message":"Conflict","long_message":"mch_37dGamgQ39GbDByT0g1kb7XVyaW may call mch_37dGapk3jwNALYdCtPHcmzQD0Pm already","code":"conflict"}],"clerk_trace_id":"8f4a5b0c0b0bc764afec512727877516"}
    "#);
    let one = format!("{path}/{}", sender.id);
    assert_snapshot!(api.delete(&one, &api.sk), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"object":"machine_scope","from_machine_id":"mch_37dGamgQ39GbDByT0g1kb7XVyaW","to_machine_id":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","deleted":true}
    "#);
    assert_snapshot!(api.delete(&one, &api.sk).line(), @"404 resource_not_found: Resource not found: no scope from mch_37dGamgQ39GbDByT0g1kb7XVyaW to mch_37dGapk3jwNALYdCtPHcmzQD0Pm");
    assert_snapshot!(api.delete(&format!("{path}/x"), &api.sk).line(), @"404 resource_not_found: Resource not found: a machine id is 'mch_' and 27 letters or digits");
}

#[test]
fn a_scope_needs_two_machines_that_exist() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let path = format!("/machines/{}/scopes", sender.id);
    let itself = format!(r#"{{"to_machine_id":"{}"}}"#, sender.id);
    let nobody = format!(r#"{{"to_machine_id":"{NOBODY}"}}"#);
    assert_snapshot!(api.table("POST", &path, &api.sk, &[
        "",
        "{}",
        r#"{"to_machine_id":1}"#,
        r#"{"to_machine_id":"x"}"#,
        r#"{"to_machine_id":"x","from":"y"}"#,
        &itself,
        &nobody,
    ]), @r#"
     → 422 form_param_missing: to_machine_id must be included. {"param_name":"to_machine_id"}
    {} → 422 form_param_missing: to_machine_id must be included. {"param_name":"to_machine_id"}
    {"to_machine_id":1} → 422 form_param_type_invalid: `to_machine_id` must be a string. {"param_name":"to_machine_id"}
    {"to_machine_id":"x"} → 404 resource_not_found: Resource not found: a machine id is 'mch_' and 27 letters or digits
    {"to_machine_id":"x","from":"y"} → 422 form_param_unknown: from is not a valid parameter for this request. {"param_name":"from"}
    {"to_machine_id":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm"} → 422 form_param_value_invalid: to_machine_id must be another machine than the one that calls. {"param_name":"to_machine_id"}
    {"to_machine_id":"mch_000000000000000000000000000"} → 404 resource_not_found: Resource not found: no machine mch_000000000000000000000000000
    "#);
    let stranger = api.machine_of(&api.second_instance(), "stranger", &[]);
    let foreign = format!(r#"{{"to_machine_id":"{}"}}"#, stranger.id);
    assert!(
        api.post(&path, &api.sk, &foreign)
            .line()
            .starts_with("404 ")
    );
    assert!(
        api.post(&format!("/machines/{NOBODY}/scopes"), &api.sk, &itself)
            .line()
            .starts_with("404 ")
    );
}

#[test]
fn the_151st_scope_is_refused() {
    let api = Api::start();
    let machines: Vec<_> = (0..151)
        .map(|number| api.machine(&number.to_string(), &[]))
        .collect();
    let popular = api.machine("popular", &machines[..150].iter().collect::<Vec<_>>());
    let body = format!(r#"{{"to_machine_id":"{}"}}"#, machines[150].id);
    assert_snapshot!(api.post(&format!("/machines/{}/scopes", popular.id), &api.sk, &body).line(), @r#"422 form_param_array_size_exceeded: scoped_machines should not exceed 150 items. {"param_name":"scoped_machines"}"#);
}
