//! What the extensions below `/v1/countersign/` answer with, for both ways of administration. The bodies of the contract are
//! those of `countersign-protocol`.

use countersign_authority::{InstanceInfo, InstanceKeyInfo, SigningKeyInfo};
use countersign_protocol::body::{Change, ExposedSecret};
use countersign_protocol::ids::{InstanceId, SigningKeyId};
use countersign_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A list that fits one page.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct List<T> {
    pub(crate) data: Vec<T>,
    pub(crate) total_count: i64,
}

impl<T> From<Vec<T>> for List<T> {
    fn from(data: Vec<T>) -> Self {
        let total_count = i64::try_from(data.len()).unwrap_or(i64::MAX);
        Self { data, total_count }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SigningKeyBody {
    pub(crate) kid: SigningKeyId,
    pub(crate) state: String,
    pub(crate) published_at: Timestamp,
    pub(crate) active_at: Option<Timestamp>,
    pub(crate) retired_at: Option<Timestamp>,
    pub(crate) last_expires_at: Option<Timestamp>,
}

impl From<SigningKeyInfo> for SigningKeyBody {
    fn from(key: SigningKeyInfo) -> Self {
        let SigningKeyInfo {
            kid,
            state,
            published_at,
            active_at,
            retired_at,
            last_expires_at,
        } = key;
        Self {
            kid,
            state: state.into_owned(),
            published_at,
            active_at,
            retired_at,
            last_expires_at,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstanceBody {
    pub(crate) object: String,
    pub(crate) id: InstanceId,
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
    /// Unknown on a data folder whose public URL nobody gave.
    pub(crate) issuer: Option<String>,
    pub(crate) settings: Value,
}

impl InstanceBody {
    pub(crate) fn new(instance: InstanceInfo, has_public_url: bool) -> Self {
        let is_known = has_public_url || instance.settings.issuer.is_some();
        Self {
            object: "instance".to_owned(),
            id: instance.id,
            name: instance.name,
            created_at: instance.created_at,
            issuer: is_known.then_some(instance.issuer),
            settings: serde_json::to_value(&instance.settings).unwrap_or_default(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstanceKeyBody {
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
}

impl From<InstanceKeyInfo> for InstanceKeyBody {
    fn from(key: InstanceKeyInfo) -> Self {
        Self {
            id: key.id.to_string(),
            created_at: key.created_at,
            revoked_at: key.revoked_at,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewInstanceKeyBody {
    pub(crate) object: String,
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret_key: Option<ExposedSecret>,
}

/// What `init` and `instance create` print as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct NewInstanceBody {
    pub(crate) instance_id: InstanceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_key: Option<ExposedSecret>,
    pub(crate) publishable_key: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangeBody {
    pub(crate) object: String,
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    pub(crate) actor: String,
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) detail: Value,
}

impl From<Change> for ChangeBody {
    fn from(change: Change) -> Self {
        Self {
            object: "change".to_owned(),
            sequence: change.sequence,
            at: change.at,
            actor: change.actor,
            kind: change.kind.as_str().to_owned(),
            subject: change.subject,
            detail: change.detail,
        }
    }
}
