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

/// `POST /m2m_tokens/verify`. Key and token are decided by one operation of the store, so the key is checked here.
pub(crate) async fn verify(call: &Call<'_>) -> Result<Answer, ApiError> {
    let credential = call.credential()?;
    let token = match token_to_verify(call) {
        Ok(token) => token,
        // A bad key is told before a bad body.
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
    // What is missing is told before what is too much.
    let token = token.ok_or_else(|| members.wrong("token", Problem::Missing))?;
    members.finish()?;
    Ok(token)
}

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

/// `GET /m2m_tokens`
pub(crate) async fn list(call: &Call<'_>) -> Result<Answer, ApiError> {
    let request = call.query()?;
    let listed = call.app.authority.list_tokens(call.actor()?, request).await;
    ok(&listed.map_err(|error| call.refused(error))?)
}

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

/// `POST /api_keys/verify` and `POST /oauth_applications/access_tokens/verify`: SDKs that accept any kind of token ask; there
/// are no such tokens here.
pub(crate) fn neighbour() -> Result<Answer, ApiError> {
    Err(ApiError::saying(
        ErrorCode::ResourceNotFound,
        "Resource not found: this authority has neither API keys nor OAuth tokens",
    ))
}

/// The outer error is for a text that has not the shape of an id; the inner one for one that names nothing, which is only
/// answered after the body was checked.
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
