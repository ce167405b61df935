//! Machines, their keys, and the scopes that say who may call whom (contract: machines).

use countersign_protocol::body::{ExposedSecret, Machine, MachineTag, NestedMachine};
use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::limits::{
    MAX_MACHINE_KEYS, MAX_PREVIOUS_TOKEN_TTL_SECONDS, MAX_SCOPES, MAX_TOKEN_TTL_SECONDS,
};
use countersign_protocol::secret::MachineKey;
use countersign_protocol::time::Timestamp;
use countersign_store::{
    ChangeKind, Digest, InsertMachine, InsertScope, MachineQuery, MachineRow, MachineUpdate,
    MachineWithScopes, NewMachine, NewMachineKey,
};
use serde_json::json;

use crate::Authority;
use crate::actor::Actor;
use crate::error::{Error, Problem, invalid};
use crate::instances::check_name;
use crate::vault::SealContext;

/// What a new machine is like.
#[derive(Clone, Debug)]
pub struct MachineRequest {
    /// Its name.
    pub name: String,
    /// The machines it may call; repetitions are ignored.
    pub scoped_machines: Vec<MachineId>,
    /// The life of its tokens in seconds, where a request names none.
    pub default_token_ttl: i64,
}

/// A new machine and its key.
#[derive(Debug)]
pub struct CreatedMachine {
    /// The machine.
    pub machine: MachineWithScopes,
    /// Its key.
    pub key: MachineKey,
}

impl Authority {
    /// Makes a machine with its first key.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a value breaks a rule or a scoped machine does not exist.
    pub async fn create_machine(
        &self,
        actor: &Actor,
        request: MachineRequest,
    ) -> Result<CreatedMachine, Error> {
        actor.require_instance()?;
        check_name(&request.name)?;
        check_ttl(request.default_token_ttl)?;
        let mut scopes: Vec<MachineId> = Vec::new();
        for machine in request.scoped_machines {
            if !scopes.contains(&machine) {
                scopes.push(machine);
            }
            if scopes.len() > MAX_SCOPES {
                return Err(invalid("scoped_machines", Problem::TooMany(MAX_SCOPES)));
            }
        }
        let now = self.now();
        let id = MachineId::generate(now, &*self.random);
        let key = MachineKey::generate(&*self.random);
        let detail = json!({"name": request.name, "default_token_ttl": request.default_token_ttl, "scoped_machines": scopes});
        let change = self.change(actor, ChangeKind::MachineCreated, id, &detail);
        let new = NewMachine {
            id,
            instance: actor.instance_id(),
            name: request.name,
            default_token_ttl: request.default_token_ttl,
            scopes,
            key: self.new_machine_key(actor, id, &key, now),
            created_at: now,
        };
        match self.store.insert_machine(new, change).await? {
            InsertMachine::Inserted(machine) => Ok(CreatedMachine { machine, key }),
            InsertMachine::ScopeNotFound(_) => Err(invalid("scoped_machines", Problem::NotFound)),
        }
    }

    /// A page of machines and the number of all that match.
    ///
    /// # Errors
    /// Where the actor is a machine, or the store's error.
    pub async fn list_machines(
        &self,
        actor: &Actor,
        query: MachineQuery,
    ) -> Result<(Vec<MachineWithScopes>, u64), Error> {
        actor.require_instance()?;
        Ok(self.store.list_machines(actor.instance_id(), query).await?)
    }

    /// One machine.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn machine(&self, actor: &Actor, id: MachineId) -> Result<MachineWithScopes, Error> {
        actor.require_instance()?;
        self.store
            .machine_with_scopes(actor.instance_id(), id)
            .await?
            .ok_or_else(|| machine_not_found(id))
    }

    /// Changes a machine's name or token lifetime; an empty update changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`].
    pub async fn update_machine(
        &self,
        actor: &Actor,
        id: MachineId,
        update: MachineUpdate,
    ) -> Result<MachineWithScopes, Error> {
        actor.require_instance()?;
        if let Some(name) = &update.name {
            check_name(name)?;
        }
        if let Some(ttl) = update.default_token_ttl {
            check_ttl(ttl)?;
        }
        if update.is_empty() {
            return self.machine(actor, id).await;
        }
        let mut detail = serde_json::Map::new();
        if let Some(name) = &update.name {
            detail.insert("name".to_owned(), json!(name));
        }
        if let Some(ttl) = update.default_token_ttl {
            detail.insert("default_token_ttl".to_owned(), json!(ttl));
        }
        let change = self.change(actor, ChangeKind::MachineUpdated, id, &detail.into());
        let updated = self
            .store
            .update_machine(actor.instance_id(), id, update, self.now(), change)
            .await?;
        updated.ok_or_else(|| machine_not_found(id))
    }

    /// Deletes a machine: its keys die, its scopes vanish in both directions, and its tokens are refused, all at once.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_machine(&self, actor: &Actor, id: MachineId) -> Result<(), Error> {
        actor.require_instance()?;
        let change = self.change(actor, ChangeKind::MachineDeleted, id, &json!({}));
        if self
            .store
            .delete_machine(actor.instance_id(), id, self.now(), change)
            .await?
        {
            Ok(())
        } else {
            Err(machine_not_found(id))
        }
    }

    /// Shows a machine's newest key. It is in the change log before it leaves.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Forbidden`] where the instance reveals no secrets or the key was never sealed;
    /// [`Error::RateLimited`] beyond ten in a minute.
    pub async fn reveal_machine_key(
        &self,
        actor: &Actor,
        id: MachineId,
    ) -> Result<MachineKey, Error> {
        actor.require_instance()?;
        if self.store.machine(actor.instance_id(), id).await?.is_none() {
            return Err(machine_not_found(id));
        }
        if !actor.instance().settings.secret_reveal {
            return Err(Error::Forbidden(
                "this instance does not show secrets again (secret_reveal is off); rotate the key for a new one",
            ));
        }
        self.limit_reveals(actor.instance_id())?;
        let change = self.change(actor, ChangeKind::MachineKeyRevealed, id, &json!({}));
        let sealed = self
            .store
            .reveal_machine_key(actor.instance_id(), id, change)
            .await?
            .ok_or_else(|| machine_not_found(id))?
            .ok_or(Error::Forbidden(
                "this key was made while secrets were not kept; rotate the key for a new one",
            ))?;
        let row = digest_name(&sealed.digest);
        let opened = self
            .vault
            .open_sealed(&context(&actor.instance_id(), &id, &row), &sealed.sealed)?;
        let text = std::str::from_utf8(&opened).map_err(|_| Error::Damaged("a machine key"))?;
        // An older row that somebody put in the place of the newest opens as well; what it says of itself tells. It was read
        // together with the copy: a rotation may have followed since.
        if !self.vault.matches(text, &sealed.digest) || sealed.expires_at.is_some() {
            return Err(Error::Damaged("a machine key"));
        }
        Ok(MachineKey::new(text.to_owned()))
    }

    /// Gives a machine a new key. The older ones go on working for `previous_token_ttl` seconds at most.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] where the time is not between 0 and 28800.
    pub async fn rotate_machine_key(
        &self,
        actor: &Actor,
        id: MachineId,
        previous_token_ttl: i64,
    ) -> Result<MachineKey, Error> {
        actor.require_instance()?;
        if previous_token_ttl < 0 {
            return Err(invalid(
                "previous_token_ttl",
                Problem::NotAllowed("must be at least 0 seconds".into()),
            ));
        }
        if previous_token_ttl > MAX_PREVIOUS_TOKEN_TTL_SECONDS {
            return Err(invalid(
                "previous_token_ttl",
                Problem::TooLarge(MAX_PREVIOUS_TOKEN_TTL_SECONDS),
            ));
        }
        let now = self.now();
        let older_expire_at = now.plus_millis(previous_token_ttl * 1000).unwrap_or(now);
        let key = MachineKey::generate(&*self.random);
        let new = self.new_machine_key(actor, id, &key, now);
        let detail = json!({"previous_token_ttl": previous_token_ttl});
        let change = self.change(actor, ChangeKind::MachineKeyRotated, id, &detail);
        let is_rotated = self
            .store
            .rotate_machine_key(
                actor.instance_id(),
                id,
                new,
                older_expire_at,
                MAX_MACHINE_KEYS,
                now,
                change,
            )
            .await?;
        if is_rotated {
            Ok(key)
        } else {
            Err(machine_not_found(id))
        }
    }

    /// Lets `from` call `to`. Tokens that exist already do not change.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`] for a machine that shall call itself or too many scopes, [`Error::Conflict`]
    /// where the scope exists.
    pub async fn create_scope(
        &self,
        actor: &Actor,
        from: MachineId,
        to: MachineId,
    ) -> Result<Timestamp, Error> {
        actor.require_instance()?;
        if from == to {
            return Err(invalid(
                "to_machine_id",
                Problem::NotAllowed("must be another machine than the one that calls".into()),
            ));
        }
        let now = self.now();
        let change = self.change(
            actor,
            ChangeKind::ScopeCreated,
            from,
            &json!({"to_machine_id": to}),
        );
        match self
            .store
            .insert_scope(actor.instance_id(), from, to, now, MAX_SCOPES, change)
            .await?
        {
            InsertScope::Inserted => Ok(now),
            InsertScope::FromNotFound => Err(machine_not_found(from)),
            InsertScope::ToNotFound => Err(machine_not_found(to)),
            InsertScope::Exists => Err(Error::Conflict(format!("{from} may call {to} already"))),
            InsertScope::TooMany => Err(invalid("scoped_machines", Problem::TooMany(MAX_SCOPES))),
        }
    }

    /// Takes the scope away. Tokens that exist already do not change.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_scope(
        &self,
        actor: &Actor,
        from: MachineId,
        to: MachineId,
    ) -> Result<(), Error> {
        actor.require_instance()?;
        let now = self.now();
        let change = self.change(
            actor,
            ChangeKind::ScopeDeleted,
            from,
            &json!({"to_machine_id": to}),
        );
        if self
            .store
            .delete_scope(actor.instance_id(), from, to, now, change)
            .await?
        {
            Ok(())
        } else {
            Err(Error::NotFound {
                noun: "scope",
                id: format!("from {from} to {to}"),
            })
        }
    }

    fn new_machine_key(
        &self,
        actor: &Actor,
        machine: MachineId,
        key: &MachineKey,
        now: Timestamp,
    ) -> NewMachineKey {
        let is_kept = actor.instance().settings.secret_reveal;
        let digest = self.vault.digest(key.expose());
        let row = digest_name(&digest);
        let context = context(&actor.instance().id, &machine, &row);
        NewMachineKey {
            digest,
            sealed: is_kept.then(|| self.vault.seal(&context, key.expose().as_bytes())),
            created_at: now,
        }
    }
}

/// What a sealed machine key is bound to.
fn context<'a>(instance: &'a InstanceId, machine: &'a MachineId, row: &'a str) -> SealContext<'a> {
    SealContext {
        purpose: "machine-key",
        instance: instance.as_str(),
        owner: machine.as_str(),
        row,
    }
}

/// What a row with this digest is called where a sealed value is bound to it: known before the row is written, and unique.
fn digest_name(digest: &Digest) -> String {
    use std::fmt::Write as _;
    let mut name = format!("{}:", digest.version);
    for byte in digest.bytes {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// A machine as the wire shows it; with its key in the answer to its creation only.
#[must_use]
pub fn machine_body(machine: &MachineWithScopes, key: Option<&MachineKey>) -> Machine {
    let NestedMachine {
        object,
        id,
        name,
        instance_id,
        created_at,
        updated_at,
        default_token_ttl,
    } = nested_body(&machine.machine);
    Machine {
        object,
        id,
        name,
        instance_id,
        created_at,
        updated_at,
        default_token_ttl,
        scoped_machines: machine
            .scoped
            .iter()
            .map(|scoped| nested_body(scoped))
            .collect(),
        secret_key: key.map(|key| ExposedSecret(key.expose().to_owned())),
    }
}

fn nested_body(machine: &MachineRow) -> NestedMachine {
    NestedMachine {
        object: MachineTag::Tag,
        id: machine.id,
        name: machine.name.clone(),
        instance_id: machine.instance,
        created_at: machine.created_at,
        updated_at: machine.updated_at,
        default_token_ttl: machine.default_token_ttl,
    }
}

pub(crate) fn machine_not_found(id: MachineId) -> Error {
    Error::NotFound {
        noun: "machine",
        id: id.to_string(),
    }
}

fn check_ttl(seconds: i64) -> Result<(), Error> {
    if seconds < 1 {
        return Err(invalid(
            "default_token_ttl",
            Problem::NotAllowed("must be at least 1 second".into()),
        ));
    }
    if seconds > MAX_TOKEN_TTL_SECONDS {
        return Err(invalid(
            "default_token_ttl",
            Problem::TooLarge(MAX_TOKEN_TTL_SECONDS),
        ));
    }
    Ok(())
}
