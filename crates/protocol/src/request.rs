//! The bodies of requests, as the contract writes them, and those of the extensions.
//!
//! Clients write them, the description of the API is derived from them, and the server reads their members with a word about
//! each mistake. A member that is an `Option` may be absent; in an `Option` of an `Option`, `Some(None)` is `null`.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::Serialize;
#[cfg(feature = "schema")]
use serde_json::json;

use crate::claims::Claims;
#[cfg(feature = "schema")]
use crate::limits::{
    DEFAULT_TOKEN_TTL_SECONDS, MAX_NAME_LENGTH, MAX_PREVIOUS_TOKEN_TTL_SECONDS, MAX_REASON_LENGTH,
    MAX_SCOPES, MAX_TOKEN_TTL_SECONDS,
};
#[cfg(feature = "schema")]
use crate::schema::{MACHINE_ID, NO_NUL};
use crate::settings::SettingsUpdate;
use crate::token::TokenFormat;

/// A new machine.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CreateMachine"))]
pub struct MachineRequest {
    /// A name for people.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_NAME_LENGTH), regex(pattern = NO_NUL)))]
    pub name: String,
    /// The machines that it may call. Repetitions are ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_SCOPES), inner(regex(pattern = MACHINE_ID))))]
    pub scoped_machines: Vec<String>,
    /// How many seconds its tokens live where the request names no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "i64", range(min = 1, max = MAX_TOKEN_TTL_SECONDS), extend("default" = DEFAULT_TOKEN_TTL_SECONDS)))]
    pub default_token_ttl: Option<i64>,
}

/// New values of a machine; what is absent stays.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "UpdateMachine", extend("type" = ["object", "null"])))]
pub struct MachineUpdate {
    /// Its new name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String", length(min = 1, max = MAX_NAME_LENGTH), regex(pattern = NO_NUL)))]
    pub name: Option<String>,
    /// How many seconds its future tokens live where the request names no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "i64", range(min = 1, max = MAX_TOKEN_TTL_SECONDS)))]
    pub default_token_ttl: Option<i64>,
}

/// A new key for a machine.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "RotateMachineSecretKey"))]
pub struct KeyRotation {
    /// For how many seconds the older keys go on working; 0 ends them at once. (The name is Clerk's; tokens are not concerned.)
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = MAX_PREVIOUS_TOKEN_TTL_SECONDS)))]
    pub previous_token_ttl: i64,
}

/// A new scope of the machine in the path.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CreateMachineScope"))]
pub struct ScopeRequest {
    /// The machine that shall be called.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = MACHINE_ID)))]
    pub to_machine_id: String,
}

/// A new token.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CreateM2MToken", transform = object_claims_in_jwts))]
pub struct IssueRequest {
    /// `opaque`: a short string that receivers verify here. `jwt`: one that they can also check by themselves.
    #[serde(rename = "token_format", default, skip_serializing_if = "is_opaque")]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "opaque")))]
    pub format: TokenFormat,
    /// How long the token lives, in seconds; fractions are allowed. Null or absent: the machine's `default_token_ttl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(max = MAX_TOKEN_TTL_SECONDS), extend("exclusiveMinimum" = 0)))]
    pub seconds_until_expiration: Option<f64>,
    /// Any JSON value, answered by verification as it came: at most 8192 bytes and 32 levels, with no member twice. For a JWT an
    /// object, whose members become claims of the JWT, or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Claims"))]
    pub claims: Option<Claims>,
    /// Asks for a live token of this machine with equal claims and scopes that still has at least so many seconds, and for a new
    /// one only where there is none. Less than the lifetime. Ignored for JWTs, which are always new.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "i64", range(min = 0)))]
    pub min_remaining_ttl_seconds: Option<i64>,
}

/// A token to verify. Where both members are given, `token` wins.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "VerifyM2MToken", extend("anyOf" = [{"required": ["token"]}, {"required": ["secret"]}])))]
pub struct VerifyRequest<'a> {
    /// The token that a caller presented: opaque or JWT.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub token: Option<&'a str>,
    /// The same, as older SDKs send it. Where both are given, `token` wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub secret: Option<&'a str>,
}

/// The revocation of the token in the path.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "RevokeM2MToken", extend("type" = ["object", "null"])))]
pub struct RevokeRequest {
    /// Why, for the change log and whoever looks the token up. The first reason stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_REASON_LENGTH), regex(pattern = NO_NUL)))]
    pub revocation_reason: Option<String>,
}

/// New values of a token; what is absent stays.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "UpdateM2MToken", extend("type" = ["object", "null"]), extend("anyOf" = [{"required": ["revoked"]}, {"properties": {"revocation_reason": {"type": "null"}}}])))]
pub struct UpdateRequest {
    /// Any JSON value, answered by verification as it came: at most 8192 bytes and 32 levels, with no member twice. For a JWT an
    /// object, whose members become claims of the JWT, or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Claims>"))]
    pub claims: Option<Option<Claims>>,
    /// The new rest of its life in seconds, counted from now. Null: the machine's `default_token_ttl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>", range(max = MAX_TOKEN_TTL_SECONDS), extend("exclusiveMinimum" = 0)))]
    pub seconds_until_expiration: Option<Option<f64>>,
    /// Revokes the token in the same step. A revoked token stays revoked, so `false` is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool", extend("const" = true)))]
    pub revoked: Option<bool>,
    /// Why, for the change log and whoever looks the token up. The first reason stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_REASON_LENGTH), regex(pattern = NO_NUL)))]
    pub revocation_reason: Option<String>,
}

impl UpdateRequest {
    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_none()
            && self.seconds_until_expiration.is_none()
            && self.revoked.is_none()
            && self.revocation_reason.is_none()
    }
}

/// New settings of an instance.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "UpdateInstance"))]
pub struct InstanceUpdate {
    /// The settings that change; the others stay.
    pub settings: SettingsUpdate,
}

/// A new instance, at the operator's door only.
#[derive(Clone, Debug, Default, Serialize)]
pub struct InstanceRequest {
    /// A name for people.
    pub name: String,
    /// Whether its first key begins with `sk_live_` instead of `sk_test_`. Both work alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
}

/// Another key of the instance.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CreateInstanceKey", extend("type" = ["object", "null"])))]
pub struct InstanceKeyRequest {
    /// Whether the key begins with `sk_live_` instead of `sk_test_`. Both work alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool", extend("default" = true)))]
    pub live: Option<bool>,
}

/// Another signing key.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "RotateSigningKey", extend("type" = ["object", "null"])))]
pub struct SigningKeyRotation {
    /// Whether the new key signs at once. Without it, it signs after an hour, when every receiver's cache knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool", extend("default" = false)))]
    pub immediate: Option<bool>,
}

/// A question about an API key. This authority has none and reads nothing of it.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "NeighbourSecret", extend("additionalProperties" = true)))]
pub struct ApiKeyQuestion {
    /// An API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub secret: Option<String>,
}

/// A question about an OAuth token. This authority has none and reads nothing of it.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "NeighbourAccessToken", extend("additionalProperties" = true)))]
pub struct OauthTokenQuestion {
    /// An OAuth token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub access_token: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_opaque(format: &TokenFormat) -> bool {
    *format == TokenFormat::Opaque
}

#[cfg(feature = "schema")]
/// Says that the claims of a JWT are an object without reserved members, or null.
fn object_claims_in_jwts(schema: &mut schemars::Schema) {
    let mut reserved = crate::claims::RESERVED_CLAIMS;
    reserved.sort_unstable();
    let format = json!({ "token_format": { "const": "jwt", "description": "A JWT." } });
    let claims = json!({
        "claims": { "type": ["object", "null"], "propertyNames": { "not": { "enum": reserved } } },
    });
    let is_jwt = json!({ "required": ["token_format"], "properties": format });
    schema.insert("if".to_owned(), is_jwt);
    schema.insert("then".to_owned(), json!({ "properties": claims }));
}
