//! The bodies of answers, as the contract writes them (contract: machines, M2M tokens, JWKS).
//!
//! Field order is the wire's order. A receiver that reads them back checks the `object` member by its type.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::change::ChangeKind;
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
object_tag!(
    /// The `object` of a record of the change log.
    ChangeTag = "change"
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

impl M2mToken {
    /// What `Serialize` writes, in a third of the time: each verification writes one. Ids and names have nothing to escape.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        fn member(json: &mut Vec<u8>, name: &str, value: &impl Serialize) {
            json.extend_from_slice(name.as_bytes());
            // Numbers, texts and what was read as JSON can always be written.
            serde_json::to_writer(json, value).unwrap_or_default();
        }
        /// A JWT is long and has nothing to escape; to look at it byte by byte would take longer than all the rest.
        fn text(json: &mut Vec<u8>, name: &str, value: &str) {
            let escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
            // Without an early end, so that the compiler looks at many bytes at once.
            if value.bytes().fold(false, |any, byte| any | escaped(byte)) {
                return member(json, name, &value);
            }
            for part in [name, "\"", value, "\""] {
                json.extend_from_slice(part.as_bytes());
            }
        }
        let token = self.token.as_ref().map(|token| token.0.as_str());
        let mut json = Vec::with_capacity(512 + token.map_or(0, str::len));
        json.extend_from_slice(br#"{"object":"machine_to_machine_token","id":""#);
        json.extend_from_slice(&self.id.to_text());
        json.extend_from_slice(br#"","subject":""#);
        json.extend_from_slice(self.subject.as_bytes());
        json.extend_from_slice(br#"","scopes":["#);
        for (number, scope) in self.scopes.iter().enumerate() {
            json.extend_from_slice(if number == 0 { b"\"" } else { b",\"" });
            json.extend_from_slice(scope.as_bytes());
            json.push(b'"');
        }
        member(&mut json, r#"],"claims":"#, &self.claims);
        member(&mut json, r#","revoked":"#, &self.revoked);
        member(
            &mut json,
            r#","revocation_reason":"#,
            &self.revocation_reason,
        );
        member(&mut json, r#","expired":"#, &self.expired);
        member(&mut json, r#","expiration":"#, &self.expiration);
        member(&mut json, r#","last_used_at":"#, &self.last_used_at);
        member(&mut json, r#","created_at":"#, &self.created_at);
        member(&mut json, r#","updated_at":"#, &self.updated_at);
        if let Some(token) = token {
            text(&mut json, r#","token":"#, token);
        }
        json.push(b'}');
        json
    }
}

/// A page of tokens.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct M2mTokenList {
    /// The page.
    pub m2m_tokens: Vec<M2mToken>,
    /// How many match, on all pages.
    pub total_count: i64,
}

/// A record of the change log (an extension of the contract).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The id of the key or machine that asked for the change, or `operator`.
    pub actor: String,
    /// When the change happened.
    pub at: Timestamp,
    /// The members that depend on the kind.
    pub detail: Value,
    /// The kind of change.
    pub kind: ChangeKind,
    /// Always `change`.
    pub object: ChangeTag,
    /// The record's number within the log, from 1.
    pub sequence: u64,
    /// The id of what changed.
    pub subject: String,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Locator;

    proptest! {
        #[test]
        fn a_token_is_written_as_serialize_writes_it(
            (number, rest) in (0..1_u64 << 62, any::<u64>()),
            scopes in 0_usize..4,
            claims in prop::option::of(any::<String>()),
            reason in prop::option::of(any::<String>()),
            token in prop::option::of(any::<String>()),
            times in prop::array::uniform4(prop::option::of(any::<i64>())),
            (revoked, expired) in any::<(bool, bool)>(),
        ) {
            let machine: MachineId = "mch_2vYVtestTESTtestTESTtestTES".parse().expect("an id");
            let [expiration, last_used_at, created_at, updated_at] = times.map(|time| time.map(Timestamp::from_millis));
            let claims = claims.map(|text| serde_json::to_string(&text).expect("a string"));
            let token = M2mToken {
                object: M2mTokenTag::Tag,
                id: TokenId::from_parts(Locator::new(number).expect("fits"), rest),
                subject: machine,
                scopes: std::iter::repeat_n(machine, scopes).collect(),
                claims: claims.map(|text| serde_json::from_str(&text).expect("JSON")),
                revoked,
                revocation_reason: reason.map(Arc::from),
                expired,
                expiration,
                last_used_at,
                created_at: created_at.unwrap_or(Timestamp::EPOCH),
                updated_at: updated_at.unwrap_or(Timestamp::EPOCH),
                token: token.map(ExposedSecret),
            };
            let serialized = serde_json::to_vec(&token).expect("JSON");
            prop_assert_eq!(token.to_json(), serialized);
        }
    }
}
