//! What a receiver reads: key sets, `Authorization` headers, heads and payloads of JWTs. Nothing panics, what is read is what a plain
//! JSON reader sees, and nobody becomes a machine or a user whom the payload does not name.
#![no_main]

use std::collections::BTreeMap;

use countersign_receiver::fuzzing::{credential, is_jwt_read, machine_of, usable_keys, user_of};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "api";

fuzz_target!(|bytes: &[u8]| {
    if let Some(keys) = usable_keys(bytes) {
        let listed: Vec<&RawValue> =
            serde_json::from_str(members(bytes)["keys"].get()).expect("a list");
        assert!(keys <= listed.len().min(20));
    }
    if let Some(machine) = machine_of(ISSUER, bytes.to_vec()) {
        let claims = members(bytes);
        assert_eq!(value(claims["iss"]), ISSUER);
        assert_eq!(value(claims["sub"]), machine.as_str());
        assert!(value(claims["jti"]).is_string());
        assert!(value(claims["exp"]).is_number() && value(claims["iat"]).is_number());
    }
    if let Some(user) = user_of(AUDIENCE, bytes) {
        let claims = members(bytes);
        assert!(!user.is_empty() && !user.starts_with("mch_"));
        assert_eq!(value(claims["sub"]), user);
        let is_meant = |audience: &Value| audience == AUDIENCE;
        let audience = value(claims["aud"]);
        assert!(
            is_meant(&audience)
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

/// The members of what was read as an object. The values are text still: those that the receiver does not use may be numbers that
/// no float holds.
fn members(bytes: &[u8]) -> BTreeMap<String, &RawValue> {
    serde_json::from_slice(bytes).expect("what was read is an object")
}

fn value(text: &RawValue) -> Value {
    serde_json::from_str(text.get()).expect("what was read is a value")
}
