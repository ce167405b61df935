//! Instances, their settings and their keys. Extensions of Countersign.
//!
//! An instance key manages its own instance. Only the operator lists and creates instances, see
//! [`Client::at_door`](crate::Client::at_door).

use std::time::{Duration, SystemTime};

use countersign_protocol::body::{ExposedSecret, List};
use countersign_protocol::ids::{InstanceId, KeyId};
use countersign_protocol::instance as body;
use countersign_protocol::request::{InstanceKeyRequest, InstanceRequest};
use countersign_protocol::secret::InstanceKey;
use countersign_protocol::settings::{InstanceSettings, NullExpiration, RateLimit};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::error::Error;
use crate::request::Request;

/// An instance.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: String,
    /// The issuer of its JWTs.
    pub issuer: String,
    /// Its settings.
    pub settings: InstanceSettings,
    /// When it was created.
    pub created_at: SystemTime,
}

/// A new instance and its first key.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreatedInstance {
    /// The instance.
    pub instance: Instance,
    /// Its key. It is shown once.
    pub key: InstanceKey,
}

/// The public facts about a key of an instance.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct InstanceKeyInfo {
    /// The key's id. It never authenticates.
    pub id: KeyId,
    /// When the key was created.
    pub created_at: SystemTime,
    /// When the key was revoked.
    pub revoked_at: Option<SystemTime>,
}

/// A new key of an instance.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreatedInstanceKey {
    /// The key's id.
    pub id: KeyId,
    /// When the key was created.
    pub created_at: SystemTime,
    /// The key. It is shown once.
    pub key: InstanceKey,
}

/// The kind of an instance key. Both kinds have the same rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `sk_live_…`
    Live,
    /// `sk_test_…`
    Test,
}

/// New values for some settings of an instance. Settings that are not named stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct SettingsChange {
    settings: Map<String, Value>,
}

impl SettingsChange {
    /// Changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether JWTs carry a `scopes` claim that lists their receivers.
    #[must_use]
    pub fn jwt_scopes_claim(self, is_on: bool) -> Self {
        self.set("jwt_scopes_claim", is_on.into())
    }

    /// Sets the lifetime of an opaque token if the request names no expiration.
    #[must_use]
    pub fn null_expiration(self, value: NullExpiration) -> Self {
        self.set("null_expiration", json!(value))
    }

    /// Sets the maximum lifetime of a JWT, in whole seconds.
    #[must_use]
    pub fn max_jwt_ttl(self, ttl: Duration) -> Self {
        self.set("max_jwt_ttl", ttl.as_secs().into())
    }

    /// Sets whether machine keys can be shown again. `false` erases the stored copies.
    #[must_use]
    pub fn secret_reveal(self, is_on: bool) -> Self {
        self.set("secret_reveal", is_on.into())
    }

    /// Sets whether [`NewToken::reuse`](crate::NewToken::reuse) may return an existing token. `false` erases the stored
    /// copies.
    #[must_use]
    pub fn token_pooling(self, is_on: bool) -> Self {
        self.set("token_pooling", is_on.into())
    }

    /// Sets the issuer of JWTs; `None` to derive it from the public URL.
    #[must_use]
    pub fn issuer(self, url: Option<&str>) -> Self {
        self.set("issuer", url.into())
    }

    /// Sets the limit for all machine keys of the instance together; `None` for no limit.
    #[must_use]
    pub fn rate_limit(self, limit: Option<RateLimit>) -> Self {
        self.set("rate_limit", json!(limit))
    }

    /// Sets the limit for each machine; `None` for no limit.
    #[must_use]
    pub fn machine_rate_limit(self, limit: Option<RateLimit>) -> Self {
        self.set("machine_rate_limit", json!(limit))
    }

    /// Sets a setting by its name on the wire. The authority refuses names and values that it does not know.
    #[must_use]
    pub fn set(mut self, name: &str, value: Value) -> Self {
        self.settings.insert(name.to_owned(), value);
        self
    }
}

/// Reads the caller's instance.
#[must_use]
pub fn instance() -> Request<body::Instance> {
    Request::get("/countersign/instance")
}

/// Changes settings of the caller's instance.
#[must_use]
pub fn update_instance(change: &SettingsChange) -> Request<body::Instance> {
    Request::patch("/countersign/instance", &json!({ "settings": change }))
}

/// Lists the keys of the caller's instance.
#[must_use]
pub fn list_instance_keys() -> Request<List<body::InstanceKeyInfo>> {
    Request::get("/countersign/instance_keys")
}

/// Creates a key of the caller's instance.
#[must_use]
pub fn create_instance_key(kind: KeyKind) -> Request<body::CreatedInstanceKey> {
    let body = InstanceKeyRequest {
        live: Some(kind == KeyKind::Live),
    };
    Request::post("/countersign/instance_keys", &body)
}

/// Revokes a key of the caller's instance.
#[must_use]
pub fn revoke_instance_key(id: KeyId) -> Request<body::DeletedInstanceKey> {
    Request::delete(format!("/countersign/instance_keys/{id}"))
}

/// Lists all instances; only at the operator's door.
#[must_use]
pub fn list_instances() -> Request<List<body::Instance>> {
    Request::get("/countersign/instances")
}

/// Creates an instance with a first key; only at the operator's door.
#[must_use]
pub fn create_instance(name: &str, kind: KeyKind) -> Request<body::Instance> {
    let body = InstanceRequest {
        name: name.into(),
        live: Some(kind == KeyKind::Live),
    };
    Request::post("/countersign/instances", &body)
}

impl Client {
    /// Reads the caller's instance.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn instance(&self) -> Result<Instance, Error> {
        Ok(self.send(instance()).await?.into())
    }

    /// Changes settings of the caller's instance.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn update_instance(&self, change: &SettingsChange) -> Result<Instance, Error> {
        Ok(self.send(update_instance(change)).await?.into())
    }

    /// Lists the keys of the caller's instance, oldest first, revoked ones included.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn list_instance_keys(&self) -> Result<Vec<InstanceKeyInfo>, Error> {
        let list = self.send(list_instance_keys()).await?;
        Ok(list.data.into_iter().map(InstanceKeyInfo::from).collect())
    }

    /// Creates another key of the caller's instance.
    ///
    /// # Errors
    /// [`Error`], each kind of it; `conflict` if the instance has as many live keys as it may have.
    pub async fn create_instance_key(&self, kind: KeyKind) -> Result<CreatedInstanceKey, Error> {
        let created = self.send(create_instance_key(kind)).await?;
        let key = self.key_of(created.secret_key)?;
        Ok(CreatedInstanceKey {
            id: created.id,
            created_at: created.created_at.into(),
            key,
        })
    }

    /// Revokes a key of the caller's instance at once, even the key of this client.
    ///
    /// # Errors
    /// [`Error`], each kind of it; `conflict` for the last live key.
    pub async fn revoke_instance_key(&self, id: KeyId) -> Result<(), Error> {
        self.send(revoke_instance_key(id)).await.map(drop)
    }

    /// Lists all instances of the authority, oldest first. Only at the operator's door.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn list_instances(&self) -> Result<Vec<Instance>, Error> {
        let list = self.send(list_instances()).await?;
        Ok(list.data.into_iter().map(Instance::from).collect())
    }

    /// Creates an instance with a first key. Only at the operator's door.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn create_instance(
        &self,
        name: &str,
        kind: KeyKind,
    ) -> Result<CreatedInstance, Error> {
        let mut created = self.send(create_instance(name, kind)).await?;
        let key = self.key_of(created.secret_key.take())?;
        Ok(CreatedInstance {
            instance: created.into(),
            key,
        })
    }

    fn key_of(&self, key: Option<ExposedSecret>) -> Result<InstanceKey, Error> {
        key.map(|key| InstanceKey::new(key.0))
            .ok_or_else(|| self.malformed("its response to the creation of a key contains no key"))
    }
}

impl From<body::Instance> for Instance {
    fn from(instance: body::Instance) -> Self {
        Self {
            id: instance.id,
            name: instance.name,
            issuer: instance.issuer,
            settings: instance.settings,
            created_at: instance.created_at.into(),
        }
    }
}

impl From<body::InstanceKeyInfo> for InstanceKeyInfo {
    fn from(key: body::InstanceKeyInfo) -> Self {
        Self {
            id: key.id,
            created_at: key.created_at.into(),
            revoked_at: key.revoked_at.map(SystemTime::from),
        }
    }
}
