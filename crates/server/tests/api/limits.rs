//! Limits on how often, at the door; and on how many tokens a machine may hold and how often it may change them.

use insta::assert_snapshot;

use crate::support::Api;
use crate::support::http::Request;

/// How many failures of an address are answered.
const FAILURES: usize = 20;

#[test]
fn an_address_that_fails_too_often_is_slowed_while_good_keys_pass() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    for number in 0..FAILURES {
        // Every kind of failure counts.
        let reply = match number % 4 {
            0 => api.get("/machines", "sk_unknown"),
            1 => api.verify("ak_unknown", "mt_x"),
            2 => api.send(&Request::new("GET", "/machines")),
            _ => api.get("/countersign/whoami", "mt_x"),
        };
        assert_eq!(reply.status, 401, "{reply}");
    }
    assert_snapshot!(api.get("/machines", "sk_unknown"), @r#"
    429
    cache-control: no-store
    clerk-trace-id: f224a59ea97b070051b9c33537f0054f
    content-type: application/json
    retry-after: 10

    {"errors":[{"message":"Too many requests","long_message":"Too many requests in a given period of time, please retry later","code":"too_many_requests"}],"clerk_trace_id":"f224a59ea97b070051b9c33537f0054f"}
    "#);
    assert_eq!(api.send(&Request::new("GET", "/machines")).status, 429);
    assert_eq!(api.get("/countersign/whoami", "mt_x").status, 429);
    assert_eq!(api.get("/machines", &api.sk).status, 200);
    assert_eq!(api.verify(&receiver.ak, &token.string).status, 200);
    // A token that does not verify is no failed authentication.
    assert_eq!(api.verify(&receiver.ak, "mt_x").status, 404);
    api.clock.advance(10_000);
    assert_eq!(api.get("/machines", "sk_unknown").status, 401);
}

#[test]
fn an_address_from_a_proxy_counts_only_where_the_proxy_is_trusted() {
    let exhaust = |api: &Api, from: &str| {
        for _ in 0..FAILURES {
            api.send(&Request::new("GET", "/jwks").header("X-Forwarded-For", from));
        }
    };
    let status = |api: &Api, lines: &[&str]| {
        let request = Request::new("GET", "/jwks");
        api.send(&lines.iter().fold(request, |request, line| {
            request.header("X-Forwarded-For", line)
        }))
        .status
    };
    let api = Api::start();
    exhaust(&api, "192.0.2.1");
    assert_eq!(
        status(&api, &["192.0.2.2"]),
        429,
        "whoever writes the header is not believed"
    );

    let api =
        Api::start_with(|options| options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]);
    exhaust(&api, "192.0.2.1");
    assert_eq!(status(&api, &["192.0.2.1"]), 429);
    assert_eq!(status(&api, &["192.0.2.2"]), 401);
    // Only the last entry was written by the proxy itself.
    assert_eq!(status(&api, &["192.0.2.9, 192.0.2.1"]), 429);
    assert_eq!(status(&api, &["192.0.2.9", "192.0.2.1"]), 429);
    assert_eq!(status(&api, &["192.0.2.1, 192.0.2.3"]), 401);
    assert_eq!(status(&api, &["nonsense"]), 401, "the proxy itself then");
}

#[test]
fn a_limit_of_the_instance_answers_429_and_spares_the_key_set_and_whoever_administers() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    api.set(r#"{"rate_limit":{"requests":2,"seconds":10},"machine_rate_limit":{"requests":1,"seconds":60}}"#);
    let issue = || api.post("/m2m_tokens", &sender.ak, "{}");
    assert_eq!(issue().status, 201);
    assert_snapshot!(issue(), @r#"
    429
    cache-control: no-store
    clerk-trace-id: 5262f0bfb24055f552c84d5a925228e0
    content-type: application/json
    retry-after: 60

    {"errors":[{"message":"Too many requests","long_message":"Too many requests in a given period of time, please retry later","code":"too_many_requests"}],"clerk_trace_id":"5262f0bfb24055f552c84d5a925228e0"}
    "#);
    assert_snapshot!(api.verify(&receiver.ak, "mt_x"), @r#"
    429
    cache-control: no-store
    clerk-trace-id: 14cee25cb0d1c5867fb775103ab28011
    content-type: application/json
    retry-after: 10

    {"errors":[{"message":"Too many requests","long_message":"Too many requests in a given period of time, please retry later","code":"too_many_requests"}],"clerk_trace_id":"14cee25cb0d1c5867fb775103ab28011"}
    "#);
    for key in [&api.sk, &sender.ak] {
        assert_eq!(api.get("/v1/jwks", key).status, 200);
    }
    assert_eq!(api.get("/machines", &api.sk).status, 200);
    api.clock.advance(10_001);
    assert_eq!(api.verify(&receiver.ak, "mt_x").status, 404);
    assert_eq!(issue().header("retry-after"), Some("50"));
}

#[test]
fn a_verification_counts_once_also_where_its_body_comes_after_its_head() {
    let api = Api::start();
    let (_, receiver) = api.pair();
    api.set(r#"{"machine_rate_limit":{"requests":2,"seconds":60}}"#);
    let body = r#"{"token":"mt_x"}"#;
    let verify = || {
        let mut client = api.client();
        let head = format!(
            "POST /m2m_tokens/verify HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            receiver.ak,
            body.len()
        );
        client.write(head.as_bytes());
        // Long enough for the head to be read alone.
        std::thread::sleep(std::time::Duration::from_millis(100));
        client.write(body.as_bytes());
        client.read(false).status
    };
    assert_eq!([verify(), verify(), verify()], [404, 404, 429]);
}

#[test]
fn a_machine_holds_so_many_tokens_and_ended_ones_make_room() {
    const MINUTE: i64 = 60_000;
    let api = Api::start_authority_with(|options| options.max_tokens = 4);
    let (sender, receiver) = api.pair();
    // What happens once a minute.
    let count = || {
        api.clock.advance(MINUTE);
        api.wait(api.authority.maintain()).unwrap();
    };
    let issue = |body| api.post("/m2m_tokens", &sender.ak, body).line();
    let status = |body| issue(body)[..3].to_owned();
    let to_revoke = [api.token(&sender, "{}"), api.token(&sender, "{}")];
    let jwt = api.token(&sender, r#"{"token_format":"jwt"}"#);
    count();
    // Never refused below, and exceeded within a minute.
    for _ in 0..3 {
        assert_eq!(status(r#"{"seconds_until_expiration":180}"#), "201");
    }
    count();
    assert_snapshot!(issue("{}"), @"409 conflict: the machine holds 4 tokens, which is the maximum; revoke opaque tokens, wait until tokens expire, or request shorter lifetimes");
    assert_eq!(status(r#"{"token_format":"jwt"}"#), "409");
    assert_eq!(api.post("/m2m_tokens", &receiver.ak, "{}").status, 201);

    let revoke = |id: &str| {
        let path = format!("/m2m_tokens/{id}/revoke");
        assert_eq!(api.post(&path, &api.sk, "{}").status, 200);
    };
    // A revoked JWT stays, because receivers must learn of it.
    revoke(&jwt.id);
    api.clock.advance(10_000);
    assert_eq!(status("{}"), "409");
    // Ended tokens make room, which the next look after ten seconds finds.
    to_revoke.iter().for_each(|token| revoke(&token.id));
    assert_eq!(status("{}"), "409");
    api.clock.advance(10_000);
    assert_eq!(status("{}"), "201");
    let verified = api.verify(&receiver.ak, &jwt.string);
    assert!(verified.line().contains("revoked"), "{verified}");
}

#[test]
fn a_machine_that_changes_its_tokens_in_a_loop_gets_429_and_changes_nothing() {
    let api = Api::start_authority_with(|options| options.max_changes = 2);
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    let path = format!("/m2m_tokens/{}", token.id);
    let body = r#"{"claims":{"a":1}}"#;
    for _ in 0..2 {
        assert_eq!(api.patch(&path, &sender.ak, body).status, 200);
    }
    assert_snapshot!(api.patch(&path, &sender.ak, r#"{"claims":{"a":2}}"#), @r#"
    429
    cache-control: no-store
    clerk-trace-id: 5262f0bfb24055f552c84d5a925228e0
    content-type: application/json
    retry-after: 1

    {"errors":[{"message":"Too many requests","long_message":"the machine has used up its 2 changes and revocations of tokens, of which one comes back each second; change and revoke fewer, or have an instance key do it","code":"too_many_requests"}],"clerk_trace_id":"5262f0bfb24055f552c84d5a925228e0"}
    "#);
    let revoke = format!("{path}/revoke");
    let refused = api.post(&revoke, &sender.ak, "{}");
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("1"))
    );
    let verified = api.verify(&receiver.ak, &token.string);
    assert_eq!(verified.value()["claims"]["a"], 1);
    // Whoever administers is not held up, and a second later the machine is not either.
    assert_eq!(api.patch(&path, &api.sk, body).status, 200);
    api.clock.advance(1000);
    assert_eq!(api.post(&revoke, &sender.ak, "{}").status, 200);
}

/// Machines with names of full length, the last `wide` of which may call 150 others.
fn wide_machines(api: &Api, sk: &str, wide: usize) {
    let name = "n".repeat(255);
    let scopes: Vec<_> = (0..150).map(|_| api.machine_of(sk, &name, &[])).collect();
    let scopes: Vec<_> = scopes.iter().collect();
    for _ in 0..wide {
        api.machine_of(sk, &name, &scopes);
    }
}

#[test]
fn large_lists_take_turns_until_they_are_read_and_leave_half_to_others() {
    let api = Api::start();
    // More than the buffers between the two ends hold, and more than half of what one instance may have on its way.
    wide_machines(&api, &api.sk, 350);
    let other = api.second_instance();
    wide_machines(&api, &other, 2);
    let mut client = api.client();
    client.write(
        &Request::new("GET", "/machines?limit=500")
            .key(&api.sk)
            .bytes(),
    );
    // It is made, and nobody reads it.
    client.wait();
    let late = api.get("/machines?limit=500", &api.sk);
    assert_eq!(late.header("retry-after"), Some("1"));
    assert!(
        late.line().starts_with("503 service_unavailable: "),
        "{late}"
    );
    let small = api.get("/machines?limit=1&query=mch_none", &api.sk);
    assert_eq!(small.status, 200);
    for page in ["/machines?limit=500", "/machines"] {
        let others = api.get(page, &other);
        assert_eq!(others.status, 200);
        assert!(others.body.len() > 64 * 1024);
    }
    let list = client.read(false).value();
    assert_eq!(list["data"].as_array().map(Vec::len), Some(500));
    assert_eq!(
        list["data"][0]["scoped_machines"].as_array().map(Vec::len),
        Some(150)
    );
    assert_eq!(list["total_count"], 500);
    assert_eq!(api.get("/machines?limit=500", &api.sk).status, 200);
}
