//! The bodies of answers, as the contract writes them (contract: machines, M2M tokens, JWKS).
//!
//! Field order is the wire's order. A receiver that reads them back checks the `object` member by its type.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::claims::Claims;
use crate::ids::{InstanceId, MachineId, SigningKeyId, TokenId};
use crate::scopes::Scopes;
use crate::time::Timestamp;

/// Declares a type of one value, the text of an `object` member.
macro_rules! object_tag {
    ($(#[$doc:meta])* $name:ident = $text:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            #[doc = concat!("`", $text, "`.")]
            #[default]
            #[serde(rename = $text)]
            Tag,
        }
    };
}

object_tag!(
    /// The `object` of a machine.
    MachineTag = "machine"
);
object_tag!(
    /// The `object` of a machine's key.
    MachineSecretKeyTag = "machine_secret_key"
);
object_tag!(
    /// The `object` of a scope.
    MachineScopeTag = "machine_scope"
);
object_tag!(
    /// The `object` of a token.
    M2mTokenTag = "machine_to_machine_token"
);

/// A secret in a body, on its way over the wire. `Debug` prints `[redacted]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExposedSecret(pub String);

impl std::fmt::Debug for ExposedSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// A machine without the machines it may call, as it stands inside another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NestedMachine {
    /// Always `machine`.
    pub object: MachineTag,
    /// The machine's id.
    pub id: MachineId,
    /// 1 to 255 characters, not necessarily unique.
    pub name: String,
    /// The instance it belongs to.
    pub instance_id: InstanceId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its name, token lifetime or scopes last changed.
    pub updated_at: Timestamp,
    /// The life of its tokens in seconds, where a request names none.
    pub default_token_ttl: i64,
}

/// A machine.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Always `machine`.
    pub object: MachineTag,
    /// The machine's id.
    pub id: MachineId,
    /// 1 to 255 characters, not necessarily unique.
    pub name: String,
    /// The instance it belongs to.
    pub instance_id: InstanceId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its name, token lifetime or scopes last changed.
    pub updated_at: Timestamp,
    /// The life of its tokens in seconds, where a request names none.
    pub default_token_ttl: i64,
    /// The machines it may call, oldest scope first.
    pub scoped_machines: Vec<NestedMachine>,
    /// The machine's key, in the answer to its creation only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<ExposedSecret>,
}

/// A page of machines.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineList {
    /// The page.
    pub data: Vec<Machine>,
    /// How many match, on all pages.
    pub total_count: i64,
}

/// The answer to a deletion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeletedMachine {
    /// Always `machine`.
    pub object: MachineTag,
    /// The machine's id.
    pub id: MachineId,
    /// Always `true`.
    pub deleted: bool,
}

/// A machine's key.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineSecretKey {
    /// Always `machine_secret_key`.
    pub object: MachineSecretKeyTag,
    /// The key, `ak_…`.
    pub secret: ExposedSecret,
}

/// A scope: `from` may call `to`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineScope {
    /// Always `machine_scope`.
    pub object: MachineScopeTag,
    /// The machine that calls.
    pub from_machine_id: MachineId,
    /// The machine that is called.
    pub to_machine_id: MachineId,
    /// When the scope was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// `true` in the answer to its deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<bool>,
}

/// A token, opaque or JWT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct M2mToken {
    /// Always `machine_to_machine_token`.
    pub object: M2mTokenTag,
    /// The token's id. It names the token and never works as one.
    pub id: TokenId,
    /// The machine that the token proves.
    pub subject: MachineId,
    /// The machines that the token is for, as they were when it was made.
    pub scopes: Scopes,
    /// What the machine put into it.
    pub claims: Option<Claims>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// The reason given by the first revocation.
    pub revocation_reason: Option<Arc<str>>,
    /// Whether its life is over.
    pub expired: bool,
    /// When its life is over; `null` for never.
    pub expiration: Option<Timestamp>,
    /// When it last verified, a few seconds late at most.
    pub last_used_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was made, last verified or revoked, whichever is latest.
    pub updated_at: Timestamp,
    /// The string that a sender presents, in the answer to its creation only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<ExposedSecret>,
}

/// A page of tokens.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct M2mTokenList {
    /// The page.
    pub m2m_tokens: Vec<M2mToken>,
    /// How many match, on all pages.
    pub total_count: i64,
}

/// The public signing keys of an instance (RFC 7517 section 5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jwks {
    /// The keys.
    pub keys: Vec<Jwk>,
}

/// A public RSA key for signatures (RFC 7517 section 4, RFC 7518 section 6.3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jwk {
    /// Always `sig`.
    #[serde(rename = "use")]
    pub key_use: String,
    /// Always `RSA`.
    pub kty: String,
    /// The key's id.
    pub kid: SigningKeyId,
    /// Always `RS256`.
    pub alg: String,
    /// The modulus, base64url.
    pub n: String,
    /// The exponent, base64url.
    pub e: String,
}
