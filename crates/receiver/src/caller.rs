//! Who calls: a user, a machine, or somebody whom only the old check knows.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_protocol::claims::RESERVED_CLAIMS;
use countersign_protocol::ids::MachineId;
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;
use serde::de::DeserializeOwned;

/// Who calls. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Caller {
    /// A user, by a JWT of a configured issuer.
    User(UserCaller),
    /// A machine, by an M2M token.
    Machine(MachineCaller),
    /// Somebody whom the legacy check let in.
    Legacy(LegacyCaller),
}

impl Caller {
    /// The user, where it is one.
    #[must_use]
    pub fn as_user(&self) -> Option<&UserCaller> {
        match self {
            Self::User(user) => Some(user),
            _ => None,
        }
    }

    /// The machine, where it is one.
    #[must_use]
    pub fn as_machine(&self) -> Option<&MachineCaller> {
        match self {
            Self::Machine(machine) => Some(machine),
            _ => None,
        }
    }
}

/// A machine that proved itself with an M2M token.
#[derive(Clone)]
pub struct MachineCaller(pub(crate) Arc<MachineToken>);

/// What is known of a machine's token.
pub(crate) struct MachineToken {
    pub(crate) id: Box<str>,
    pub(crate) subject: MachineId,
    /// `None` where a JWT carries none that can be believed.
    pub(crate) scopes: Option<Scopes>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) claims: ClaimsText,
    /// When the authority was asked about it, in milliseconds of the monotonic clock; 0 for a JWT checked here.
    pub(crate) asked_at: i64,
}

/// Claims as they came.
pub(crate) enum ClaimsText {
    /// The value of an answer's `claims`; `null` where there are none.
    Own(Box<str>),
    /// A JWT's payload, in which the registered claims stand beside the machine's own.
    Payload(String),
}

impl MachineCaller {
    /// The machine.
    #[must_use]
    pub fn id(&self) -> MachineId {
        self.0.subject
    }

    /// The token's id, for logs. It names the token and never works as one.
    #[must_use]
    pub fn token_id(&self) -> &str {
        &self.0.id
    }

    /// The machines that the token is for. Empty where it is a JWT that does not say, or whose issuer is not trusted to
    /// ([`MachineIssuer::trust_scopes_claim`](crate::MachineIssuer::trust_scopes_claim)).
    pub fn scopes(&self) -> impl Iterator<Item = MachineId> {
        let scopes = self.0.scopes.iter().flat_map(Scopes::iter);
        scopes.filter_map(|id| id.parse().ok())
    }

    /// When the token's life is over; `None` for never. The authority says `expiration: null` of an opaque token that was made
    /// without an end; it is accepted like any other until it is revoked.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.expires_at.map(system_time)
    }

    /// The claims that the machine put into the token. Without any, the value is `null`.
    ///
    /// # Errors
    /// Where they are not of this type.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match &self.0.claims {
            ClaimsText::Own(text) => serde_json::from_str(text),
            ClaimsText::Payload(text) => {
                let mut members: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_str(text)?;
                for name in RESERVED_CLAIMS.iter().chain(&["scopes"]) {
                    members.remove(*name);
                }
                serde_json::from_value(if members.is_empty() {
                    serde_json::Value::Null
                } else {
                    members.into()
                })
            }
        }
    }
}

impl fmt::Debug for MachineCaller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MachineCaller")
            .field("id", &self.0.subject)
            .field("token_id", &self.0.id)
            .finish_non_exhaustive()
    }
}

/// A user who proved themself with a JWT.
#[derive(Clone)]
pub struct UserCaller(pub(crate) Arc<UserToken>);

/// What is known of a user's token.
pub(crate) struct UserToken {
    pub(crate) issuer: Box<str>,
    pub(crate) subject: Box<str>,
    pub(crate) session_id: Option<Box<str>>,
    pub(crate) expires_at: Timestamp,
    pub(crate) payload: Box<str>,
}

impl UserCaller {
    /// The user, `sub`. Unique within the issuer.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Who vouches for the user, `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The session, `sid`, where the issuer has such.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.0.session_id.as_deref()
    }

    /// When the token's life is over.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        system_time(self.0.expires_at)
    }

    /// All claims of the JWT.
    ///
    /// # Errors
    /// Where they are not of this type.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0.payload)
    }
}

impl fmt::Debug for UserCaller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UserCaller")
            .field("subject", &self.0.subject)
            .field("issuer", &self.0.issuer)
            .finish_non_exhaustive()
    }
}

/// Somebody whom the legacy check let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyCaller {
    pub(crate) name: Arc<str>,
}

impl LegacyCaller {
    /// The name that the legacy check gave.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Dates that `SystemTime` cannot hold become the epoch, which is over.
fn system_time(time: Timestamp) -> SystemTime {
    let millis = u64::try_from(time.as_millis()).unwrap_or(0);
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
