//! `/openapi.json`, `/swagger`, `/metrics`

use insta::assert_snapshot;

use crate::support::Api;
use crate::support::http::Request;

#[test]
fn the_document_and_the_page_are_public() {
    let api = Api::start();
    let document = api.send(&Request::new("GET", "/openapi.json"));
    assert_eq!(
        (document.status, document.header("content-type")),
        (200, Some("application/json"))
    );
    assert!(
        document.value()["openapi"]
            .as_str()
            .unwrap()
            .starts_with("3.1")
    );
    let page = api.send(&Request::new("GET", "/swagger"));
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    for asset in page
        .text()
        .split('"')
        .filter(|part| part.starts_with("swagger/"))
    {
        let file = api.send(&Request::new("GET", &format!("/{asset}")));
        assert_eq!(file.status, 200, "{asset}");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
    }
    assert_snapshot!(api.send(&Request::new("GET", "/swagger/nothing")).line(), @"404 resource_not_found: Resource not found: the page has no such file");
}

#[test]
fn metrics_count_without_names_and_only_for_the_operator() {
    let api = Api::start();
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    api.verify(&receiver.ak, &token.string);
    api.verify(&receiver.ak, "mt_x");
    let metrics = api.send(&Request::new("GET", "/metrics"));
    let page = metrics.text();
    for line in [
        "countersign_verifications_total{format=\"opaque\",outcome=\"valid\"} 1",
        "countersign_verifications_total{format=\"opaque\",outcome=\"unknown\"} 1",
        "countersign_tokens_issued_total{format=\"opaque\",reused=\"false\"} 1",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    for name in [
        &sender.id,
        &receiver.id,
        &token.id,
        &token.string,
        &sender.ak,
        &api.sk,
    ] {
        assert!(!page.contains(name.as_str()));
    }

    let admin = "127.0.0.1:0".parse().unwrap();
    let api = Api::start_with(|options| options.admin_listen = Some(admin));
    assert_snapshot!(api.send(&Request::new("GET", "/metrics")).line(), @"404 resource_not_found: Resource not found: there is no such path");
    let admin = api.server.as_ref().unwrap().admin_address().unwrap();
    let mut client = crate::support::http::Client::connect(admin);
    let mut status = |path| client.send(&Request::new("GET", path).key(&api.sk)).status;
    assert_eq!(
        ["/metrics", "/healthz", "/machines"].map(&mut status),
        [200, 200, 404]
    );
}

#[test]
fn metrics_list_whatever_the_store_measures() {
    let api = Api::start();
    api.pair();
    let measures = api.authority.measures();
    assert!(!measures.is_empty());
    let ask = || api.send(&Request::new("GET", "/metrics"));
    // The second time they are known already.
    for reply in [ask(), ask()] {
        let page = reply.text();
        let count = |line: String| page.lines().filter(|found| *found == line).count();
        for measure in &measures {
            let name = format!("countersign_store_{}", measure.name);
            assert_eq!(count(format!("# TYPE {name} gauge")), 1, "{page}");
            let mut lines = page.lines();
            let value = lines.find_map(|line| line.strip_prefix(&format!("{name} ")));
            assert!(value.is_some_and(|value| value.parse::<u64>().is_ok()));
        }
    }
}
