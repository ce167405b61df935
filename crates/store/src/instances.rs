//! Instances: tenants, each with its own machines, keys and settings, sealed off from the others.

use std::sync::Arc;

use countersign_protocol::ids::InstanceId;
use countersign_protocol::limits::MAX_TOKEN_TTL_SECONDS;
use countersign_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What a request without an expiration means for an opaque token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullExpiration {
    /// The machine's `default_token_ttl` applies.
    #[default]
    Default,
    /// The token never expires.
    Never,
}

/// At most `requests` in each window of `seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// How many.
    pub requests: u32,
    /// The length of the window.
    pub seconds: u32,
}

/// What an instance decides for itself. Absent members have their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceSettings {
    /// Whether JWTs carry `scopes`, the machines they are for.
    pub jwt_scopes_claim: bool,
    /// What an absent expiration means for opaque tokens.
    pub null_expiration: NullExpiration,
    /// The longest life of a JWT, in seconds.
    pub max_jwt_ttl: i64,
    /// Whether machine keys are kept sealed so that they can be shown again.
    pub secret_reveal: bool,
    /// Whether `min_remaining_ttl_seconds` hands out a live token again.
    pub token_pooling: bool,
    /// The issuer of JWTs; `None` for one made from the public URL.
    pub issuer: Option<String>,
    /// A limit on all requests of the instance.
    pub rate_limit: Option<RateLimit>,
    /// A limit on the requests with each machine key.
    pub machine_rate_limit: Option<RateLimit>,
}

impl Default for InstanceSettings {
    fn default() -> Self {
        Self {
            jwt_scopes_claim: true,
            null_expiration: NullExpiration::Default,
            max_jwt_ttl: MAX_TOKEN_TTL_SECONDS,
            secret_reveal: true,
            token_pooling: true,
            issuer: None,
            rate_limit: None,
            machine_rate_limit: None,
        }
    }
}

/// An instance to be made.
#[derive(Clone, Debug)]
pub struct NewInstance {
    /// Its id.
    pub id: InstanceId,
    /// A name for people.
    pub name: String,
    /// Its settings.
    pub settings: InstanceSettings,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its place in the order of creation, from 1.
    pub number: i64,
    /// Its id.
    pub id: InstanceId,
    /// A name for people.
    pub name: String,
    /// Its settings.
    pub settings: InstanceSettings,
    /// Grows with each change of the settings.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What came of replacing the settings of an instance.
#[derive(Clone, Debug)]
pub enum UpdateSettings {
    /// They are replaced.
    Updated(Arc<Instance>),
    /// Somebody else replaced them since they were looked at. Nothing was changed.
    Changed,
    /// There is no such instance.
    NotFound,
}
