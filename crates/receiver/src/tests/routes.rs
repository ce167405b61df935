//! Whom routes accept, the legacy check, the layer, the extractors and what is told to observers.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, HeaderName, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower_layer::Layer as _;
use tower_service::Service;

use super::support::{
    ME, OTHER, SENDER, USER_ISSUER, World, bearer, id, machine_jwt, opaque, refused, secret,
    user_jwt,
};
use crate::{Accept, Caller, Event, LegacyCheck, Reason, Receiver, SetupError, UserIssuer};

const SECRET: &str = "an-old-shared-secret";
const HEADER: HeaderName = HeaderName::from_static("x-old-secret");

fn migrating() -> World {
    World::with(|builder| {
        builder
            .user_issuer(UserIssuer::new(USER_ISSUER).audience("api"))
            .service("webhook", id(SENDER))
            .legacy(LegacyCheck::bearer_secret("cron", &secret(SECRET)).or(
                LegacyCheck::header_secret(HEADER, "gateway", &secret(SECRET)),
            ))
    })
}

#[tokio::test]
async fn a_route_lets_in_whom_it_names_and_nobody_else() {
    let world = World::new();
    let (machine, user) = (machine_jwt(), user_jwt());
    let decide = async |token: &str, accept: Accept| world.check(token, &accept).await.map(|_| ());
    let both = Accept::user().or(Accept::any_machine());
    assert_eq!(decide(&machine, both.clone()).await, Ok(()));
    assert_eq!(decide(&user, both).await, Ok(()));
    assert_eq!(decide(&opaque(1), Accept::service("webhook")).await, Ok(()));
    assert_eq!(
        decide(&machine, Accept::service("web-hook")).await,
        Err(Reason::NotConfigured)
    );
    assert_eq!(
        decide(
            &machine,
            Accept::machine(id(OTHER)).or(Accept::service("WEBHOOK"))
        )
        .await,
        Ok(())
    );
    assert_eq!(
        decide(&machine, Accept::machine(id(OTHER))).await,
        Err(Reason::WrongMachine)
    );
    assert_eq!(
        decide(&machine, Accept::machine(id(OTHER)).or(Accept::user())).await,
        Err(Reason::WrongMachine)
    );
    assert_eq!(
        decide(&machine, Accept::user()).await,
        Err(Reason::UserRequired)
    );
    assert_eq!(
        decide(&user, Accept::any_machine()).await,
        Err(Reason::MachineRequired)
    );
    assert_eq!(
        decide(&user, Accept::default()).await,
        Err(Reason::MachineRequired)
    );
    assert_eq!(
        decide(&machine, Accept::default()).await,
        Err(Reason::UserRequired)
    );
    let nobody = world
        .receiver
        .check(&HeaderMap::new(), &Accept::user())
        .await;
    assert_eq!(nobody.expect_err("refused").reason(), Reason::TokenMissing);
}

#[tokio::test]
async fn the_wrong_machine_is_told_in_the_words_of_existing_deployments() {
    let world = World::with(|builder| builder.service("webhook", id(OTHER)));
    for token in [opaque(1), user_jwt()] {
        let refusal = world
            .receiver
            .check(&bearer(&token), &Accept::service("webhook"))
            .await;
        let refusal = refusal.expect_err("refused");
        assert_eq!(
            refusal.message(),
            "This endpoint requires webhook machine token"
        );
        assert_eq!(refusal.status(), StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn verify_takes_machines_tokens_only() {
    let world = World::new();
    assert_eq!(world.receiver.machine_id(), id(ME));
    let verify = async |token: &str| {
        world
            .receiver
            .verify(token)
            .await
            .map(|it| it.id())
            .map_err(|it| it.reason())
    };
    assert_eq!(verify(&opaque(1)).await, Ok(id(SENDER)));
    assert_eq!(verify(&machine_jwt()).await, Ok(id(SENDER)));
    assert_eq!(verify(&user_jwt()).await, Err(Reason::MachineRequired));
    assert_eq!(verify("secret").await, Err(Reason::TokenUnrecognized));
    assert_eq!(verify("").await, Err(Reason::HeaderMalformed));
}

#[tokio::test]
async fn the_legacy_check_sees_only_requests_without_a_token_and_is_counted() {
    let world = migrating();
    let accept = Accept::service("webhook").or(Accept::legacy());
    let name = |caller: Caller| match caller {
        Caller::Legacy(caller) => caller.name().to_owned(),
        other => format!("{other:?}"),
    };
    for _ in 0..2 {
        let caller = world.check(SECRET, &accept).await.expect("let in");
        assert_eq!(name(caller), "cron");
    }
    let header = HeaderMap::from_iter([(HEADER, HeaderValue::from_static(SECRET))]);
    let caller = world
        .receiver
        .check(&header, &accept)
        .await
        .expect("let in");
    assert_eq!(name(caller), "gateway");
    let uses: Vec<_> = world.receiver.legacy_uses().into_iter().collect();
    assert_eq!(uses, [("cron".to_owned(), 2), ("gateway".to_owned(), 1)]);
    assert_eq!(
        world
            .check("another-secret", &accept)
            .await
            .expect_err("refused"),
        Reason::TokenUnrecognized
    );
    // Not where the route does not say so.
    assert_eq!(
        world
            .check(SECRET, &Accept::any_machine())
            .await
            .expect_err("refused"),
        Reason::TokenUnrecognized
    );
    assert_eq!(world.authority.calls(), 0);
}

#[tokio::test]
async fn after_a_refused_token_the_legacy_check_is_not_tried() {
    let world = migrating();
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    let accept = Accept::service("webhook")
        .or(Accept::user())
        .or(Accept::legacy());
    // The secret stands beside each of them, where it would be let in.
    for token in [
        &opaque(1),
        "mt_x",
        &machine_jwt(),
        "a.b.c",
        &format!("{}x", user_jwt()),
    ] {
        let mut headers = bearer(token);
        headers.insert(HEADER, HeaderValue::from_static(SECRET));
        assert!(
            world.receiver.check(&headers, &accept).await.is_err(),
            "{token}"
        );
    }
    let mut twice = bearer(SECRET);
    twice.append(
        AUTHORIZATION,
        HeaderValue::from_str(&format!("Bearer {}", opaque(1))).expect("a header"),
    );
    let refusal = world
        .receiver
        .check(&twice, &accept)
        .await
        .expect_err("refused");
    assert_eq!(refusal.reason(), Reason::HeaderMalformed);
    assert!(world.receiver.legacy_uses().is_empty());
}

#[test]
fn a_legacy_secret_that_would_never_be_compared_is_refused_when_the_receiver_is_made() {
    for secret in [
        "",
        "mt_00000000000000000000000000000000",
        "a.b.c",
        "two words",
    ] {
        let made = Receiver::builder(id(ME))
            .legacy(LegacyCheck::bearer_secret("cron", &self::secret(secret)))
            .build();
        assert!(matches!(made, Err(SetupError::Unusable(_))), "{secret}");
    }
    let empty = LegacyCheck::header_secret(HEADER, "cron", &secret(""));
    assert!(Receiver::builder(id(ME)).legacy(empty).build().is_err());
}

#[test]
fn settings_that_cannot_be_used_are_refused_when_the_receiver_is_made() {
    let builder = || Receiver::builder(id(ME));
    assert!(
        builder()
            .authority("https://auth.example.com", "mt_no_key")
            .build()
            .is_err()
    );
    let with_instance_key = builder().authority("https://auth.example.com", "sk_test_all");
    let error = with_instance_key.build().expect_err("it may do everything");
    assert!(error.to_string().contains("ak_"), "{error}");
    assert!(
        builder()
            .authority("http://auth.example.com", "ak_key")
            .build()
            .is_err()
    );
    assert!(
        builder()
            .authority("http://auth.example.com", "ak_key")
            .allow_plain_http()
            .build()
            .is_ok()
    );
    let plain = UserIssuer::new("http://login.example.com");
    assert!(builder().user_issuer(plain).build().is_err());
    let error = builder()
        .authority("x", "ak_hidden")
        .build()
        .expect_err("refused");
    assert!(!error.to_string().contains("hidden"), "{error}");
    assert!(!format!("{:?}", builder().authority("x", "ak_hidden")).contains("hidden"));
}

#[tokio::test]
async fn no_debug_of_a_caller_or_a_refusal_holds_the_token() {
    let world = World::new();
    let accept = Accept::user().or(Accept::any_machine());
    for token in [machine_jwt(), user_jwt(), opaque(1)] {
        let shown = format!(
            "{:?} {:?}",
            world.check(&token, &accept).await,
            world.receiver
        );
        assert!(!shown.contains(&token));
    }
}

#[tokio::test]
async fn an_observer_is_told_what_happens() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let world = World::with(|builder| {
        builder.observer(move |event: &Event<'_>| {
            let text = match event {
                Event::Accepted {
                    caller: Caller::Machine(machine),
                } => format!("accepted {}", machine.id()),
                Event::Accepted { .. } => "accepted another".to_owned(),
                Event::Refused { reason } => format!("refused {reason}"),
                Event::AuthorityAsked { refused, .. } => format!("asked {refused:?}"),
                Event::KeysFetched { is_success, .. } => format!("keys {is_success}"),
                Event::StaleUsed { .. } => "stale".to_owned(),
            };
            heard.lock().unwrap().push(text);
        })
    });
    assert!(world.machine(&opaque(1)).await.is_ok());
    assert!(world.machine(&opaque(1)).await.is_ok());
    assert!(world.machine("x").await.is_err());
    assert_eq!(
        *told.lock().unwrap(),
        [
            "asked None".to_owned(),
            format!("accepted {SENDER}"),
            format!("accepted {SENDER}"),
            "refused token_unrecognized".to_owned(),
        ]
    );
}

/// Says who calls.
#[derive(Clone)]
struct WhoCalls;

impl Service<Request<()>> for WhoCalls {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let caller = request.extensions().get::<Caller>();
        ready(Ok(Response::new(format!("{caller:?}"))))
    }
}

async fn send(world: &World, accept: Accept, headers: HeaderMap) -> Response<String> {
    let mut service = world.receiver.layer(accept).layer(WhoCalls);
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    service.call(request).await.expect("infallible")
}

#[tokio::test]
async fn the_layer_lets_pass_with_the_caller_or_answers_itself() {
    let world = World::new();
    let passed = send(&world, Accept::any_machine(), bearer(&opaque(1))).await;
    assert!(passed.body().contains(SENDER), "{}", passed.body());
    let refused = send(&world, Accept::any_machine(), HeaderMap::new()).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers()[WWW_AUTHENTICATE], r#"Bearer realm="api""#);
    let wrong = send(&world, Accept::user(), bearer(&opaque(1))).await;
    assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
    let challenge = wrong.headers()[WWW_AUTHENTICATE].to_str().expect("ASCII");
    assert!(
        challenge.contains(r#"error="insufficient_scope""#),
        "{challenge}"
    );
}

#[tokio::test]
async fn the_layer_decides_alike_about_what_it_met_and_what_it_did_not() {
    let tokens = [opaque(1), machine_jwt(), user_jwt()];
    let routes = [
        Accept::any_machine(),
        Accept::machine(id(OTHER)),
        Accept::user(),
        Accept::user().or(Accept::any_machine()),
        Accept::default(),
    ];
    // Each has met all tokens, or none.
    let met = World::new();
    let both = Accept::user().or(Accept::any_machine());
    for token in &tokens {
        assert_eq!(send(&met, both.clone(), bearer(token)).await.status(), 200);
    }
    for token in &tokens {
        for route in &routes {
            let strange = World::new();
            let first = send(&strange, route.clone(), bearer(token)).await;
            let again = send(&met, route.clone(), bearer(token)).await;
            assert_eq!(again.status(), first.status(), "{route:?}");
            assert_eq!(again.body(), first.body(), "{route:?}");
        }
    }
    assert_eq!(met.authority.calls(), 1);
    // What is over is refused at once, too.
    met.clock.pass(4 * 3_600_000);
    for token in &tokens {
        let over = send(&met, both.clone(), bearer(token)).await;
        assert_eq!(over.status(), StatusCode::UNAUTHORIZED, "{}", over.body());
    }
}

#[cfg(feature = "axum")]
mod axum {
    use axum_core::extract::FromRequestParts as _;

    use super::*;
    use crate::{MachineCaller, UserCaller};

    #[tokio::test]
    async fn extractors_hand_over_what_the_layer_decided() {
        let world = World::new();
        let caller = world
            .check(&opaque(1), &Accept::any_machine())
            .await
            .expect("let in");
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.extensions.insert(caller);
        let machine = MachineCaller::from_request_parts(&mut parts, &())
            .await
            .expect("a machine");
        assert_eq!(machine.id(), id(SENDER));
        let user = UserCaller::from_request_parts(&mut parts, &()).await;
        assert_eq!(user.expect_err("no user").reason(), Reason::UserRequired);
    }

    #[tokio::test]
    async fn without_the_layer_no_handler_is_reached() {
        let (mut parts, ()) = Request::new(()).into_parts();
        let refusal = Caller::from_request_parts(&mut parts, &())
            .await
            .expect_err("refused");
        assert_eq!(refusal.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
