//! Who acts: an instance key, a machine key, or the operator at the authority's own machine.
//!
//! Only this module creates an [`Actor`], from a presented credential or for the [`Operator`]. So a call without an
//! actor does not compile.

use std::sync::Arc;

use countersign_protocol::ids::{InstanceId, KeyId, MachineId};
use countersign_protocol::secret::{InstanceKey, MAX_SECRET_LENGTH, MachineKey};
use countersign_protocol::time::Timestamp;
use countersign_store::{
    ActingKey, Caller, Digest, Instance, InstanceKeyRow, MachineKeyRow, MachineRow, NewChange,
    Presented,
};

use crate::Authority;
use crate::error::{Error, instance_not_found, machine_not_found};
use crate::vault::same;

/// The operator's name in the change log.
pub(crate) const OPERATOR: &str = "operator";

/// Which kinds of key a request may come with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// An instance key.
    Instance,
    /// A machine key.
    Machine,
    /// Either.
    Any,
    /// Either, to read the public keys only. Such a request counts toward no rate limit, and all refusals are those of
    /// an instance key.
    AnyForKeySet,
}

/// The capability of the operator, who holds the store and the master key and belongs to no instance.
///
/// Only [`Authority::open`] creates it, and it cannot be copied:
///
/// ```compile_fail,E0423
/// let operator = countersign_authority::Operator(());
/// ```
///
/// ```compile_fail,E0599
/// fn copy(operator: &countersign_authority::Operator) -> countersign_authority::Operator {
///     (*operator).clone()
/// }
/// ```
#[derive(Debug)]
pub struct Operator(());

impl Operator {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

/// Somebody who proved who they are.
///
/// An actor comes only from a presented credential or from the [`Operator`]:
///
/// ```compile_fail
/// let actor = countersign_authority::Actor {};
/// ```
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
        /// The key that the machine presented; `None` if the operator acts as the machine.
        key: Option<Arc<MachineKeyRow>>,
    },
    Operator,
}

impl Actor {
    /// Returns the instance that the actor belongs to. The actor cannot access any other instance.
    #[must_use]
    pub fn instance_id(&self) -> InstanceId {
        self.instance.id
    }

    /// Returns the machine's id, if the actor is a machine. Such an actor can manage only the tokens of this machine.
    #[must_use]
    pub fn machine_id(&self) -> Option<MachineId> {
        self.machine().map(|machine| machine.id)
    }

    /// Returns the id of the key or machine, or `operator`, for logs and the change log.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.role {
            Role::Instance(key) => key.id.as_str(),
            Role::Machine {
                machine,
                key: Some(_),
            } => machine.id.as_str(),
            Role::Machine { key: None, .. } | Role::Operator => OPERATOR,
        }
    }

    /// Returns the operator as an actor, for the authority's own changes.
    pub(crate) fn operator(instance: Arc<Instance>) -> Self {
        Self {
            instance,
            role: Role::Operator,
        }
    }

    /// Creates the actor for the holder of the key with this digest. `None` if the row belongs to another key, or the
    /// key has ended.
    pub(crate) fn from_caller(caller: Caller, digest: &Digest, now: Timestamp) -> Option<Self> {
        let (instance, role, is_live) = match caller {
            Caller::Instance { instance, key } => {
                let is_live = same(&key.digest, digest) && key.revoked_at.is_none();
                (instance, Role::Instance(key), is_live)
            }
            Caller::Machine {
                instance,
                machine,
                key,
            } => {
                let is_live =
                    same(&key.digest, digest) && key.expires_at.is_none_or(|end| now < end);
                let key = Some(key);
                (instance, Role::Machine { machine, key }, is_live)
            }
        };
        is_live.then_some(Self { instance, role })
    }

    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    pub(crate) fn role(&self) -> &Role {
        &self.role
    }

    /// Returns the machine, if the actor is a machine.
    pub(crate) fn machine(&self) -> Option<&Arc<MachineRow>> {
        match &self.role {
            Role::Machine { machine, .. } => Some(machine),
            Role::Instance(_) | Role::Operator => None,
        }
    }

    /// Returns the id of the machine key that the actor presented.
    pub(crate) fn machine_key(&self) -> Option<KeyId> {
        match &self.role {
            Role::Machine { key, .. } => key.as_ref().map(|key| key.id),
            Role::Instance(_) | Role::Operator => None,
        }
    }

    /// Returns whether the actor is the operator, in a machine's role or not.
    pub(crate) fn is_operator(&self) -> bool {
        matches!(self.role, Role::Operator | Role::Machine { key: None, .. })
    }

    /// Returns the key that the actor presented, and its digest; `None` for the operator.
    pub(crate) fn presented(&self) -> Option<(Presented, Digest)> {
        match &self.role {
            Role::Instance(key) => Some((Presented::Instance(key.digest), key.digest)),
            Role::Machine { key, .. } => key
                .as_ref()
                .map(|key| (Presented::Machine(key.digest), key.digest)),
            Role::Operator => None,
        }
    }

    /// Returns the error for an actor whose key ended after it was presented.
    pub(crate) fn key_invalid(&self) -> Error {
        match &self.role {
            Role::Machine { .. } => Error::MachineKeyInvalid,
            Role::Instance(_) | Role::Operator => Error::InstanceKeyInvalid,
        }
    }

    /// Refuses machines.
    pub(crate) fn require_instance(&self) -> Result<(), Error> {
        match &self.role {
            Role::Machine { .. } => Err(Error::InstanceKeyInvalid),
            Role::Instance(_) | Role::Operator => Ok(()),
        }
    }

    /// Returns the key that must still be live when the actor's change is made.
    fn acting_key(&self) -> Option<ActingKey> {
        match &self.role {
            Role::Instance(key) => Some(ActingKey::Instance(key.id)),
            Role::Machine { machine, key } => key
                .as_ref()
                .map(|key| ActingKey::Machine(machine.id, key.id)),
            Role::Operator => None,
        }
    }
}

/// Text that is presented as a key of an accepted kind.
#[derive(Clone, Copy)]
pub(crate) struct Credential<'a> {
    text: &'a str,
    is_machine: bool,
    accepts: Accepts,
}

impl<'a> Credential<'a> {
    pub(crate) fn read(text: &'a str, accepts: Accepts) -> Result<Self, Error> {
        let is_machine = text.starts_with(MachineKey::PREFIX);
        let credential = Self {
            text,
            is_machine,
            accepts,
        };
        let is_wanted = match accepts {
            Accepts::Instance => text.starts_with(InstanceKey::PREFIX),
            Accepts::Machine => is_machine,
            Accepts::Any | Accepts::AnyForKeySet => {
                is_machine || text.starts_with(InstanceKey::PREFIX)
            }
        };
        if is_wanted && text.len() <= MAX_SECRET_LENGTH {
            Ok(credential)
        } else {
            Err(credential.refused())
        }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn presented(&self, digest: Digest) -> Presented {
        if self.is_machine {
            Presented::Machine(digest)
        } else {
            Presented::Instance(digest)
        }
    }

    pub(crate) fn refused(&self) -> Error {
        match self.accepts {
            Accepts::Machine => Error::MachineKeyInvalid,
            Accepts::Any if self.is_machine => Error::MachineKeyInvalid,
            Accepts::Any | Accepts::Instance | Accepts::AnyForKeySet => Error::InstanceKeyInvalid,
        }
    }
}

impl Authority {
    /// Finds the actor that presents `credential`, and counts no request of it.
    ///
    /// # Errors
    /// [`Error::InstanceKeyInvalid`], [`Error::MachineKeyInvalid`], or the store's error.
    pub async fn identify(&self, credential: &str, accepts: Accepts) -> Result<Actor, Error> {
        self.find_actor(Credential::read(credential, accepts)?)
            .await
    }

    /// Finds the actor that presents `credential`.
    ///
    /// # Errors
    /// Those of [`Self::identify`], or [`Error::RateLimited`].
    pub async fn authenticate(&self, credential: &str, accepts: Accepts) -> Result<Actor, Error> {
        let actor = self.identify(credential, accepts).await?;
        if accepts != Accepts::AnyForKeySet {
            self.limit_actor(&actor)?;
        }
        Ok(actor)
    }

    /// Returns the operator as an administrator of an instance, for the operator's door.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store's error.
    pub async fn operator_for(
        &self,
        _operator: &Operator,
        instance: InstanceId,
    ) -> Result<Actor, Error> {
        let found = self.store.instance(instance).await?;
        let found = found.ok_or_else(|| instance_not_found(instance))?;
        Ok(Actor::operator(found))
    }

    /// Returns the operator in the role of a machine, to issue its tokens or to verify tokens as that machine. The
    /// holder of the store and the master key could read the machine's key anyway.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store's error.
    pub async fn operator_as_machine(
        &self,
        operator: &Operator,
        instance: InstanceId,
        machine: MachineId,
    ) -> Result<Actor, Error> {
        let Actor { instance, .. } = self.operator_for(operator, instance).await?;
        let found = self.store.machine(instance.id, machine).await?;
        let machine = found.ok_or_else(|| machine_not_found(machine))?;
        let role = Role::Machine { machine, key: None };
        Ok(Actor { instance, role })
    }

    pub(crate) async fn find_actor(&self, credential: Credential<'_>) -> Result<Actor, Error> {
        for digest in self.vault.digests(credential.text) {
            let Some(caller) = self.store.caller(credential.presented(digest)).await? else {
                continue;
            };
            if let Some(actor) = Actor::from_caller(caller, &digest, self.now()) {
                return Ok(actor);
            }
        }
        Err(credential.refused())
    }

    /// Counts a request of the actor toward the rate limits. Only machines are limited, because an administrator must
    /// be able to stop a machine that sends too many requests.
    pub(crate) fn limit_actor(&self, actor: &Actor) -> Result<(), Error> {
        if let Some(machine) = actor.machine() {
            let settings = &actor.instance.settings;
            self.limit_instance(actor.instance_id(), settings.rate_limit)?;
            self.limit_machine(machine.id, settings.machine_rate_limit)?;
        }
        Ok(())
    }

    /// Returns who requests a change, and when.
    pub(crate) fn change(&self, actor: &Actor) -> NewChange {
        NewChange {
            at: self.now(),
            actor: actor.name().to_owned(),
            key: actor.acting_key(),
            chain: self.vault.chain(),
        }
    }

    /// Returns the operator as the requester of a change that belongs to no instance yet.
    pub(crate) fn operator_change(&self) -> NewChange {
        NewChange {
            at: self.now(),
            actor: OPERATOR.to_owned(),
            key: None,
            chain: self.vault.chain(),
        }
    }
}
