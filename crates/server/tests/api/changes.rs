//! `/countersign/changes`, our extension

use countersign_authority::Accepts;
use insta::assert_snapshot;

use crate::support::{Api, text};

#[test]
fn the_log_is_read_from_a_place_on_and_holds_no_secret() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let token = api.token(&sender, "{}");
    api.post(
        &format!("/m2m_tokens/{}/revoke", token.id),
        &sender.ak,
        r#"{"revocation_reason":"leaked"}"#,
    );
    api.get(&format!("/machines/{}/secret_key", sender.id), &api.sk);
    assert_snapshot!(api.get("/v1/countersign/changes?after=2", &api.sk), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"data":[{"actor":"key_c5120bd70c99","at":1767225600000,"detail":{"default_token_ttl":3600,"key_id":"key_4c4cfd8caf21","machine_id":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","name":"sender","scoped_machines":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"]},"kind":"machine.created","object":"change","sequence":3,"subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm"},{"actor":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","at":1767225600000,"detail":{"reason":"leaked","token":{"expires_at":1767229200000,"format":"opaque","names_receivers":true,"receivers":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","token_id":"mt_03ad222d000000008f4a5b0c0b0bc764"}},"kind":"token.revoked","object":"change","sequence":4,"subject":"mt_03ad222d000000008f4a5b0c0b0bc764"},{"actor":"key_c5120bd70c99","at":1767225600000,"detail":{"key_id":"key_4c4cfd8caf21","machine_id":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm"},"kind":"machine_key.revealed","object":"change","sequence":5,"subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm"}]}
    "#);
    let all = api.get("/countersign/changes", &api.sk);
    assert_eq!(all.value()["data"].as_array().unwrap().len(), 5);
    for secret in [&api.sk, &sender.ak, &token.string] {
        assert!(!all.text().contains(secret));
    }
    assert_snapshot!(api.queries("/countersign/changes", &api.sk, &["after=5", "after=-1", "after=x", "after=1&after=2"]), @r#"
    after=5 → 200 {"data":[]}
    after=-1 → 422 form_param_value_invalid: after must be at least 0. {"param_name":"after"}
    after=x → 422 form_param_type_invalid: `after` must be an integer. {"param_name":"after"}
    after=1&after=2 → 422 form_param_duplicate: after must be included once. {"param_name":"after"}
    "#);
}

#[test]
fn each_record_has_the_ids_and_values_that_a_reader_needs() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    let at = |path: &str, id: &str| format!("{path}/{id}");
    let (machine, own) = (at("/machines", &sender.id), at("/m2m_tokens", &token.id));
    let (keys, signing_keys) = ("/countersign/instance_keys", "/countersign/signing_keys");
    api.set(r#"{"jwt_scopes_claim":false,"max_jwt_ttl":60}"#);
    let key = text(&api.post(keys, &api.sk, "{}").value()["id"]);
    api.delete(&at(keys, &key), &api.sk);
    let old = text(&api.get(signing_keys, &api.sk).value()["data"][0]["kid"]);
    let rotate = at(signing_keys, "rotate");
    let kid = text(&api.post(&rotate, &api.sk, r#"{"immediate":true}"#).value()["kid"]);
    api.delete(&at(signing_keys, &old), &api.sk);
    api.patch(&machine, &api.sk, r#"{"name":"renamed"}"#);
    let rotated = r#"{"previous_token_ttl":60}"#;
    let rotated = api.post(&at(&machine, "secret_key/rotate"), &api.sk, rotated);
    assert_eq!(rotated.status, 200, "{rotated}");
    api.get(&at(&machine, "secret_key"), &api.sk);
    let scope = at(&machine, &format!("scopes/{}", receiver.id));
    api.delete(&scope, &api.sk);
    let scope = format!(r#"{{"to_machine_id":"{}"}}"#, receiver.id);
    api.post(&at(&machine, "scopes"), &api.sk, &scope);
    api.patch(&own, &api.sk, r#"{"claims":{"role":"bot"}}"#);
    let revoked = api.post(&at(&own, "revoke"), &sender.ak, "{}");
    assert_eq!(revoked.status, 200, "{revoked}");
    api.wait(async {
        let actor = api.authority.authenticate(&api.sk, Accepts::Instance).await;
        let actor = actor.unwrap();
        let id = sender.id.parse().unwrap();
        api.authority.end_tokens(&actor, Some(id)).await.unwrap();
        api.authority.end_tokens(&actor, None).await.unwrap();
    });
    api.delete(&machine, &api.sk);

    let list = api.get("/countersign/changes", &api.sk).value();
    let mut lines = String::new();
    for record in list["data"].as_array().unwrap() {
        let mut detail = record["detail"].to_string();
        for (id, name) in [
            (&sender.id, "<sender>"),
            (&receiver.id, "<receiver>"),
            (&token.id, "<token>"),
            (&key, "<key>"),
            (&kid, "<kid>"),
        ] {
            detail = detail.replace(id.as_str(), name);
        }
        lines += &format!("{} {detail}\n", text(&record["kind"]));
    }
    assert_snapshot!(lines, @r#"
    instance.created {"instance_id":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd","key_id":"key_c5120bd70c99","kid":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd","name":"test"}
    machine.created {"default_token_ttl":3600,"key_id":"key_1e88403c4bb5","machine_id":"<receiver>","name":"receiver","scoped_machines":[]}
    machine.created {"default_token_ttl":3600,"key_id":"key_4c4cfd8caf21","machine_id":"<sender>","name":"sender","scoped_machines":["<receiver>"]}
    instance.updated {"instance_id":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd","local_since":null,"settings":{"jwt_scopes_claim":false,"max_jwt_ttl":60}}
    instance_key.created {"key_id":"<key>"}
    instance_key.revoked {"key_id":"<key>"}
    signing_key.published {"kid":"<kid>"}
    signing_key.activated {"cause":"request","kid":"<kid>","verify_only":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd"}
    signing_key.deleted {"cause":"request","kid":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd"}
    machine.updated {"default_token_ttl":{"from":3600,"to":3600},"machine_id":"<sender>","name":{"from":"sender","to":"renamed"}}
    machine_key.rotated {"key_id":"key_1d6f4e09ebb0","machine_id":"<sender>","older_expire_at":1767225660000}
    machine_key.revealed {"key_id":"key_1d6f4e09ebb0","machine_id":"<sender>"}
    scope.deleted {"from_machine_id":"<sender>","to_machine_id":"<receiver>"}
    scope.created {"from_machine_id":"<sender>","to_machine_id":"<receiver>"}
    token.updated {"claims_replaced":true,"token":{"expires_at":1767229200000,"format":"opaque","names_receivers":true,"receivers":["<receiver>"],"subject":"<sender>","token_id":"<token>"}}
    token.revoked {"reason":null,"token":{"expires_at":1767229200000,"format":"opaque","names_receivers":true,"receivers":["<receiver>"],"subject":"<sender>","token_id":"<token>"}}
    machine.tokens_ended {"issued_before":1767225600001,"machine_id":"<sender>"}
    instance.tokens_ended {"instance_id":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd","issued_before":1767225601001}
    machine.deleted {"machine_id":"<sender>","name":"renamed"}
    "#);
}

#[test]
fn the_log_is_checked_from_a_place_on() {
    let api = Api::start();
    api.pair();
    let path = "/countersign/changes/verify";
    assert_snapshot!(api.get(&format!("/v1{path}"), &api.sk), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"complete":true,"first_broken":null,"object":"change_log_report","verified":3}
    "#);
    assert_snapshot!(api.queries(path, &api.sk, &["after=1", "after=4", "after=-1", "after=x", "after=1&after=2"]), @r#"
    after=1 → 200 {"complete":true,"first_broken":null,"object":"change_log_report","verified":3}
    after=4 → 422 form_param_value_invalid: after must be the number of a record of the change log. {"param_name":"after"}
    after=-1 → 422 form_param_value_invalid: after must be at least 0. {"param_name":"after"}
    after=x → 422 form_param_type_invalid: `after` must be an integer. {"param_name":"after"}
    after=1&after=2 → 422 form_param_duplicate: after must be included once. {"param_name":"after"}
    "#);
    let machine = api.machine("other", &[]);
    assert_eq!(api.get(path, &machine.ak).status, 401);
    assert_eq!(api.get(path, "garbage").status, 401);
    // Each instance checks its own log.
    let second = api.second_instance();
    assert_eq!(api.get(path, &second).value()["verified"], 1);
}
