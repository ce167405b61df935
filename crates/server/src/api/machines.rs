//! `/machines` (contract: machines).

use countersign_authority::ListMachines;
use countersign_protocol::bounds::Whole;
use countersign_protocol::error::ErrorCode;
use countersign_protocol::ids::MachineId;
use countersign_protocol::limits::DEFAULT_PAGE;
use countersign_protocol::request::{KeyRotation, ScopeRequest};

use crate::call::Call;
use crate::reply::{Answer, ApiError, ok, written};

/// How many machines are written where the request is answered.
const SMALL_PAGE: u32 = 50;

/// `GET /machines`
pub(crate) async fn list(call: &Call<'_>) -> Result<Answer, ApiError> {
    let request: ListMachines = call.query()?;
    let actor = call.actor()?;
    // What is not a size of a page is refused before any is read.
    let limit = request.limit.map_or(Ok(DEFAULT_PAGE), Whole::checked);
    let limit = u32::try_from(limit.unwrap_or_default()).unwrap_or_default();
    let share = if limit <= SMALL_PAGE {
        None
    } else {
        Some(call.app.listed.take(actor.instance_id(), limit).await?)
    };
    let listed = call.app.authority.list_machines(actor, request).await;
    let page = listed.map_err(|error| call.refused(error))?;
    let write = move || {
        let json = serde_json::to_vec(&page).unwrap_or_default();
        (json, share)
    };
    // A large one takes longer than others on this thread should have to wait.
    let (json, share) = if limit <= SMALL_PAGE {
        write()
    } else {
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|_| ApiError::overloaded())?
    };
    let list = written(200, json);
    // Until the budget for large answers takes it over.
    Ok(match share {
        Some(share) => list.map(|body| body.holding(share)),
        None => list,
    })
}

/// `POST /machines`
pub(crate) async fn create(call: &Call<'_>) -> Result<Answer, ApiError> {
    let created = call
        .app
        .authority
        .create_machine(call.actor()?, call.read()?)
        .await;
    ok(&created.map_err(|error| call.refused(error))?)
}

/// `GET /machines/{machine_id}`
pub(crate) async fn get(call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = machine_id(call, 0)?;
    let machine = call
        .app
        .authority
        .machine(call.actor()?, id)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&machine)
}

/// `PATCH /machines/{machine_id}`
pub(crate) async fn update(call: &Call<'_>) -> Result<Answer, ApiError> {
    let update = call.read()?;
    let id = machine_id(call, 0)?;
    let machine = call
        .app
        .authority
        .update_machine(call.actor()?, id, update)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&machine)
}

/// `DELETE /machines/{machine_id}`
pub(crate) async fn delete(call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = machine_id(call, 0)?;
    let deleted = call.app.authority.delete_machine(call.actor()?, id).await;
    ok(&deleted.map_err(|error| call.refused(error))?)
}

/// `GET /machines/{machine_id}/secret_key`
pub(crate) async fn secret_key(call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = machine_id(call, 0)?;
    let key = call
        .app
        .authority
        .reveal_machine_key(call.actor()?, id)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&key)
}

/// `POST /machines/{machine_id}/secret_key/rotate`
pub(crate) async fn rotate_secret_key(call: &Call<'_>) -> Result<Answer, ApiError> {
    let KeyRotation { previous_token_ttl } = call.read()?;
    let id = machine_id(call, 0)?;
    let key = call
        .app
        .authority
        .rotate_machine_key(call.actor()?, id, previous_token_ttl)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&key)
}

/// `POST /machines/{machine_id}/scopes`
pub(crate) async fn create_scope(call: &Call<'_>) -> Result<Answer, ApiError> {
    let ScopeRequest { to_machine_id } = call.read()?;
    let from = machine_id(call, 0)?;
    let to = to_machine_id.parse().map_err(|_| no_machine_id())?;
    let actor = call.actor()?;
    let created = call.app.authority.create_scope(actor, from, to).await;
    ok(&created.map_err(|error| call.refused(error))?)
}

/// `DELETE /machines/{machine_id}/scopes/{other_machine_id}`
pub(crate) async fn delete_scope(call: &Call<'_>) -> Result<Answer, ApiError> {
    let (from, to) = (machine_id(call, 0)?, machine_id(call, 1)?);
    let actor = call.actor()?;
    let deleted = call.app.authority.delete_scope(actor, from, to).await;
    ok(&deleted.map_err(|error| call.refused(error))?)
}

/// A malformed id in a path names nothing: 404, like an unknown one.
fn machine_id(call: &Call<'_>, place: usize) -> Result<MachineId, ApiError> {
    let text = call.captures.get(place).copied().unwrap_or_default();
    text.parse().map_err(|_| no_machine_id())
}

/// The text is not repeated: people put keys and tokens where ids belong.
fn no_machine_id() -> ApiError {
    ApiError::saying(
        ErrorCode::ResourceNotFound,
        "Resource not found: a machine id is 'mch_' and 27 letters or digits",
    )
}
