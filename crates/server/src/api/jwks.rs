//! JWKS and signing keys (contract: JWKS; RFC 7517, OpenID Connect Discovery 1.0 section 3).

use std::sync::Arc;

use countersign_authority::Instance;
use countersign_protocol::error::ErrorCode;
use countersign_protocol::ids::InstanceId;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use serde_json::json;

use crate::app::Call;
use crate::fields::{Body, Presence};
use crate::reply::{Answer, ApiError, ok};
use crate::route::Operation;

/// Receivers may keep public keys for five minutes.
const FIVE_MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// `GET /jwks`: the keys of the caller's instance.
pub(crate) fn of_caller(call: &Call<'_>) -> Result<Answer, ApiError> {
    jwks(call, call.actor()?.instance().id)
}

/// `GET /.well-known/jwks.json`, of the first instance or of the one in the path.
pub(crate) async fn public(call: &Call<'_>) -> Result<Answer, ApiError> {
    let instance = named_instance(call).await?;
    let mut answer = jwks(call, instance.id)?;
    answer.headers_mut().insert(CACHE_CONTROL, FIVE_MINUTES);
    Ok(answer)
}

/// `GET /.well-known/openid-configuration`: where third-party verifiers find the keys. There are no other endpoints: an
/// authority for machines has no users who sign in.
pub(crate) async fn openid_configuration(call: &Call<'_>) -> Result<Answer, ApiError> {
    let instance = named_instance(call).await?;
    let issuer = call.app.authority.issuer(&instance);
    let mut answer = ok(&json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["none"],
        "subject_types_supported": ["public"],
    }))?;
    answer.headers_mut().insert(CACHE_CONTROL, FIVE_MINUTES);
    Ok(answer)
}

/// `GET /countersign/signing_keys`
pub(crate) async fn list_signing_keys(call: &Call<'_>) -> Result<Answer, ApiError> {
    let keys = call
        .app
        .authority
        .signing_keys(call.actor()?)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&json!({ "data": keys, "total_count": keys.len() }))
}

/// `POST /countersign/signing_keys/rotate`
pub(crate) async fn rotate_signing_key(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut body = Body::parse(&call.body, call.row.habit, Presence::Optional)?;
    let is_immediate = body.boolean("immediate")?.unwrap_or(false);
    body.finish()?;
    let rotated = call
        .app
        .authority
        .rotate_signing_key(call.actor()?, is_immediate)
        .await;
    let key = rotated.map_err(|error| call.refused(error))?;
    tracing::info!(kid = %key.kid, state = key.state, actor = call.actor()?.name(), "signing key rotated");
    ok(&key)
}

/// `DELETE /countersign/signing_keys/{kid}`
pub(crate) async fn delete_signing_key(call: &Call<'_>) -> Result<Answer, ApiError> {
    let [kid, _] = call.captures;
    let kid = kid.parse().map_err(|_| {
        ApiError::saying(
            ErrorCode::ResourceNotFound,
            "Resource not found: no such signing key",
        )
    })?;
    call.app
        .authority
        .delete_signing_key(call.actor()?, kid)
        .await
        .map_err(|error| call.refused(error))?;
    tracing::info!(kid = %kid, actor = call.actor()?.name(), "signing key deleted");
    ok(&json!({ "kid": kid, "deleted": true }))
}

fn jwks(call: &Call<'_>, instance: InstanceId) -> Result<Answer, ApiError> {
    let jwks = call.app.authority.jwks(instance).ok_or_else(no_instance)?;
    ok(&jwks)
}

/// The instance that a public path means: the one it names, else the first.
async fn named_instance(call: &Call<'_>) -> Result<Arc<Instance>, ApiError> {
    let instances = call
        .app
        .authority
        .instances()
        .await
        .map_err(|error| call.refused(error))?;
    let is_named = matches!(
        call.row.operation,
        Operation::InstanceJwks | Operation::InstanceOpenidConfiguration
    );
    let [name, _] = call.captures;
    let found = instances.into_iter().find(|instance| {
        if is_named {
            instance.id.as_str() == name
        } else {
            instance.number == 1
        }
    });
    found.ok_or_else(no_instance)
}

fn no_instance() -> ApiError {
    ApiError::saying(
        ErrorCode::ResourceNotFound,
        "Resource not found: there is no such instance",
    )
}
