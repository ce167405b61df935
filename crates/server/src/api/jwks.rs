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

pub(crate) const OF_CALLER: &str = "Public keys: Public keys of my instance

The public keys for this instance's JWTs, for SDKs that send a key. The same keys are public, without a key, under
`/.well-known/jwks.json` (default instance) or `/{instance_id}/.well-known/jwks.json`.

- 200: The keys.
";

/// `GET /jwks`: the keys of the caller's instance.
pub(crate) fn of_caller(call: &Call<'_>) -> Result<Answer, ApiError> {
    let jwks = call.app.authority.jwks(call.actor()?);
    ok(&jwks.map_err(|error| call.refused(error))?)
}

pub(crate) const PUBLIC: &str = "Public keys: Public keys

The keys that check JWTs (RFC 7517), for everybody. Without an id in the path they are those of the default instance. They may be cached
for five minutes; on an unknown `kid`, fetch again.

- 200: The keys.
";

pub(crate) const PUBLIC_OF_INSTANCE: &str = "Public keys: Public keys of an instance

The keys that check the JWTs of the instance in the path (RFC 7517), for everybody. They may be kept for five minutes; on an
unknown `kid`, fetch again.

- 200: The keys.
";

/// `GET /.well-known/jwks.json`, of the default instance or of the one in the path.
pub(crate) async fn public(call: &Call<'_>) -> Result<Answer, ApiError> {
    let jwks = call.app.authority.public_jwks(named_instance(call)).await;
    cached(&jwks.map_err(|error| no_instance(call, error))?)
}

pub(crate) const OPENID_CONFIGURATION: &str = "Public keys: Discovery

Tells gateways and libraries that know only the issuer where the public keys are (OpenID Connect Discovery 1.0). There are no sign-in
endpoints, because machines do not sign in.

- 200: The issuer and the address of its keys.
";

pub(crate) const OPENID_CONFIGURATION_OF_INSTANCE: &str = "Public keys: Discovery of an instance

Tells gateways and libraries that know only the issuer where the public keys of the instance in the path are (OpenID Connect
Discovery 1.0).

- 200: The issuer and the address of its keys.
";

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

pub(crate) const LIST_SIGNING_KEYS: &str = "Signing keys: List signing keys

A key is published an hour before it signs, signs for 90 days, and is shown for verification until the last JWT that it signed has
expired.

- 200: The keys, oldest first.
";

/// `GET /countersign/signing_keys`
pub(crate) async fn list_signing_keys(call: &Call<'_>) -> Result<Answer, ApiError> {
    let keys = call
        .app
        .authority
        .signing_keys(call.actor()?)
        .await
        .map_err(|error| call.refused(error))?;
    // Members of the list are sorted at every level; those of a single key are not.
    ok(&json!(List::whole(keys)))
}

pub(crate) const ROTATE_SIGNING_KEY: &str = r#"Signing keys: Publish the next signing key

Starts a rotation now; otherwise keys rotate every 90 days. The new key starts to sign after an hour, when all receivers' caches
contain it. With `immediate`, it signs at once, and receivers that see an unknown `kid` fetch the keys again.

- 200: The new key. `{"kid":"ins_36sCAr6gS5M5C4x9CxLYQXDhIF1","state":"published","published_at":1767312000000,"active_at":1767315600000,"last_expires_at":null}`
- conflict: the signing key ins_36sCAr6gS5M5C4x9CxLYQXDhIF1 is published already and becomes active by itself; to use it now, rotate
  at once
"#;

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

pub(crate) const DELETE_SIGNING_KEY: &str = r#"Signing keys: Delete a signing key

Use this for a key that leaked. The authority rejects all JWTs that the key signed as soon as this request succeeds; receivers that
check locally reject them once their cached public keys expire. The active key cannot be deleted: first rotate with `immediate`.

- 200: The key is gone. `{"kid":"ins_36sCAr6gS5M5C4x9CxLYQXDhIF1"}`
- conflict: ins_36sCAr6gS5M5C4x9CxLYQXDhIF1 is the active signing key; rotate at once first, then delete it
"#;

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
