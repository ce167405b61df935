//! Senders with real tokens, a receiver with the key of its machine.

use countersign_client::{Client, CreatedMachine, NewToken, TokenFormat};
use countersign_receiver::{
    Accept, Caller, MachineIssuer, Reason, Receiver, ReceiverBuilder, Services,
};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::support::World;

/// A receiver, a machine that may call it and one that may not.
struct Trio {
    world: World,
    receiver: CreatedMachine,
    sender: CreatedMachine,
    stranger: CreatedMachine,
}

impl Trio {
    async fn start() -> Self {
        let world = World::start().await;
        let receiver = world.machine("receiver", &[]).await;
        let sender = world.machine("sender", &[receiver.machine.id]).await;
        let stranger = world.machine("stranger", &[]).await;
        Self {
            world,
            receiver,
            sender,
            stranger,
        }
    }

    fn builder(&self) -> ReceiverBuilder {
        let Self {
            world, receiver, ..
        } = self;
        Receiver::builder(receiver.machine.id).authority(&world.url, receiver.key.expose())
    }

    /// Checks JWTs itself, with the keys of the authority.
    fn with_keys(&self) -> Receiver {
        let issuer = MachineIssuer::new("https://auth.example.com").trust_scopes_claim();
        let issuer = issuer.jwks_url(&format!("{}/.well-known/jwks.json", self.world.url));
        self.builder().machine_issuer(issuer).build().unwrap()
    }

    async fn token(&self, machine: &CreatedMachine, format: TokenFormat) -> String {
        let client = self.world.client_of(machine);
        let new = NewToken::new().format(format);
        let token = client.create_token(&new).await.unwrap();
        token.string.expose().to_owned()
    }
}

async fn check(receiver: &Receiver, token: &str, accept: &Accept) -> Result<Caller, Reason> {
    let value = format!("Bearer {token}").parse().unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let decision = receiver.check(&headers, accept).await;
    decision.map_err(|refusal| refusal.reason())
}

#[tokio::test]
async fn both_formats_are_let_in_where_the_scope_is_and_nowhere_else() {
    let trio = Trio::start().await;
    let any = Accept::any_machine();
    for receiver in [trio.builder().build().unwrap(), trio.with_keys()] {
        for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
            let token = trio.token(&trio.sender, format).await;
            for _ in 0..2 {
                let caller = check(&receiver, &token, &any).await.unwrap();
                let machine = caller.as_machine().unwrap();
                assert_eq!(machine.id(), trio.sender.machine.id);
                assert!(machine.scopes().any(|id| id == trio.receiver.machine.id));
            }
            let other = Accept::machine(trio.stranger.machine.id);
            let wrong = check(&receiver, &token, &other).await;
            assert_eq!(wrong.unwrap_err(), Reason::WrongMachine);
            let token = trio.token(&trio.stranger, format).await;
            let refused = check(&receiver, &token, &any).await.unwrap_err();
            assert!(
                matches!(refused, Reason::TokenRefused | Reason::NotForThisMachine),
                "{refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_revoked_before_it_is_met_is_refused_in_both_formats() {
    let trio = Trio::start().await;
    let receiver = trio.builder().build().unwrap();
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let client = trio.world.client_of(&trio.sender);
        let issued = client
            .create_token(&NewToken::new().format(format))
            .await
            .unwrap();
        client.revoke_token(issued.token.id, None).await.unwrap();
        let refused = receiver.verify(issued.string.expose()).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::TokenRefused);
    }
}

#[tokio::test]
async fn an_id_of_a_token_and_an_unknown_token_are_refused() {
    let trio = Trio::start().await;
    let receiver = trio.builder().build().unwrap();
    let client = trio.world.client_of(&trio.sender);
    let issued = client.create_token(&NewToken::new()).await.unwrap();
    for token in [
        issued.token.id.to_string(),
        format!("mt_{}", "X".repeat(32)),
    ] {
        let refused = receiver.verify(&token).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::TokenRefused, "{token}");
    }
}

#[tokio::test]
async fn a_receiver_with_the_key_of_another_machine_lets_nobody_in() {
    let trio = Trio::start().await;
    let token = trio.token(&trio.sender, TokenFormat::Opaque).await;
    for (key, reason) in [
        (trio.stranger.key.expose(), Reason::TokenRefused),
        ("ak_unknown", Reason::ReceiverKeyRefused),
    ] {
        let receiver = Receiver::builder(trio.receiver.machine.id);
        let receiver = receiver.authority(&trio.world.url, key).build().unwrap();
        assert_eq!(receiver.verify(&token).await.unwrap_err().reason(), reason);
    }
    // With the right key, but for another machine than it is.
    let receiver = Receiver::builder(trio.stranger.machine.id);
    let receiver = receiver.authority(&trio.world.url, trio.receiver.key.expose());
    let refused = receiver.build().unwrap().verify(&token).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::NotForThisMachine);
}

#[tokio::test]
async fn the_settings_of_existing_deployments_make_a_receiver() {
    let trio = Trio::start().await;
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let services = Services::from_variables([
        variable("CLERK_API_BASE_URL", &format!("{}/v1", trio.world.url)),
        variable("CLERK_MACHINE_SECRET_KEY_TRPC", trio.receiver.key.expose()),
        variable(
            "CLERK_M2M_MACHINE_ID_TRPC",
            trio.receiver.machine.id.as_str(),
        ),
        variable(
            "CLERK_M2M_MACHINE_ID_WEBHOOK",
            trio.sender.machine.id.as_str(),
        ),
        variable(
            "CLERK_M2M_MACHINE_ID_WORKFLOW",
            trio.stranger.machine.id.as_str(),
        ),
    ]);
    let receiver = ReceiverBuilder::from_services(&services, "trpc").unwrap();
    let receiver = receiver.build().unwrap();
    let token = trio.token(&trio.sender, TokenFormat::Opaque).await;
    assert!(
        check(&receiver, &token, &Accept::service("webhook"))
            .await
            .is_ok()
    );
    let wrong = check(&receiver, &token, &Accept::service("workflow")).await;
    assert_eq!(wrong.unwrap_err(), Reason::WrongMachine);
}

#[tokio::test]
async fn an_authority_that_is_gone_is_no_refusal_of_the_token() {
    let trio = Trio::start().await;
    let (receiver, keys) = (trio.builder().build().unwrap(), trio.with_keys());
    let opaque = trio.token(&trio.sender, TokenFormat::Opaque).await;
    let jwt = trio.token(&trio.sender, TokenFormat::Jwt).await;
    let unknown = format!("mt_{}", "X".repeat(32));
    assert!(receiver.verify(&opaque).await.is_ok());
    assert!(keys.verify(&jwt).await.is_ok());
    drop(trio);
    // Asked elsewhere, where nobody listens: a server that is ending may still answer on connections that are open.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let lonely = Receiver::builder(receiver.machine_id()).authority(&address, "ak_key");
    let gone = lonely.build().unwrap().verify(&unknown).await.unwrap_err();
    assert_eq!(gone.reason(), Reason::AuthorityUnavailable);
    assert!(gone.wait().is_some());
    // What was learnt before goes on for its while.
    assert!(receiver.verify(&opaque).await.is_ok());
    assert!(keys.verify(&jwt).await.is_ok());
}

#[tokio::test]
async fn a_wrong_path_in_the_address_is_no_refusal_of_the_token() {
    let trio = Trio::start().await;
    let address = format!("{}/elsewhere", trio.world.url);
    let receiver = Receiver::builder(trio.receiver.machine.id);
    let receiver = receiver.authority(&address, trio.receiver.key.expose());
    let token = trio.token(&trio.sender, TokenFormat::Opaque).await;
    let refused = receiver.build().unwrap().verify(&token).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::AuthorityUnavailable);
}

/// The client's own verification and the receiver's agree about what a token is.
#[tokio::test]
async fn the_receiver_says_of_a_token_what_the_authority_says() {
    let trio = Trio::start().await;
    let claims = serde_json::json!({"role": "bot", "n": 1});
    let client = trio.world.client_of(&trio.sender);
    let asking: Client = trio.world.client_of(&trio.receiver);
    for format in [TokenFormat::Opaque, TokenFormat::Jwt] {
        let new = NewToken::new().format(format).claims(claims.clone());
        let issued = client.create_token(&new).await.unwrap();
        let said = asking.verify_token(issued.string.expose()).await.unwrap();
        for receiver in [trio.builder().build().unwrap(), trio.with_keys()] {
            let machine = receiver.verify(issued.string.expose()).await.unwrap();
            assert_eq!(machine.id(), said.subject);
            assert_eq!(machine.token_id(), said.id.to_string());
            assert_eq!(machine.scopes().collect::<Vec<_>>(), said.scopes);
            assert_eq!(machine.expires_at(), said.expires_at);
            assert_eq!(machine.claims::<serde_json::Value>().unwrap(), claims);
        }
    }
}
