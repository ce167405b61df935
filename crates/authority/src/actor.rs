//! Who acts: an instance key, a machine key, or the operator at the authority's own machine.
//!
//! An [`Actor`] is made here and nowhere else, so that a call without one does not compile.

use std::sync::Arc;

use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::secret::{InstanceKey, MAX_SECRET_LENGTH, MachineKey};
use countersign_store::{
    ActingKey, ChangeKind, Instance, InstanceKeyRow, MachineKeyRow, MachineRow, NewChange,
};
use serde_json::Value;

use crate::Authority;
use crate::error::Error;
use crate::machines::machine_not_found;
use crate::vault::same;

/// Which kinds of key a request may come with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// An instance key.
    Instance,
    /// A machine key.
    Machine,
    /// Either.
    Any,
    /// Either, to read the public keys only: no rate limit counts such a request, and whatever is refused is refused as an
    /// instance key would be.
    AnyForKeySet,
}

/// Somebody who proved who they are.
#[derive(Clone, Debug)]
pub struct Actor {
    instance: Arc<Instance>,
    role: Role,
}

#[derive(Clone, Debug)]
pub(crate) enum Role {
    Instance(Arc<InstanceKeyRow>),
    Machine {
        machine: Arc<MachineRow>,
        /// The number of its key, where it presented one.
        key: Option<i64>,
    },
    Operator,
}

impl Actor {
    /// The instance that the actor belongs to. Nothing of another one can be reached with it.
    #[must_use]
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// The machine, where the actor is one.
    #[must_use]
    pub fn machine(&self) -> Option<&Arc<MachineRow>> {
        match &self.role {
            Role::Machine { machine, .. } => Some(machine),
            Role::Instance(_) | Role::Operator => None,
        }
    }

    /// The id of the key or machine, for logs and the change log.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.role {
            Role::Instance(key) => &key.id,
            Role::Machine { machine, .. } => machine.id.as_str(),
            Role::Operator => "operator",
        }
    }

    pub(crate) fn instance_id(&self) -> InstanceId {
        self.instance.id
    }

    /// The machine whose tokens the actor may touch; `None` for all.
    pub(crate) fn owner(&self) -> Option<MachineId> {
        self.machine().map(|machine| machine.id)
    }

    /// The number of the machine key that the actor presented.
    pub(crate) fn machine_key(&self) -> Option<i64> {
        match &self.role {
            Role::Machine { key, .. } => *key,
            Role::Instance(_) | Role::Operator => None,
        }
    }

    /// The key that must be alive when what the actor asked for is done.
    fn acting_key(&self) -> Option<ActingKey> {
        match &self.role {
            Role::Instance(key) => Some(ActingKey::Instance(key.id.clone())),
            Role::Machine { key, .. } => key.map(ActingKey::Machine),
            Role::Operator => None,
        }
    }

    /// Refuses machines.
    pub(crate) fn require_instance(&self) -> Result<(), Error> {
        match &self.role {
            Role::Machine { .. } => Err(Error::InstanceKeyInvalid),
            Role::Instance(_) | Role::Operator => Ok(()),
        }
    }
}

impl Authority {
    /// Finds out who presents `credential`.
    ///
    /// # Errors
    /// [`Error::InstanceKeyInvalid`], [`Error::MachineKeyInvalid`], [`Error::RateLimited`], or the store's error.
    pub async fn authenticate(&self, credential: &str, accepts: Accepts) -> Result<Actor, Error> {
        let is_machine = credential.starts_with(MachineKey::PREFIX);
        let refused = || match accepts {
            Accepts::Instance | Accepts::AnyForKeySet => Error::InstanceKeyInvalid,
            Accepts::Machine => Error::MachineKeyInvalid,
            Accepts::Any if is_machine => Error::MachineKeyInvalid,
            Accepts::Any => Error::InstanceKeyInvalid,
        };
        let is_wanted = match accepts {
            Accepts::Instance => credential.starts_with(InstanceKey::PREFIX),
            Accepts::Machine => is_machine,
            Accepts::Any | Accepts::AnyForKeySet => {
                is_machine || credential.starts_with(InstanceKey::PREFIX)
            }
        };
        if !is_wanted || credential.len() > MAX_SECRET_LENGTH {
            return Err(refused());
        }
        let found = if is_machine {
            self.find_machine(credential).await?
        } else {
            self.find_instance(credential).await?
        };
        let actor = found.ok_or_else(refused)?;
        if accepts == Accepts::AnyForKeySet {
            return Ok(actor);
        }
        let settings = &actor.instance.settings;
        // Machines only: whoever administers must be able to stop a machine that floods.
        if let Some(machine) = actor.machine() {
            self.limit_instance(actor.instance_id(), settings.rate_limit)?;
            self.limit_machine(machine.id, settings.machine_rate_limit)?;
        }
        Ok(actor)
    }

    /// The operator, for the local command line, which holds the store and the master key.
    #[must_use]
    pub fn operator(instance: Arc<Instance>) -> Actor {
        Actor {
            instance,
            role: Role::Operator,
        }
    }

    /// The operator in the role of a machine of the same instance, to issue its tokens or to see what it may verify. Whoever
    /// holds the store and the master key could read the machine's key anyway; nobody else gets here.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Forbidden`] for an actor that is not the operator.
    pub async fn operator_as_machine(
        &self,
        operator: &Actor,
        machine: MachineId,
    ) -> Result<Actor, Error> {
        if !matches!(operator.role, Role::Operator) {
            return Err(Error::Forbidden("only the operator can act as a machine"));
        }
        let found = self.store.machine(operator.instance_id(), machine).await?;
        let machine = found.ok_or_else(|| machine_not_found(machine))?;
        Ok(Actor {
            instance: Arc::clone(&operator.instance),
            role: Role::Machine { machine, key: None },
        })
    }

    async fn find_instance(&self, credential: &str) -> Result<Option<Actor>, Error> {
        for digest in self.vault.digests(credential) {
            let Some(key) = self.store.instance_key_by_digest(&digest).await? else {
                continue;
            };
            if !same(&key.digest, &digest) || key.revoked_at.is_some() {
                continue;
            }
            let instance = self.store.instance(key.instance).await?;
            return Ok(instance.map(|instance| Actor {
                instance,
                role: Role::Instance(key),
            }));
        }
        Ok(None)
    }

    async fn find_machine(&self, credential: &str) -> Result<Option<Actor>, Error> {
        for digest in self.vault.digests(credential) {
            let Some(key) = self.store.machine_key_by_digest(&digest).await? else {
                continue;
            };
            if !same(&key.digest, &digest) || is_over(&key, self) {
                continue;
            }
            let Some(machine) = self.store.machine(key.instance, key.machine).await? else {
                continue;
            };
            let instance = self.store.instance(key.instance).await?;
            return Ok(instance.map(|instance| Actor {
                instance,
                role: Role::Machine {
                    machine,
                    key: Some(key.number),
                },
            }));
        }
        Ok(None)
    }

    /// An entry for the change log of the actor's instance.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "ids are copied and texts are lent"
    )]
    pub(crate) fn change(
        &self,
        actor: &Actor,
        kind: ChangeKind,
        subject: impl ToString,
        detail: &Value,
    ) -> NewChange {
        NewChange {
            instance: actor.instance_id(),
            at: self.now(),
            actor: actor.name().to_owned(),
            key: actor.acting_key(),
            kind,
            subject: subject.to_string(),
            detail: detail.to_string(),
            chain: self.vault.chain(),
        }
    }
}

fn is_over(key: &MachineKeyRow, authority: &Authority) -> bool {
    key.expires_at.is_some_and(|end| authority.now() >= end)
}
