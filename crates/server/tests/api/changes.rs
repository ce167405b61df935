//! `/countersign/changes`, our extension

use insta::assert_snapshot;

use crate::support::Api;

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

    {"data":[{"actor":"key_c5120bd70c99","at":1767225600000,"detail":{"default_token_ttl":3600,"name":"sender","scoped_machines":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"]},"kind":"machine.created","object":"change","sequence":3,"subject":"mch_37dGarFgulUEm9I5R4g7iJg00TO"},{"actor":"mch_37dGarFgulUEm9I5R4g7iJg00TO","at":1767225600000,"detail":{"reason":"leaked"},"kind":"token.revoked","object":"change","sequence":4,"subject":"mt_03ad222d00000000f8e86abdf4006053"},{"actor":"key_c5120bd70c99","at":1767225600000,"detail":{},"kind":"machine_key.revealed","object":"change","sequence":5,"subject":"mch_37dGarFgulUEm9I5R4g7iJg00TO"}]}
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
