//! Machines and the scopes between them.

use std::sync::Arc;

use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::scopes::Scopes;
use countersign_protocol::time::Timestamp;

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

/// A machine.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineRow {
    /// Its number in this store, never used twice.
    pub number: i64,
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
    /// Grows with each change of the machine or its scopes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A machine and the machines it may call, oldest scope first.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineWithScopes {
    /// The machine.
    pub machine: Arc<MachineRow>,
    /// The machines it may call.
    pub scoped: Vec<Arc<MachineRow>>,
}

/// What came of making a machine.
#[derive(Clone, Debug)]
pub enum InsertMachine {
    /// It was made.
    Inserted(MachineWithScopes),
    /// A machine it shall call does not exist.
    ScopeNotFound(MachineId),
}

/// What came of making a scope.
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
    /// The calling machine may call as many machines as it may.
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

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The time of creation.
    CreatedAt,
    /// The name, byte for byte.
    Name,
}

/// The order of a list; equal keys follow their ids in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineOrder {
    /// By what.
    pub by: SortBy,
    /// Largest first.
    pub is_descending: bool,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many.
    pub limit: u32,
    /// How many to pass over.
    pub offset: u64,
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
