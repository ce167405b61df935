//! Ordinary axum routes beside the table: pages with forms and cookies, and requests that wait, under the server's limits.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use axum::extract::{Form, State};
use axum::http::HeaderMap;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Router};
use countersign_server::{ClientAddress, Mount};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::support::Api;
use crate::support::http::{Client, Request};

#[derive(Deserialize)]
struct SignIn {
    name: String,
}

/// A page that asks for a name, remembers it in a cookie and leads to a page that shows it.
fn pages() -> Mount {
    async fn home(headers: HeaderMap, Extension(address): Extension<ClientAddress>) -> Response {
        match headers.get(COOKIE).and_then(|cookie| cookie.to_str().ok()) {
            Some(cookie) => Html(format!("<p>{cookie} from {}", address.0)).into_response(),
            None => Redirect::to("/pages/sign-in").into_response(),
        }
    }
    async fn form() -> Html<&'static str> {
        Html("<form method=post><input name=name></form>")
    }
    async fn sign_in(Form(form): Form<SignIn>) -> impl IntoResponse {
        let cookie = format!("name={}; HttpOnly; SameSite=Strict", form.name);
        ([(SET_COOKIE, cookie)], Redirect::to("/pages"))
    }
    async fn panics() {
        panic!("a page may have a fault");
    }
    let router = Router::new()
        .route("/pages", get(home))
        .route("/pages/sign-in", get(form).post(sign_in))
        .route("/pages/panics", get(panics))
        .route("/pages/never", get(std::future::pending::<()>));
    Mount::pages("/pages", router)
}

/// What requests wait for.
#[derive(Clone)]
struct Event {
    /// A permit for each request that waits.
    arrived: Arc<Semaphore>,
    /// A permit for each request that need not wait any longer.
    happened: Arc<Semaphore>,
}

impl Event {
    fn new() -> Self {
        let without_permits = || Arc::new(Semaphore::new(0));
        Self {
            arrived: without_permits(),
            happened: without_permits(),
        }
    }
}

/// Requests that wait for an event.
fn waits(event: &Event) -> Mount {
    async fn wait(State(event): State<Event>) -> &'static str {
        event.arrived.add_permits(1);
        event.happened.acquire().await.unwrap().forget();
        "it happened"
    }
    let router = Router::new().route("/waits/next", get(wait));
    Mount::waiting("/waits", router.with_state(event.clone()))
}

fn start(mounts: Vec<Mount>) -> Api {
    Api::start_with(|options| options.mounts = mounts)
}

fn metrics(api: &Api) -> String {
    let page = api.send(&Request::new("GET", "/metrics"));
    page.text().to_owned()
}

#[test]
fn a_page_has_forms_cookies_and_redirects() {
    let api = start(vec![pages()]);
    let mut client = api.client();
    let reply = client.send(&Request::new("GET", "/pages"));
    assert_eq!(reply.status, 303);
    assert_eq!(reply.header("location"), Some("/pages/sign-in"));
    let reply = client.send(&Request::new("GET", "/pages/sign-in"));
    assert_eq!(
        reply.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(reply.text().contains("<form"), "{reply}");
    let form = Request::new("POST", "/pages/sign-in")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("name=Ada");
    let reply = client.send(&form);
    assert_eq!(reply.status, 303);
    let cookie = reply.header("set-cookie").unwrap();
    assert_eq!(cookie, "name=Ada; HttpOnly; SameSite=Strict");
    let home = Request::new("GET", "/pages").header("Cookie", "name=Ada");
    assert_eq!(client.send(&home).text(), "<p>name=Ada from 127.0.0.1");
    let reply = client.send(&Request::new("HEAD", "/pages/sign-in"));
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    let counted = r#"countersign_http_requests_total{operation="/pages",status="303"} 2"#;
    assert!(metrics(&api).contains(counted), "{}", metrics(&api));
}

#[test]
fn the_table_comes_first_and_what_is_not_below_a_prefix_is_not_found() {
    let shadow = Router::new().route("/machines", get(|| async { "the mount" }));
    let api = start(vec![pages(), Mount::pages("/machines", shadow)]);
    assert_eq!(api.get("/machines", &api.sk).value()["total_count"], 0);
    let reply = api.send(&Request::new("GET", "/pagesx"));
    assert!(
        reply.line().starts_with("404 resource_not_found"),
        "{reply}"
    );
    // Below the prefix the routes answer for themselves.
    let reply = api.send(&Request::new("GET", "/pages/nothing"));
    assert_eq!((reply.status, reply.text()), (404, ""));
}

#[test]
fn a_page_is_under_the_limits_of_the_server() {
    let api = start(vec![pages()]);
    let page = |target: &str| api.send(&Request::new("GET", target));
    let padded = |name: &str, length| {
        let value = "x".repeat(length);
        api.send(&Request::new("GET", "/pages").header(name, &value))
    };
    assert_eq!(page(&format!("/pages?{}", "x".repeat(9_000))).status, 414);
    assert_eq!(padded("X-Padding", 33_000).status, 431);
    let post = |length: usize| {
        let form = format!("name={}", "x".repeat(length));
        let kind = "application/x-www-form-urlencoded";
        let request = Request::new("POST", "/pages/sign-in").header("Content-Type", kind);
        api.send(&request.body(form))
    };
    assert_eq!(post(60_000).status, 303);
    assert_eq!(post(70_000).status, 413);
    let reply = page("/pages/panics");
    assert!(
        reply.line().starts_with("500 internal_clerk_error"),
        "{reply}"
    );
    let reply = page("/pages/never");
    assert!(
        reply.line().starts_with("503 service_unavailable"),
        "{reply}"
    );
}

#[test]
fn thousands_wait_and_hold_up_nobody() {
    const WAITING: usize = 1_500;
    let event = Event::new();
    let api = start(vec![pages(), waits(&event)]);
    let (sender, receiver) = api.pair();
    let token = api.token(&sender, "{}");
    let ask = Request::new("GET", "/waits/next").bytes();
    let mut waiting: Vec<Client> = (0..WAITING)
        .map(|_| {
            let mut client = api.client();
            client.write(&ask);
            client
        })
        .collect();
    // More than there are turns for those that answer soon; these are answered all the same.
    assert_eq!(api.verify(&receiver.ak, &token.string).status, 200);
    assert_eq!(api.token(&sender, "{}").id.len(), 35);
    assert_eq!(api.send(&Request::new("GET", "/pages/sign-in")).status, 200);
    event.happened.add_permits(WAITING);
    for client in &mut waiting {
        assert_eq!(client.read(false).text(), "it happened");
    }
}

#[test]
fn those_who_wait_are_answered_when_the_server_stops() {
    let event = Event::new();
    let mut api = start(vec![waits(&event)]);
    let mut clients: Vec<_> = (0..10).map(|_| api.client()).collect();
    for client in &mut clients {
        client.write(&Request::new("GET", "/waits/next").bytes());
    }
    api.wait(event.arrived.acquire_many(10)).unwrap().forget();
    api.server.take().unwrap().stop();
    for client in &mut clients {
        let reply = client.read(false);
        assert!(
            reply.line().starts_with("503 service_unavailable"),
            "{reply}"
        );
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert!(client.is_closed());
    }
}

#[test]
fn pages_and_waits_come_over_tls_too() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let event = Event::new();
    event.happened.add_permits(1);
    let api = Api::start_with(|options| {
        options.tls = Some(Arc::new(tls));
        options.mounts = vec![pages(), waits(&event)];
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let get = |path: &str| {
        let name = ServerName::try_from("localhost").unwrap();
        let session = rustls::ClientConnection::new(Arc::new(client.clone()), name).unwrap();
        let socket = TcpStream::connect(api.server.as_ref().unwrap().address()).unwrap();
        let mut stream = rustls::StreamOwned::new(session, socket);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        // A peer that closes without a farewell is an error to rustls, and none here.
        let _ = stream.read_to_string(&mut said);
        said
    };
    assert!(get("/pages/sign-in").contains("<form"));
    assert!(get("/waits/next").ends_with("it happened"));
}
