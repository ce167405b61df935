//! Administration of machines, their keys and scopes, with an instance key (contract: machines).

use std::time::{Duration, SystemTime};

use countersign_protocol::body;
use countersign_protocol::bounds::Name;
use countersign_protocol::ids::{InstanceId, MachineId};
use countersign_protocol::request::{KeyRotation, MachineRequest, MachineUpdate, ScopeRequest};
use countersign_protocol::secret::MachineKey;
use serde::Serialize;

use crate::Page;
use crate::client::Client;
use crate::error::Error;
use crate::request::Request;

/// A machine.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Machine {
    /// Its id.
    pub id: MachineId,
    /// Its name, not necessarily unique.
    pub name: String,
    /// The instance it belongs to.
    pub instance_id: InstanceId,
    /// When it was made.
    pub created_at: SystemTime,
    /// When its name, token lifetime or scopes last changed.
    pub updated_at: SystemTime,
    /// The life of its tokens where a request names none.
    pub default_token_ttl: Duration,
    /// The machines it may call, oldest scope first; theirs are not told.
    pub scoped_machines: Vec<ScopedMachine>,
}

/// A machine that another one may call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScopedMachine {
    /// Its id.
    pub id: MachineId,
    /// Its name, not necessarily unique.
    pub name: String,
}

/// A new machine and its key.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreatedMachine {
    /// The machine.
    pub machine: Machine,
    /// Its key, to be given to the service.
    pub key: MachineKey,
}

/// A scope: `from` may call `to`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scope {
    /// The machine that calls.
    pub from: MachineId,
    /// The machine that is called.
    pub to: MachineId,
}

/// What a new machine is like.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct NewMachine(MachineRequest);

impl NewMachine {
    /// A machine of this name, 1 to 255 characters, that may call nobody.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self(MachineRequest {
            name: Name::from(name),
            ..MachineRequest::default()
        })
    }

    /// The machines it may call.
    #[must_use]
    pub fn calling(mut self, machines: impl IntoIterator<Item = MachineId>) -> Self {
        let ids = machines.into_iter().map(|id| id.to_string());
        self.0.scoped_machines.extend(ids);
        self
    }

    /// The life of its tokens where a request names none, in whole seconds. Default: one hour.
    #[must_use]
    pub fn default_token_ttl(mut self, ttl: Duration) -> Self {
        self.0.default_token_ttl = Some(whole_seconds(ttl).into());
        self
    }
}

/// What changes about a machine; what is not named stays.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct MachineChange(MachineUpdate);

impl MachineChange {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = Some(Name::from(name));
        self
    }

    /// Another life of its tokens where a request names none, in whole seconds.
    #[must_use]
    pub fn default_token_ttl(mut self, ttl: Duration) -> Self {
        self.0.default_token_ttl = Some(whole_seconds(ttl).into());
        self
    }
}

/// The authority refuses what is too long; no time is longer than what it can be told.
fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// In which order machines are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MachineOrder {
    /// By name, from A to Z.
    Name,
    /// By name, from Z to A.
    NameDescending,
    /// The oldest first.
    CreatedAt,
    /// The newest first.
    CreatedAtDescending,
}

/// Which machines a page lists.
#[derive(Clone, Debug, Default)]
pub struct ListMachines {
    pub(crate) query: Vec<(&'static str, String)>,
}

impl ListMachines {
    /// All of them, newest first, ten a page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Those with this id, or with this text in their name.
    #[must_use]
    pub fn matching(self, text: impl Into<String>) -> Self {
        self.with("query", text.into())
    }

    /// In this order.
    #[must_use]
    pub fn order_by(self, order: MachineOrder) -> Self {
        let order = match order {
            MachineOrder::Name => "+name",
            MachineOrder::NameDescending => "-name",
            MachineOrder::CreatedAt => "+created_at",
            MachineOrder::CreatedAtDescending => "-created_at",
        };
        self.with("order_by", order.to_owned())
    }

    /// At most so many, 1 to 500.
    #[must_use]
    pub fn limit(self, limit: u32) -> Self {
        self.with("limit", limit.to_string())
    }

    /// Without the first so many.
    #[must_use]
    pub fn offset(self, offset: u64) -> Self {
        self.with("offset", offset.to_string())
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.query.retain(|(known, _)| *known != name);
        self.query.push((name, value));
        self
    }
}

/// Lists machines.
#[must_use]
pub fn list_machines(list: &ListMachines) -> Request<body::List<body::Machine>> {
    Request::get(crate::with_query("/machines", &list.query))
}

/// Creates a machine.
#[must_use]
pub fn create_machine(new: &NewMachine) -> Request<body::Machine> {
    Request::post("/machines", new)
}

/// Reads a machine.
#[must_use]
pub fn machine(id: MachineId) -> Request<body::Machine> {
    Request::get(format!("/machines/{id}"))
}

/// Changes a machine.
#[must_use]
pub fn update_machine(id: MachineId, change: &MachineChange) -> Request<body::Machine> {
    Request::patch(format!("/machines/{id}"), change)
}

/// Deletes a machine.
#[must_use]
pub fn delete_machine(id: MachineId) -> Request<body::DeletedMachine> {
    Request::delete(format!("/machines/{id}"))
}

/// Reads the newest key of a machine.
#[must_use]
pub fn machine_key(id: MachineId) -> Request<body::MachineSecretKey> {
    Request::get(format!("/machines/{id}/secret_key"))
}

/// Gives a machine a new key. Its older keys expire after `overlap`, in whole seconds.
#[must_use]
pub fn rotate_machine_key(id: MachineId, overlap: Duration) -> Request<body::MachineSecretKey> {
    let body = KeyRotation {
        previous_token_ttl: whole_seconds(overlap).into(),
    };
    Request::post(format!("/machines/{id}/secret_key/rotate"), &body)
}

/// Lets `from` call `to`.
#[must_use]
pub fn create_scope(from: MachineId, to: MachineId) -> Request<body::MachineScope> {
    let body = ScopeRequest {
        to_machine_id: to.to_string(),
    };
    Request::post(format!("/machines/{from}/scopes"), &body)
}

/// Deletes a scope.
#[must_use]
pub fn delete_scope(from: MachineId, to: MachineId) -> Request<body::DeletedMachineScope> {
    Request::delete(format!("/machines/{from}/scopes/{to}"))
}

impl Client {
    /// A page of machines.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn list_machines(&self, list: &ListMachines) -> Result<Page<Machine>, Error> {
        let list = self.send(list_machines(list)).await?;
        Ok(Page {
            items: list.data.into_iter().map(Machine::from).collect(),
            total_count: u64::try_from(list.total_count).unwrap_or_default(),
        })
    }

    /// Makes a machine.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn create_machine(&self, new: &NewMachine) -> Result<CreatedMachine, Error> {
        let mut machine = self.send(create_machine(new)).await?;
        let key = machine.secret_key.take().ok_or_else(|| {
            self.malformed("its answer to the creation of a machine has no key in it")
        })?;
        Ok(CreatedMachine {
            machine: machine.into(),
            key: MachineKey::new(key.0),
        })
    }

    /// A machine.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn machine(&self, id: MachineId) -> Result<Machine, Error> {
        Ok(self.send(machine(id)).await?.into())
    }

    /// Changes a machine.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn update_machine(
        &self,
        id: MachineId,
        change: &MachineChange,
    ) -> Result<Machine, Error> {
        let machine = self.send(update_machine(id, change)).await?;
        Ok(machine.into())
    }

    /// Deletes a machine: its keys and tokens die at once, its scopes vanish.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn delete_machine(&self, id: MachineId) -> Result<(), Error> {
        self.send(delete_machine(id)).await.map(drop)
    }

    /// The newest key of a machine, where the instance shows keys again.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn machine_key(&self, id: MachineId) -> Result<MachineKey, Error> {
        let key = self.send(machine_key(id)).await?;
        Ok(MachineKey::new(key.secret.0))
    }

    /// Gives a machine a new key; those before it go on working for `overlap`, in whole seconds, 8 hours at most.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn rotate_machine_key(
        &self,
        id: MachineId,
        overlap: Duration,
    ) -> Result<MachineKey, Error> {
        let rotate = rotate_machine_key(id, overlap);
        let key = self.send(rotate).await?;
        Ok(MachineKey::new(key.secret.0))
    }

    /// Lets `from` call `to`. Tokens that exist already stay as they are; new ones are for `to` as well.
    ///
    /// # Errors
    /// [`Error`], each kind of it; `conflict` where it may already.
    pub async fn create_scope(&self, from: MachineId, to: MachineId) -> Result<Scope, Error> {
        let scope = self.send(create_scope(from, to)).await?;
        Ok(Scope {
            from: scope.from_machine_id,
            to: scope.to_machine_id,
        })
    }

    /// Takes a scope away. Tokens that exist already stay as they are.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn delete_scope(&self, from: MachineId, to: MachineId) -> Result<(), Error> {
        self.send(delete_scope(from, to)).await.map(drop)
    }
}

impl From<body::Machine> for Machine {
    fn from(machine: body::Machine) -> Self {
        let scoped = machine.scoped_machines.into_iter();
        Self {
            id: machine.id,
            name: machine.name,
            instance_id: machine.instance_id,
            created_at: machine.created_at.into(),
            updated_at: machine.updated_at.into(),
            default_token_ttl: Duration::from_secs(
                u64::try_from(machine.default_token_ttl).unwrap_or_default(),
            ),
            scoped_machines: scoped
                .map(|machine| ScopedMachine {
                    id: machine.id,
                    name: machine.name,
                })
                .collect(),
        }
    }
}
