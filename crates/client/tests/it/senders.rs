//! Senders against a real authority and a small receiver: the layer and the wrapper for reqwest.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use countersign_client::{Client, NewToken, TokenLayer, TokenSource};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower_layer::Layer as _;
use tower_service::Service;

use crate::support::World;
use crate::support::scripted::{Answer, Scripted};

/// A receiver that asks the authority about each token.
#[derive(Clone)]
struct Receiver {
    client: Client,
    calls: Arc<AtomicUsize>,
}

impl Service<Request<Full<Bytes>>> for Receiver {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<()>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let receiver = self.clone();
        Box::pin(async move {
            receiver.calls.fetch_add(1, Ordering::SeqCst);
            let header = request.headers().get("authorization");
            let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            let is_good = match token {
                Some(token) => receiver.client.verify_token(token).await.is_ok(),
                None => false,
            };
            let status = if is_good {
                StatusCode::OK
            } else {
                StatusCode::UNAUTHORIZED
            };
            Ok(Response::builder().status(status).body(()).unwrap())
        })
    }
}

struct Pair {
    world: World,
    sender: Client,
    receiver: Receiver,
}

async fn pair() -> Pair {
    let world = World::start().await;
    let receiver = world.machine("receiver", &[]).await;
    let sender = world.machine("sender", &[receiver.machine.id]).await;
    Pair {
        sender: world.client_of(&sender),
        receiver: Receiver {
            client: world.client_of(&receiver),
            calls: Arc::default(),
        },
        world,
    }
}

fn request() -> Request<Full<Bytes>> {
    Request::post("http://receiver.example/path")
        .body(Full::from("a body"))
        .unwrap()
}

#[tokio::test]
async fn the_layer_puts_a_token_on_each_request() {
    let pair = pair().await;
    let mut service = TokenLayer::new(TokenSource::new(pair.sender)).layer(pair.receiver.clone());
    for _ in 0..3 {
        assert_eq!(service.call(request()).await.unwrap().status(), 200);
    }
    assert_eq!(pair.receiver.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn after_a_revocation_a_request_is_repeated_once_with_another_token() {
    let pair = pair().await;
    let tokens = TokenSource::new(pair.sender.clone());
    let mut service = TokenLayer::new(tokens.clone()).layer(pair.receiver.clone());
    let first = tokens.token().await.unwrap();
    let id = pair
        .world
        .admin
        .verify_token(first.expose())
        .await
        .unwrap()
        .id;
    pair.sender.revoke_token(id, None).await.unwrap();
    assert_eq!(service.call(request()).await.unwrap().status(), 200);
    assert_eq!(pair.receiver.calls.load(Ordering::SeqCst), 2);
    assert_ne!(tokens.token().await.unwrap(), first);
}

#[tokio::test]
async fn a_receiver_that_refuses_everything_is_asked_twice_and_then_once() {
    let pair = pair().await;
    let stranger = pair.world.machine("stranger", &[]).await;
    let tokens = TokenSource::new(pair.world.client_of(&stranger));
    let mut service = TokenLayer::new(tokens).layer(pair.receiver.clone());
    assert_eq!(service.call(request()).await.unwrap().status(), 401);
    assert_eq!(pair.receiver.calls.load(Ordering::SeqCst), 2);
    assert_eq!(service.call(request()).await.unwrap().status(), 401);
    assert_eq!(pair.receiver.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_request_with_a_credential_of_its_own_is_sent_as_it_is() {
    let pair = pair().await;
    let own = pair.sender.create_token(&NewToken::new()).await.unwrap();
    let mut service = TokenLayer::new(TokenSource::off()).layer(pair.receiver.clone());
    assert_eq!(service.call(request()).await.unwrap().status(), 401);
    let mut request = request();
    let header = own.string.authorization();
    request.headers_mut().insert("authorization", header);
    assert_eq!(service.call(request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let pair = pair().await;
    let nobody = Client::new("http://127.0.0.1:1", "ak_nobody").unwrap();
    let mut service = TokenLayer::new(TokenSource::new(nobody)).layer(pair.receiver.clone());
    let error = service.call(request()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no token: cannot reach the authority"),
        "{error}"
    );
    assert_eq!(pair.receiver.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_wrapper_of_reqwest_repeats_what_can_be_repeated() {
    use countersign_client::ReqwestClient;

    let world = World::start().await;
    let sender = world.machine("sender", &[]).await;
    let tokens = TokenSource::new(world.client_of(&sender));
    let first = tokens.token().await.unwrap().expose().to_owned();
    let receiver = Scripted::by(move |request| {
        if request.contains(&first) {
            Answer::json(401, "{}")
        } else {
            Answer::json(200, "{}")
        }
    })
    .await;
    let http = ReqwestClient::new(reqwest::Client::new(), tokens.clone());
    let post = http.post(receiver.url()).with(|it| it.body("a body"));
    assert_eq!(post.send().await.unwrap().status(), 200);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.ends_with("a body")));
    let own = reqwest::Client::new().get(receiver.url());
    http.execute(own.bearer_auth("own")).await.unwrap();
    assert!(receiver.requests()[2].contains("Bearer own"));
}
