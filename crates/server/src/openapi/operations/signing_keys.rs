//! The keys that sign JWTs.

use countersign_protocol::body::Jwks;
use countersign_protocol::error::ErrorCode;
use countersign_protocol::ids::SigningKeyId;
use countersign_protocol::instance::{DeletedSigningKey, SigningKeyInfo, SigningKeyList};
use countersign_protocol::request::SigningKeyRotation;

use super::{Description, JWKS, SIGNING_KEYS, body_problems_of, not_found};
use crate::openapi::refusals::Refusal;

pub(crate) fn jwks() -> Description {
    Description::new(
        "getJWKS",
        JWKS,
        "Public keys of my instance",
        "The keys that check this instance's JWTs, for SDKs that ask with a key. The same is public under \
         `/.well-known/jwks.json`.",
    )
    .answers::<Jwks>("The keys.", "{}")
}

pub(crate) fn list() -> Description {
    Description::new(
        "listSigningKeys",
        SIGNING_KEYS,
        "List signing keys",
        "A key is published an hour before it signs, signs for 90 days, and is shown for verification until the last JWT that it \
         signed is over.",
    )
    .answers::<SigningKeyList>("The keys, oldest first.", "{}")
}

pub(crate) fn rotate() -> Description {
    Description::new(
        "rotateSigningKey",
        SIGNING_KEYS,
        "Publish the next signing key",
        "Rotation happens by itself every 90 days; this does it now. The new key signs after an hour, when every receiver's cache \
         has it. With `immediate` it signs at once, and receivers that meet an unknown `kid` fetch the keys again.",
    )
    .optional_body::<SigningKeyRotation>(&[
        ("gently", "Signs after an hour", "{}"),
        ("at_once", "Signs at once, because the old key leaked", r#"{"immediate":true}"#),
    ])
    .answers::<SigningKeyInfo>("The new key.", r#"{"kid":"ins_36sCAr6gS5M5C4x9CxLYQXDhIF1","state":"published","active_at":1767229200000,"last_expires_at":null}"#)
    .refuses(body_problems_of("immediate", "`immediate` must be a boolean."))
    .refuses([Refusal::saying(
        ErrorCode::Conflict,
        "the signing key ins_36sCAr6gS5M5C4x9CxLYQXDhIF1 is published already and becomes active by itself; to use it now, \
         rotate at once",
    )])
}

pub(crate) fn delete() -> Description {
    Description::new(
        "deleteSigningKey",
        SIGNING_KEYS,
        "Delete a signing key",
        "For a key that leaked: all JWTs that it signed are refused from this answer on, here at once and elsewhere when the \
         caches of the public keys are over. Rotate at once before, because the active key cannot be deleted.",
    )
    .path::<SigningKeyId>("kid", "The key's id.")
    .example("ins_36sCAr6gS5M5C4x9CxLYQXDhIF1")
    .answers::<DeletedSigningKey>("The key is gone.", r#"{"kid":"ins_36sCAr6gS5M5C4x9CxLYQXDhIF1"}"#)
    .refuses([
        not_found("Resource not found: no signing key ins_36sCAr6gS5M5C4x9CxLYQXDhIF1"),
        Refusal::saying(
            ErrorCode::Conflict,
            "ins_36sCAr6gS5M5C4x9CxLYQXDhIF1 is the active signing key; rotate at once first, then delete it",
        ),
    ])
}
