//! The bodies of answers about the caller's own instance: who am I, the instance, its keys. They are extensions of the
//! contract; their members stand in the order of their names.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::{ExposedSecret, M2mToken, object_tag};
use crate::ids::{InstanceId, KeyId, MachineId, SigningKeyId};
#[cfg(feature = "schema")]
use crate::limits::MAX_NAME_LENGTH;
#[cfg(feature = "schema")]
use crate::schema::{EXAMPLE_INSTANCE_KEY, INSTANCE_KEY, NO_NUL};
use crate::scopes::Scopes;
use crate::settings::InstanceSettings;
use crate::time::Timestamp;

object_tag!(
    /// The `object` of an answer to "who am I".
    WhoAmITag = "whoami"
);
object_tag!(
    /// The `kind` of an instance key.
    InstanceKindTag = "instance"
);
object_tag!(
    /// The `kind` of a machine key.
    MachineKindTag = "machine"
);
object_tag!(
    /// The `kind` of a token.
    TokenKindTag = "token"
);
object_tag!(
    /// The `object` of an instance.
    InstanceTag = "instance"
);
object_tag!(
    /// The `object` of a key of an instance.
    InstanceKeyTag = "instance_key"
);

/// What the presented credential is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum WhoAmI {
    /// An instance key.
    Instance(WhoAmIInstance),
    /// A machine key.
    Machine(WhoAmIMachine),
    /// A token.
    Token(WhoAmIToken),
}

/// An instance key was presented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct WhoAmIInstance {
    /// The instance that the key belongs to.
    pub instance_id: InstanceId,
    /// The key's id, as the change log names it.
    pub key_id: KeyId,
    /// What was presented.
    pub kind: InstanceKindTag,
    /// The instance's name.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_NAME_LENGTH), regex(pattern = NO_NUL), example = &"production"))]
    pub name: String,
    /// What this is.
    pub object: WhoAmITag,
}

/// A machine key was presented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct WhoAmIMachine {
    /// The instance that the key belongs to.
    pub instance_id: InstanceId,
    /// What was presented.
    pub kind: MachineKindTag,
    /// The machine's id.
    pub machine_id: MachineId,
    /// The machines that it may call.
    pub may_call: Scopes,
    /// The machine's name.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_NAME_LENGTH), regex(pattern = NO_NUL), example = &"billing"))]
    pub name: String,
    /// What this is.
    pub object: WhoAmITag,
}

/// A token was presented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct WhoAmIToken {
    /// What was presented.
    pub kind: TokenKindTag,
    /// The machine that the token speaks for.
    pub machine_id: MachineId,
    /// What this is.
    pub object: WhoAmITag,
    /// The token, without its string.
    pub token: M2mToken,
}

/// An instance: the tenant that machines belong to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct Instance {
    /// When it was made, in milliseconds since 1970.
    pub created_at: Timestamp,
    /// The instance's id.
    pub id: InstanceId,
    /// The `iss` of its JWTs.
    #[cfg_attr(feature = "schema", schemars(example = &"https://auth.example.com"))]
    pub issuer: String,
    /// The instance's name.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_NAME_LENGTH), regex(pattern = NO_NUL), example = &"production"))]
    pub name: String,
    /// What this is.
    pub object: InstanceTag,
    /// Its settings.
    pub settings: InstanceSettings,
}

/// The public facts about a key of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "InstanceKey"))]
pub struct InstanceKeyInfo {
    /// The key's id.
    pub id: KeyId,
    /// When it was made, in milliseconds since 1970.
    pub created_at: Timestamp,
    /// When it was revoked; null while it works.
    #[cfg_attr(feature = "schema", schemars(example = None::<i64>))]
    pub revoked_at: Option<Timestamp>,
}

/// The keys of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct InstanceKeyList {
    /// The keys, oldest first.
    pub data: Vec<InstanceKeyInfo>,
    /// How many there are on all pages together.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "i64", range(min = 0), example = 1)
    )]
    pub total_count: usize,
}

/// A new key of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "InstanceKeyCreated"))]
pub struct CreatedInstanceKey {
    /// When it was made, in milliseconds since 1970.
    pub created_at: Timestamp,
    /// The key's id.
    pub id: KeyId,
    /// What this is.
    pub object: InstanceKeyTag,
    /// The key. It is shown this once.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = INSTANCE_KEY), example = EXAMPLE_INSTANCE_KEY))]
    pub secret_key: ExposedSecret,
}

/// The answer to the revocation of an instance key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct DeletedInstanceKey {
    /// Always `true`: the key works no longer.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub deleted: bool,
    /// The key's id.
    pub id: KeyId,
    /// What this is.
    pub object: InstanceKeyTag,
}

/// The public facts about a signing key.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "SigningKey"))]
pub struct SigningKeyInfo {
    /// The key's id, in the head of each JWT that it signed.
    pub kid: SigningKeyId,
    /// `published`: shown in the JWKS, not used yet. `active`: signs. `verify_only`: its JWTs are still accepted.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["published", "active", "verify_only"]), example = &"active"))]
    pub state: &'static str,
    /// When it was published, in milliseconds since 1970.
    pub published_at: Timestamp,
    /// When it began to sign, or will.
    pub active_at: Option<Timestamp>,
    /// When it ceased to sign.
    #[cfg_attr(feature = "schema", schemars(example = None::<i64>))]
    pub retired_at: Option<Timestamp>,
    /// When the last JWT that it signed is over.
    pub last_expires_at: Option<Timestamp>,
}

/// The signing keys of an instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct SigningKeyList {
    /// The keys, oldest first.
    pub data: Vec<SigningKeyInfo>,
    /// How many there are on all pages together.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "i64", range(min = 0), example = 1)
    )]
    pub total_count: usize,
}

/// The answer to the deletion of a signing key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct DeletedSigningKey {
    /// Always `true`: it is gone.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub deleted: bool,
    /// The key's id.
    pub kid: SigningKeyId,
}

/// Where libraries that know only the issuer find the keys (OpenID Connect Discovery 1.0 section 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct OpenidConfiguration {
    /// How JWTs are signed.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>", extend("items" = {"const": "RS256", "description": "The only one."})))]
    pub id_token_signing_alg_values_supported: [&'static str; 1],
    /// The `iss` of every JWT.
    #[cfg_attr(feature = "schema", schemars(example = &"https://auth.example.com"))]
    pub issuer: String,
    /// Where the public keys are.
    #[cfg_attr(
        feature = "schema",
        schemars(example = &"https://auth.example.com/.well-known/jwks.json")
    )]
    pub jwks_uri: String,
    /// Required by the standard: machines do not sign in.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>", extend("items" = {"const": "none", "description": "Machines do not sign in."})))]
    pub response_types_supported: [&'static str; 1],
    /// Required by the standard: machine ids are the same for everybody.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>", extend("items" = {"const": "public", "description": "Machine ids are the same for everybody."})))]
    pub subject_types_supported: [&'static str; 1],
}

#[cfg(feature = "schema")]
impl JsonSchema for WhoAmI {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WhoAmI".into()
    }

    /// One of three, which exclude each other.
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let kinds = [
            generator.subschema_for::<WhoAmIInstance>(),
            generator.subschema_for::<WhoAmIMachine>(),
            generator.subschema_for::<WhoAmIToken>(),
        ];
        schemars::json_schema!({ "oneOf": kinds })
    }
}
