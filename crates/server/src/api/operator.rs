//! Operations that exist only at the operator's door, and operations that differ there because callers present no
//! credential.

use countersign_authority::{Accepts, CreatedInstance, Operator};
use countersign_protocol::body::{ExposedSecret, List};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::instance::{Instance, OperatorKindTag, WhoAmIOperator, WhoAmITag};
use countersign_protocol::request::InstanceRequest;
use serde_json::json;

use super::instances::instance_body;
use super::tokens::token_to_verify;
use crate::call::Call;
use crate::reply::{self, Answer, ApiError, ok, written};

/// `/countersign/instances` on the network, for all callers.
pub(crate) fn refuse() -> Result<Answer, ApiError> {
    Err(ApiError::saying(
        ErrorCode::AuthorizationInvalid,
        "You are not authorized to perform this request: an instance key manages its own instance only; on the authority's \
         machine, use `countersign instance list` or `countersign instance create` with --data",
    ))
}

/// `GET /countersign/instances`
pub(crate) async fn list_instances(
    call: &Call<'_>,
    operator: &Operator,
) -> Result<Answer, ApiError> {
    let instances = call.app.authority.instances(operator).await;
    let instances = instances.map_err(|error| call.refused(error))?;
    let bodies = instances.into_iter().map(instance_body);
    ok(&json!(List::whole(bodies.collect())))
}

/// `POST /countersign/instances`
pub(crate) async fn create_instance(
    call: &Call<'_>,
    operator: &Operator,
) -> Result<Answer, ApiError> {
    let InstanceRequest { name, live } = call.read()?;
    let created = call
        .app
        .authority
        .create_instance(operator, name, live.unwrap_or(true))
        .await;
    let CreatedInstance { instance, key } = created.map_err(|error| call.refused(error))?;
    let body = Instance {
        secret_key: Some(ExposedSecret(key.expose().to_owned())),
        ..instance_body(instance)
    };
    Ok(reply::json(201, &json!(body)))
}

/// `GET /countersign/whoami`
pub(crate) async fn who_am_i(call: &Call<'_>) -> Result<Answer, ApiError> {
    let actor = call.authenticate(Accepts::Instance).await?;
    let instance = call.app.authority.instance(&actor).await;
    let instance = instance.map_err(|error| call.refused(error))?;
    ok(&WhoAmIOperator {
        instance_id: instance.id,
        kind: OperatorKindTag::Tag,
        name: instance.name,
        object: WhoAmITag::Tag,
    })
}

/// `POST /m2m_tokens/verify`
pub(crate) async fn verify(call: &Call<'_>) -> Result<Answer, ApiError> {
    let actor = call.authenticate(Accepts::Any).await?;
    let token = token_to_verify(call)?;
    let verified = call.app.authority.verify(&actor, &token).await;
    Ok(written(
        200,
        verified.map_err(|error| call.refused(error))?.to_json(),
    ))
}
