//! Builds the bodies of machines on the wire.

use countersign_protocol::body::{ExposedSecret, List, Machine, MachineTag, NestedMachine};
use countersign_protocol::secret::MachineKey;
use countersign_store::{MachineRow, MachineWithScopes};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::rules::total;

/// A page of machines. It serializes like a [`List`], one machine at a time, without building the list first.
#[derive(Clone, Debug)]
pub struct MachinePage {
    machines: Vec<MachineWithScopes>,
    total: u64,
}

impl MachinePage {
    pub(super) fn new(machines: Vec<MachineWithScopes>, total: u64) -> Self {
        Self { machines, total }
    }

    /// Returns the number of machines on this page.
    #[must_use]
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// Returns whether the page is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// Returns the number of machines that match, on all pages.
    #[must_use]
    pub fn total_count(&self) -> i64 {
        total(self.total)
    }

    /// Returns the page as a body.
    #[must_use]
    pub fn into_body(self) -> List<Machine> {
        List {
            data: self.machines.iter().map(machine_body).collect(),
            total_count: self.total_count(),
        }
    }
}

impl Serialize for MachinePage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Data<'a>(&'a [MachineWithScopes]);
        impl Serialize for Data<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.iter().map(machine_body))
            }
        }
        let mut list = serializer.serialize_struct("List", 2)?;
        list.serialize_field("data", &Data(&self.machines))?;
        list.serialize_field("total_count", &self.total_count())?;
        list.end()
    }
}

/// Returns the body of a new machine, with its key.
pub(super) fn created_machine_body(machine: &MachineWithScopes, key: &MachineKey) -> Machine {
    Machine {
        secret_key: Some(ExposedSecret(key.expose().to_owned())),
        ..machine_body(machine)
    }
}

/// Returns the body of a machine.
pub(super) fn machine_body(machine: &MachineWithScopes) -> Machine {
    let NestedMachine {
        object,
        id,
        name,
        instance_id,
        created_at,
        updated_at,
        default_token_ttl,
    } = nested_body(&machine.machine);
    let scoped = machine.scoped.iter();
    Machine {
        object,
        id,
        name,
        instance_id,
        created_at,
        updated_at,
        default_token_ttl,
        scoped_machines: scoped.map(|scoped| nested_body(scoped)).collect(),
        secret_key: None,
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
