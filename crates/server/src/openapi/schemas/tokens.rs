//! Tokens, and what is asked about them.

use countersign_protocol::body::M2mTokenTag;
use countersign_protocol::claims::RESERVED_CLAIMS;
use countersign_protocol::limits::{
    MAX_CLAIMS_BYTES, MAX_JSON_DEPTH, MAX_REASON_LENGTH, MAX_TOKEN_TTL_SECONDS,
};

use super::*;

const TOKEN_ID: &str = "^mt_[0-9a-f]{32}$";

fn token_members() -> Vec<(&'static str, Node)> {
    vec![
        ("object", tag::<M2mTokenTag>("What this is.")),
        (
            "id",
            matching(
                TOKEN_ID,
                "The token's id, for revoking it and for logs. It never works as a token.",
            ),
        ),
        (
            "subject",
            machine_id("The machine that the token speaks for."),
        ),
        (
            "scopes",
            array(
                machine_id("A machine's id."),
                "The machines that the token is for, as they were when it was made.",
            ),
        ),
        (
            "claims",
            Node::object().with(
                "description",
                "What the machine put into the token: any JSON value, or null.",
            ),
        ),
        ("revoked", boolean("Whether it was revoked.")),
        (
            "revocation_reason",
            nullable("string")
                .with("maxLength", MAX_REASON_LENGTH)
                .with("description", "The reason that the first revocation gave."),
        ),
        ("expired", boolean("Whether its time is over.")),
        (
            "expiration",
            nullable_millis("When its time is over, in milliseconds since 1970; null for never."),
        ),
        (
            "last_used_at",
            nullable_millis(
                "When it last verified, at most a few seconds late; null for never and for a JWT that is being verified.",
            ),
        ),
        (
            "created_at",
            millis("When it was made, in milliseconds since 1970."),
        ),
        (
            "updated_at",
            millis("When it was made, last verified or revoked, whichever is latest."),
        ),
    ]
}

fn lifetime(description: &'static str) -> Node {
    nullable("number")
        .with("exclusiveMinimum", 0_i64)
        .with("maximum", MAX_TOKEN_TTL_SECONDS)
        .with("description", description)
}

fn claims() -> Node {
    let description = format!(
        "Any JSON value, answered by verification as it came: at most {MAX_CLAIMS_BYTES} bytes and {MAX_JSON_DEPTH} levels, with no \
         member twice. For a JWT an object, whose members become claims of the JWT, or null."
    );
    Node::object().with("description", description)
}

fn revocation_reason() -> Node {
    nullable("string")
        .with("maxLength", MAX_REASON_LENGTH)
        .with("pattern", NO_NUL)
        .with(
            "description",
            "Why, for the change log and whoever looks the token up. The first reason stays.",
        )
}

pub(super) fn schemas() -> Vec<(&'static str, Node)> {
    let mut created = token_members();
    created.push(("token", text("The token itself, which the machine sends as `Authorization: Bearer …`: `mt_` and 43 characters, or a JWT.")));
    let mut reserved: Vec<&'static str> = RESERVED_CLAIMS.to_vec();
    reserved.sort_unstable();
    let jwt_claims = nullable("object").with(
        "propertyNames",
        Node::object().with("not", Node::object().with("enum", reserved)),
    );
    let is_jwt = Node::object().with("required", ["token_format"]).with(
        "properties",
        Node::object().with("token_format", constant("jwt", "A JWT.")),
    );
    let create = object(vec![
        ("token_format?", one_of(["opaque", "jwt"], "`opaque`: a short string that receivers verify here. `jwt`: one that they can also check by themselves.").with("default", "opaque")),
        ("seconds_until_expiration?", lifetime("How long the token lives; fractions are allowed. Null or absent: the machine's `default_token_ttl`.")),
        ("claims?", claims()),
        ("min_remaining_ttl_seconds?", integer(0, None, "Asks for a live token of this machine with equal claims and scopes that still has at least so many seconds, and for a new one only where there is none. Less than the lifetime. Ignored for JWTs, which are always new.")),
    ])
    .with("if", is_jwt)
    .with("then", Node::object().with("properties", Node::object().with("claims", jwt_claims)));
    let reason_needs_revoked = [
        Node::object().with("required", ["revoked"]),
        Node::object().with(
            "properties",
            Node::object().with("revocation_reason", typed("null")),
        ),
    ];
    vec![
        ("M2MToken", object(token_members())),
        ("M2MTokenCreated", object(created)),
        ("M2MTokenList", object(vec![
            ("m2m_tokens", array(reference("M2MToken"), "This page, newest first.")),
            ("total_count", total_count()),
        ])),
        ("CreateM2MToken", create),
        ("VerifyM2MToken", object(vec![
            ("token?", text("The token that a caller presented: opaque or JWT.")),
            ("secret?", text("The same, as older SDKs send it. Where both are given, `token` wins.")),
        ])
        .with("anyOf", [Node::object().with("required", ["token"]), Node::object().with("required", ["secret"])])),
        ("RevokeM2MToken", nullable_object(vec![("revocation_reason?", revocation_reason())])),
        ("UpdateM2MToken", nullable_object(vec![
            ("claims?", claims()),
            ("seconds_until_expiration?", lifetime("The new rest of its life, counted from now. Null: the machine's `default_token_ttl`.")),
            ("revoked?", Node::object().with("const", true).with("description", "Revokes the token in the same step. A revoked token stays revoked.")),
            ("revocation_reason?", revocation_reason()),
        ])
        .with("anyOf", reason_needs_revoked)),
    ]
}
