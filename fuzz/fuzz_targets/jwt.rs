//! JWTs: no text panics or verifies by chance, and whatever claims are signed, the reader sees the authority's own.
#![no_main]

use std::sync::LazyLock;

use countersign_protocol::claims::{Claims, RESERVED_CLAIMS};
use countersign_protocol::ids::{Locator, MachineId, SigningKeyId, TokenId};
use countersign_protocol::jwt::{
    JwtClaims, SigningKey, UnverifiedJwt, VerifyingKey, generate_rsa_key,
};
use countersign_protocol::scopes::Scopes;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

const KEY_ID: &str = "ins_2GIoQhbUpy0hX7B2cVkuTMinXoD";
const SUBJECT: &str = "mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk";

static KEYS: LazyLock<(SigningKey, VerifyingKey)> = LazyLock::new(|| {
    let id: SigningKeyId = KEY_ID.parse().expect("an id");
    let signing = SigningKey::from_pkcs8(id, &generate_rsa_key().expect("a key")).expect("a key");
    let verifying = signing.verifying_key();
    (signing, verifying)
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (signing, verifying) = &*KEYS;
    if let Ok(jwt) = UnverifiedJwt::parse(text) {
        assert!(jwt.verify(verifying).is_err(), "a signature was guessed");
    }
    let Some(claims) = custom_claims(text) else {
        return;
    };
    let subject: MachineId = SUBJECT.parse().expect("an id");
    let id = TokenId::from_parts(Locator::new(7).expect("fits"), 8);
    let scopes: Scopes = [subject].into_iter().collect();
    let token = signing
        .sign(&JwtClaims {
            issuer: "https://auth.example.com",
            subject,
            issued_at: 1_700_000_000,
            expires_at: 1_700_003_600,
            id,
            scopes: Some(&scopes),
            custom: Some(&claims),
        })
        .expect("signs");
    let Ok(parsed) = UnverifiedJwt::parse(&token) else {
        return;
    };
    let read = parsed.verify(verifying).expect("what was signed verifies");
    assert_eq!((read.subject, read.id), (subject, id));
    assert_eq!(read.issuer, "https://auth.example.com");
    assert_eq!(read.expires_at.as_seconds(), 1_700_003_600);
    assert_eq!(read.scopes, Some(scopes));
});

/// Claims that the authority would sign.
fn custom_claims(text: &str) -> Option<Claims> {
    let claims = Claims::new(serde_json::from_str::<&RawValue>(text).ok()?).ok()??;
    let is_reserved = |name: &String| RESERVED_CLAIMS.contains(&name.as_str()) || name == "scopes";
    claims
        .names()
        .is_ok_and(|names| !names.iter().any(is_reserved))
        .then_some(claims)
}
