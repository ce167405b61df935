//! Tokens: create, verify, list, revoke, update.

use countersign_authority::Refusal as TokenRefusal;
use countersign_protocol::error::ErrorCode;
use countersign_protocol::limits::MAX_TOKENS_PAGE;

use super::{Description, TOKENS, not_found};
use crate::openapi::examples;
use crate::openapi::refusals::Refusal;
use crate::openapi::schemas::{TOKEN_ID_IN_PATH, boolean, machine_id, matching, one_of};

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
    .body("CreateM2MToken", &[
        ("defaults", "A token that lives as long as the machine says", "{}"),
        ("minutes", "Ten minutes, with claims", r#"{"seconds_until_expiration":600,"claims":{"tenant":"acme"}}"#),
        ("jwt", "A JWT", r#"{"token_format":"jwt","seconds_until_expiration":600,"claims":{"tenant":"acme"}}"#),
        ("reuse", "A live equal token if there is one", r#"{"seconds_until_expiration":3600,"min_remaining_ttl_seconds":300}"#),
    ])
    .answers_any("201", "The token, new or handed out again.", "M2MTokenCreated", vec![
        ("opaque", "An opaque token", examples::token_created()),
        ("jwt", "A JWT", examples::jwt_created()),
    ])
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
    .body("VerifyM2MToken", &[
        ("token", "A token", r#"{"token":"mt_EXAMPLE0TOKEN0EXAMPLE0TOKEN0EXAMPLE0TOKEN0E"}"#),
    ])
    .answers("The token is good, and this is what it says.", "M2MToken", examples::token_verified())
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
    .required_query("subject", machine_id("The machine whose tokens are wanted."), examples::BILLING)
    .query("revoked", boolean("Whether to list revoked tokens as well.").with("default", false))
    .query("expired", boolean("Whether to list expired tokens as well.").with("default", false))
    .query(
        "format",
        one_of(["opaque", "jwt", "all"], "Which kinds to list. Clerk has no such parameter; without it the list is as there.")
            .with("default", "opaque"),
    )
    .paged(MAX_TOKENS_PAGE)
    .answers("The tokens.", "M2MTokenList", examples::token_list())
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
    .path("m2m_token_id", token_id(), examples::TOKEN_ID)
    .optional_body("RevokeM2MToken", &[
        ("reason", "With a reason", r#"{"revocation_reason":"laptop stolen"}"#),
        ("none", "Without one", "{}"),
    ])
    .answers("The token, revoked.", "M2MToken", examples::token_revoked())
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
    .path("m2m_token_id", token_id(), examples::TOKEN_ID)
    .optional_body("UpdateM2MToken", &[
        ("extend", "Another two hours, other claims", r#"{"seconds_until_expiration":7200,"claims":{"tenant":"acme"}}"#),
        ("revoke", "Revoke", r#"{"revoked":true,"revocation_reason":"no longer needed"}"#),
    ])
    .answers("The token as it is now.", "M2MToken", examples::token_updated())
    .refuses(about_id())
    .refuses([
        bad_request("a JWT cannot be changed, because its content is signed").called("bad_request_jwt"),
        bad_request("a token that is revoked or expired cannot be changed").called("bad_request_over"),
    ])
}

fn token_id() -> crate::openapi::node::Node {
    matching(TOKEN_ID_IN_PATH, "The token's id: not the token itself.")
}

fn about_id() -> [Refusal; 2] {
    [
        bad_request(
            "url_parameter.m2m_token_id must match the pattern ^mt_[0-9A-Fa-f]{32}$ (a token's id, not the token itself)",
        ),
        not_found("Resource not found: no token mt_07f0ba8c3b4843ce7d85fcdd5e71853e"),
    ]
}
