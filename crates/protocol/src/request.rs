//! The requests, as the contract writes them, and those of the extensions: their bodies and the parameters of their queries.
//!
//! A request is declared here only. Clients write these types, the server reads requests into them, and the description of the API
//! is derived from them. Members are read in the order in which they stand. A member that is an `Option` may be absent; in an
//! `Option<Option<_>>`, `Some(None)` is `null`.

use std::borrow::Cow;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
#[cfg(feature = "schema")]
use serde_json::json;
use serde_json::value::RawValue;

use crate::bounds::{Count, Lifetime, Name, PreviousTtl, Reason, TokenTtl, Whole};
use crate::claims::Claims;
#[cfg(feature = "schema")]
use crate::ids::{InstanceId, KeyId, MachineId, SigningKeyId, TokenId};
use crate::json::Text;
#[cfg(feature = "schema")]
use crate::limits::{DEFAULT_PAGE, DEFAULT_TOKEN_TTL_SECONDS, MAX_SCOPES};
use crate::limits::{MAX_MACHINES_PAGE, MAX_TOKENS_PAGE};
#[cfg(feature = "schema")]
use crate::schema::{EXAMPLE_TOKEN, LEDGER, MACHINE_ID, NEXT_KEY};
use crate::settings::SettingsUpdate;
use crate::token::TokenFormat;

/// A new machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CreateMachine", extend("x-examples" = [["plain", "A machine", {"name": "billing"}], ["scoped", "A machine that may call another", {"name": "billing", "scoped_machines": [LEDGER], "default_token_ttl": 3600}]])))]
pub struct MachineRequest {
    /// A name for people.
    pub name: Name,
    /// The machines that it may call. Repetitions are ignored.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_SCOPES), extend("items" = {"type": "string", "pattern": MACHINE_ID, "description": "A machine's id."})))]
    pub scoped_machines: Vec<String>,
    /// Lifetime of its tokens in seconds, if a request names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "TokenTtl", extend("default" = DEFAULT_TOKEN_TTL_SECONDS)))]
    pub default_token_ttl: Option<TokenTtl>,
}

/// New values for a machine. Absent members stay unchanged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "UpdateMachine", extend("x-examples" = [["both", "Both", {"name": "billing (EU)", "default_token_ttl": 900}]])))]
pub struct MachineUpdate {
    /// Its new name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Name"))]
    pub name: Option<Name>,
    /// Lifetime of its future tokens in seconds, if a request names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "TokenTtl"))]
    pub default_token_ttl: Option<TokenTtl>,
}

/// A new key for a machine.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "RotateMachineSecretKey", extend("x-examples" = [["gently", "The old key works for an hour", {"previous_token_ttl": 3600}], ["at_once", "The old key ends at once", {"previous_token_ttl": 0}]])))]
pub struct KeyRotation {
    /// How many seconds the older keys keep working; 0 ends them at once. (The name is Clerk's; it does not affect tokens.)
    pub previous_token_ttl: PreviousTtl,
}

/// A new scope of the machine in the path.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CreateMachineScope", extend("x-examples" = [["scope", "A scope", {"to_machine_id": LEDGER}]])))]
pub struct ScopeRequest {
    /// The machine to be called.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = MACHINE_ID)))]
    pub to_machine_id: String,
}

/// A new token.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CreateM2MToken", extend("x-examples" = [["defaults", "A token that lives as long as the machine says", {}], ["minutes", "Ten minutes, with claims", {"seconds_until_expiration": 600, "claims": {"tenant": "acme"}}], ["jwt", "A JWT", {"token_format": "jwt", "seconds_until_expiration": 600, "claims": {"tenant": "acme"}}], ["reuse", "A live equal token if there is one", {"seconds_until_expiration": 3600, "min_remaining_ttl_seconds": 300}]]), transform = object_claims_in_jwts))]
pub struct IssueRequest {
    /// `opaque`: a short string that receivers verify with the authority. `jwt`: a JWT, which receivers can also verify locally.
    #[serde(
        rename = "token_format",
        deserialize_with = "or_default",
        skip_serializing_if = "is_opaque"
    )]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "opaque")))]
    pub format: TokenFormat,
    /// How long the token lives, in seconds; fractions are allowed. Null or absent: the machine's `default_token_ttl`.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Option::is_none")]
    pub seconds_until_expiration: Option<Lifetime>,
    /// Any JSON value, which verification returns unchanged. At most 8192 bytes and 32 levels, without duplicate members. For a
    /// JWT: an object, whose members become claims of the JWT, or null.
    #[serde(deserialize_with = "claims", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Claims"))]
    pub claims: Option<Claims>,
    /// Reuses a live token of this machine that has equal claims and scopes and at least this many seconds left. If there is no such
    /// token, a new one is created. Must be less than the lifetime. Ignored for JWTs, which are always new.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Whole<0, { i64::MAX }>"))]
    pub min_remaining_ttl_seconds: Option<Whole<0, { i64::MAX }>>,
}

/// A token to verify.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "VerifyM2MToken", extend("x-examples" = [["token", "A token", {"token": EXAMPLE_TOKEN}]]), extend("anyOf" = [{"required": ["token"]}, {"required": ["secret"]}])))]
pub struct VerifyRequest<'a> {
    /// The token, in the member that older SDKs use. If both members are given, `token` is used.
    #[serde(
        borrow,
        deserialize_with = "borrowed",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub secret: Option<Cow<'a, str>>,
    /// The token that a caller presented: opaque or JWT.
    #[serde(
        borrow,
        deserialize_with = "borrowed",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub token: Option<Cow<'a, str>>,
}

/// The revocation of the token in the path.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "RevokeM2MToken", extend("x-examples" = [["reason", "With a reason", {"revocation_reason": "laptop stolen"}], ["none", "Without one", {}]])))]
pub struct RevokeRequest {
    /// Why, for the change log and whoever looks the token up. The first reason stays.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Option::is_none")]
    pub revocation_reason: Option<Reason>,
}

/// New values for a token. Absent members stay unchanged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "UpdateM2MToken", extend("x-examples" = [["extend", "Another two hours, other claims", {"seconds_until_expiration": 7200, "claims": {"tenant": "acme"}}], ["revoke", "Revoke", {"revoked": true, "revocation_reason": "no longer needed"}]]), extend("anyOf" = [{"required": ["revoked"]}, {"properties": {"revocation_reason": {"type": "null"}}}])))]
pub struct UpdateRequest {
    /// The new claims: any JSON value, which verification returns unchanged. At most 8192 bytes and 32 levels, without duplicate
    /// members.
    #[serde(
        deserialize_with = "given_claims",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Claims>"))]
    pub claims: Option<Option<Claims>>,
    /// The new remaining lifetime in seconds, counted from now. Null: the machine's `default_token_ttl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Lifetime>"))]
    pub seconds_until_expiration: Option<Option<Lifetime>>,
    /// Revokes the token in the same step. A revoked token stays revoked, so `false` is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool", extend("const" = true)))]
    pub revoked: Option<bool>,
    /// Why, for the change log and whoever looks the token up. The first reason stays.
    #[serde(deserialize_with = "or_null", skip_serializing_if = "Option::is_none")]
    pub revocation_reason: Option<Reason>,
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
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "UpdateInstance", extend("x-examples" = [["strict", "JWTs of a day at most, keys shown once only", {"settings": {"max_jwt_ttl": 86400, "secret_reveal": false}}]])))]
pub struct InstanceUpdate {
    /// The settings that change; the others stay.
    pub settings: SettingsUpdate,
}

/// A new instance, at the operator's door only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct InstanceRequest {
    /// A name for people.
    pub name: Name,
    /// Whether its first key begins with `sk_live_` instead of `sk_test_`. Both work alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
}

/// A new key for the instance.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CreateInstanceKey", extend("x-examples" = [["live", "A key that begins with sk_live_", {"live": true}]])))]
pub struct InstanceKeyRequest {
    /// Whether the key begins with `sk_live_` instead of `sk_test_`. Both work alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool", extend("default" = true)))]
    pub live: Option<bool>,
}

/// A rotation of the signing key.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "RotateSigningKey", extend("x-examples" = [["gently", "Signs after an hour", {}], ["at_once", "Signs at once, because the old key leaked", {"immediate": true}]])))]
pub struct SigningKeyRotation {
    /// Whether the new key signs at once. Without it, it signs after an hour, when every receiver's cache knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "bool", extend("default" = false)))]
    pub immediate: Option<bool>,
}

/// A request to verify an API key. This authority has no API keys and ignores the content of the body.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "NeighbourSecret", extend("x-examples" = [["any", "Any", {"secret": "ak_…"}]]), extend("additionalProperties" = true)))]
pub struct ApiKeyQuestion {
    /// An API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub secret: Option<String>,
}

/// A request to verify an OAuth token. This authority has no OAuth tokens and ignores the content of the body.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "NeighbourAccessToken", extend("x-examples" = [["any", "Any", {"access_token": "oat_…"}]]), extend("additionalProperties" = true)))]
pub struct OauthTokenQuestion {
    /// An OAuth token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub access_token: Option<String>,
}

/// The machines to list.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct ListMachines {
    /// A machine's whole id, or a part of a name.
    pub query: Option<String>,
    /// The sort order: `-` for descending, `+` or no sign for ascending.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["-created_at", "+created_at", "created_at", "-name", "+name", "name"], "default" = "-created_at")))]
    pub order_by: Option<String>,
    /// How many at most.
    #[cfg_attr(feature = "schema", schemars(extend("default" = DEFAULT_PAGE)))]
    pub limit: Option<Whole<1, MAX_MACHINES_PAGE>>,
    /// How many to skip.
    #[cfg_attr(feature = "schema", schemars(extend("default" = 0)))]
    pub offset: Option<Count>,
}

/// The tokens to list.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct ListTokens {
    /// The machine whose tokens to list.
    #[cfg_attr(feature = "schema", schemars(with = "MachineId", required))]
    pub subject: Option<String>,
    /// Whether to list revoked tokens as well.
    #[serde(default, deserialize_with = "or_default")]
    pub revoked: bool,
    /// Whether to list expired tokens as well.
    #[serde(default, deserialize_with = "or_default")]
    pub expired: bool,
    /// Which formats to list. This parameter is an extension; without it, the list is the same as Clerk's.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["opaque", "jwt", "all"], "default" = "opaque")))]
    pub format: Option<String>,
    /// How many at most.
    #[cfg_attr(feature = "schema", schemars(extend("default" = DEFAULT_PAGE)))]
    pub limit: Option<Whole<1, MAX_TOKENS_PAGE>>,
    /// How many to skip.
    #[cfg_attr(feature = "schema", schemars(extend("default" = 0)))]
    pub offset: Option<Count>,
}

/// The records of the change log to list.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct ListChanges {
    /// The last sequence number that the caller knows; the list begins after it.
    #[cfg_attr(feature = "schema", schemars(extend("default" = 0)))]
    pub after: Option<Count>,
}

/// The records of the change log to check.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct VerifyChanges {
    /// The last sequence number that was verified; the check begins after it.
    #[cfg_attr(feature = "schema", schemars(extend("default" = 0)))]
    pub after: Option<Count>,
}

/// What stands in paths, for the description.
#[cfg(feature = "schema")]
#[derive(Debug, JsonSchema)]
pub struct PathParameters {
    /// The instance's id.
    pub instance_id: InstanceId,
    /// The key's id, as the list shows it.
    pub key_id: KeyId,
    /// The key's id.
    #[schemars(example = NEXT_KEY)]
    pub kid: SigningKeyId,
    /// The token's id: not the token itself.
    // The contract takes upper-case digits as well, and finds nothing under them.
    #[schemars(regex(pattern = "^mt_[0-9A-Fa-f]{32}$"))]
    pub m2m_token_id: TokenId,
    /// The machine's id.
    pub machine_id: MachineId,
    /// The machine that is called.
    #[schemars(example = LEDGER)]
    pub other_machine_id: MachineId,
}

/// An absent member is the default.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// `null` is an absent member.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::<Option<T>>::deserialize(deserializer).map(Option::flatten)
}

/// A text that is copied only where it has escapes.
fn borrowed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    let text = Option::<Text<'de>>::deserialize(deserializer)?;
    Ok(text.map(|Text(text)| text))
}

fn claims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Claims>, D::Error> {
    given_claims(deserializer).map(Option::flatten)
}

/// The outer `None` is for an absent member.
fn given_claims<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Claims>>, D::Error> {
    let value = Option::<&RawValue>::deserialize(deserializer)?;
    value.map(Claims::new).transpose().map_err(D::Error::custom)
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
