//! `/countersign/whoami`, our extension: what a credential is

use insta::assert_snapshot;

use crate::support::Api;
use crate::support::http::Request;

#[test]
fn each_kind_of_credential_learns_what_it_is() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let path = "/countersign/whoami";
    assert_snapshot!(api.get(path, &api.sk), @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"instance_id":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd","key_id":"key_c5120bd70c99","kind":"instance","name":"test","object":"whoami"}
    "#);
    assert_snapshot!(api.get("/v1/countersign/whoami", &sender.ak).line(), @r#"200 {"instance_id":"ins_37dGas3oQtJHf5XV8Lpn9gONqGd","kind":"machine","machine_id":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","may_call":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"name":"sender","object":"whoami"}"#);
    let token = api.token(&sender, r#"{"claims":{"role":"bot"}}"#);
    assert_snapshot!(api.get(path, &token.string).line(), @r#"200 {"kind":"token","machine_id":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","object":"whoami","token":{"claims":{"role":"bot"},"created_at":1767225600000,"expiration":1767229200000,"expired":false,"id":"mt_03ad222d000000008f4a5b0c0b0bc764","last_used_at":1767225600000,"object":"machine_to_machine_token","revocation_reason":null,"revoked":false,"scopes":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","updated_at":1767225600000}}"#);
    let signed = api.token(&sender, r#"{"token_format":"jwt"}"#);
    assert_eq!(
        api.get(path, &signed.string).value()["token"]["id"],
        signed.id
    );
    api.post(&format!("/m2m_tokens/{}/revoke", token.id), &api.sk, "{}");
    assert_snapshot!(api.get(path, &token.string), @r#"
    401
    cache-control: no-store
    clerk-trace-id: 52c84d5a925228e014cee25cb0d1c586
    content-type: application/json
    www-authenticate: Bearer

    {"errors":[{"message":"The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.","long_message":"The presented token is not valid: revoked","code":"machine_secret_key_invalid"}],"clerk_trace_id":"52c84d5a925228e014cee25cb0d1c586"}
    "#);
}

#[test]
fn what_is_no_credential_is_told_so() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let credentials = api.credentials(&Request::new("GET", "/countersign/whoami"), &sender);
    assert_snapshot!(credentials, @r"
    none → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    empty → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    Basic → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    sk → 200
    unknown sk → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    ak → 200
    unknown ak → 401 machine_secret_key_invalid: The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.
    token → 200
    token id → 401 machine_secret_key_invalid: The presented token is not valid: unknown
    garbage → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    ");
}
