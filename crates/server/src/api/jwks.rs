//! JWKS and signing keys (contract: JWKS; RFC 7517, OpenID Connect Discovery 1.0 section 3).

use countersign_authority::Error;
use countersign_protocol::body::List;
use countersign_protocol::error::ErrorCode;
use countersign_protocol::instance::{DeletedSigningKey, OpenidConfiguration};
use countersign_protocol::request::SigningKeyRotation;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use serde::Serialize;
use serde_json::json;

use crate::call::Call;
use crate::reply::{Answer, ApiError, ok};

/// Receivers may keep public keys for five minutes.
const FIVE_MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// `GET /jwks`: the keys of the caller's instance.
pub(crate) fn of_caller(call: &Call<'_>) -> Result<Answer, ApiError> {
    let jwks = call.app.authority.jwks(call.actor()?);
    ok(&jwks.map_err(|error| call.refused(error))?)
}

/// `GET /.well-known/jwks.json`, of the default instance or of the one in the path.
pub(crate) async fn public(call: &Call<'_>) -> Result<Answer, ApiError> {
    let jwks = call.app.authority.public_jwks(named_instance(call)).await;
    cached(&jwks.map_err(|error| no_instance(call, error))?)
}

/// `GET /.well-known/openid-configuration`: where third-party verifiers find the keys. There are no other endpoints: an
/// authority for machines has no users who sign in.
pub(crate) async fn openid_configuration(call: &Call<'_>) -> Result<Answer, ApiError> {
    let found = call.app.authority.discovery(named_instance(call)).await;
    let discovery = found.map_err(|error| no_instance(call, error))?;
    cached(&OpenidConfiguration {
        issuer: discovery.issuer,
        jwks_uri: discovery.jwks_uri,
        id_token_signing_alg_values_supported: ["RS256"],
        response_types_supported: ["none"],
        subject_types_supported: ["public"],
    })
}

/// A public answer that receivers may keep for a while.
fn cached<T: Serialize>(body: &T) -> Result<Answer, ApiError> {
    let mut answer = ok(body)?;
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
    // The list is sorted by names at every level; a key alone is not.
    ok(&json!(List::whole(keys)))
}

/// `POST /countersign/signing_keys/rotate`
pub(crate) async fn rotate_signing_key(call: &Call<'_>) -> Result<Answer, ApiError> {
    let SigningKeyRotation { immediate } = call.read()?;
    let rotated = call
        .app
        .authority
        .rotate_signing_key(call.actor()?, immediate.unwrap_or(false))
        .await;
    let key = rotated.map_err(|error| call.refused(error))?;
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
    ok(&DeletedSigningKey { deleted: true, kid })
}

/// The instance that a public path names; `None` for the default one.
fn named_instance<'a>(call: &'a Call<'_>) -> Option<&'a str> {
    let [name, _] = call.captures;
    Some(name).filter(|name| !name.is_empty())
}

fn no_instance(call: &Call<'_>, error: Error) -> ApiError {
    match error {
        Error::NotFound { .. } => no_such_instance(),
        error => call.refused(error),
    }
}

pub(crate) fn no_such_instance() -> ApiError {
    ApiError::saying(
        ErrorCode::ResourceNotFound,
        "Resource not found: there is no such instance",
    )
}
