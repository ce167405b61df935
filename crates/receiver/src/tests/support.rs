//! A world made of data: a clock that is set, keys that sign anything, an authority and issuers that say what they are told to.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_protocol::ids::MachineId;
use countersign_protocol::secret::Secret;
use countersign_protocol::time::Timestamp;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::error::SetupError;
use crate::remote::{Ask, Asking, Document, Reply};
use crate::{Accept, Caller, MachineIssuer, Reason, Receiver, ReceiverBuilder, UserIssuer};

/// The time at which worlds begin, in seconds.
pub(crate) const NOW: i64 = 1_700_000_000;
pub(crate) const ME: &str = "mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk";
pub(crate) const SENDER: &str = "mch_3senderSENDERsenderSENDERse";
pub(crate) const OTHER: &str = "mch_4otherOTHERotherOTHERotherO";
pub(crate) const ISSUER: &str = "https://auth.example.com";
pub(crate) const USER_ISSUER: &str = "https://login.example.com";
/// The key id of the authority.
pub(crate) const KID: &str = "ins_2GIoQhbUpy0hX7B2cVkuTMinXoD";
pub(crate) const USER_KID: &str = "user-key";

pub(crate) fn id(text: &str) -> MachineId {
    text.parse().expect("a machine id")
}

/// An opaque token with this number.
pub(crate) fn opaque(number: usize) -> String {
    format!("mt_{number:032}")
}

pub(crate) struct ManualClock {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl ManualClock {
    pub(crate) fn at(wall: i64) -> Self {
        Self {
            wall: AtomicI64::new(wall),
            monotonic: AtomicI64::new(0),
        }
    }

    pub(crate) fn set_wall(&self, wall: i64) {
        self.wall.store(wall, Ordering::SeqCst);
    }

    pub(crate) fn pass_monotonic(&self, millis: i64) {
        self.monotonic.fetch_add(millis, Ordering::SeqCst);
    }

    /// Time passes on both clocks.
    pub(crate) fn pass(&self, millis: i64) {
        self.wall.fetch_add(millis, Ordering::SeqCst);
        self.pass_monotonic(millis);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic_millis(&self) -> i64 {
        self.monotonic.load(Ordering::SeqCst)
    }
}

enum Pair {
    Rsa(&'static KeyPair),
    P256(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// A key that signs whatever it is given.
pub(crate) struct TestKey {
    kid: String,
    pair: Pair,
}

static RSA: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).expect("a key"));
static OTHER_RSA: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).expect("a key"));

impl TestKey {
    /// Always the same pair, under any id.
    pub(crate) fn rsa(kid: &str) -> Self {
        Self::new(kid, Pair::Rsa(&RSA))
    }

    /// Another pair than that of `rsa`.
    pub(crate) fn other_rsa(kid: &str) -> Self {
        Self::new(kid, Pair::Rsa(&OTHER_RSA))
    }

    pub(crate) fn p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        Self::new(kid, Pair::P256(Box::new(pair)))
    }

    pub(crate) fn ed25519(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        Self::new(kid, Pair::Ed25519(Box::new(pair)))
    }

    fn new(kid: &str, pair: Pair) -> Self {
        Self {
            kid: kid.to_owned(),
            pair,
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid,
                    "n": text(public.modulus().big_endian_without_leading_zero()),
                    "e": text(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({
                    "kty": "EC", "crv": "P-256", "kid": self.kid,
                    "x": text(&point[1..33]), "y": text(&point[33..]),
                })
            }
            Pair::Ed25519(pair) => json!({
                "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": text(pair.public_key().as_ref()),
            }),
        }
    }

    pub(crate) fn sign(&self, header: &Value, payload: &Value) -> String {
        self.sign_text(&header.to_string(), &payload.to_string())
    }

    pub(crate) fn sign_text(&self, header: &str, payload: &str) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                )
                .expect("signs");
                signature
            }
            Pair::P256(pair) => {
                let signature = pair.sign(&random, signed.as_bytes()).expect("signs");
                signature.as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The header of a good M2M JWT.
pub(crate) fn machine_header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": KID, "cat": "cl_B7d4PD333AAA"})
}

/// The claims of a good M2M JWT.
pub(crate) fn machine_claims() -> Value {
    json!({
        "iss": ISSUER, "sub": SENDER, "iat": NOW, "nbf": NOW - 10, "exp": NOW + 3_600,
        "jti": "mt_f7f0ba8c3b4843ce7d85fcdd5e71853e", "scopes": ME, "role": "bot",
    })
}

pub(crate) fn machine_jwt() -> String {
    TestKey::rsa(KID).sign(&machine_header(), &machine_claims())
}

/// The header of a good user's JWT.
pub(crate) fn user_header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": USER_KID, "cat": "cl_B7d4PD111AAA"})
}

/// The claims of a good user's JWT.
pub(crate) fn user_claims() -> Value {
    json!({
        "iss": USER_ISSUER, "sub": "user_1", "sid": "sess_1", "aud": ["api", "more"], "azp": "https://app.example.com",
        "iat": NOW, "nbf": NOW, "exp": NOW + 60,
    })
}

pub(crate) fn user_jwt() -> String {
    TestKey::rsa(USER_KID).sign(&user_header(), &user_claims())
}

/// What the authority answers about a good token.
pub(crate) fn good_token() -> Value {
    json!({
        "object": "machine_to_machine_token", "id": "mt_f7f0ba8c3b4843ce7d85fcdd5e71853e", "subject": SENDER,
        "scopes": [OTHER, ME], "claims": {"role": "bot"}, "revoked": false, "revocation_reason": null, "expired": false,
        "expiration": (NOW + 3_600) * 1_000, "last_used_at": null, "created_at": NOW * 1_000, "updated_at": NOW * 1_000,
    })
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

pub(crate) fn ok(body: &Value) -> Reply {
    Reply::Ok(body.to_string().into_bytes())
}

pub(crate) fn refused(status: u16, code: &str) -> Reply {
    Reply::Refused {
        status: StatusCode::from_u16(status).expect("a status"),
        code: code.to_owned(),
        retry_after: None,
    }
}

/// An authority that answers as it is told, and counts.
pub(crate) struct FakeAuthority {
    reply: Mutex<Option<Reply>>,
    pub(crate) calls: AtomicUsize,
    under_way: AtomicUsize,
    pub(crate) most_under_way: AtomicUsize,
    /// Each call needs a permit of it.
    pub(crate) gate: Semaphore,
}

impl FakeAuthority {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            reply: Mutex::new(Some(ok(&good_token()))),
            calls: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    /// Answers this about every token. `None`: never answers.
    pub(crate) fn says(&self, reply: Option<Reply>) {
        *self.reply.lock().unwrap() = reply;
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Lets nobody pass until permits are added.
    pub(crate) fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }
}

impl Ask for FakeAuthority {
    fn ask<'a>(&'a self, _token: &'a str) -> Asking<'a, Reply> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_under_way.fetch_max(under_way, Ordering::SeqCst);
            self.gate.acquire().await.expect("never closed").forget();
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            let reply = self.reply.lock().unwrap().clone();
            match reply {
                Some(reply) => reply,
                None => std::future::pending().await,
            }
        })
    }
}

/// A document that is what it is told to be, and counts.
pub(crate) struct FakeDocument {
    url: String,
    content: Mutex<Option<Result<Vec<u8>, String>>>,
    pub(crate) fetches: AtomicUsize,
}

impl FakeDocument {
    pub(crate) fn with_keys(url: &str, keys: &[Value]) -> Arc<Self> {
        let document = Arc::new(Self {
            url: url.to_owned(),
            content: Mutex::new(None),
            fetches: AtomicUsize::new(0),
        });
        document.has_keys(keys);
        document
    }

    pub(crate) fn has_keys(&self, keys: &[Value]) {
        self.is(Some(Ok(json!({ "keys": keys }).to_string().into_bytes())));
    }

    /// `None`: never answers.
    pub(crate) fn is(&self, content: Option<Result<Vec<u8>, String>>) {
        *self.content.lock().unwrap() = content;
    }

    pub(crate) fn fails(&self) {
        self.is(Some(Err("connection refused".to_owned())));
    }

    pub(crate) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

impl Document for FakeDocument {
    fn url(&self) -> &str {
        &self.url
    }

    fn fetch(&self) -> Asking<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            let content = self.content.lock().unwrap().clone();
            match content {
                Some(content) => content,
                None => std::future::pending().await,
            }
        })
    }
}

/// A receiver with all that it talks to.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) authority: Arc<FakeAuthority>,
    pub(crate) machine_keys: Arc<FakeDocument>,
    pub(crate) user_keys: Arc<FakeDocument>,
    pub(crate) receiver: Receiver,
}

impl World {
    /// An authority, an issuer of M2M JWTs, an issuer of users, and the sender as the service "webhook".
    pub(crate) fn new() -> Self {
        Self::with(|builder| {
            builder
                .machine_issuer(MachineIssuer::new(ISSUER).trust_scopes_claim())
                .user_issuer(UserIssuer::new(USER_ISSUER).audience("api"))
                .service("webhook", id(SENDER))
        })
    }

    pub(crate) fn with(change: impl FnOnce(ReceiverBuilder) -> ReceiverBuilder) -> Self {
        Self::build(change, true)
    }

    pub(crate) fn without_authority(
        change: impl FnOnce(ReceiverBuilder) -> ReceiverBuilder,
    ) -> Self {
        Self::build(change, false)
    }

    fn build(change: impl FnOnce(ReceiverBuilder) -> ReceiverBuilder, has_authority: bool) -> Self {
        let clock = Arc::new(ManualClock::at(NOW * 1_000));
        let authority = FakeAuthority::new();
        let machine_keys = FakeDocument::with_keys(
            "https://auth.example.com/.well-known/jwks.json",
            &[TestKey::rsa(KID).jwk()],
        );
        let user_keys = FakeDocument::with_keys(
            "https://login.example.com/.well-known/jwks.json",
            &[TestKey::rsa(USER_KID).jwk()],
        );
        let documents = [Arc::clone(&machine_keys), Arc::clone(&user_keys)];
        let document = |url: &str| {
            let found = documents.iter().find(|document| document.url == url);
            let found = found.ok_or_else(|| SetupError::Unusable(url.to_owned()))?;
            Ok(Arc::clone(found) as Arc<dyn Document>)
        };
        let ask = has_authority.then(|| Arc::clone(&authority) as Arc<dyn Ask>);
        let receiver = change(Receiver::builder(id(ME)))
            .build_with(Arc::clone(&clock) as Arc<dyn Clock>, ask, document)
            .expect("good settings");
        Self {
            clock,
            authority,
            machine_keys,
            user_keys,
            receiver,
        }
    }

    pub(crate) async fn check(&self, token: &str, accept: &Accept) -> Result<Caller, Reason> {
        let decision = self.receiver.check(&bearer(token), accept).await;
        decision.map_err(|refusal| refusal.reason())
    }

    /// What any machine's token comes to.
    pub(crate) async fn machine(&self, token: &str) -> Result<MachineId, Reason> {
        let caller = self.check(token, &Accept::any_machine()).await?;
        Ok(caller.as_machine().expect("a machine").id())
    }

    /// What any user's token comes to.
    pub(crate) async fn user(&self, token: &str) -> Result<String, Reason> {
        let caller = self.check(token, &Accept::user()).await?;
        Ok(caller.as_user().expect("a user").subject().to_owned())
    }
}

/// Lets what goes on beside the test go as far as it can.
pub(crate) async fn settle() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn bearer(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
    HeaderMap::from_iter([(AUTHORIZATION, value)])
}
