//! `/m2m_tokens` (contract: M2M tokens).

use std::borrow::Cow;

use countersign_authority::{Accepts, Invalid, Place, Problem};
use countersign_protocol::body::{ExposedSecret, M2mToken};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::ids::TokenId;
use countersign_protocol::request::{RevokeRequest, VerifyRequest};
use serde::Serialize;

use crate::call::Call;
use crate::reply::{Answer, ApiError, Habit, json, ok, written};

pub(crate) const VERIFY: &str = r#"Tokens: Verify a token

Checks a token that a caller presented. The response is 200 if the token is genuine, not revoked, not expired, and meant for the
verifying machine. With a machine key, that machine must be in the token's `scopes`. With an instance key, any token of the
instance is accepted. In all other cases, the response is 404.

`meta.reason` gives the reason to instance keys and to the machines that the token is for; other callers see only the 404. JWTs
are accepted as well. Unlike a check of the signature alone, this operation also rejects revoked JWTs.

- 200: The token is good, and this is what it says. `{"last_used_at":1767225660000,"updated_at":1767225660000}`
- bad_request token: body.token must be included
- resource_not_found: Resource not found
- resource_not_found (unknown): Resource not found: the token is unknown
- resource_not_found (revoked): Resource not found: the token was revoked
- resource_not_found (expired): Resource not found: the token is expired
"#;

/// `POST /m2m_tokens/verify`. Key and token are decided by one operation of the store, so the key is checked here.
pub(crate) async fn verify(call: &Call<'_>) -> Result<Answer, ApiError> {
    let credential = call.credential()?;
    let token = match token_to_verify(call) {
        Ok(token) => token,
        // An invalid key is reported before an invalid body.
        Err(error) => {
            call.authenticate(Accepts::Any).await?;
            return Err(error);
        }
    };
    let verified = call
        .app
        .authority
        .verify_presented(credential, &token)
        .await;
    let verified = verified.map_err(|error| call.unauthenticated(error))?;
    Ok(written(200, verified.to_json()))
}

pub(super) fn token_to_verify<'a>(call: &'a Call<'_>) -> Result<Cow<'a, str>, ApiError> {
    let mut members = call.members()?;
    let VerifyRequest { secret, token } = members.read()?;
    let token = token.or(secret);
    // A missing member is reported before unknown members.
    let token = token.ok_or_else(|| members.wrong("token", Problem::Missing))?;
    members.finish()?;
    Ok(token)
}

pub(crate) const CREATE: &str = r#"Tokens: Create a token

Creates a token for the machine whose key is used. The machine presents it to the machines that it calls. The token copies the
machine's current scopes; later changes of scopes affect new tokens only. Instance keys are rejected, because a token identifies
a machine.

The token string appears only in this response. Keep it until shortly before it expires, or set `min_remaining_ttl_seconds` to
get the same token again.

- 201: The token, new or reused.
  - opaque: An opaque token
  - jwt: A JWT `{"claims":{"tenant":"acme"},"token":"eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Imluc18yR0lvUSJ9.eyJzdWIiOiJtY2hfMnhoRmoifQ.wB1oxLQ3TTxUAW4rxE7mIrb5nC0ZHcDdcnT9mYfDqYhdfUeQnUnhrn3I5Ft6kvXcVjYvOY_kLr0iCnCRvRzUQpXsX8cMjQ"}`
- machine_token_reserved_claim sub: You can't use the reserved claim: 'sub'
- conflict: the machine holds 1000000 tokens, which is the maximum; revoke opaque tokens, wait until tokens expire, or request shorter
  lifetimes
"#;

/// `POST /m2m_tokens`
pub(crate) async fn create(call: &Call<'_>) -> Result<Answer, ApiError> {
    let request = call.read()?;
    let issued = call.app.authority.issue(call.actor()?, &request).await;
    let issued = issued.map_err(|error| call.refused(error))?;
    if reads_secret(call.user_agent()) {
        return Ok(json(
            201,
            &WithSecret {
                body: &issued.body,
                secret: issued.body.token.as_ref(),
            },
        ));
    }
    Ok(written(201, issued.body.to_json()))
}

pub(crate) const LIST: &str = r"Tokens: List a machine's tokens

Lists the tokens of one machine, newest first, without the token strings. A machine key lists the machine's own tokens; an instance
key lists those of any machine. Revoked tokens, expired tokens and JWTs are included only on request.

- 200: The tokens.
- bad_request subject: query.subject must match the pattern ^mch_\w{27}$
- authorization_invalid: You are not authorized to perform this request: a machine can list its own tokens only
- resource_not_found: Resource not found: no machine mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk
";

/// `GET /m2m_tokens`
pub(crate) async fn list(call: &Call<'_>) -> Result<Answer, ApiError> {
    let request = call.query()?;
    let listed = call.app.authority.list_tokens(call.actor()?, request).await;
    ok(&listed.map_err(|error| call.refused(error))?)
}

pub(crate) const REVOKE: &str = r#"Tokens: Revoke a token

Ends a token permanently. It is rejected as soon as this request succeeds. For a JWT, use its `jti` as the id. A machine key
revokes the machine's own tokens; an instance key revokes any token. Revoking a token again succeeds and keeps the first reason.

- 200: The token, revoked. `{"revoked":true,"revocation_reason":"laptop stolen","updated_at":1767225720000}`
"#;

/// `POST /m2m_tokens/{m2m_token_id}/revoke`
pub(crate) async fn revoke(call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = token_id(call)?;
    let RevokeRequest { revocation_reason } = call.read()?;
    let revoked = call
        .app
        .authority
        .revoke(call.actor()?, id?, revocation_reason)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&revoked)
}

pub(crate) const UPDATE: &str = r#"Tokens: Change a live token

Changes the claims or the remaining lifetime of an opaque token, or revokes it. The token string stays the same. JWTs cannot be
changed, because their content is signed. Revoked and expired tokens cannot be changed. (An extension: Clerk has no such operation.)

- 200: The token as it is now. `{"claims":{"tenant":"acme"},"expiration":1767232800000}`
- bad_request: a JWT cannot be changed, because its content is signed
- bad_request: a token that is revoked or expired cannot be changed
"#;

/// `PATCH /m2m_tokens/{m2m_token_id}`, our extension
pub(crate) async fn update(call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = token_id(call)?;
    let request = call.read()?;
    let updated = call
        .app
        .authority
        .update_token(call.actor()?, id?, request)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&updated)
}

pub(crate) const API_KEY: &str = "Other kinds: Verify an API key

Always 404, so that an SDK that accepts any kind of token counts the one that it was shown as unknown.

- resource_not_found: Resource not found: this authority has neither API keys nor OAuth tokens
";

pub(crate) const OAUTH_TOKEN: &str = "Other kinds: Verify an OAuth token

Always 404, so that an SDK that accepts any kind of token counts the one that it was shown as unknown.

- resource_not_found: Resource not found: this authority has neither API keys nor OAuth tokens
";

/// `POST /api_keys/verify` and `POST /oauth_applications/access_tokens/verify`: SDKs that accept any kind of token ask; there
/// are no such tokens here.
pub(crate) fn other_kind() -> Result<Answer, ApiError> {
    Err(ApiError::saying(
        ErrorCode::ResourceNotFound,
        "Resource not found: this authority has neither API keys nor OAuth tokens",
    ))
}

/// The outer error reports a malformed id. The inner error reports a well-formed id that cannot exist; it is returned only after the
/// body was checked.
fn token_id(call: &Call<'_>) -> Result<Result<TokenId, ApiError>, ApiError> {
    let [text, _] = call.captures;
    if !TokenId::is_well_formed(text) {
        return Err(malformed_id());
    }
    Ok(text.parse().map_err(|_| {
        ApiError::saying(
            ErrorCode::ResourceNotFound,
            format!("Resource not found: no token {text}; ids are lower-case"),
        )
    }))
}

pub(crate) fn malformed_id() -> ApiError {
    let rule = "must match the pattern ^mt_[0-9A-Fa-f]{32}$ (a token's id, not the token itself)";
    let problem = Problem::WrongFormat(rule.into());
    let invalid = Invalid::new(Place::Path, "m2m_token_id", problem);
    ApiError::invalid(Habit::BadRequest, &invalid)
}

/// The first SDKs read the new token from `secret` (contract: older dialects); nobody else gets that member.
fn reads_secret(user_agent: &str) -> bool {
    ["@clerk/backend@2.7.", "@clerk/backend@2.8."]
        .iter()
        .any(|sdk| user_agent.starts_with(sdk))
}

/// A new token with its string twice. (`flatten` is safe here: it only writes.)
#[derive(Serialize)]
struct WithSecret<'a> {
    #[serde(flatten)]
    body: &'a M2mToken,
    secret: Option<&'a ExposedSecret>,
}
