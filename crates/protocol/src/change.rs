//! Defines the records of the change log: what changed, with every id and value that a reader needs to act on it.
//!
//! The transaction that makes a change also writes its record. The log is the audit log, and caches, nodes and
//! receivers follow it. A record never contains a secret. Each instance has its own log. Changes to the authority as a
//! whole go to a separate log.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::ids::{InstanceId, KeyId, MachineId, SigningKeyId, TokenId};
use crate::scopes::Scopes;
use crate::settings::InstanceSettings;
use crate::time::Timestamp;
use crate::token::TokenFormat;

/// Version of the record format that this release writes.
pub const FORMAT_VERSION: u32 = 1;

/// Names a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Log {
    /// The log of changes to the authority as a whole.
    Authority,
    /// The log of changes within one instance.
    Instance(InstanceId),
}

impl fmt::Display for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority => formatter.write_str("authority"),
            Self::Instance(id) => id.fmt(formatter),
        }
    }
}

/// A position in a log: a record's sequence number and the first bytes of its chain code. The code shows whether the
/// log was replaced since it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Sequence number of the last record that was read; 0 before the first record.
    pub sequence: u64,
    /// First 8 bytes of that record's chain code; zeros before the first record.
    pub code: [u8; 8],
}

impl Cursor {
    /// The position before the first record.
    pub const START: Self = Self {
        sequence: 0,
        code: [0; 8],
    };

    /// Returns the position of the record with this number and chain code.
    #[must_use]
    pub fn at(sequence: u64, code: &[u8; 32]) -> Self {
        let mut start = [0; 8];
        start.copy_from_slice(code.split_at(8).0);
        Self {
            sequence,
            code: start,
        }
    }
}

/// A value before and after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed<T> {
    /// The value before the change.
    pub from: T,
    /// The value after the change.
    pub to: T,
}

/// Why a signing key changed its state or was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A request.
    Request,
    /// The key's schedule.
    Schedule,
}

/// Describes a token in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// The token's id.
    pub token_id: TokenId,
    /// The machine that the token identifies.
    pub subject: MachineId,
    /// The machines that the token names as its receivers.
    pub receivers: Scopes,
    /// Whether the authority fixed these receivers for the token. `false` for a JWT that may lack the authority's
    /// `scopes` claim: then every receiver must learn that the token ended.
    pub names_receivers: bool,
    /// Whether it is opaque or a JWT.
    pub format: TokenFormat,
    /// When it expires; `null` for never.
    pub expires_at: Option<Timestamp>,
}

/// A change, by kind.
///
/// Serialized as `{"kind": …, "detail": …}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail")]
#[non_exhaustive]
pub enum Event {
    /// The authority was initialized with its data keys.
    #[serde(rename = "authority.initialized")]
    AuthorityInitialized {},
    /// An instance was created.
    #[serde(rename = "instance.created")]
    InstanceCreated {
        /// The instance.
        instance_id: InstanceId,
        /// Its name.
        name: String,
        /// Its first key.
        key_id: KeyId,
        /// Its first signing key.
        kid: SigningKeyId,
    },
    /// An instance's settings changed.
    #[serde(rename = "instance.updated")]
    InstanceUpdated {
        /// The instance.
        instance_id: InstanceId,
        /// The settings that changed, with their new values.
        settings: Value,
        /// Time since which JWTs carry a `scopes` claim written by the authority; `null` while they do not.
        local_since: Option<Timestamp>,
    },
    /// All tokens of an instance that were created before a cut-off were ended.
    #[serde(rename = "instance.tokens_ended")]
    InstanceTokensEnded {
        /// The instance.
        instance_id: InstanceId,
        /// The cut-off. Tokens created before it are refused.
        issued_before: Timestamp,
    },
    /// An instance key was created.
    #[serde(rename = "instance_key.created")]
    InstanceKeyCreated {
        /// The key.
        key_id: KeyId,
    },
    /// An instance key was revoked.
    #[serde(rename = "instance_key.revoked")]
    InstanceKeyRevoked {
        /// The key.
        key_id: KeyId,
    },
    /// A signing key was published.
    #[serde(rename = "signing_key.published")]
    SigningKeyPublished {
        /// The key.
        kid: SigningKeyId,
    },
    /// A signing key became the active one.
    #[serde(rename = "signing_key.activated")]
    SigningKeyActivated {
        /// The key.
        kid: SigningKeyId,
        /// The previously active key, which now only verifies.
        verify_only: Option<SigningKeyId>,
        /// The cause.
        cause: Cause,
    },
    /// A signing key was deleted.
    #[serde(rename = "signing_key.deleted")]
    SigningKeyDeleted {
        /// The key.
        kid: SigningKeyId,
        /// The cause.
        cause: Cause,
    },
    /// A machine was created.
    #[serde(rename = "machine.created")]
    MachineCreated {
        /// The machine.
        machine_id: MachineId,
        /// Its name.
        name: String,
        /// Lifetime of its tokens in seconds, if a request does not specify one.
        default_token_ttl: i64,
        /// The machines that it may call.
        scoped_machines: Vec<MachineId>,
        /// Its first key.
        key_id: KeyId,
    },
    /// A machine's name or token lifetime changed.
    #[serde(rename = "machine.updated")]
    MachineUpdated {
        /// The machine.
        machine_id: MachineId,
        /// Its name, before and after.
        name: Changed<String>,
        /// Lifetime of its tokens in seconds, before and after.
        default_token_ttl: Changed<i64>,
    },
    /// A machine was deleted, with its keys and its scopes in both directions. All its tokens are refused.
    #[serde(rename = "machine.deleted")]
    MachineDeleted {
        /// The machine.
        machine_id: MachineId,
        /// Its last name.
        name: String,
    },
    /// All tokens of a machine that were created before a cut-off were ended.
    #[serde(rename = "machine.tokens_ended")]
    MachineTokensEnded {
        /// The machine.
        machine_id: MachineId,
        /// The cut-off. Tokens created before it are refused.
        issued_before: Timestamp,
    },
    /// A machine's key was rotated.
    #[serde(rename = "machine_key.rotated")]
    MachineKeyRotated {
        /// The machine.
        machine_id: MachineId,
        /// Its new key.
        key_id: KeyId,
        /// Latest time at which the older keys expire.
        older_expire_at: Timestamp,
    },
    /// A machine's newest key was shown.
    #[serde(rename = "machine_key.revealed")]
    MachineKeyRevealed {
        /// The machine.
        machine_id: MachineId,
        /// The key.
        key_id: KeyId,
    },
    /// A machine may now call another machine.
    #[serde(rename = "scope.created")]
    ScopeCreated {
        /// The machine that calls.
        from_machine_id: MachineId,
        /// The machine that is called.
        to_machine_id: MachineId,
    },
    /// A machine may no longer call another machine. Existing tokens do not change.
    #[serde(rename = "scope.deleted")]
    ScopeDeleted {
        /// The machine that called.
        from_machine_id: MachineId,
        /// The machine that was called.
        to_machine_id: MachineId,
    },
    /// The operator got a token in the role of its machine, either a new token or a reused one.
    #[serde(rename = "token.issued")]
    TokenIssued {
        /// The token.
        token: TokenFacts,
    },
    /// A token was revoked.
    #[serde(rename = "token.revoked")]
    TokenRevoked {
        /// The token.
        token: TokenFacts,
        /// The reason given, if any.
        reason: Option<Arc<str>>,
    },
    /// A token's claims or expiry changed.
    #[serde(rename = "token.updated")]
    TokenUpdated {
        /// The token, with its new expiry.
        token: TokenFacts,
        /// Whether its claims were replaced.
        claims_replaced: bool,
    },
}

impl Event {
    /// Returns the kind of the change.
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::AuthorityInitialized { .. } => ChangeKind::AuthorityInitialized,
            Self::InstanceCreated { .. } => ChangeKind::InstanceCreated,
            Self::InstanceUpdated { .. } => ChangeKind::InstanceUpdated,
            Self::InstanceTokensEnded { .. } => ChangeKind::InstanceTokensEnded,
            Self::InstanceKeyCreated { .. } => ChangeKind::InstanceKeyCreated,
            Self::InstanceKeyRevoked { .. } => ChangeKind::InstanceKeyRevoked,
            Self::SigningKeyPublished { .. } => ChangeKind::SigningKeyPublished,
            Self::SigningKeyActivated { .. } => ChangeKind::SigningKeyActivated,
            Self::SigningKeyDeleted { .. } => ChangeKind::SigningKeyDeleted,
            Self::MachineCreated { .. } => ChangeKind::MachineCreated,
            Self::MachineUpdated { .. } => ChangeKind::MachineUpdated,
            Self::MachineDeleted { .. } => ChangeKind::MachineDeleted,
            Self::MachineTokensEnded { .. } => ChangeKind::MachineTokensEnded,
            Self::MachineKeyRotated { .. } => ChangeKind::MachineKeyRotated,
            Self::MachineKeyRevealed { .. } => ChangeKind::MachineKeyRevealed,
            Self::ScopeCreated { .. } => ChangeKind::ScopeCreated,
            Self::ScopeDeleted { .. } => ChangeKind::ScopeDeleted,
            Self::TokenIssued { .. } => ChangeKind::TokenIssued,
            Self::TokenRevoked { .. } => ChangeKind::TokenRevoked,
            Self::TokenUpdated { .. } => ChangeKind::TokenUpdated,
        }
    }

    /// Returns the id of the object that changed.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::AuthorityInitialized {} => "authority".to_owned(),
            Self::InstanceCreated { instance_id, .. }
            | Self::InstanceUpdated { instance_id, .. }
            | Self::InstanceTokensEnded { instance_id, .. } => instance_id.to_string(),
            Self::InstanceKeyCreated { key_id } | Self::InstanceKeyRevoked { key_id } => {
                key_id.to_string()
            }
            Self::SigningKeyPublished { kid }
            | Self::SigningKeyActivated { kid, .. }
            | Self::SigningKeyDeleted { kid, .. } => kid.to_string(),
            Self::MachineCreated { machine_id, .. }
            | Self::MachineUpdated { machine_id, .. }
            | Self::MachineDeleted { machine_id, .. }
            | Self::MachineTokensEnded { machine_id, .. }
            | Self::MachineKeyRotated { machine_id, .. }
            | Self::MachineKeyRevealed { machine_id, .. } => machine_id.to_string(),
            Self::ScopeCreated {
                from_machine_id, ..
            }
            | Self::ScopeDeleted {
                from_machine_id, ..
            } => from_machine_id.to_string(),
            Self::TokenIssued { token }
            | Self::TokenRevoked { token, .. }
            | Self::TokenUpdated { token, .. } => token.token_id.to_string(),
        }
    }

    /// Returns the kind-specific members of the record, as the stored JSON text.
    #[must_use]
    pub fn detail(&self) -> String {
        let Value::Object(mut members) =
            serde_json::to_value(self).expect("an event serializes to JSON")
        else {
            unreachable!("an event serializes to an object")
        };
        members.remove("detail").unwrap_or_default().to_string()
    }

    /// Reads an event from its kind and its stored detail.
    ///
    /// # Errors
    /// If the detail does not match the kind.
    pub fn from_stored(kind: ChangeKind, detail: &str) -> Result<Self, serde_json::Error> {
        let detail: &RawValue = serde_json::from_str(detail)?;
        let text = format!(r#"{{"kind":"{kind}","detail":{detail}}}"#);
        serde_json::from_str(&text)
    }
}

/// Returns the settings that differ between `before` and `after`, with their new values.
#[must_use]
pub fn changed_settings(before: &InstanceSettings, after: &InstanceSettings) -> Value {
    let members = |settings| match serde_json::to_value(settings) {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    let before = members(before);
    members(after)
        .into_iter()
        .filter(|(name, value)| before.get(name) != Some(value))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Declares the kinds with their names on the wire.
macro_rules! kinds {
    ($($variant:ident = $name:literal,)*) => {
        /// The kind of a change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ChangeKind {
            $(#[doc = concat!("`", $name, "`.")] $variant,)*
        }

        impl ChangeKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the name on the wire and in the store.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

kinds! {
    AuthorityInitialized = "authority.initialized",
    InstanceCreated = "instance.created",
    InstanceUpdated = "instance.updated",
    InstanceTokensEnded = "instance.tokens_ended",
    InstanceKeyCreated = "instance_key.created",
    InstanceKeyRevoked = "instance_key.revoked",
    SigningKeyPublished = "signing_key.published",
    SigningKeyActivated = "signing_key.activated",
    SigningKeyDeleted = "signing_key.deleted",
    MachineCreated = "machine.created",
    MachineUpdated = "machine.updated",
    MachineDeleted = "machine.deleted",
    MachineTokensEnded = "machine.tokens_ended",
    MachineKeyRotated = "machine_key.rotated",
    MachineKeyRevealed = "machine_key.revealed",
    ScopeCreated = "scope.created",
    ScopeDeleted = "scope.deleted",
    TokenIssued = "token.issued",
    TokenRevoked = "token.revoked",
    TokenUpdated = "token.updated",
}

/// The error for text that is not the name of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of change")]
pub struct ChangeKindError;

impl FromStr for ChangeKind {
    type Err = ChangeKindError;

    fn from_str(name: &str) -> Result<Self, ChangeKindError> {
        let kind = Self::ALL.iter().find(|kind| kind.as_str() == name);
        kind.copied().ok_or(ChangeKindError)
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for ChangeKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ChangeKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        name.parse().map_err(D::Error::custom)
    }
}

#[cfg(feature = "schema")]
crate::schema::in_place!(
    ChangeKind,
    "ChangeKind",
    schemars::json_schema!({
        "type": "string",
        "enum": Self::ALL
            .iter()
            // It stands in the log of the whole authority, which nobody can read over the wire.
            .filter(|kind| **kind != Self::AuthorityInitialized)
            .map(|kind| kind.as_str())
            .collect::<Vec<_>>(),
        "examples": [Self::TokenRevoked.as_str()],
    })
);

#[cfg(feature = "schema")]
/// The detail of a revocation.
pub(crate) fn example_detail() -> Value {
    use crate::ids::{Kind as _, MachineKind};
    use crate::schema::{EXAMPLE_TIME, LEDGER};
    let id = |text: &str| text.parse::<MachineId>().expect("the example is an id");
    let event = Event::TokenRevoked {
        token: TokenFacts {
            token_id: TokenId::EXAMPLE.parse().expect("the example is an id"),
            subject: id(MachineKind::EXAMPLE),
            receivers: std::iter::once(id(LEDGER)).collect(),
            names_receivers: true,
            format: TokenFormat::Opaque,
            expires_at: Some(Timestamp::from_millis(EXAMPLE_TIME + 3_600_000)),
        },
        reason: Some("laptop stolen".into()),
    };
    serde_json::from_str(&event.detail()).expect("the detail is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id<T: FromStr>(text: &str) -> T
    where
        T::Err: fmt::Debug,
    {
        text.parse().expect("an id")
    }

    /// One event of each kind.
    fn one_of_each() -> Vec<Event> {
        let machine_id: MachineId = id("mch_000000000000000000000000001");
        let other: MachineId = id("mch_000000000000000000000000002");
        let instance_id: InstanceId = id("ins_000000000000000000000000001");
        let kid = instance_id.first_signing_key();
        let key_id: KeyId = id("key_0123456789ab");
        let at = Timestamp::from_millis(5);
        let token = TokenFacts {
            token_id: id("mt_00000000000000010000000000000002"),
            subject: machine_id,
            receivers: [other].into_iter().collect(),
            names_receivers: true,
            format: TokenFormat::Jwt,
            expires_at: Some(at),
        };
        vec![
            Event::AuthorityInitialized {},
            Event::InstanceCreated {
                instance_id,
                name: "a \"b\"".to_owned(),
                key_id,
                kid,
            },
            Event::InstanceUpdated {
                instance_id,
                settings: serde_json::json!({"max_jwt_ttl": 60}),
                local_since: None,
            },
            Event::InstanceTokensEnded {
                instance_id,
                issued_before: at,
            },
            Event::InstanceKeyCreated { key_id },
            Event::InstanceKeyRevoked { key_id },
            Event::SigningKeyPublished { kid },
            Event::SigningKeyActivated {
                kid,
                verify_only: Some(kid),
                cause: Cause::Schedule,
            },
            Event::SigningKeyDeleted {
                kid,
                cause: Cause::Request,
            },
            Event::MachineCreated {
                machine_id,
                name: "a".to_owned(),
                default_token_ttl: 60,
                scoped_machines: vec![other],
                key_id,
            },
            Event::MachineUpdated {
                machine_id,
                name: Changed {
                    from: "a".to_owned(),
                    to: "b".to_owned(),
                },
                default_token_ttl: Changed { from: 60, to: 60 },
            },
            Event::MachineDeleted {
                machine_id,
                name: "b".to_owned(),
            },
            Event::MachineTokensEnded {
                machine_id,
                issued_before: at,
            },
            Event::MachineKeyRotated {
                machine_id,
                key_id,
                older_expire_at: at,
            },
            Event::MachineKeyRevealed { machine_id, key_id },
            Event::ScopeCreated {
                from_machine_id: machine_id,
                to_machine_id: other,
            },
            Event::ScopeDeleted {
                from_machine_id: machine_id,
                to_machine_id: other,
            },
            Event::TokenIssued {
                token: token.clone(),
            },
            Event::TokenRevoked {
                token: token.clone(),
                reason: Some("leaked".into()),
            },
            Event::TokenUpdated {
                token,
                claims_replaced: true,
            },
        ]
    }

    #[test]
    fn every_event_is_read_back_as_it_was_written() {
        let events = one_of_each();
        assert_eq!(events.len(), ChangeKind::ALL.len());
        for (event, kind) in events.into_iter().zip(ChangeKind::ALL) {
            assert_eq!(event.kind(), *kind);
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            let written = serde_json::to_value(&event).expect("serializes");
            assert_eq!(written["kind"], kind.as_str());
            let read = Event::from_stored(*kind, &event.detail()).expect("reads");
            assert_eq!(read, event);
            assert!(!event.subject().is_empty());
        }
        assert!("token.eaten".parse::<ChangeKind>().is_err());
    }

    #[test]
    fn a_detail_of_another_kind_is_refused() {
        for detail in ["{}", r#"{"machine_id":"mch_1"}"#, "7", "", "{} {}"] {
            assert!(Event::from_stored(ChangeKind::MachineDeleted, detail).is_err());
        }
    }

    #[test]
    fn changed_settings_are_those_that_differ() {
        let before = InstanceSettings::default();
        let after = InstanceSettings {
            max_jwt_ttl: 60,
            ..before.clone()
        };
        assert_eq!(
            changed_settings(&before, &after),
            serde_json::json!({"max_jwt_ttl": 60})
        );
        assert_eq!(changed_settings(&before, &before), serde_json::json!({}));
    }
}
