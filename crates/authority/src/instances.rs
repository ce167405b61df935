//! Instances, their keys and settings.

use std::sync::Arc;

use countersign_protocol::bounds::Name;
use countersign_protocol::ids::{InstanceId, KeyId};
use countersign_protocol::instance::InstanceKeyInfo;
use countersign_protocol::limits::{MAX_INSTANCE_KEYS, MAX_ISSUER_LENGTH, MAX_TOKEN_TTL_SECONDS};
use countersign_protocol::secret::InstanceKey;
use countersign_protocol::settings::{InstanceSettings, SettingsUpdate};
use countersign_protocol::time::Timestamp;
use countersign_store::{
    Instance, InstanceKeyRow, NewInstance, SigningKeyState, StoreError, UpdateSettings,
};

use crate::Authority;
use crate::actor::{Actor, OPERATOR, Operator};
use crate::error::{Error, Problem, about, instance_not_found, invalid};

/// How often a change of settings starts again because somebody else changed them meanwhile.
const MAX_ATTEMPTS: usize = 64;

/// An instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceInfo {
    /// Its id.
    pub id: InstanceId,
    /// A name for people.
    pub name: String,
    /// Whether it is the authority's default instance, the one whose issuer is the public URL itself.
    pub is_default: bool,
    /// The issuer of its JWTs.
    pub issuer: String,
    /// Its settings.
    pub settings: InstanceSettings,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A new instance and its first key.
#[derive(Debug)]
pub struct CreatedInstance {
    /// The instance.
    pub instance: InstanceInfo,
    /// Its key. It is shown once.
    pub key: InstanceKey,
}

/// A new key of an instance.
#[derive(Debug)]
pub struct CreatedInstanceKey {
    /// Returns the public facts about the instance.
    pub info: InstanceKeyInfo,
    /// The key. It is shown once.
    pub key: InstanceKey,
}

fn key_info(row: &InstanceKeyRow) -> InstanceKeyInfo {
    InstanceKeyInfo {
        id: row.id,
        created_at: row.created_at,
        revoked_at: row.revoked_at,
    }
}

impl Authority {
    /// Creates an instance with a first key, `sk_live_…` or `sk_test_…`, and an active signing key. The first instance
    /// of an authority becomes its default instance.
    ///
    /// # Errors
    /// Where the name is empty or too long, or the store's error.
    pub async fn create_instance(
        &self,
        _operator: &Operator,
        name: impl Into<Name>,
        is_live: bool,
    ) -> Result<CreatedInstance, Error> {
        let name = name.into().checked().map_err(about("name"))?;
        let now = self.now();
        let id = InstanceId::generate(now, &*self.random);
        let key = InstanceKey::generate(is_live, &*self.random);
        let key_row = self.instance_key_row(id, &key);
        let mut signing_key = self.new_signing_key(id, id.first_signing_key()).await?;
        signing_key.state = SigningKeyState::Active;
        signing_key.active_at = Some(now);
        let change = self.operator_change();
        let new = NewInstance {
            id,
            name,
            is_default: self.store.list_instances().await?.is_empty(),
            settings: InstanceSettings::default(),
            created_at: now,
        };
        let store = Arc::clone(&self.store);
        let insert = async move {
            let insert = |new: NewInstance| {
                store.insert_instance(new, key_row.clone(), signing_key.clone(), change.clone())
            };
            let inserted = match insert(new.clone()).await {
                // Another process created the default instance in the meantime.
                Err(StoreError::Conflict(_)) if new.is_default => {
                    let is_default = false;
                    insert(NewInstance { is_default, ..new }).await
                }
                inserted => inserted,
            };
            Ok(inserted?)
        };
        let (inserted, caught_up) = self.change_keys(id, insert).await;
        let instance = inserted?;
        tracing::info!(instance.id = %id, actor = OPERATOR, "instance created");
        // The instance exists, and only this answer shows its key, so an error here must not replace the answer.
        if let Err(error) = caught_up {
            tracing::warn!(instance.id = %id, %error, "signing keys of a new instance were not opened; trying again later");
        }
        Ok(CreatedInstance {
            instance: self.instance_info(&instance),
            key,
        })
    }

    /// Returns all instances, oldest first.
    ///
    /// # Errors
    /// The store's error.
    pub async fn instances(&self, _operator: &Operator) -> Result<Vec<InstanceInfo>, Error> {
        let instances = self.store.list_instances().await?;
        let infos = instances.iter().map(|found| self.instance_info(found));
        Ok(infos.collect())
    }

    /// Returns the actor's instance.
    ///
    /// # Errors
    /// A refusal if the actor is a machine, or the store's error.
    pub async fn instance(&self, actor: &Actor) -> Result<InstanceInfo, Error> {
        actor.require_instance()?;
        let found = self.store.instance(actor.instance_id()).await?;
        let found = found.ok_or_else(|| instance_not_found(actor.instance_id()))?;
        Ok(self.instance_info(&found))
    }

    /// Changes settings of the actor's instance.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value that is not allowed, [`Error::NotFound`], or the store's error.
    pub async fn update_instance_settings(
        &self,
        actor: &Actor,
        update: &SettingsUpdate,
    ) -> Result<InstanceInfo, Error> {
        actor.require_instance()?;
        let id = actor.instance_id();
        // On what is stored now, so that two changes of different settings both stay.
        for _ in 0..MAX_ATTEMPTS {
            let current = self.store.instance(id).await?;
            let current = current.ok_or(Error::InstanceKeyInvalid)?;
            let settings = update.applied_to(&current.settings);
            check_settings(&settings)?;
            let change = self.change(actor);
            match self
                .store
                .update_instance_settings(id, current.revision, settings, change)
                .await?
            {
                UpdateSettings::Updated(instance) => {
                    tracing::info!(instance.id = %id, actor = actor.name(), "instance settings updated");
                    return Ok(self.instance_info(&instance));
                }
                // The next attempt sees what somebody else changed.
                UpdateSettings::Changed => {}
                UpdateSettings::NotFound => return Err(instance_not_found(id)),
            }
        }
        Err(Error::Overloaded)
    }

    /// Adds a key to the actor's instance.
    ///
    /// # Errors
    /// [`Error::Conflict`] where it has as many live keys as it may.
    pub async fn create_instance_key(
        &self,
        actor: &Actor,
        is_live: bool,
    ) -> Result<CreatedInstanceKey, Error> {
        actor.require_instance()?;
        let key = InstanceKey::generate(is_live, &*self.random);
        let row = self.instance_key_row(actor.instance_id(), &key);
        let info = key_info(&row);
        let change = self.change(actor);
        if !self
            .store
            .insert_instance_key(row, MAX_INSTANCE_KEYS, change)
            .await?
        {
            return Err(Error::Conflict(format!(
                "the instance has {MAX_INSTANCE_KEYS} live keys, which is the maximum; revoke one first"
            )));
        }
        tracing::info!(key.id = %info.id, actor = actor.name(), "instance key created");
        Ok(CreatedInstanceKey { info, key })
    }

    /// The keys of the actor's instance, oldest first.
    ///
    /// # Errors
    /// A refusal if the actor is a machine, or the store's error.
    pub async fn instance_keys(&self, actor: &Actor) -> Result<Vec<InstanceKeyInfo>, Error> {
        actor.require_instance()?;
        let rows = self.store.list_instance_keys(actor.instance_id()).await?;
        Ok(rows.iter().map(key_info).collect())
    }

    /// Revokes a key of the actor's instance at once, and returns its id.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] for the last live key.
    pub async fn revoke_instance_key(&self, actor: &Actor, id: &str) -> Result<KeyId, Error> {
        actor.require_instance()?;
        // The text is not repeated, because people may paste a key instead of an id.
        let not_found = || Error::NotFound {
            noun: "instance key",
            id: "of this id".to_owned(),
        };
        let id: KeyId = id.parse().map_err(|_| not_found())?;
        let change = self.change(actor);
        match self
            .store
            .revoke_instance_key(actor.instance_id(), id, change)
            .await
        {
            Ok(true) => {
                tracing::info!(key.id = %id, actor = actor.name(), "instance key revoked");
                Ok(id)
            }
            Ok(false) => Err(not_found()),
            Err(StoreError::Conflict(_)) => Err(Error::Conflict(
                "this is the only live key of the instance; create another one first".to_owned(),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the issuer of an instance's JWTs: the one in its settings, or else the public URL. All instances except
    /// the default one append their id to the public URL, so that each has its own key set.
    pub(crate) fn issuer(&self, instance: &Instance) -> String {
        match &instance.settings.issuer {
            Some(issuer) => issuer.clone(),
            None if instance.is_default => self.options.public_url.clone(),
            None => format!("{}/{}", self.options.public_url, instance.id),
        }
    }

    fn instance_info(&self, instance: &Instance) -> InstanceInfo {
        InstanceInfo {
            id: instance.id,
            name: instance.name.clone(),
            is_default: instance.is_default,
            issuer: self.issuer(instance),
            settings: instance.settings.clone(),
            created_at: instance.created_at,
        }
    }

    fn instance_key_row(&self, instance: InstanceId, key: &InstanceKey) -> InstanceKeyRow {
        InstanceKeyRow {
            id: KeyId::generate(&*self.random),
            instance,
            digest: self.vault.digest(key.expose()),
            created_at: self.now(),
            revoked_at: None,
        }
    }
}

fn check_settings(settings: &InstanceSettings) -> Result<(), Error> {
    if !(1..=MAX_TOKEN_TTL_SECONDS).contains(&settings.max_jwt_ttl) {
        let rule = format!("must be between 1 and {MAX_TOKEN_TTL_SECONDS} seconds");
        return Err(invalid("max_jwt_ttl", Problem::NotAllowed(rule.into())));
    }
    let is_url = |url: &String| {
        let is_http = url.starts_with("https://") || url.starts_with("http://");
        is_http
            && !url.ends_with('/')
            && url.bytes().all(|byte| byte.is_ascii_graphic())
            && url.len() <= MAX_ISSUER_LENGTH
    };
    if !settings.issuer.as_ref().is_none_or(is_url) {
        let rule = format!(
            "must be a URL in ASCII of at most {MAX_ISSUER_LENGTH} characters, without a slash at its end"
        );
        return Err(invalid("issuer", Problem::NotAllowed(rule.into())));
    }
    for (name, limit) in [
        ("rate_limit", settings.rate_limit),
        ("machine_rate_limit", settings.machine_rate_limit),
    ] {
        if limit.is_some_and(|limit| limit.requests == 0 || !(1..=86_400).contains(&limit.seconds))
        {
            let rule = "must allow at least 1 request in 1 to 86400 seconds";
            return Err(invalid(name, Problem::NotAllowed(rule.into())));
        }
    }
    Ok(())
}
