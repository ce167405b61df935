//! Tokens: create, verify, list, revoke, update.

use std::borrow::Cow;

use countersign_authority::Refusal as TokenRefusal;
use countersign_protocol::body::{M2mToken, M2mTokenList};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::ids::{MachineId, TokenId};
use countersign_protocol::limits::MAX_TOKENS_PAGE;
use countersign_protocol::request::{IssueRequest, RevokeRequest, UpdateRequest, VerifyRequest};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;

use super::{Description, TOKENS, not_found};
use crate::openapi::refusals::Refusal;

fn bad_request(long_message: &'static str) -> Refusal {
    Refusal::saying(ErrorCode::BadRequest, long_message)
}

pub(crate) fn create() -> Description {
    Description::new(
        "createM2MToken",
        TOKENS,
        "Create a token",
        "A machine makes a token for itself, to show it to the machines that it may call. The token copies the machine's scopes \
         as they are now; later changes of scopes concern new tokens only. Only a machine key can do this: a token speaks for a \
         machine, and an instance is none.\n\n\
         The answer is the only place where the token itself appears. Keep it until shortly before its end, or let \
         `min_remaining_ttl_seconds` hand out the same one again.",
    )
    .body::<IssueRequest>(&[
        ("defaults", "A token that lives as long as the machine says", "{}"),
        ("minutes", "Ten minutes, with claims", r#"{"seconds_until_expiration":600,"claims":{"tenant":"acme"}}"#),
        ("jwt", "A JWT", r#"{"token_format":"jwt","seconds_until_expiration":600,"claims":{"tenant":"acme"}}"#),
        ("reuse", "A live equal token if there is one", r#"{"seconds_until_expiration":3600,"min_remaining_ttl_seconds":300}"#),
    ])
    .answers_any::<M2mToken>("201", "The token, new or handed out again.", &[
        ("opaque", "An opaque token", "{}"),
        // The real one has some 800 characters; nobody reads them.
        (
            "jwt",
            "A JWT",
            r#"{"claims":{"tenant":"acme"},"token":"eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJtY2hfMnhoRmoifQ.wB1oxLQ3TTxUAW4rxE7mIrb5nC0Z"}"#,
        ),
    ])
    .shaped("M2MTokenCreated")
    .refuses([
        bad_request("body.seconds_until_expiration must be greater than 0"),
        Refusal::saying(ErrorCode::MachineTokenReservedClaim, "You can't use the reserved claim: 'sub'").about("sub"),
        Refusal::saying(
            ErrorCode::Conflict,
            "the machine holds 1000000 live tokens, which is the maximum; let some expire, revoke some, or ask for shorter ones",
        ),
    ])
}

pub(crate) fn verify() -> Description {
    let refused = |reason, text| not_found(text).because(reason);
    Description::new(
        "verifyM2MToken",
        TOKENS,
        "Verify a token",
        "A machine that is called asks whether the token that it was shown is good. The answer is 200 for a token that is \
         genuine, neither revoked nor expired, and meant for the asking machine: with a machine key, that machine must be in the \
         token's `scopes`. With an instance key any token of the instance verifies. Everything else is 404.\n\n\
         `meta.reason` says why to instance keys and to the machines that the token is for; nobody else learns more than 404. \
         JWTs are accepted as well and, unlike with a mere check of the signature, refused once they are revoked.",
    )
    .body::<VerifyRequest<'_>>(&[
        ("token", "A token", r#"{"token":"mt_EXAMPLE0TOKEN0EXAMPLE0TOKEN0EXAMPLE0TOKEN0E"}"#),
    ])
    .answers::<M2mToken>(
        "The token is good, and this is what it says.",
        r#"{"last_used_at":1767225660000,"updated_at":1767225660000}"#,
    )
    .refuses([
        bad_request("body.token must be included"),
        not_found("Resource not found"),
        refused(TokenRefusal::Unknown, "Resource not found: the token is unknown"),
        refused(TokenRefusal::Revoked, "Resource not found: the token was revoked"),
        refused(TokenRefusal::Expired, "Resource not found: the token is expired"),
    ])
}

pub(crate) fn list() -> Description {
    Description::new(
        "listM2MTokens",
        TOKENS,
        "List a machine's tokens",
        "The tokens of one machine, newest first, without the tokens themselves. A machine key lists its own; an instance key \
         those of any machine. Revoked and expired ones, and JWTs, are left out unless they are asked for.",
    )
    .parameter::<MachineId>("query", "subject", "The machine whose tokens are wanted.")
    .query("revoked", "Whether to list revoked tokens as well.", json!({ "type": "boolean", "default": false }))
    .query("expired", "Whether to list expired tokens as well.", json!({ "type": "boolean", "default": false }))
    .query(
        "format",
        "Which kinds to list. Clerk has no such parameter; without it the list is as there.",
        json!({ "type": "string", "enum": ["opaque", "jwt", "all"], "default": "opaque" }),
    )
    .paged(MAX_TOKENS_PAGE)
    .answers::<M2mTokenList>("The tokens.", "{}")
    .refuses([
        bad_request(r"query.subject must match the pattern ^mch_\w{27}$"),
        Refusal::saying(
            ErrorCode::AuthorizationInvalid,
            "You are not authorized to perform this request: a machine can list its own tokens only",
        ),
        not_found("Resource not found: no machine mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk"),
    ])
}

pub(crate) fn revoke() -> Description {
    Description::new(
        "revokeM2MToken",
        TOKENS,
        "Revoke a token",
        "Ends a token for good: from this answer on it is refused. JWTs are revoked by their `jti` in the same way. A machine \
         key revokes its own tokens, an instance key any. Revoking once more changes nothing and succeeds; the first reason stays.",
    )
    .path::<TokenIdInPath>("m2m_token_id", "The token's id: not the token itself.")
    .optional_body::<RevokeRequest>(&[
        ("reason", "With a reason", r#"{"revocation_reason":"laptop stolen"}"#),
        ("none", "Without one", "{}"),
    ])
    .answers::<M2mToken>(
        "The token, revoked.",
        r#"{"revoked":true,"revocation_reason":"laptop stolen","updated_at":1767225720000}"#,
    )
    .refuses(about_id())
}

pub(crate) fn update() -> Description {
    Description::new(
        "updateM2MToken",
        TOKENS,
        "Change a live token",
        "Changes the claims or the remaining life of an opaque token, or revokes it. The token itself stays the same. What a JWT \
         says is signed and cannot be changed, and what is over stays over. (An extension: Clerk has no such operation.)",
    )
    .path::<TokenIdInPath>("m2m_token_id", "The token's id: not the token itself.")
    .optional_body::<UpdateRequest>(&[
        ("extend", "Another two hours, other claims", r#"{"seconds_until_expiration":7200,"claims":{"tenant":"acme"}}"#),
        ("revoke", "Revoke", r#"{"revoked":true,"revocation_reason":"no longer needed"}"#),
    ])
    .answers::<M2mToken>(
        "The token as it is now.",
        r#"{"claims":{"tenant":"acme"},"expiration":1767232800000}"#,
    )
    .refuses(about_id())
    .refuses([
        bad_request("a JWT cannot be changed, because its content is signed").called("bad_request_jwt"),
        bad_request("a token that is revoked or expired cannot be changed").called("bad_request_over"),
    ])
}

/// What a path may hold: the contract takes upper-case digits as well, and finds nothing under them.
struct TokenIdInPath;

impl JsonSchema for TokenIdInPath {
    fn schema_name() -> Cow<'static, str> {
        "TokenIdInPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^mt_[0-9A-Fa-f]{32}$", "examples": [TokenId::EXAMPLE] })
    }
}

fn about_id() -> [Refusal; 2] {
    [
        bad_request(
            "url_parameter.m2m_token_id must match the pattern ^mt_[0-9A-Fa-f]{32}$ (a token's id, not the token itself)",
        ),
        not_found("Resource not found: no token mt_07f0ba8c3b4843ce7d85fcdd5e71853e"),
    ]
}
