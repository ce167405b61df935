//! Defines callers, found by the key that they present, and the data that decides a verification.

use std::sync::Arc;

use countersign_protocol::ids::InstanceId;

use crate::instances::Instance;
use crate::keys::{Digest, InstanceKeyRow, MachineKeyRow};
use crate::machines::MachineRow;
use crate::tokens::StoredToken;

/// A presented key, by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// An instance key.
    Instance(Digest),
    /// A machine key.
    Machine(Digest),
}

/// The holder of a key.
#[derive(Clone, Debug)]
pub enum Caller {
    /// An administrator of an instance.
    Instance {
        /// The instance.
        instance: Arc<Instance>,
        /// The key.
        key: Arc<InstanceKeyRow>,
    },
    /// A machine.
    Machine {
        /// The machine's instance.
        instance: Arc<Instance>,
        /// The machine.
        machine: Arc<MachineRow>,
        /// The key.
        key: Arc<MachineKeyRow>,
    },
}

impl Caller {
    /// Returns the instance that the caller belongs to.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        match self {
            Self::Instance { instance, .. } | Self::Machine { instance, .. } => instance.id,
        }
    }
}

/// Everything that decides a verification.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The caller that asks.
    pub caller: Caller,
    /// The token; `None` if the token or its machine does not exist in the caller's instance.
    pub token: Option<StoredToken>,
    /// A record number in the instance's log: this data reflects all records up to it. One exception: the caller's own
    /// key may have ended in one of these records.
    pub position: u64,
}
