//! Who the caller is, by the credential that the client presents. An extension of Countersign.

use countersign_protocol::ids::{InstanceId, KeyId, MachineId};
use countersign_protocol::instance as body;

use crate::client::Client;
use crate::error::Error;
use crate::request::Request;

/// Who the caller is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WhoAmI {
    /// The holder of an instance key.
    #[non_exhaustive]
    Instance {
        /// The instance.
        instance_id: InstanceId,
        /// The key's id.
        key_id: KeyId,
        /// The instance's name.
        name: String,
    },
    /// A machine.
    #[non_exhaustive]
    Machine {
        /// The machine's instance.
        instance_id: InstanceId,
        /// The machine.
        machine_id: MachineId,
        /// The machine's name.
        name: String,
        /// The machines that it may call.
        may_call: Vec<MachineId>,
    },
    /// The operator, at the operator's door.
    #[non_exhaustive]
    Operator {
        /// The instance that the operator's requests are about.
        instance_id: InstanceId,
        /// The instance's name.
        name: String,
    },
}

impl WhoAmI {
    /// Returns the name of the instance or machine.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Instance { name, .. }
            | Self::Machine { name, .. }
            | Self::Operator { name, .. } => name,
        }
    }
}

/// Asks who the caller is.
#[must_use]
pub fn whoami() -> Request<body::WhoAmI> {
    Request::get("/countersign/whoami")
}

impl Client {
    /// Asks who the caller is.
    ///
    /// # Errors
    /// [`Error`], each kind of it.
    pub async fn whoami(&self) -> Result<WhoAmI, Error> {
        let body = self.send(whoami()).await?;
        from_body(body).ok_or_else(|| {
            self.malformed("its response does not say who this client's key belongs to")
        })
    }
}

/// Returns `None` for a token, because a client has a key.
fn from_body(body: body::WhoAmI) -> Option<WhoAmI> {
    Some(match body {
        body::WhoAmI::Instance(found) => WhoAmI::Instance {
            instance_id: found.instance_id,
            key_id: found.key_id,
            name: found.name,
        },
        body::WhoAmI::Machine(found) => WhoAmI::Machine {
            instance_id: found.instance_id,
            machine_id: found.machine_id,
            name: found.name,
            // The list was checked when it was read.
            may_call: found.may_call.iter().flat_map(str::parse).collect(),
        },
        body::WhoAmI::Operator(found) => WhoAmI::Operator {
            instance_id: found.instance_id,
            name: found.name,
        },
        body::WhoAmI::Token(_) => return None,
    })
}
