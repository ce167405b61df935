//! The bodies of answers, as the contract writes them (contract: machines, M2M tokens, JWKS).
//!
//! Field order is the wire's order. A receiver that reads them back checks the `object` member by its type.

use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::change::ChangeKind;
use crate::claims::Claims;
use crate::ids::{InstanceId, MachineId, SigningKeyId, TokenId};
#[cfg(feature = "schema")]
use crate::limits::{MAX_NAME_LENGTH, MAX_REASON_LENGTH, MAX_TOKEN_TTL_SECONDS};
#[cfg(feature = "schema")]
use crate::schema::{
    EXAMPLE_KEY, EXAMPLE_MODULUS, EXAMPLE_TIME, EXAMPLE_TOKEN, LEDGER, MACHINE_KEY, NO_NUL,
};
use crate::scopes::Scopes;
use crate::time::Timestamp;

/// Declares a type of one value, the text of an `object` member or the like.
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

        #[cfg(feature = "schema")]
        crate::schema::in_place!(
            $name,
            $text,
            schemars::json_schema!({ "const": $text })
        );
    };
}

pub(crate) use object_tag;

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
object_tag!(
    /// The `object` of the result of checking a change log.
    ChangeLogReportTag = "change_log_report"
);

#[cfg(feature = "schema")]
crate::schema::in_place!(
    ExposedSecret,
    "Secret",
    schemars::json_schema!({ "type": "string" })
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

/// A machine without the machines that it may call, as it stands inside another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct NestedMachine {
    /// Always `machine`.
    pub object: MachineTag,
    /// The machine's id.
    #[cfg_attr(feature = "schema", schemars(example = LEDGER))]
    pub id: MachineId,
    /// Its name, for people. Several machines may have the same one.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_NAME_LENGTH), regex(pattern = NO_NUL), example = &"ledger"))]
    pub name: String,
    /// The instance it belongs to.
    pub instance_id: InstanceId,
    /// When it was made, in milliseconds since 1970.
    #[cfg_attr(feature = "schema", schemars(example = EXAMPLE_TIME - 100_000))]
    pub created_at: Timestamp,
    /// When its name, token lifetime or scopes last changed, in milliseconds since 1970.
    #[cfg_attr(feature = "schema", schemars(example = EXAMPLE_TIME - 100_000))]
    pub updated_at: Timestamp,
    /// How many seconds its tokens live where the request names no time.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_TOKEN_TTL_SECONDS), example = 3600))]
    pub default_token_ttl: i64,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("x-others" = [{"id": LEDGER, "name": "ledger", "created_at": EXAMPLE_TIME - 100_000, "updated_at": EXAMPLE_TIME - 100_000, "scoped_machines": []}])))]
pub struct Machine {
    /// Always `machine`.
    pub object: MachineTag,
    /// The machine's id.
    pub id: MachineId,
    /// Its name, for people. Several machines may have the same one.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_NAME_LENGTH), regex(pattern = NO_NUL), example = &"billing"))]
    pub name: String,
    /// The instance it belongs to.
    pub instance_id: InstanceId,
    /// When it was made, in milliseconds since 1970.
    pub created_at: Timestamp,
    /// When its name, token lifetime or scopes last changed, in milliseconds since 1970.
    pub updated_at: Timestamp,
    /// How many seconds its tokens live where the request names no time.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_TOKEN_TTL_SECONDS), example = 3600))]
    pub default_token_ttl: i64,
    /// The machines that this one may call, oldest scope first.
    pub scoped_machines: Vec<NestedMachine>,
    /// The machine's key, only in the response to its creation. Give it to the machine only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub secret_key: Option<ExposedSecret>,
}

/// A new machine, with its key, for the description: a [`Machine`] has it as an `Option`.
#[cfg(feature = "schema")]
#[derive(Debug, JsonSchema)]
pub struct MachineCreated {
    /// The machine.
    #[schemars(flatten)]
    pub machine: Machine,
    /// The machine's key. Hand it to the machine, and to nobody else.
    #[schemars(regex(pattern = MACHINE_KEY), example = EXAMPLE_KEY)]
    pub secret_key: ExposedSecret,
}

/// A list of items, or a page of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "{T}List"))]
pub struct List<T> {
    /// This page.
    pub data: Vec<T>,
    /// How many there are on all pages together.
    #[cfg_attr(feature = "schema", schemars(range(min = 0), example = 1))]
    pub total_count: i64,
}

impl<T> List<T> {
    /// Returns a list that stands on one page.
    #[must_use]
    pub fn whole(data: Vec<T>) -> Self {
        let total_count = i64::try_from(data.len()).unwrap_or(i64::MAX);
        Self { data, total_count }
    }
}

/// The answer to the deletion of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct DeletedMachine {
    /// Always `machine`.
    pub object: MachineTag,
    /// The machine's id.
    pub id: MachineId,
    /// Always `true`: the machine is gone.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub deleted: bool,
}

/// A machine's key.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct MachineSecretKey {
    /// Always `machine_secret_key`.
    pub object: MachineSecretKeyTag,
    /// The machine's key, `ak_…`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = MACHINE_KEY), example = EXAMPLE_KEY))]
    pub secret: ExposedSecret,
}

/// A scope: `from` may call `to`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = crate::schema::all_required))]
pub struct MachineScope {
    /// Always `machine_scope`.
    pub object: MachineScopeTag,
    /// The machine that calls.
    pub from_machine_id: MachineId,
    /// The machine that is called.
    #[cfg_attr(feature = "schema", schemars(example = LEDGER))]
    pub to_machine_id: MachineId,
    /// When the scope was made, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(required))]
    pub created_at: Option<Timestamp>,
}

/// The answer to the deletion of a scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct DeletedMachineScope {
    /// Always `machine_scope`.
    pub object: MachineScopeTag,
    /// The machine that calls.
    pub from_machine_id: MachineId,
    /// The machine that is called.
    #[cfg_attr(feature = "schema", schemars(example = LEDGER))]
    pub to_machine_id: MachineId,
    /// Always `true`: the scope is gone.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub deleted: bool,
}

/// A token, opaque or JWT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "M2MToken"))]
pub struct M2mToken {
    /// Always `machine_to_machine_token`.
    pub object: M2mTokenTag,
    /// The token's id, for revoking it and for logs. It never works as a token.
    pub id: TokenId,
    /// The machine that the token identifies.
    pub subject: MachineId,
    /// The machines that the token is for, as they were when it was made.
    pub scopes: Scopes,
    /// What the machine put into the token: any JSON value, or null.
    #[cfg_attr(feature = "schema", schemars(with = "Claims"))]
    pub claims: Option<Claims>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// The reason that the first revocation gave.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", length(max = MAX_REASON_LENGTH)))]
    pub revocation_reason: Option<Arc<str>>,
    /// Whether it has expired.
    pub expired: bool,
    /// When it expires, in milliseconds since 1970; null if never.
    #[cfg_attr(feature = "schema", schemars(example = EXAMPLE_TIME + 3_600_000))]
    pub expiration: Option<Timestamp>,
    /// When it was last verified, up to a few seconds out of date; null if never, and in the response to verifying a JWT.
    #[cfg_attr(feature = "schema", schemars(example = None::<i64>))]
    pub last_used_at: Option<Timestamp>,
    /// When it was made, in milliseconds since 1970.
    pub created_at: Timestamp,
    /// When it was created, last verified or revoked, whichever is latest.
    pub updated_at: Timestamp,
    /// The token itself, which the machine sends as `Authorization: Bearer …`: `mt_` and 43 characters, or a JWT. In the
    /// answer to its creation only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub token: Option<ExposedSecret>,
}

/// A new token, with its string, for the description: an [`M2mToken`] has it as an `Option`.
#[cfg(feature = "schema")]
#[derive(Debug, JsonSchema)]
#[schemars(rename = "M2MTokenCreated")]
pub struct M2mTokenCreated {
    /// The token.
    #[schemars(flatten)]
    pub body: M2mToken,
    /// The token itself, which the machine sends as `Authorization: Bearer …`: `mt_` and 43 characters, or a JWT.
    #[schemars(example = EXAMPLE_TOKEN)]
    pub token: ExposedSecret,
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
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "M2MTokenList"))]
pub struct M2mTokenList {
    /// This page, newest first.
    pub m2m_tokens: Vec<M2mToken>,
    /// How many there are on all pages together.
    #[cfg_attr(feature = "schema", schemars(range(min = 0), example = 1))]
    pub total_count: i64,
}

/// A record of the change log (an extension of the contract).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct Change {
    /// Who did it: the id of an instance key or machine, or `operator`.
    #[cfg_attr(feature = "schema", schemars(example = &"key_5f1c0a9be274"))]
    pub actor: String,
    /// When it happened, in milliseconds since 1970.
    pub at: Timestamp,
    /// The ids and values that a reader needs in order to act. Its members depend on `kind`. Never a secret.
    #[cfg_attr(feature = "schema", schemars(extend("type" = "object"), example = crate::change::example_detail()))]
    pub detail: Value,
    /// What happened.
    pub kind: ChangeKind,
    /// Always `change`.
    pub object: ChangeTag,
    /// Its place in the log of this instance, from 1, without gaps.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "i64", range(min = 1), example = 42)
    )]
    pub sequence: u64,
    /// The id of what changed.
    #[cfg_attr(
        feature = "schema",
        schemars(example = &"mt_07f0ba8c3b4843ce7d85fcdd5e71853e")
    )]
    pub subject: String,
}

/// A part of the change log.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct ChangeList {
    /// The records, oldest first; at most 1000.
    pub data: Vec<Change>,
}

/// The result of checking a part of the change log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct ChangeLogReport {
    /// Whether the check reached the end of the log, or a broken record. If not, continue after `verified`.
    #[cfg_attr(feature = "schema", schemars(example = true))]
    pub complete: bool,
    /// The number of the first record that is missing, altered or forged; null if there is none.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<i64>", range(min = 1), example = None::<i64>)
    )]
    pub first_broken: Option<u64>,
    /// Always `change_log_report`.
    pub object: ChangeLogReportTag,
    /// The number of the last intact record; 0 if there is none.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "i64", range(min = 0), example = 42)
    )]
    pub verified: u64,
}

/// The public signing keys of an instance (RFC 7517 section 5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct Jwks {
    /// The public keys: the next one, the active one, and those whose JWTs have not all expired.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub keys: Vec<Jwk>,
}

/// A public RSA key for signatures (RFC 7517 section 4, RFC 7518 section 6.3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(inline))]
pub struct Jwk {
    /// Always `sig`.
    #[serde(rename = "use")]
    #[cfg_attr(feature = "schema", schemars(extend("const" = "sig")))]
    pub key_use: String,
    /// Always `RSA`.
    #[cfg_attr(feature = "schema", schemars(extend("const" = "RSA")))]
    pub kty: String,
    /// The key's id.
    pub kid: SigningKeyId,
    /// Always `RS256`.
    #[cfg_attr(feature = "schema", schemars(extend("const" = "RS256")))]
    pub alg: String,
    /// The modulus, base64url.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9A-Za-z_-]+$"), example = EXAMPLE_MODULUS))]
    pub n: String,
    /// The exponent 65537, base64url.
    #[cfg_attr(feature = "schema", schemars(extend("const" = "AQAB")))]
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
