//! Instances, their keys and settings.

use std::sync::Arc;

use countersign_protocol::ids::InstanceId;
use countersign_protocol::limits::{
    MAX_INSTANCE_KEYS, MAX_ISSUER_LENGTH, MAX_NAME_LENGTH, MAX_TOKEN_TTL_SECONDS,
};
use countersign_protocol::random::random_bytes;
use countersign_protocol::secret::InstanceKey;
use countersign_protocol::time::Timestamp;
use countersign_store::{
    ChangeKind, Instance, InstanceKeyRow, InstanceSettings, NewChange, NewInstance,
    SigningKeyState, StoreError, UpdateSettings,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Authority;
use crate::actor::Actor;
use crate::error::{Error, Invalid, Problem, invalid};

/// How often a change of settings starts again because somebody else changed them meanwhile.
const MAX_ATTEMPTS: usize = 64;

/// A new instance and its first key.
#[derive(Debug)]
pub struct CreatedInstance {
    /// The instance.
    pub instance: Arc<Instance>,
    /// Its key. It is shown once.
    pub key: InstanceKey,
}

/// A new key of an instance.
#[derive(Debug)]
pub struct CreatedInstanceKey {
    /// What may be told about it.
    pub info: InstanceKeyInfo,
    /// The key. It is shown once.
    pub key: InstanceKey,
}

/// What may be told about a key of an instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceKeyInfo {
    /// Its name, `key_` and 12 characters.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl From<&InstanceKeyRow> for InstanceKeyInfo {
    fn from(row: &InstanceKeyRow) -> Self {
        Self {
            id: row.id.clone(),
            created_at: row.created_at,
            revoked_at: row.revoked_at,
        }
    }
}

impl Authority {
    /// Makes an instance with a first key, `sk_live_…` or `sk_test_…`, and an active signing key. For the operator of the
    /// authority, who belongs to no instance; hence no actor.
    ///
    /// # Errors
    /// Where the name is empty or too long, or the store's error.
    pub async fn create_instance(
        &self,
        name: &str,
        is_live: bool,
    ) -> Result<CreatedInstance, Error> {
        check_name(name)?;
        let now = self.now();
        let id = InstanceId::generate(now, &*self.random);
        let key = InstanceKey::generate(is_live, &*self.random);
        let key_row = self.instance_key_row(id, &key);
        let mut signing_key = self.new_signing_key(id, id.first_signing_key()).await?;
        signing_key.state = SigningKeyState::Active;
        signing_key.active_at = Some(now);
        let change = NewChange {
            instance: id,
            at: now,
            actor: "operator".to_owned(),
            key: None,
            kind: ChangeKind::InstanceCreated,
            subject: id.to_string(),
            detail: json!({"name": name, "key": key_row.id, "signing_key": signing_key.id})
                .to_string(),
            chain: self.vault.chain(),
        };
        let new = NewInstance {
            id,
            name: name.to_owned(),
            settings: InstanceSettings::default(),
            created_at: now,
        };
        let instance = self
            .store
            .insert_instance(new, key_row, signing_key, change)
            .await?;
        self.reload_ring(id).await?;
        Ok(CreatedInstance { instance, key })
    }

    /// All instances, oldest first. For the operator.
    ///
    /// # Errors
    /// The store's error.
    pub async fn instances(&self) -> Result<Vec<Arc<Instance>>, Error> {
        Ok(self.store.list_instances().await?)
    }

    /// The issuer of an instance's JWTs: what its settings say, else the public URL, with the instance's id behind it for
    /// all but the first instance, so that each has its own key set.
    #[must_use]
    pub fn issuer(&self, instance: &Instance) -> String {
        match &instance.settings.issuer {
            Some(issuer) => issuer.clone(),
            None if instance.number == 1 => self.options.public_url.clone(),
            None => format!("{}/{}", self.options.public_url, instance.id),
        }
    }

    /// Replaces settings. `changes` is an object of those that change; each is checked.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown name or a value that is not allowed.
    pub async fn update_instance_settings(
        &self,
        actor: &Actor,
        changes: &Value,
    ) -> Result<Arc<Instance>, Error> {
        actor.require_instance()?;
        let id = actor.instance_id();
        // On what is stored now, so that two changes of different settings both stay.
        for _ in 0..MAX_ATTEMPTS {
            let current = self.store.instance(id).await?;
            let current = current.ok_or(Error::InstanceKeyInvalid)?;
            let settings = merge(&current.settings, changes)?;
            let change = self.change(actor, ChangeKind::InstanceUpdated, id, changes);
            match self
                .store
                .update_instance_settings(id, current.revision, settings, change)
                .await?
            {
                UpdateSettings::Updated(instance) => return Ok(instance),
                // The next attempt sees what somebody else changed.
                UpdateSettings::Changed => {}
                UpdateSettings::NotFound => {
                    return Err(Error::NotFound {
                        noun: "instance",
                        id: id.to_string(),
                    });
                }
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
        let info = InstanceKeyInfo::from(&row);
        let change = self.change(actor, ChangeKind::InstanceKeyCreated, &row.id, &json!({}));
        if !self
            .store
            .insert_instance_key(row, MAX_INSTANCE_KEYS, change)
            .await?
        {
            return Err(Error::Conflict(format!(
                "the instance has {MAX_INSTANCE_KEYS} live keys, which is the maximum; revoke one first"
            )));
        }
        Ok(CreatedInstanceKey { info, key })
    }

    /// The keys of the actor's instance, oldest first.
    ///
    /// # Errors
    /// Where the actor is a machine, or the store's error.
    pub async fn instance_keys(&self, actor: &Actor) -> Result<Vec<InstanceKeyInfo>, Error> {
        actor.require_instance()?;
        let rows = self.store.list_instance_keys(actor.instance_id()).await?;
        Ok(rows.iter().map(InstanceKeyInfo::from).collect())
    }

    /// Revokes a key of the actor's instance at once.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] for the last live key.
    pub async fn revoke_instance_key(&self, actor: &Actor, key_id: &str) -> Result<(), Error> {
        actor.require_instance()?;
        let change = self.change(actor, ChangeKind::InstanceKeyRevoked, key_id, &json!({}));
        match self
            .store
            .revoke_instance_key(actor.instance_id(), key_id, self.now(), change)
            .await
        {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::NotFound {
                noun: "instance key",
                id: "of this id".to_owned(),
            }),
            Err(StoreError::Conflict(_)) => Err(Error::Conflict(
                "this is the only live key of the instance; create another one first".to_owned(),
            )),
            Err(error) => Err(error.into()),
        }
    }

    fn instance_key_row(&self, instance: InstanceId, key: &InstanceKey) -> InstanceKeyRow {
        let name = u64::from_be_bytes(random_bytes(&*self.random)) & 0xffff_ffff_ffff;
        InstanceKeyRow {
            id: format!("key_{name:012x}"),
            instance,
            digest: self.vault.digest(key.expose()),
            created_at: self.now(),
            revoked_at: None,
        }
    }
}

/// Checks a name for people: 1 to 255 characters, none of them NUL.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let length = name.chars().count();
    if length == 0 {
        return Err(invalid("name", Problem::TooShort(1)));
    }
    if length > MAX_NAME_LENGTH {
        return Err(invalid("name", Problem::TooLong(MAX_NAME_LENGTH)));
    }
    if name.contains('\0') {
        return Err(invalid(
            "name",
            Problem::WrongFormat("must not contain the character U+0000".into()),
        ));
    }
    Ok(())
}

fn merge(settings: &InstanceSettings, changes: &Value) -> Result<InstanceSettings, Error> {
    let Value::Object(changes) = changes else {
        return Err(invalid("settings", Problem::WrongType("an object")));
    };
    let mut merged = serde_json::to_value(settings)
        .map_err(|_| Error::Damaged("the settings of an instance"))?;
    for (name, value) in changes {
        let Some(member) = merged.get_mut(name) else {
            return Err(invalid(
                "settings",
                Problem::NotAllowed(no_setting(name, &merged).into()),
            ));
        };
        *member = value.clone();
        if serde_json::from_value::<InstanceSettings>(merged.clone()).is_err() {
            return Err(Invalid::new(name.clone(), type_problem(name)).into());
        }
    }
    let merged: InstanceSettings = serde_json::from_value(merged)
        .map_err(|_| invalid("settings", Problem::WrongType("an object")))?;
    check_settings(&merged)?;
    Ok(merged)
}

/// What the value of a setting must be, in the words of JSON.
fn type_problem(name: &str) -> Problem {
    match name {
        "jwt_scopes_claim" | "secret_reveal" | "token_pooling" => {
            Problem::WrongType("true or false")
        }
        "null_expiration" => Problem::NotAllowed(r#"must be "default" or "never""#.into()),
        "max_jwt_ttl" => Problem::WrongType("a whole number of seconds"),
        "issuer" => Problem::WrongType("a URL, or null for none"),
        "rate_limit" | "machine_rate_limit" => {
            Problem::WrongType(r#"an object like {"requests":1000,"seconds":60}, or null for none"#)
        }
        _ => Problem::WrongFormat("has a value of the wrong type".into()),
    }
}

/// Says which settings there are in place of `name`. Only what looks like a name is repeated.
fn no_setting(name: &str, settings: &Value) -> String {
    let is_name = name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let shown = if is_name {
        format!("'{name}'")
    } else {
        "member of that name".to_owned()
    };
    let names: Vec<&str> = settings
        .as_object()
        .into_iter()
        .flat_map(|members| members.keys().map(String::as_str))
        .collect();
    format!("has no {shown}, only {}", names.join(", "))
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
