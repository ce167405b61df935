//! What is the same for every request: head, version, body, limits.

use insta::assert_snapshot;

use crate::support::Api;
use crate::support::http::Request;

/// Sends these bytes on a connection of their own; the answer in one line.
fn raw(api: &Api, bytes: &[u8]) -> String {
    let mut client = api.client();
    client.write(bytes);
    client.read(false).line()
}

#[test]
fn the_credential_stands_in_one_authorization_header() {
    let api = Api::start();
    let get = |headers: &[&str]| {
        let request = headers
            .iter()
            .fold(Request::new("GET", "/jwks"), |request, value| {
                request.header("Authorization", value)
            });
        let status = api.send(&request).status;
        api.clock.advance(10_000);
        status
    };
    let sk = &api.sk;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        assert_eq!(get(&[&format!("{scheme} {sk}")]), 200);
    }
    let good = format!("Bearer {sk}");
    for wrong in [
        vec![good.as_str(), good.as_str()],
        vec![&good, "Bearer x"],
        vec![&format!("Bearer {sk}, Bearer {sk}")],
        vec![&format!("Bearer {sk} x")],
        vec![&format!("Bearer\t{sk}")],
        vec![&format!("Basic {sk}")],
        vec![sk],
        vec!["Bearer \u{e9}"],
    ] {
        assert_eq!(get(&wrong), 401, "{wrong:?}");
    }
    // Neither the query nor the body is a place for it.
    let request = Request::new("GET", &format!("/jwks?access_token={sk}"));
    assert_eq!(api.send(&request).status, 401);
}

#[test]
fn a_key_of_another_shape_is_just_unknown() {
    let api = Api::start();
    for key in [
        "sk_",
        "sk_live_",
        "sk_x y",
        &format!("sk_{}", "x".repeat(300)),
        "sk_\u{e9}",
    ] {
        let reply = api.get("/machines", key);
        assert_eq!(reply.status, 401, "{key}");
        assert!(!reply.text().contains(key), "it is not repeated");
    }
}

#[test]
fn any_date_is_an_api_version_and_nothing_else_is() {
    let api = Api::start();
    let get = |target: &str, versions: &[&str]| {
        let request = Request::new("GET", target).key(&api.sk);
        let request = versions.iter().fold(request, |request, version| {
            request.header("Clerk-API-Version", version)
        });
        api.send(&request)
    };
    for version in [
        "2026-05-12",
        "2025-11-10",
        "2025-04-10",
        "2024-10-01",
        "2021-02-05",
        "1999-01-01",
        "9999-12-31",
    ] {
        assert_eq!(get("/machines", &[version]).status, 200);
        assert_eq!(
            get(&format!("/machines?__clerk_api_version={version}"), &[]).status,
            200
        );
    }
    for (target, versions) in [
        ("/machines", vec![""]),
        ("/machines", vec!["latest"]),
        ("/machines", vec!["2026-13-01"]),
        ("/machines", vec!["2026-1-1"]),
        ("/machines", vec!["2026-05-12", "2026-05-12"]),
        (
            "/machines?__clerk_api_version=2026-05-12",
            vec!["2026-05-12"],
        ),
        ("/machines?__clerk_api_version=", vec![]),
        ("/m2m_tokens?__clerk_api_version=x", vec![]),
        (
            "/machines?__clerk_api_version=2026-05-12&__clerk_api_version=2026-05-12",
            vec![],
        ),
    ] {
        let line = get(target, &versions).line();
        assert!(
            line.starts_with("400 api_version_invalid: "),
            "{target} {versions:?}: {line}"
        );
    }
    assert_snapshot!(get("/machines", &["latest"]), @r#"
    400
    cache-control: no-store
    clerk-trace-id: e5be4c4cfd8caf21f8e86abdf4006053
    content-type: application/json

    {"errors":[{"message":"API version is invalid","long_message":"The API version must be a date of the form YYYY-MM-DD, given once, in the Clerk-API-Version header or the __clerk_api_version query parameter","code":"api_version_invalid"}],"clerk_trace_id":"e5be4c4cfd8caf21f8e86abdf4006053"}
    "#);
}

#[test]
fn a_body_is_json_under_any_spelling_of_its_type() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let send = |path: &str, key: &str, kind: Option<&str>, body: &str| {
        let request = Request::new("POST", path).key(key).body(body);
        api.send(&kind.into_iter().fold(request, |request, kind| {
            request.header("Content-Type", kind)
        }))
    };
    for kind in [
        None,
        Some("application/json"),
        Some("application/json; charset=utf-8"),
        Some("APPLICATION/JSON;charset=UTF-8"),
        Some(" application/json ;x=y"),
    ] {
        assert_eq!(
            send("/machines", &api.sk, kind, r#"{"name":"x"}"#).status,
            200,
            "{kind:?}"
        );
        let reply = send("/m2m_tokens", &sender.ak, kind, "{}");
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (201, Some("application/json"))
        );
    }
    for kind in [
        "text/plain",
        "application/jsonp",
        "application/x-www-form-urlencoded",
        "",
        "application/json, text/plain",
    ] {
        assert!(
            send("/machines", &api.sk, Some(kind), "{}")
                .line()
                .starts_with("415 unsupported_content_type: "),
            "{kind}"
        );
        assert!(
            send("/m2m_tokens", &sender.ak, Some(kind), "{}")
                .line()
                .starts_with("400 bad_request: "),
            "{kind}"
        );
    }
    let zipped = Request::new("POST", "/machines")
        .key(&api.sk)
        .header("Content-Encoding", "gzip")
        .json("{}");
    assert_snapshot!(api.send(&zipped), @r#"
    415
    cache-control: no-store
    clerk-trace-id: e469b0b93eb7fd3fbd9f9eaed8a4c7d2
    content-type: application/json

    {"errors":[{"message":"Content-Type header is not supported","long_message":"The Content-Type must be application/json, without compression","code":"unsupported_content_type"}],"clerk_trace_id":"e469b0b93eb7fd3fbd9f9eaed8a4c7d2"}
    "#);
    let zipped = Request::new("POST", "/m2m_tokens")
        .key(&sender.ak)
        .header("Content-Encoding", "gzip")
        .json("{}");
    assert_snapshot!(api.send(&zipped), @r#"
    400
    cache-control: no-store
    clerk-trace-id: 7f6253940dbb6b8b04483be3c5fad2d4
    content-type: application/json

    {"errors":[{"message":"Bad Request","long_message":"The Content-Type must be application/json, without compression","code":"bad_request"}],"clerk_trace_id":"7f6253940dbb6b8b04483be3c5fad2d4"}
    "#);
    // Without a body its type does not matter.
    assert_eq!(
        send("/m2m_tokens", &sender.ak, Some("text/plain"), "")
            .line()
            .split(':')
            .next(),
        Some("400 request_body_invalid")
    );
    let get = Request::new("GET", "/machines")
        .key(&api.sk)
        .header("Content-Type", "text/plain")
        .body("x");
    assert_eq!(api.send(&get).status, 200);
}

#[test]
fn a_body_has_64_kib_at_most() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let padded = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
    assert_eq!(
        api.post("/m2m_tokens", &sender.ak, &padded(65_536)).status,
        201
    );
    assert_snapshot!(api.post("/m2m_tokens", &sender.ak, &padded(65_537)).line(), @"400 bad_request: The request body must not exceed 65536 bytes");
    assert_snapshot!(api.post("/machines", &api.sk, &padded(65_537)).line(), @"413 request_body_too_large: The request body must not exceed 65536 bytes");
    // In chunks nobody knows the length before.
    let head = format!(
        "POST /machines HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        api.sk
    );
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    assert_snapshot!(raw(&api, format!("{head}{}0\r\n\r\n", chunk.repeat(17)).as_bytes()), @"413 request_body_too_large: The request body must not exceed 65536 bytes");
    let chunks = "b\r\n{\"name\":\"x\"\r\n1\r\n}\r\n0\r\n\r\n";
    assert!(raw(&api, format!("{head}{chunks}").as_bytes()).starts_with("200 "));
    // A length that was promised and is too large is refused before the body comes.
    let head = format!(
        "POST /machines HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 99999999\r\n\r\n",
        api.sk
    );
    assert_snapshot!(raw(&api, head.as_bytes()), @"413 request_body_too_large: The request body must not exceed 65536 bytes");
}

#[test]
fn a_body_that_ends_before_its_time_is_refused() {
    let api = Api::start();
    let mut client = api.client();
    let head = format!(
        "POST /machines HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n",
        api.sk
    );
    client.write(format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}").as_bytes());
    let reply = client.read(false);
    assert!(
        reply.line().starts_with("400 request_body_invalid"),
        "{reply}"
    );
    // Half a body and no more: no machine is made, whatever the answer.
    let mut client = api.client();
    client.write(format!("{head}Content-Length: 100\r\n\r\n{{\"name\":\"x\"}}").as_bytes());
    client.finish();
    client.is_closed();
    assert_eq!(api.get("/machines", &api.sk).value()["total_count"], 0);
}

#[test]
fn a_body_that_has_not_come_is_read_only_for_whoever_has_a_key() {
    let api = Api::start();
    let (sender, _) = api.pair();
    let head = |path: &str, key: &str, more: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{more}\r\n")
    };
    for path in ["/machines", "/m2m_tokens", "/m2m_tokens/verify"] {
        // Whoever waits for a word of the server gets the refusal instead, and no body goes over the wire.
        let mut client = api.client();
        let more = "Content-Length: 60000\r\nExpect: 100-continue\r\n";
        client.write(head(path, "ak_unknown", more).as_bytes());
        assert_eq!(client.read(false).status, 401, "{path}");
        api.clock.advance(10_000);
        // A large one is not read, and the connection ends.
        let mut client = api.client();
        client.write(head(path, "ak_unknown", "Content-Length: 60000\r\n").as_bytes());
        let reply = client.read(false);
        assert_eq!(
            (reply.status, reply.header("connection")),
            (401, Some("close")),
            "{path}"
        );
        api.clock.advance(10_000);
        // A small one that comes behind its head is thrown away, and the connection goes on.
        let mut client = api.client();
        client.write(head(path, "ak_unknown", "Content-Length: 6000\r\n").as_bytes());
        client.write(&[b' '; 6_000]);
        let reply = client.read(false);
        assert_eq!(
            (reply.status, reply.header("connection")),
            (401, None),
            "{path}"
        );
        assert_eq!(client.send(&Request::new("GET", "/healthz")).status, 200);
        api.clock.advance(10_000);
    }
    // With a key, the server asks for the body.
    let mut client = api.client();
    let more = "Content-Length: 2\r\nExpect: 100-continue\r\n";
    client.write(head("/m2m_tokens", &sender.ak, more).as_bytes());
    client.wait();
    assert!(client.read(false).status == 100);
    client.write(b"{}");
    assert_eq!(client.read(false).status, 201);
}

#[test]
fn a_target_has_8_kib_at_most_and_a_head_32() {
    let api = Api::start();
    let get = |length: usize| {
        let target = "/machines?query=";
        api.get(
            &format!("{target}{}", "x".repeat(length - target.len())),
            &api.sk,
        )
    };
    assert_eq!(get(8192).status, 200);
    assert_snapshot!(get(8193), @r#"
    414
    cache-control: no-store
    clerk-trace-id: 1ce0dc482f6f617017fcf32e4e82d640
    content-type: application/json

    {"errors":[{"message":"URI too long","long_message":"The request target must not exceed 8192 bytes","code":"uri_too_long"}],"clerk_trace_id":"1ce0dc482f6f617017fcf32e4e82d640"}
    "#);
    let with = |length: usize| {
        api.send(
            &Request::new("GET", "/machines")
                .key(&api.sk)
                .header("X-Padding", &"x".repeat(length)),
        )
    };
    assert_eq!(with(31_000).status, 200);
    assert_snapshot!(with(33_000), @r#"
    431
    cache-control: no-store
    clerk-trace-id: 0cfffe56222e9e87f5e04b5e44022e8b
    content-type: application/json

    {"errors":[{"message":"Request header fields too large","long_message":"The header must not exceed 100 lines and 32768 bytes","code":"request_header_fields_too_large"}],"clerk_trace_id":"0cfffe56222e9e87f5e04b5e44022e8b"}
    "#);
    // What does not fit hyper's buffer, and more than a hundred lines, never becomes a request; hyper refuses it in its own words.
    let lines = (0..100).fold(Request::new("GET", "/machines"), |request, _| {
        request.header("X", "y")
    });
    for request in [
        Request::new("GET", "/machines").header("X-Padding", &"x".repeat(50_000)),
        lines,
    ] {
        let reply = api.send(&request);
        assert_eq!((reply.status, reply.text()), (431, ""));
    }
}

#[test]
fn what_is_no_http_is_refused_and_leaves_the_server_alone() {
    let api = Api::start();
    for bytes in [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /machines HTTP/1.1\r\nHost : x\r\n\r\n",
        "POST /machines HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /machines HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "POST /machines HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET /ma chines HTTP/1.1\r\n\r\n",
        "GET /machines HTTP/1.1\r\nX: a\x00b\r\n\r\n",
    ] {
        let mut client = api.client();
        client.write(bytes.as_bytes());
        let reply = client.read(false);
        assert_eq!((reply.status, reply.text()), (400, ""), "{bytes}");
        assert!(client.is_closed());
    }
    // A length beside chunks is a way to smuggle a second request; the connection does not go on.
    let mut client = api.client();
    client.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(client.read(false).status == 400 || client.is_closed());
    assert_eq!(api.send(&Request::new("GET", "/healthz")).status, 200);
    let page = api.send(&Request::new("GET", "/metrics"));
    let counted = "countersign_http_unreadable_requests_total 8\n";
    assert!(page.text().contains(counted), "{}", page.text());
}

#[test]
fn nonsense_behind_a_request_is_refused_behind_its_answer() {
    let api = Api::start();
    for path in ["/healthz", "/nothing"] {
        let mut client = api.client();
        let request = Request::new("GET", path).bytes();
        client.write(&[&request, &b"non sense\r\n\r\n"[..]].concat());
        client.read(false);
        let reply = client.read(false);
        assert_eq!((reply.status, reply.text()), (400, ""));
        assert!(client.is_closed());
    }
}

#[test]
fn a_body_that_nobody_reads_ends_the_connection_with_the_answer() {
    let api = Api::start();
    for method in ["GET", "HEAD", "DELETE"] {
        let mut client = api.client();
        let ask = |body| Request::new(method, "/machines").key(&api.sk).body(body);
        let empty = client.send(&ask(""));
        assert_eq!(empty.header("connection"), None, "{method}");
        let reply = client.send(&ask("hello"));
        assert_eq!(reply.header("connection"), Some("close"), "{method}");
        assert_eq!(reply.status, empty.status, "{method}");
        client.write(b"non sense\r\n\r\n");
        assert!(client.is_closed(), "{method}");
    }
}

#[test]
fn a_connection_carries_many_requests_in_order() {
    let api = Api::start();
    let mut client = api.client();
    let one = |target: &str| Request::new("GET", target).key(&api.sk).bytes();
    client.write(&[one("/machines"), one("/nothing"), one("/healthz")].concat());
    assert_eq!(
        [200, 404, 200].map(|_| client.read(false).status),
        [200, 404, 200]
    );
}

#[test]
fn head_is_get_without_the_body() {
    let api = Api::start();
    api.pair();
    for path in [
        "/v1/machines",
        "/.well-known/openid-configuration",
        "/healthz",
        "/openapi.json",
        "/nothing",
    ] {
        let [head, get] =
            ["HEAD", "GET"].map(|method| api.send(&Request::new(method, path).key(&api.sk)));
        assert_eq!(
            (head.status, &head.body),
            (get.status, &Vec::new()),
            "{path}"
        );
        for name in ["content-type", "content-length", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
    let refused = api.send(&Request::new("HEAD", "/m2m_tokens/verify").key(&api.sk));
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("POST"))
    );
}
