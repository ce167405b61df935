//! `/m2m_tokens` (contract: M2M tokens).

use countersign_authority::{
    Error, Invalid, IssueRequest, Page, Problem, TokenFormat, TokenFormats, UpdateRequest,
};
use countersign_protocol::body::{ExposedSecret, M2mToken, M2mTokenList};
use countersign_protocol::claims::Claims;
use countersign_protocol::error::ErrorCode;
use countersign_protocol::ids::{MachineId, TokenId};
use countersign_protocol::jwt::looks_like_jwt;
use countersign_protocol::limits::{DEFAULT_PAGE, MAX_SAFE_INTEGER, MAX_TOKENS_PAGE};
use serde::Serialize;

use crate::app::Call;
use crate::fields::{Body, Presence, Query};
use crate::reply::{Answer, ApiError, Habit, Place, json, ok, written};

const HABIT: Habit = Habit::BadRequest;

/// `POST /m2m_tokens/verify`
pub(crate) async fn verify(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut body = Body::parse(&call.body, HABIT, Presence::Required)?;
    // Older SDKs send `secret`; where both are given, `token` wins.
    let secret = body.text("secret")?;
    let token = body
        .text("token")?
        .or(secret)
        .ok_or_else(|| body.wrong("token", Problem::Missing))?;
    body.finish()?;
    let is_jwt = looks_like_jwt(&token);
    let actor = call.actor()?;
    match call.app.authority.verify(actor, &token).await {
        Ok(verified) => {
            call.app.metrics.verified(is_jwt, None);
            tracing::debug!(
                target: "countersign::verification",
                subject = %verified.subject, token.id = %verified.id, verifier = actor.name(), jwt = is_jwt,
                "token verification succeeded"
            );
            Ok(written(200, verified.to_json()))
        }
        Err(error) => {
            if let Error::TokenRefused {
                refusal, subject, ..
            } = &error
            {
                call.app.metrics.verified(is_jwt, Some(*refusal));
                tracing::info!(
                    target: "countersign::verification",
                    reason = refusal.as_str(), subject = subject.map(tracing::field::display), verifier = actor.name(), jwt = is_jwt,
                    "token verification failed"
                );
            }
            Err(call.refused(error))
        }
    }
}

/// `POST /m2m_tokens`
pub(crate) async fn create(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut body = Body::parse(&call.body, HABIT, Presence::Required)?;
    let format = match body.text("token_format")?.as_deref() {
        None | Some("opaque") => TokenFormat::Opaque,
        Some("jwt") => TokenFormat::Jwt,
        Some(_) => {
            return Err(body.wrong(
                "token_format",
                Problem::NotAllowed("must be 'opaque' or 'jwt'".into()),
            ));
        }
    };
    let seconds_until_expiration = body.nullable_number("seconds_until_expiration")?.flatten();
    let claims = claims(&mut body)?.flatten();
    let min_remaining_ttl_seconds = body.integer("min_remaining_ttl_seconds")?;
    if min_remaining_ttl_seconds.is_some_and(|seconds| seconds < 0) {
        return Err(body.wrong(
            "min_remaining_ttl_seconds",
            Problem::NotAllowed("must be at least 0".into()),
        ));
    }
    body.finish()?;
    let request = IssueRequest {
        format,
        seconds_until_expiration,
        claims,
        min_remaining_ttl_seconds,
    };
    let issued = call
        .app
        .authority
        .issue(call.actor()?, &request)
        .await
        .map_err(|error| call.refused(error))?;
    call.app
        .metrics
        .issued(format == TokenFormat::Jwt, issued.is_reused);
    tracing::debug!(
        target: "countersign::issue",
        subject = %issued.body.subject, token.id = %issued.body.id, reused = issued.is_reused, jwt = format == TokenFormat::Jwt,
        "token issued"
    );
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
    let mut query = Query::parse(call.query, HABIT)?;
    let subject = query
        .text("subject")?
        .ok_or_else(|| query.wrong("subject", Problem::Missing))?;
    let subject: MachineId = subject.parse().map_err(|_| {
        query.wrong(
            "subject",
            Problem::WrongFormat(r"must match the pattern ^mch_\w{27}$".into()),
        )
    })?;
    let is_with = (query.boolean("revoked")?, query.boolean("expired")?);
    let formats = match query.text("format")?.as_deref() {
        None | Some("opaque") => TokenFormats::Opaque,
        Some("jwt") => TokenFormats::Jwt,
        Some("all") => TokenFormats::All,
        Some(_) => {
            return Err(query.wrong(
                "format",
                Problem::NotAllowed("must be 'opaque', 'jwt' or 'all'".into()),
            ));
        }
    };
    let page = page(&mut query, MAX_TOKENS_PAGE)?;
    let listed = call
        .app
        .authority
        .list_tokens(call.actor()?, subject, is_with, formats, page)
        .await;
    let (m2m_tokens, total) = listed.map_err(|error| call.refused(error))?;
    ok(&M2mTokenList {
        m2m_tokens,
        total_count: i64::try_from(total).unwrap_or(i64::MAX),
    })
}

/// `POST /m2m_tokens/{m2m_token_id}/revoke`
pub(crate) async fn revoke(call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = token_id(call)?;
    let mut body = Body::parse(&call.body, HABIT, Presence::Optional)?;
    let reason = body
        .nullable_text("revocation_reason")?
        .flatten()
        .map(std::borrow::Cow::into_owned);
    body.finish()?;
    let revoked = call
        .app
        .authority
        .revoke(call.actor()?, id?, reason)
        .await
        .map_err(|error| call.refused(error))?;
    tracing::info!(token.id = %revoked.id, subject = %revoked.subject, actor = call.actor()?.name(), "token revoked");
    ok(&revoked)
}

/// `PATCH /m2m_tokens/{m2m_token_id}`, our extension
pub(crate) async fn update(call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = token_id(call)?;
    let mut body = Body::parse(&call.body, HABIT, Presence::Optional)?;
    let claims = claims(&mut body)?;
    let seconds_until_expiration = body.nullable_number("seconds_until_expiration")?;
    let revoke = match body.boolean("revoked")? {
        Some(false) => {
            return Err(body.wrong(
                "revoked",
                Problem::NotAllowed("must be true: a revoked token stays revoked".into()),
            ));
        }
        revoked => revoked.is_some(),
    };
    let revocation_reason = body
        .nullable_text("revocation_reason")?
        .flatten()
        .map(std::borrow::Cow::into_owned);
    body.finish()?;
    let request = UpdateRequest {
        claims,
        seconds_until_expiration,
        revoke,
        revocation_reason,
    };
    let updated = call
        .app
        .authority
        .update_token(call.actor()?, id?, request)
        .await
        .map_err(|error| call.refused(error))?;
    tracing::info!(token.id = %updated.id, subject = %updated.subject, actor = call.actor()?.name(), "token updated");
    ok(&updated)
}

/// `POST /api_keys/verify` and `POST /oauth_applications/access_tokens/verify`: SDKs that accept any kind of token ask; there
/// are no such tokens here.
pub(crate) fn neighbour() -> ApiError {
    ApiError::saying(
        ErrorCode::ResourceNotFound,
        "Resource not found: this authority has neither API keys nor OAuth tokens",
    )
}

/// The outer error is for a text that has not the shape of an id; the inner one for one that names nothing, which is only
/// answered after the body was checked.
fn token_id(call: &Call<'_>) -> Result<Result<TokenId, ApiError>, ApiError> {
    let [text, _] = call.captures;
    if !TokenId::is_well_formed(text) {
        let rule =
            "must match the pattern ^mt_[0-9A-Fa-f]{32}$ (a token's id, not the token itself)";
        let invalid = Invalid::new("m2m_token_id", Problem::WrongFormat(rule.into()));
        return Err(ApiError::invalid(HABIT, Place::Path, &invalid));
    }
    Ok(text.parse().map_err(|_| {
        ApiError::saying(
            ErrorCode::ResourceNotFound,
            format!("Resource not found: no token {text}; ids are lower-case"),
        )
    }))
}

/// `claims`: the outer `None` is for an absent member.
fn claims(body: &mut Body<'_>) -> Result<Option<Option<Claims>>, ApiError> {
    let Some(raw) = body.raw("claims") else {
        return Ok(None);
    };
    Claims::new(raw)
        .map(Some)
        .map_err(|error| body.wrong("claims", Problem::NotAllowed(error.to_string().into())))
}

/// `limit` and `offset`.
pub(crate) fn page(query: &mut Query<'_>, most: i64) -> Result<Page, ApiError> {
    let limit = query.integer("limit", 1, most)?.unwrap_or(DEFAULT_PAGE);
    let offset = query.integer("offset", 0, MAX_SAFE_INTEGER)?.unwrap_or(0);
    Ok(Page {
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        offset: u64::try_from(offset).unwrap_or_default(),
    })
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
