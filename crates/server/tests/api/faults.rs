//! A store that fails: nothing about it gets out, and the server goes on.

use insta::assert_snapshot;

use crate::support::Api;
use crate::support::faulty::Fault;
use crate::support::http::Request;

/// How many requests are worked on at once.
const PLACES: u64 = 1024;

#[test]
fn a_store_that_cannot_answer_is_a_503_without_a_reason() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    for fault in [Fault::Before, Fault::After] {
        for (operation, reply) in [
            ("verification", &|| {
                api.verify(&receiver.ak, &token.string) as _
            }),
            ("caller", &|| api.post("/m2m_tokens", &sender.ak, "{}")),
            ("insert_token", &|| {
                api.post("/m2m_tokens", &sender.ak, "{}")
            }),
            ("insert_machine", &|| {
                api.post("/machines", &api.sk, r#"{"name":"x"}"#)
            }),
            ("list_machines", &|| api.get("/machines", &api.sk)),
        ] as [(_, &dyn Fn() -> _); 5]
        {
            api.store.fail_all(operation, fault);
            let reply: crate::support::http::Reply = reply();
            api.store.heal();
            assert_eq!(reply.header("retry-after"), Some("1"));
            let line = "503 service_unavailable: The service is temporarily unable to answer, please retry later";
            assert_eq!(reply.line(), line, "{operation}");
        }
    }
    api.store.fail_all("verification", Fault::Before);
    assert_snapshot!(api.verify(&receiver.ak, &token.string), @r#"
    503
    cache-control: no-store
    clerk-trace-id: d6e5530f7a5781076c8f1db215c309d9
    content-type: application/json
    retry-after: 1

    {"errors":[{"message":"Service unavailable","long_message":"The service is temporarily unable to answer, please retry later","code":"service_unavailable"}],"clerk_trace_id":"d6e5530f7a5781076c8f1db215c309d9"}
    "#);
    api.store.heal();
    assert_eq!(api.verify(&receiver.ak, &token.string).status, 200);
}

#[test]
fn damage_and_panics_are_a_500_without_a_reason() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    let mut client = api.client();
    for fault in [Fault::Corrupt, Fault::Panic] {
        api.store.fail_all("verification", fault);
        let body = format!(r#"{{"token":"{}"}}"#, token.string);
        let reply = client.send(
            &Request::new("POST", "/m2m_tokens/verify")
                .key(&receiver.ak)
                .json(&body),
        );
        api.store.heal();
        if fault == Fault::Panic {
            assert_snapshot!(reply, @r#"
            500
            cache-control: no-store
            clerk-trace-id: 14cee25cb0d1c5867fb775103ab28011
            content-type: application/json

            {"errors":[{"message":"Oops, an unexpected error occurred","long_message":"There was an internal error on our servers. We've been notified and are working on fixing it.","code":"internal_clerk_error"}],"clerk_trace_id":"14cee25cb0d1c5867fb775103ab28011"}
            "#);
        }
        assert!(reply.line().starts_with("500 internal_clerk_error: "));
    }
    // The very connection goes on.
    assert_eq!(client.send(&Request::new("GET", "/healthz")).status, 200);
    assert_eq!(api.verify(&receiver.ak, &token.string).status, 200);
}

#[test]
fn beyond_its_places_the_server_turns_writers_away_verifies_on_and_recovers() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    api.store.fail_all("insert_token", Fault::Hang);
    let stuck = Request::new("POST", "/m2m_tokens")
        .key(&sender.ak)
        .json("{}");
    let mut clients: Vec<_> = (0..PLACES).map(|_| api.client()).collect();
    for client in &mut clients {
        client.write(&stuck.bytes());
    }
    while api.store.waiting() < PLACES {
        std::thread::yield_now();
    }
    // The last one to come waits a second for its turn.
    let reply = api.post("/machines", &api.sk, r#"{"name":"late"}"#);
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(
        reply.line().starts_with("503 service_unavailable: "),
        "{reply}"
    );
    assert_eq!(api.verify(&receiver.ak, &token.string).status, 200);
    api.store.heal();
    // Those who hang are let go when their time is over, with an answer.
    for client in &mut clients {
        assert_eq!(client.read(false).status, 503);
    }
    assert_eq!(api.post("/m2m_tokens", &sender.ak, "{}").status, 201);
}

#[test]
fn readiness_follows_the_store_and_health_does_not() {
    let api = Api::start();
    let ask = |path: &str| api.send(&Request::new("GET", path));
    assert_snapshot!(ask("/healthz"), @r"
    200
    cache-control: no-store
    content-type: text/plain; charset=utf-8

    ok
    ");
    assert_snapshot!(ask("/readyz"), @r"
    200
    cache-control: no-store
    content-type: text/plain; charset=utf-8

    ready
    ");
    api.store.fail_all("check", Fault::Before);
    assert_eq!(ask("/readyz").status, 200, "its answer stands for a second");
    api.clock.advance(1000);
    assert_snapshot!(ask("/readyz"), @r"
    503
    cache-control: no-store
    content-type: text/plain; charset=utf-8

    not ready
    ");
    assert_eq!(ask("/healthz").status, 200);
}

#[test]
fn a_server_that_stops_answers_what_was_asked() {
    let mut api = Api::start();
    let (sender, _) = api.pair();
    api.store.fail_all("insert_token", Fault::Wait);
    let mut client = api.client();
    client.write(
        &Request::new("POST", "/m2m_tokens")
            .key(&sender.ak)
            .json("{}")
            .bytes(),
    );
    while api.store.waiting() == 0 {
        std::thread::yield_now();
    }
    let server = api.server.take().unwrap();
    let stopping = std::thread::spawn(move || server.stop());
    api.store.heal();
    let reply = client.read(false);
    assert_eq!(reply.status, 201, "{reply}");
    assert!(client.is_closed());
    stopping.join().unwrap();
}
