//! The bodies of answers about instances: who am I, the instance, its keys. They are extensions of the contract; their
//! members stand in the order of their names.

use std::borrow::Cow;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::body::{ExposedSecret, M2mToken, object_tag};
use crate::ids::{InstanceId, KeyId, MachineId, SigningKeyId};
#[cfg(feature = "schema")]
use crate::limits::MAX_NAME_LENGTH;
#[cfg(feature = "schema")]
use crate::schema::{EXAMPLE_INSTANCE_KEY, EXAMPLE_TIME, INSTANCE_KEY, NEXT_KEY, NO_NUL};
use crate::scopes::Scopes;
use crate::settings::{InstanceSettings, SettingsUpdate};
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
    /// The `kind` of the operator, at the operator's door.
    OperatorKindTag = "operator"
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

/// What the presented credential is, or the operator, who presents none.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum WhoAmI {
    /// An instance key.
    Instance(WhoAmIInstance),
    /// A machine key.
    Machine(WhoAmIMachine),
    /// The operator.
    Operator(WhoAmIOperator),
    /// A token.
    Token(WhoAmIToken),
}

impl<'de> Deserialize<'de> for WhoAmI {
    /// Reads the kind first, so that an error is about the members of that kind.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Kind {
            Instance,
            Machine,
            Operator,
            Token,
        }
        #[derive(Deserialize)]
        struct Head {
            kind: Kind,
        }
        let body = Box::<RawValue>::deserialize(deserializer)?;
        let text = body.get();
        serde_json::from_str(text)
            .and_then(|Head { kind }| match kind {
                Kind::Instance => serde_json::from_str(text).map(Self::Instance),
                Kind::Machine => serde_json::from_str(text).map(Self::Machine),
                Kind::Operator => serde_json::from_str(text).map(Self::Operator),
                Kind::Token => serde_json::from_str(text).map(Self::Token),
            })
            .map_err(D::Error::custom)
    }
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

/// The operator asks, about this instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhoAmIOperator {
    /// The instance that the request is about.
    pub instance_id: InstanceId,
    /// Who asks.
    pub kind: OperatorKindTag,
    /// The instance's name.
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
    /// The first key of the instance, in the answer to its creation at the operator's door only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub secret_key: Option<ExposedSecret>,
    /// Its settings.
    // Readers ignore unknown settings.
    #[serde(deserialize_with = "known_settings")]
    pub settings: InstanceSettings,
}

/// Reads settings from an authority that may have a later version.
fn known_settings<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<InstanceSettings, D::Error> {
    let mut members = Map::deserialize(deserializer)?;
    members.retain(|name, _| SettingsUpdate::NAMES.contains(&name.as_str()));
    serde_json::from_value(Value::Object(members)).map_err(D::Error::custom)
}

/// The public facts about a key of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "InstanceKey", extend("x-others" = [{"id": "key_0d9e8c7b6a51", "created_at": EXAMPLE_TIME + 3_600_000, "revoked_at": EXAMPLE_TIME + 7_200_000}])))]
pub struct InstanceKeyInfo {
    /// The key's id.
    pub id: KeyId,
    /// When it was made, in milliseconds since 1970.
    pub created_at: Timestamp,
    /// When it was revoked; null if it is live.
    #[cfg_attr(feature = "schema", schemars(example = None::<i64>))]
    pub revoked_at: Option<Timestamp>,
}

/// A new key of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "InstanceKeyCreated", transform = crate::schema::all_required))]
pub struct CreatedInstanceKey {
    /// When it was made, in milliseconds since 1970.
    pub created_at: Timestamp,
    /// The key's id.
    pub id: KeyId,
    /// What this is.
    pub object: InstanceKeyTag,
    /// The key. It is shown only once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(required, regex(pattern = INSTANCE_KEY), example = EXAMPLE_INSTANCE_KEY))]
    pub secret_key: Option<ExposedSecret>,
}

/// The answer to the revocation of an instance key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct DeletedInstanceKey {
    /// Always `true`: the key no longer works.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub deleted: bool,
    /// The key's id.
    pub id: KeyId,
    /// What this is.
    pub object: InstanceKeyTag,
}

/// The public facts about a signing key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "SigningKey", extend("x-others" = [{"kid": NEXT_KEY, "state": "published", "published_at": EXAMPLE_TIME + 86_400_000, "active_at": EXAMPLE_TIME + 90_000_000, "last_expires_at": null}])))]
pub struct SigningKeyInfo {
    /// The key's id, in the head of each JWT that it signed.
    pub kid: SigningKeyId,
    /// `published`: shown in the JWKS, not used yet. `active`: signs. `verify_only`: its JWTs are still accepted.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["published", "active", "verify_only"]), example = &"active"))]
    pub state: Cow<'static, str>,
    /// When it was published, in milliseconds since 1970.
    pub published_at: Timestamp,
    /// When it started to sign or will start.
    pub active_at: Option<Timestamp>,
    /// When it stopped signing.
    #[cfg_attr(feature = "schema", schemars(example = None::<i64>))]
    pub retired_at: Option<Timestamp>,
    /// When the last JWT that it signed expires.
    #[cfg_attr(feature = "schema", schemars(example = EXAMPLE_TIME + 3_600_000))]
    pub last_expires_at: Option<Timestamp>,
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
    /// The `iss` of this instance's JWTs.
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
    fn schema_name() -> Cow<'static, str> {
        "WhoAmI".into()
    }

    /// One of three. The operator is left out, because the document does not describe the operator's door.
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let kinds = [
            generator.subschema_for::<WhoAmIInstance>(),
            generator.subschema_for::<WhoAmIMachine>(),
            generator.subschema_for::<WhoAmIToken>(),
        ];
        schemars::json_schema!({ "oneOf": kinds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_later_version_are_ignored() {
        let text = r#"{"created_at":1,"id":"ins_2GIoQhbUpy0hX7B2cVkuTMinXoD","issuer":"https://a.example","name":"a",
            "object":"instance","settings":{"max_jwt_ttl":60,"something_new":true}}"#;
        let instance: Instance = serde_json::from_str(text).expect("reads");
        let known = InstanceSettings {
            max_jwt_ttl: 60,
            ..InstanceSettings::default()
        };
        assert_eq!(instance.settings, known);
    }

    #[test]
    fn who_am_i_is_read_by_its_kind() {
        let id = "ins_2GIoQhbUpy0hX7B2cVkuTMinXoD";
        let text =
            format!(r#"{{"instance_id":"{id}","kind":"operator","name":"a","object":"whoami"}}"#);
        let read: WhoAmI = serde_json::from_str(&text).expect("reads");
        assert_eq!(serde_json::to_string(&read).expect("writes"), text);
        let error = serde_json::from_str::<WhoAmI>(r#"{"kind":"instance","object":"whoami"}"#)
            .expect_err("members are missing");
        assert!(error.to_string().contains("instance_id"), "{error}");
    }
}
