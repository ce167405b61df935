//! The keys that sign JWTs, public and private sides.

use super::*;

pub(super) fn schemas() -> Vec<(&'static str, Node)> {
    let signing_key = object(vec![
        (
            "kid",
            matching(
                INSTANCE_ID,
                "The key's id, in the head of each JWT that it signed.",
            ),
        ),
        (
            "state",
            one_of(
                ["published", "active", "verify_only"],
                "`published`: shown in the JWKS, not used yet. `active`: signs. `verify_only`: its JWTs are still accepted.",
            ),
        ),
        (
            "published_at",
            millis("When it was published, in milliseconds since 1970."),
        ),
        (
            "active_at",
            nullable_millis("When it began to sign, or will."),
        ),
        ("retired_at", nullable_millis("When it ceased to sign.")),
        (
            "last_expires_at",
            nullable_millis("When the last JWT that it signed is over."),
        ),
    ]);
    let jwk = object(vec![
        ("use", constant("sig", "For signatures.")),
        ("kty", constant("RSA", "The kind of key.")),
        ("kid", matching(INSTANCE_ID, "The key's id.")),
        ("alg", constant("RS256", "The algorithm.")),
        ("n", matching("^[0-9A-Za-z_-]+$", "The modulus, base64url.")),
        ("e", constant("AQAB", "The exponent 65537, base64url.")),
    ]);
    vec![
        ("Jwks", object(vec![("keys", array(jwk, "The public keys: the next, the active one, and those whose JWTs still live.").with("minItems", 1_i64))])),
        ("OpenidConfiguration", object(vec![
            ("issuer", text("The `iss` of every JWT.")),
            ("jwks_uri", text("Where the public keys are.")),
            ("id_token_signing_alg_values_supported", array(constant("RS256", "The only one."), "How JWTs are signed.")),
            ("response_types_supported", array(constant("none", "Machines do not sign in."), "Required by the standard.")),
            ("subject_types_supported", array(constant("public", "Machine ids are the same for everybody."), "Required by the standard.")),
        ])),
        ("SigningKey", signing_key),
        ("SigningKeyList", object(vec![
            ("data", array(reference("SigningKey"), "The keys, oldest first.")),
            ("total_count", total_count()),
        ])),
        ("DeletedSigningKey", object(vec![
            ("kid", matching(INSTANCE_ID, "The key's id.")),
            ("deleted", constant(true, "It is gone.")),
        ])),
        ("RotateSigningKey", nullable_object(vec![(
            "immediate?",
            boolean("Whether the new key signs at once. Without it, it signs after an hour, when every receiver's cache knows it.").with("default", false),
        )])),
    ]
}
