//! `GET /m2m_tokens`

use insta::assert_snapshot;

use crate::support::Api;
use crate::support::http::Request;

#[test]
fn a_list_holds_live_opaque_tokens_without_their_strings() {
    let api = Api::start();
    let (sender, _) = api.pair();
    api.token(&sender, "{}");
    api.clock.advance(1);
    api.token(&sender, r#"{"claims":[1]}"#);
    api.token(&sender, r#"{"token_format":"jwt"}"#);
    let path = format!("/m2m_tokens?subject={}", sender.id);
    let reply = api.get(&path, &api.sk);
    assert_snapshot!(reply, @r#"
    200
    cache-control: no-store
    content-type: application/json

    {"m2m_tokens":[{"object":"machine_to_machine_token","id":"mt_03ad222d004000005262f0bfb24055f5","subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","scopes":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"claims":[1],"revoked":false,"revocation_reason":null,"expired":false,"expiration":1767229200001,"last_used_at":null,"created_at":1767225600001,"updated_at":1767225600001},{"object":"machine_to_machine_token","id":"mt_03ad222d000000008f4a5b0c0b0bc764","subject":"mch_37dGapk3jwNALYdCtPHcmzQD0Pm","scopes":["mch_37dGamgQ39GbDByT0g1kb7XVyaW"],"claims":null,"revoked":false,"revocation_reason":null,"expired":false,"expiration":1767229200000,"last_used_at":null,"created_at":1767225600000,"updated_at":1767225600000}],"total_count":2}
    "#);
    assert_eq!(api.get(&format!("/v1{path}"), &sender.ak).body, reply.body);
}

#[test]
fn flags_add_to_the_list_and_pages_cut_it() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let revoked = api.token(&sender, "{}");
    api.post(
        &format!("/m2m_tokens/{}/revoke", revoked.id),
        &sender.ak,
        "{}",
    );
    api.token(&sender, r#"{"seconds_until_expiration":1}"#);
    api.clock.advance(1000);
    api.token(&sender, "{}");
    api.token(&sender, r#"{"token_format":"jwt"}"#);
    let mut table = String::new();
    for query in [
        "",
        "&revoked=true",
        "&expired=true",
        "&revoked=true&expired=true",
        "&revoked=false",
        "&revoked=",
        "&format=opaque",
        "&format=jwt",
        "&format=all",
        "&format=all&revoked=true&expired=true",
        "&limit=1.0&expired=true",
        "&offset=1.0",
    ] {
        let list = api
            .get(
                &format!("/m2m_tokens?subject={}{query}", sender.id),
                &api.sk,
            )
            .value();
        let shown = list["m2m_tokens"].as_array().unwrap().len();
        table += &format!("{query} → {shown} of {}\n", list["total_count"]);
    }
    assert_snapshot!(table, @r"
     → 1 of 1
    &revoked=true → 2 of 2
    &expired=true → 2 of 2
    &revoked=true&expired=true → 3 of 3
    &revoked=false → 1 of 1
    &revoked= → 1 of 1
    &format=opaque → 1 of 1
    &format=jwt → 1 of 1
    &format=all → 2 of 2
    &format=all&revoked=true&expired=true → 4 of 4
    &limit=1.0&expired=true → 1 of 2
    &offset=1.0 → 0 of 1
    ");
}

#[test]
fn a_query_names_one_machine_in_the_right_words() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let ok = format!("subject={}", sender.id);
    let with = |rest: &str| format!("{ok}&{rest}");
    let stranger = api.machine_of(&api.second_instance(), "stranger", &[]);
    let mut queries: Vec<String> = [
        "",
        "subject=",
        "subject=mch_x",
        "subject=sk_test_x",
        "limit=1",
    ]
    .map(str::to_owned)
    .to_vec();
    queries.extend(
        [
            "limit=0",
            "limit=101",
            "limit=10.5",
            "limit=x",
            "offset=-1",
            "revoked=1",
            "expired=TRUE",
            "format=paseto",
            "limit=1&limit=1",
        ]
        .map(with),
    );
    queries.extend([
        "subject=mch_000000000000000000000000000".to_owned(),
        format!("subject={}", stranger.id),
    ]);
    let queries: Vec<_> = queries.iter().map(String::as_str).collect();
    assert_snapshot!(api.queries("/m2m_tokens", &api.sk, &queries), @r"
     → 400 bad_request: query.subject must be included
    subject= → 400 bad_request: query.subject must match the pattern ^mch_\w{27}$
    subject=mch_x → 400 bad_request: query.subject must match the pattern ^mch_\w{27}$
    subject=sk_test_x → 400 bad_request: query.subject must match the pattern ^mch_\w{27}$
    limit=1 → 400 bad_request: query.subject must be included
    subject=mch_37dGapk3jwNALYdCtPHcmzQD0Pm&limit=0 → 400 bad_request: query.limit must be at least 1
    subject=mch_37dGapk3jwNALYdCtPHcmzQD0Pm&limit=101 → 400 bad_request: query.limit must be at most 100
    subject=mch_37dGapk3jwNALYdCtPHcmzQD0Pm&limit=10.5 → 400 bad_request: query.limit must be an integer
    subject=mch_37dGapk3jwNALYdCtPHcmzQD0Pm&limit=x → 400 bad_request: query.limit must be an integer
    subject=mch_37dGapk3jwNALYdCtPHcmzQD0Pm&offset=-1 → 400 bad_request: query.offset must be at least 0
    subject=mch_37dGapk3jwNALYdCtPHcmzQD0Pm&revoked=1 → 400 bad_request: query.revoked must be a boolean, true or false
    subject=mch_37dGapk3jwNALYdCtPHcmzQD0Pm&expired=TRUE → 400 bad_request: query.expired must be a boolean, true or false
    subject=mch_37dGapk3jwNALYdCtPHcmzQD0Pm&format=paseto → 400 bad_request: query.format must be 'opaque', 'jwt' or 'all'
    subject=mch_37dGapk3jwNALYdCtPHcmzQD0Pm&limit=1&limit=1 → 400 bad_request: query.limit must be given once
    subject=mch_000000000000000000000000000 → 404 resource_not_found: Resource not found: no machine mch_000000000000000000000000000
    subject=mch_37dGaomw3ooIg8Eh3BQTWvhzCSd → 404 resource_not_found: Resource not found: no machine mch_37dGaomw3ooIg8Eh3BQTWvhzCSd
    ");
    assert_snapshot!(api.get(&format!("/m2m_tokens?{ok}"), &receiver.ak), @r#"
    403
    cache-control: no-store
    clerk-trace-id: 6f3ec4f6bbbfe9a3d6e5530f7a578107
    content-type: application/json

    {"errors":[{"message":"Unauthorized request","long_message":"You are not authorized to perform this request: a machine can list its own tokens only","code":"authorization_invalid"}],"clerk_trace_id":"6f3ec4f6bbbfe9a3d6e5530f7a578107"}
    "#);
}

#[test]
fn every_kind_of_credential_has_its_answer() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let request = Request::new("GET", &format!("/m2m_tokens?subject={}", sender.id));
    assert_snapshot!(api.credentials(&request, &sender), @r"
    none → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    empty → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    Basic → 401 authorization_header_format_invalid: Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'
    sk → 200
    unknown sk → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    ak → 200
    unknown ak → 401 machine_secret_key_invalid: The provided Machine Secret Key is invalid. Make sure that your Machine Secret Key is correct.
    token → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    token id → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    garbage → 401 clerk_key_invalid: The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.
    ");
}
