//! What a receiver reads: key sets, `Authorization` headers, heads and payloads of JWTs. Nothing panics, what is read is what a plain
//! JSON reader sees, and nobody becomes a machine or a user whom the payload does not name.
#![no_main]

use countersign_receiver::fuzzing::{credential, is_jwt_read, machine_of, usable_keys, user_of};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "api";

fuzz_target!(|bytes: &[u8]| {
    let value: Option<Value> = serde_json::from_slice(bytes).ok();
    if let Some(keys) = usable_keys(bytes) {
        let listed = value.as_ref().and_then(|set| set["keys"].as_array());
        assert!(keys <= listed.expect("a key set is JSON").len().min(20));
    }
    if let Some(machine) = machine_of(ISSUER, bytes.to_vec()) {
        let claims = value.as_ref().expect("a payload is JSON");
        assert_eq!(claims["iss"], ISSUER);
        assert_eq!(claims["sub"], machine.as_str());
        assert!(
            claims["jti"].is_string() && claims["exp"].is_number() && claims["iat"].is_number()
        );
    }
    if let Some(user) = user_of(AUDIENCE, bytes) {
        let claims = value.as_ref().expect("a payload is JSON");
        assert!(!user.is_empty() && !user.starts_with("mch_"));
        assert_eq!(claims["sub"], user);
        let is_meant = |audience: &Value| audience == AUDIENCE;
        let audience = &claims["aud"];
        assert!(
            is_meant(audience)
                || audience
                    .as_array()
                    .is_some_and(|all| all.iter().any(is_meant))
        );
    }
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(AUTHORIZATION, value);
        }
    }
    let Some((kind, token)) = credential(&headers) else {
        return;
    };
    assert_eq!(headers.len(), 1, "one of several credentials was chosen");
    assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(kind == "opaque", token.starts_with("mt_"));
    if kind == "jwt" {
        assert_eq!(token.matches('.').count(), 2);
        let _ = is_jwt_read(token);
    }
});
