//! A small OpenID issuer, so that there are users without an account anywhere.
//!
//! It signs RS256 with a key that it makes at each start, and has the two documents by which an API finds that key (OpenID Connect
//! Discovery 1.0 section 4). It asks nobody for a password: whoever reaches it is whom they say. It is for this machine only; in
//! production the issuer is Clerk or another one, and of this file nothing is left.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How long a user's token lives.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// Signs users' tokens.
pub struct Issuer {
    url: String,
    audience: String,
    key: KeyPair,
    key_id: String,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Issuer")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// Makes an issuer with a new key. `url` is where it can be reached, `audience` the API that its tokens are for.
    ///
    /// # Errors
    /// Where the cryptography library cannot make a key.
    pub fn new(url: &str, audience: &str) -> Result<Self, Unspecified> {
        let key = KeyPair::generate(KeySize::Rsa2048)?;
        let mut issuer = Self {
            url: url.to_owned(),
            audience: audience.to_owned(),
            key,
            key_id: String::new(),
        };
        // RFC 7638: the key's name is the digest of its public half.
        let (modulus, exponent) = issuer.public_key();
        let public = format!(r#"{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}"#);
        issuer.key_id = URL_SAFE_NO_PAD.encode(digest(&SHA256, public.as_bytes()));
        Ok(issuer)
    }

    /// The `iss` of the tokens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A token of this user, good for ten minutes from now.
    #[must_use]
    pub fn token(&self, user_id: &str) -> String {
        #[expect(
            clippy::disallowed_methods,
            reason = "an example has no clock to be given"
        )]
        let now = SystemTime::now();
        self.token_from(user_id, now)
    }

    /// A token of this user, good for ten minutes from this time, which may be past.
    #[must_use]
    pub fn token_from(&self, user_id: &str, issued_at: SystemTime) -> String {
        let issued_at = issued_at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": self.key_id });
        let claims = json!({
            "iss": self.url,
            "aud": self.audience,
            "sub": user_id,
            "iat": issued_at,
            "exp": issued_at + LIFETIME.as_secs(),
        });
        let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message.as_bytes(),
                &mut signature,
            )
            .expect("a key that was made here signs");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// `n` and `e` of the public key.
    fn public_key(&self) -> (String, String) {
        let public = self.key.public_key();
        let encode = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        (
            encode(public.modulus().big_endian_without_leading_zero()),
            encode(public.exponent().big_endian_without_leading_zero()),
        )
    }
}

/// Serves the issuer until `shutdown` is there.
///
/// # Errors
/// Where the listener is one that other machines reach, or fails.
pub async fn serve(
    listener: TcpListener,
    issuer: Arc<Issuer>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    only_this_machine(listener.local_addr()?)?;
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(configuration))
        .route("/.well-known/jwks.json", get(key_set))
        .route("/token", get(token))
        .with_state(issuer);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

fn only_this_machine(address: SocketAddr) -> io::Result<()> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "the issuer signs for whoever asks, so it listens on 127.0.0.1 only, not on {address}"
        ),
    ))
}

async fn configuration(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    Json(json!({
        "issuer": issuer.url,
        "jwks_uri": format!("{}/.well-known/jwks.json", issuer.url),
        "authorization_endpoint": format!("{}/token", issuer.url),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }))
}

async fn key_set(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    let (modulus, exponent) = issuer.public_key();
    Json(json!({ "keys": [{
        "use": "sig",
        "kty": "RSA",
        "alg": "RS256",
        "kid": issuer.key_id,
        "n": modulus,
        "e": exponent,
    }] }))
}

#[derive(Deserialize)]
struct WhoSignsIn {
    user: String,
}

/// `GET /token?user=user_ada`
async fn token(State(issuer): State<Arc<Issuer>>, Query(who): Query<WhoSignsIn>) -> String {
    issuer.token(&who.user)
}
