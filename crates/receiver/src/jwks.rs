//! Key sets as issuers publish them (RFC 7517): what cannot be used is skipped, what can is parsed once.
//!
//! Taken are RSA keys of 2048 bits and more, P-256 and Ed25519 keys, each with a `kid`, for signatures, at most twenty. An issuer
//! of M2M tokens signs with RSA, so of its set only those count.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_protocol::json::Object;
use countersign_protocol::jwt::VerifyingKey;
use serde::Deserialize;

/// The largest document.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// The longest id of a key.
pub(crate) const MAX_KID_LENGTH: usize = 255;
/// How many keys of a set are looked at.
const MAX_KEYS: usize = 20;

/// A public key with the one algorithm that it is for (RFC 8725 section 3.1).
#[derive(Clone)]
pub(crate) enum PublicKey {
    /// `RS256`.
    Rsa(VerifyingKey),
    /// `ES256`.
    P256(ParsedPublicKey),
    /// `EdDSA`.
    Ed25519(ParsedPublicKey),
}

impl PublicKey {
    /// The name of the algorithm, as a JWT's header has it.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => key.verify(message, signature).is_ok(),
            Self::P256(key) | Self::Ed25519(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

/// The keys of an issuer.
pub(crate) struct KeySet {
    keys: HashMap<Box<str>, PublicKey>,
    /// Equal for sets of equal keys.
    fingerprint: Vec<u8>,
}

/// A document that is no key set.
#[derive(Debug)]
pub(crate) struct NoKeySet;

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    key_use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a document.
    pub(crate) fn read(document: &[u8], rsa_only: bool) -> Result<Self, NoKeySet> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(NoKeySet);
        }
        let mut document = Object::parse(document).map_err(|_| NoKeySet)?;
        let listed = document.take("keys").ok_or(NoKeySet)?;
        let listed: Vec<serde_json::Value> =
            serde_json::from_str(listed.get()).map_err(|_| NoKeySet)?;
        let mut keys = HashMap::new();
        let mut material = Vec::new();
        for value in listed {
            let text = value.to_string();
            let Some((kid, key)) = read_key(value) else {
                continue;
            };
            let is_wanted = !rsa_only || matches!(key, PublicKey::Rsa(_));
            // Of two keys with one id, the first counts.
            if is_wanted && keys.len() < MAX_KEYS && !keys.contains_key(&kid) {
                keys.insert(kid, key);
                material.push(text);
            }
        }
        material.sort_unstable();
        Ok(Self {
            keys,
            fingerprint: digest(&SHA256, material.join("\n").as_bytes())
                .as_ref()
                .to_vec(),
        })
    }

    pub(crate) fn key(&self, kid: &str) -> Option<&PublicKey> {
        self.keys.get(kid)
    }

    pub(crate) fn has_same_keys_as(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}

fn read_key(value: serde_json::Value) -> Option<(Box<str>, PublicKey)> {
    // A list of the same values would be read as well.
    if !value.is_object() {
        return None;
    }
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let is_for_signatures = jwk.key_use.as_deref().is_none_or(|it| it == "sig")
        && jwk
            .key_ops
            .as_ref()
            .is_none_or(|operations| operations.iter().any(|it| it == "verify"));
    if !is_for_signatures || jwk.kid.is_empty() || jwk.kid.len() > MAX_KID_LENGTH {
        return None;
    }
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (bytes(jwk.n.as_ref())?, bytes(jwk.e.as_ref())?);
            PublicKey::Rsa(VerifyingKey::from_components(&n, &e).ok()?)
        }
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes(jwk.x.as_ref())?, bytes(jwk.y.as_ref())?);
            if x.len() != 32 || y.len() != 32 {
                return None;
            }
            let point = [&[4][..], &x, &y].concat();
            PublicKey::P256(ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?)
        }
        ("OKP", Some("Ed25519")) => {
            let x = bytes(jwk.x.as_ref())?;
            if x.len() != 32 {
                return None;
            }
            PublicKey::Ed25519(ParsedPublicKey::new(&ED25519, x).ok()?)
        }
        _ => return None,
    };
    let is_named_rightly = jwk.alg.is_none_or(|name| name == key.algorithm());
    is_named_rightly.then(|| (jwk.kid.into_boxed_str(), key))
}

fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::TestKey;
    use serde_json::json;

    fn read(keys: &[serde_json::Value]) -> KeySet {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes(), false).expect("a set")
    }

    #[test]
    fn each_kind_of_key_is_read_with_its_algorithm() {
        let set = read(&[
            TestKey::rsa("r").jwk(),
            TestKey::p256("p").jwk(),
            TestKey::ed25519("e").jwk(),
        ]);
        let algorithm = |kid| set.key(kid).map(PublicKey::algorithm);
        assert_eq!(algorithm("r"), Some("RS256"));
        assert_eq!(algorithm("p"), Some("ES256"));
        assert_eq!(algorithm("e"), Some("EdDSA"));
        assert_eq!(algorithm("x"), None);
    }

    #[test]
    fn what_cannot_be_used_is_skipped_and_the_rest_counts() {
        let good = TestKey::rsa("good").jwk();
        let with = |name: &str, value: serde_json::Value| {
            let mut key = TestKey::rsa("bad").jwk();
            key[name] = value;
            key
        };
        let bad = [
            with("use", json!("enc")),
            with("key_ops", json!(["sign"])),
            with("alg", json!("RS512")),
            with("alg", json!("HS256")),
            with("kty", json!("oct")),
            with("kty", json!("EC")),
            with("n", json!("AQAB")),
            with("n", json!(7)),
            with("n", json!("not base64!")),
            with("e", json!("Ag")),
            with("kid", json!("")),
            with("kid", json!(1)),
            with("kid", json!("k".repeat(256))),
            json!("a text"),
            json!([
                "OKP",
                "bad",
                null,
                null,
                null,
                "Ed25519",
                null,
                null,
                TestKey::ed25519("e").jwk()["x"],
                null
            ]),
        ];
        for key in bad {
            let set = read(&[key.clone(), good.clone()]);
            assert_eq!(set.len(), 1, "{key}");
            assert!(set.key("good").is_some());
        }
    }

    #[test]
    fn of_a_machine_issuer_only_rsa_keys_count() {
        let keys = json!({"keys": [TestKey::p256("p").jwk(), TestKey::rsa("r").jwk()]});
        let set = KeySet::read(keys.to_string().as_bytes(), true).expect("a set");
        assert!(set.key("p").is_none() && set.key("r").is_some());
    }

    #[test]
    fn no_more_than_twenty_keys_are_taken_and_the_first_of_an_id_counts() {
        let numbered = |number: usize| {
            let mut key = TestKey::ed25519("e").jwk();
            key["kid"] = json!(format!("key-{number}"));
            key
        };
        let keys: Vec<_> = (0..30).map(numbered).collect();
        assert_eq!(read(&keys).len(), MAX_KEYS);
        let mut second = TestKey::p256("p").jwk();
        second["kid"] = json!("key-0");
        let set = read(&[numbered(0), second]);
        assert_eq!(set.key("key-0").map(PublicKey::algorithm), Some("EdDSA"));
    }

    #[test]
    fn what_is_no_key_set_is_not_taken_for_an_empty_one() {
        for text in ["", "{}", "[]", "[[]]", "<html>", r#"{"keys":{}}"#] {
            assert!(KeySet::read(text.as_bytes(), false).is_err(), "{text}");
        }
        let large = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(MAX_DOCUMENT_BYTES));
        assert!(KeySet::read(large.as_bytes(), false).is_err());
        assert_eq!(
            KeySet::read(br#"{"keys":[]}"#, false).expect("a set").len(),
            0
        );
    }

    #[test]
    fn the_order_of_keys_makes_no_other_set() {
        let (one, two) = (TestKey::rsa("r").jwk(), TestKey::p256("p").jwk());
        let set = read(&[one.clone(), two.clone()]);
        assert!(set.has_same_keys_as(&read(&[two.clone(), one])));
        assert!(!set.has_same_keys_as(&read(&[two])));
    }
}
