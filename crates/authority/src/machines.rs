//! Machines, their keys, and the scopes that say who may call whom (contract: machines).

mod bodies;

use countersign_protocol::body::{
    DeletedMachine, DeletedMachineScope, ExposedSecret, Machine, MachineScope, MachineScopeTag,
    MachineSecretKey, MachineSecretKeyTag, MachineTag,
};
use countersign_protocol::bounds::PreviousTtl;
use countersign_protocol::ids::{InstanceId, KeyId, MachineId};
use countersign_protocol::limits::{MAX_MACHINE_KEYS, MAX_SCOPES};
use countersign_protocol::page::MachineOrder;
use countersign_protocol::request::{ListMachines, MachineRequest, MachineUpdate};
use countersign_protocol::secret::MachineKey;
use countersign_protocol::time::Timestamp;
use countersign_store::{Digest, InsertMachine, InsertScope, MachineQuery, NewMachineKey};

use crate::Authority;
use crate::actor::Actor;
use crate::error::{Error, Problem, about, invalid, invalid_query, machine_not_found};
use crate::rules::page;
use crate::vault::SealContext;

pub use bodies::MachinePage;

use bodies::{checked_update, created_machine_body, machine_body, new_machine};

impl Authority {
    /// Creates a machine with its first key, which the answer contains.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a value breaks a rule or a scoped machine does not exist.
    pub async fn create_machine(
        &self,
        actor: &Actor,
        request: MachineRequest,
    ) -> Result<Machine, Error> {
        actor.require_instance()?;
        let change = self.change(actor);
        let id = MachineId::generate(change.at, &*self.random);
        let key = MachineKey::generate(&*self.random);
        let row = self.new_machine_key(actor, id, &key, change.at);
        let new = new_machine(request, id, actor.instance_id(), row)?;
        match self.store.insert_machine(new, change).await? {
            InsertMachine::Inserted(machine) => {
                tracing::info!(machine.id = %id, actor = actor.name(), "machine created");
                Ok(created_machine_body(&machine, &key))
            }
            InsertMachine::ScopeNotFound(_) => Err(invalid("scoped_machines", Problem::NotFound)),
        }
    }

    /// Returns a page of machines.
    ///
    /// # Errors
    /// [`Error::Invalid`], a refusal if the actor is a machine, or the store's error.
    pub async fn list_machines(
        &self,
        actor: &Actor,
        list: ListMachines,
    ) -> Result<MachinePage, Error> {
        actor.require_instance()?;
        let order = match list.order_by {
            None => MachineOrder::default(),
            Some(text) => text.parse().map_err(|error| {
                let rule = format!("{error}");
                invalid_query("order_by", Problem::NotAllowed(rule.into()))
            })?,
        };
        let query = MachineQuery {
            text: list.query.filter(|text| !text.is_empty()),
            order,
            page: page(list.limit, list.offset)?,
        };
        let (machines, total) = self.store.list_machines(actor.instance_id(), query).await?;
        Ok(MachinePage::new(machines, total))
    }

    /// One machine.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn machine(&self, actor: &Actor, id: MachineId) -> Result<Machine, Error> {
        actor.require_instance()?;
        let found = self
            .store
            .machine_with_scopes(actor.instance_id(), id)
            .await?;
        let found = found.ok_or_else(|| machine_not_found(id))?;
        Ok(machine_body(&found))
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
    ) -> Result<Machine, Error> {
        actor.require_instance()?;
        let update = checked_update(update)?;
        let machine = if update.is_empty() {
            self.machine(actor, id).await?
        } else {
            let change = self.change(actor);
            let updated = self
                .store
                .update_machine(actor.instance_id(), id, update, change)
                .await?;
            machine_body(&updated.ok_or_else(|| machine_not_found(id))?)
        };
        tracing::info!(machine.id = %id, actor = actor.name(), "machine updated");
        Ok(machine)
    }

    /// Deletes a machine: its keys die, its scopes vanish in both directions, and its tokens are refused, all at once.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_machine(
        &self,
        actor: &Actor,
        id: MachineId,
    ) -> Result<DeletedMachine, Error> {
        actor.require_instance()?;
        let change = self.change(actor);
        if !self
            .store
            .delete_machine(actor.instance_id(), id, change)
            .await?
        {
            return Err(machine_not_found(id));
        }
        tracing::info!(machine.id = %id, actor = actor.name(), "machine deleted");
        Ok(DeletedMachine {
            object: MachineTag::Tag,
            id,
            deleted: true,
        })
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
    ) -> Result<MachineSecretKey, Error> {
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
        let change = self.change(actor);
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
        let text = std::str::from_utf8(&opened).map_err(|_| Error::damaged("a machine key"))?;
        // An older row that somebody put in the place of the newest opens as well; what it says of itself tells. It was read
        // together with the copy: a rotation may have followed since.
        if !self.vault.matches(text, &sealed.digest) || sealed.expires_at.is_some() {
            return Err(Error::damaged("a machine key"));
        }
        tracing::info!(machine.id = %id, actor = actor.name(), "machine key revealed");
        Ok(secret_key_body(text))
    }

    /// Gives a machine a new key. The older ones go on working for `previous_token_ttl` seconds at most.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] if the time is out of bounds.
    pub async fn rotate_machine_key(
        &self,
        actor: &Actor,
        id: MachineId,
        previous_token_ttl: impl Into<PreviousTtl>,
    ) -> Result<MachineSecretKey, Error> {
        actor.require_instance()?;
        let previous_token_ttl = previous_token_ttl.into().checked();
        let previous_token_ttl = previous_token_ttl.map_err(about("previous_token_ttl"))?;
        let change = self.change(actor);
        let now = change.at;
        let older_expire_at = now.plus_millis(previous_token_ttl * 1000).unwrap_or(now);
        let key = MachineKey::generate(&*self.random);
        let new = self.new_machine_key(actor, id, &key, now);
        let is_rotated = self
            .store
            .rotate_machine_key(
                actor.instance_id(),
                id,
                new,
                older_expire_at,
                MAX_MACHINE_KEYS,
                change,
            )
            .await?;
        if !is_rotated {
            return Err(machine_not_found(id));
        }
        tracing::info!(machine.id = %id, actor = actor.name(), previous_token_ttl, "machine key rotated");
        Ok(secret_key_body(key.expose()))
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
    ) -> Result<MachineScope, Error> {
        actor.require_instance()?;
        if from == to {
            return Err(invalid(
                "to_machine_id",
                Problem::NotAllowed("must be another machine than the one that calls".into()),
            ));
        }
        let change = self.change(actor);
        let created_at = change.at;
        match self
            .store
            .insert_scope(actor.instance_id(), from, to, MAX_SCOPES, change)
            .await?
        {
            InsertScope::Inserted => {
                tracing::info!(%from, %to, actor = actor.name(), "scope created");
                Ok(MachineScope {
                    object: MachineScopeTag::Tag,
                    from_machine_id: from,
                    to_machine_id: to,
                    created_at: Some(created_at),
                })
            }
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
    ) -> Result<DeletedMachineScope, Error> {
        actor.require_instance()?;
        let change = self.change(actor);
        if !self
            .store
            .delete_scope(actor.instance_id(), from, to, change)
            .await?
        {
            return Err(Error::NotFound {
                noun: "scope",
                id: format!("from {from} to {to}"),
            });
        }
        tracing::info!(%from, %to, actor = actor.name(), "scope deleted");
        Ok(DeletedMachineScope {
            object: MachineScopeTag::Tag,
            from_machine_id: from,
            to_machine_id: to,
            deleted: true,
        })
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
        let instance = actor.instance_id();
        let context = context(&instance, &machine, &row);
        NewMachineKey {
            id: KeyId::generate(&*self.random),
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

fn secret_key_body(key: &str) -> MachineSecretKey {
    MachineSecretKey {
        object: MachineSecretKeyTag::Tag,
        secret: ExposedSecret(key.to_owned()),
    }
}
