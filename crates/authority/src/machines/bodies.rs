//! Converts machines between their bodies on the wire and their rows in the store.

use countersign_protocol::body::{ExposedSecret, List, Machine, MachineTag, NestedMachine};
use countersign_protocol::bounds::{Seconds, Text};
use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::limits::{DEFAULT_TOKEN_TTL_SECONDS, MAX_SCOPES};
use countersign_protocol::request::{MachineRequest, MachineUpdate};
use countersign_protocol::secret::MachineKey;
use countersign_store::{MachineRow, MachineWithScopes, NewMachine, NewMachineKey};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::error::{Error, Problem, about, invalid};
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

/// Checks a request for a machine, and returns the machine.
pub(super) fn new_machine(
    request: MachineRequest,
    id: MachineId,
    instance: InstanceId,
    key: NewMachineKey,
) -> Result<NewMachine, Error> {
    let scopes = read_scopes(&request.scoped_machines)?;
    let name = request.name.checked().map_err(about("name"))?;
    let ttl = request.default_token_ttl.map(Seconds::checked).transpose();
    let ttl = ttl.map_err(about("default_token_ttl"))?;
    Ok(NewMachine {
        id,
        instance,
        name,
        default_token_ttl: ttl.unwrap_or(DEFAULT_TOKEN_TTL_SECONDS),
        scopes,
        created_at: key.created_at,
        key,
    })
}

/// Checks an update.
pub(super) fn checked_update(
    update: MachineUpdate,
) -> Result<countersign_store::MachineUpdate, Error> {
    let name = update.name.map(Text::checked).transpose();
    let ttl = update.default_token_ttl.map(Seconds::checked).transpose();
    Ok(countersign_store::MachineUpdate {
        name: name.map_err(about("name"))?,
        default_token_ttl: ttl.map_err(about("default_token_ttl"))?,
    })
}

/// Parses the ids of the machines that a new machine may call, each once.
fn read_scopes(ids: &[String]) -> Result<Vec<MachineId>, Error> {
    if ids.len() > MAX_SCOPES {
        return Err(invalid("scoped_machines", Problem::TooMany(MAX_SCOPES)));
    }
    let mut scopes = Vec::new();
    for id in ids {
        let id = id
            .parse()
            .map_err(|_| invalid("scoped_machines", Problem::NotFound))?;
        if !scopes.contains(&id) {
            scopes.push(id);
        }
    }
    Ok(scopes)
}
