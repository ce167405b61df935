//! The instance and the machine for which the operator acts. A request at the operator's door names them in headers.

use countersign_authority::{Accepts, Actor, Authority, Error, Operator};
use countersign_protocol::door::{INSTANCE_HEADER, MACHINE_HEADER};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::ids::{InstanceId, MachineId};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::reply::{ApiError, Habit};

/// Refuses a request that presents a credential. The door would ignore the credential, so the request was meant for the
/// network: for instance, a proxy forwards requests to the wrong socket.
pub(crate) fn refuse_credential(headers: &HeaderMap) -> Result<(), ApiError> {
    if !headers.contains_key(AUTHORIZATION) {
        return Ok(());
    }
    Err(ApiError::saying(
        ErrorCode::BadRequest,
        "The operator's door takes no credential: leave out the Authorization header, or use the authority's URL",
    ))
}

/// The instance and the machine that a request names.
pub(crate) struct Named {
    instance: Option<InstanceId>,
    machine: Option<MachineId>,
}

impl Named {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        Ok(Self {
            instance: id(headers, INSTANCE_HEADER, "an instance")?,
            machine: id(headers, MACHINE_HEADER, "a machine")?,
        })
    }

    /// Returns the operator as an administrator of the instance, or in the role of the machine.
    pub(crate) async fn actor(
        &self,
        authority: &Authority,
        operator: &Operator,
        accepts: Accepts,
    ) -> Result<Actor, ApiError> {
        let instance = self.instance(authority, operator).await?;
        let found = match (self.machine, accepts) {
            (Some(_), Accepts::Instance) => {
                return Err(ApiError::saying(
                    ErrorCode::AuthorizationInvalid,
                    format!(
                        "You are not authorized to perform this request: a machine may not do this; leave out the header {MACHINE_HEADER}"
                    ),
                ));
            }
            (None, Accepts::Machine) => {
                return Err(ApiError::saying(
                    ErrorCode::BadRequest,
                    format!(
                        "Only a machine can do this; name one by its id in the header {MACHINE_HEADER}"
                    ),
                ));
            }
            (Some(machine), Accepts::Machine | Accepts::Any) => {
                authority
                    .operator_as_machine(operator, instance, machine)
                    .await
            }
            (Some(_), Accepts::AnyForKeySet) | (None, _) => {
                authority.operator_for(operator, instance).await
            }
        };
        found.map_err(|error| match error {
            // A header, not the path, names something unknown. 404 would mean that a token is not found.
            Error::NotFound { noun, id } => ApiError::saying(
                ErrorCode::FormResourceNotFound,
                format!("Resource not found: no {noun} {id}"),
            ),
            error => ApiError::from_authority(Habit::Parameters, error),
        })
    }

    /// Returns the named instance, or the only instance.
    async fn instance(
        &self,
        authority: &Authority,
        operator: &Operator,
    ) -> Result<InstanceId, ApiError> {
        if let Some(instance) = self.instance {
            return Ok(instance);
        }
        let instances = authority.instances(operator).await;
        let instances =
            instances.map_err(|error| ApiError::from_authority(Habit::Parameters, error))?;
        if let [only] = instances.as_slice() {
            return Ok(only.id);
        }
        let names: Vec<String> = instances
            .iter()
            .map(|instance| format!("{} ({})", instance.id, instance.name))
            .collect();
        Err(ApiError::saying(
            ErrorCode::BadRequest,
            format!(
                "The authority has several instances; name one by its id in the header {INSTANCE_HEADER}: {}",
                names.join(", ")
            ),
        ))
    }
}

/// Reads an id from a header. A repeated header is refused.
fn id<T: std::str::FromStr>(
    headers: &HeaderMap,
    name: &'static str,
    noun: &str,
) -> Result<Option<T>, ApiError> {
    let mut lines = headers.get_all(name).iter();
    let (Some(line), rest) = (lines.next(), lines.next()) else {
        return Ok(None);
    };
    let id = line.to_str().ok().and_then(|text| text.parse().ok());
    id.filter(|_| rest.is_none()).map(Some).ok_or_else(|| {
        ApiError::saying(
            ErrorCode::BadRequest,
            format!("The header {name} must be given once, with the id of {noun}"),
        )
    })
}
