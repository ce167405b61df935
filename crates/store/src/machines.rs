//! Machines and the scopes between them.

use std::sync::Arc;

use countersign_protocol::change::{Changed, Event};
use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::page::{MachineOrder, Page};
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;

use crate::instances::cut_off;
use crate::keys::NewMachineKey;

/// A machine to be made.
#[derive(Clone, Debug)]
pub struct NewMachine {
    /// Its id.
    pub id: MachineId,
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// Its name.
    pub name: String,
    /// The life of its tokens in seconds, where a request names none.
    pub default_token_ttl: i64,
    /// The machines it may call, each once.
    pub scopes: Vec<MachineId>,
    /// Its first key.
    pub key: NewMachineKey,
    /// When it was made.
    pub created_at: Timestamp,
}

impl NewMachine {
    /// Returns the event for the created machine.
    pub(crate) fn created_event(&self) -> Event {
        Event::MachineCreated {
            machine_id: self.id,
            name: self.name.clone(),
            default_token_ttl: self.default_token_ttl,
            scoped_machines: self.scopes.clone(),
            key_id: self.key.id,
        }
    }
}

/// A machine.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineRow {
    /// Its id.
    pub id: MachineId,
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// Its name.
    pub name: String,
    /// The life of its tokens in seconds, where a request names none.
    pub default_token_ttl: i64,
    /// The machines it may call, oldest scope first.
    pub scopes: Scopes,
    /// Increases with each change of the machine, its scopes or `issued_before`.
    pub revision: i64,
    /// The cut-off: tokens created before it are refused.
    pub issued_before: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl MachineRow {
    /// Returns the machine that this insertion creates. `scopes` are those of the insertion.
    pub(crate) fn new(new: &NewMachine, scopes: Scopes) -> Self {
        Self {
            id: new.id,
            instance: new.instance,
            name: new.name.clone(),
            default_token_ttl: new.default_token_ttl,
            scopes,
            revision: 1,
            issued_before: None,
            created_at: new.created_at,
            updated_at: new.created_at,
        }
    }

    /// Returns the machine with these new values from `at` on.
    #[must_use]
    pub fn updated(&self, update: MachineUpdate, at: Timestamp) -> Self {
        Self {
            name: update.name.unwrap_or_else(|| self.name.clone()),
            default_token_ttl: update.default_token_ttl.unwrap_or(self.default_token_ttl),
            revision: self.revision + 1,
            updated_at: at,
            ..self.clone()
        }
    }

    /// Returns the event for the updated machine.
    pub(crate) fn updated_event(&self, before: &Self) -> Event {
        Event::MachineUpdated {
            machine_id: self.id,
            name: Changed {
                from: before.name.clone(),
                to: self.name.clone(),
            },
            default_token_ttl: Changed {
                from: before.default_token_ttl,
                to: self.default_token_ttl,
            },
        }
    }

    /// Returns the machine with all its tokens ended at `at`. `of_instance` is the cut-off of its instance.
    #[must_use]
    pub fn with_tokens_ended(&self, at: Timestamp, of_instance: Option<Timestamp>) -> Self {
        let before = self.issued_before.max(of_instance);
        Self {
            revision: self.revision + 1,
            issued_before: Some(cut_off(before, at)),
            ..self.clone()
        }
    }
}

/// A machine and the machines it may call, oldest scope first.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineWithScopes {
    /// The machine.
    pub machine: Arc<MachineRow>,
    /// The machines it may call.
    pub scoped: Vec<Arc<MachineRow>>,
}

/// The outcome of inserting a machine.
#[derive(Clone, Debug)]
pub enum InsertMachine {
    /// It was made.
    Inserted(MachineWithScopes),
    /// A machine in its scopes does not exist.
    ScopeNotFound(MachineId),
}

/// The outcome of inserting a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertScope {
    /// It was made.
    Inserted,
    /// The calling machine does not exist.
    FromNotFound,
    /// The called machine does not exist.
    ToNotFound,
    /// It exists already.
    Exists,
    /// The calling machine already has the maximum number of scopes.
    TooMany,
}

/// New values of a machine; `None` leaves the old one.
#[derive(Clone, Debug, Default)]
pub struct MachineUpdate {
    /// The name.
    pub name: Option<String>,
    /// The life of its tokens in seconds.
    pub default_token_ttl: Option<i64>,
}

impl MachineUpdate {
    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.default_token_ttl.is_none()
    }
}

/// Which machines to list.
#[derive(Clone, Debug)]
pub struct MachineQuery {
    /// Only the machine with exactly this id, and machines whose name contains this text in any case.
    pub text: Option<String>,
    /// In which order.
    pub order: MachineOrder,
    /// Which part.
    pub page: Page,
}
