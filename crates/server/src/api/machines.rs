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

pub(crate) const LIST: &str = "Machines: List machines

Lists the machines of the instance, each with the machines that it may call. `query` matches a whole id, or a part of a name
(ignoring case).

- 200: The machines.
- form_param_value_invalid order_by: order_by must be name or created_at, with + or - in front or nothing.
";

/// `GET /machines`
pub(crate) async fn list(call: &Call<'_>) -> Result<Answer, ApiError> {
    let request: ListMachines = call.query()?;
    let actor = call.actor()?;
    // An invalid page size is rejected before a page is read.
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
    // Writing a large page would delay other requests on this thread.
    let (json, share) = if limit <= SMALL_PAGE {
        write()
    } else {
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|_| ApiError::overloaded())?
    };
    let list = written(200, json);
    // Held until the budget for large answers replaces it.
    Ok(match share {
        Some(share) => list.map(|body| body.holding(share)),
        None => list,
    })
}

pub(crate) const CREATE: &str = "Machines: Create a machine

Creates a machine and its key, and lets it call the machines in `scoped_machines`. To let other machines call it, create scopes to it
afterwards.

- 200: The machine, and its key.
- form_resource_not_found scoped_machines: The resource associated with the supplied scoped_machines was not found.
";

/// `POST /machines`
pub(crate) async fn create(call: &Call<'_>) -> Result<Answer, ApiError> {
    let created = call
        .app
        .authority
        .create_machine(call.actor()?, call.read()?)
        .await;
    ok(&created.map_err(|error| call.refused(error))?)
}

pub(crate) const GET: &str = "Machines: Show a machine

One machine, with those that it may call.

- 200: The machine.
";

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

pub(crate) const UPDATE: &str = r#"Machines: Update a machine

Changes the given members and leaves the others unchanged. An empty or absent body changes nothing. Existing tokens keep their
expiration.

- 200: The machine as it is now. `{"name":"billing (EU)","default_token_ttl":900,"updated_at":1767229200000}`
"#;

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

pub(crate) const DELETE: &str = "Machines: Delete a machine

The machine's keys and tokens are rejected as soon as this request succeeds. All scopes from and to the machine are deleted. This
cannot be undone.

- 200: The machine is gone.
";

/// `DELETE /machines/{machine_id}`
pub(crate) async fn delete(call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = machine_id(call, 0)?;
    let deleted = call.app.authority.delete_machine(call.actor()?, id).await;
    ok(&deleted.map_err(|error| call.refused(error))?)
}

pub(crate) const SECRET_KEY: &str = "Machine keys: Show a machine's key

Shows the newest key of the machine. Each use is recorded in the change log. By default, an instance can do this ten times a
minute. If its setting `secret_reveal` is off, keys are not shown.

- 200: The key.
- authorization_invalid: You are not authorized to perform this request: this instance does not show secrets again (secret_reveal
  is off); rotate the key for a new one
";

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

pub(crate) const ROTATE_SECRET_KEY: &str = "Machine keys: Give a machine a new key

The new key works at once. Older keys keep working for `previous_token_ttl` seconds, so that you can deploy the new key without an
outage. Tokens are not affected. A machine has at most five keys; the oldest is deleted.

- 200: The new key.
";

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

pub(crate) const CREATE_SCOPE: &str = "Scopes: Let a machine call another

Allows the machine in the path to call `to_machine_id`, with tokens that it creates from now on. The opposite direction needs a
separate scope. A machine may call at most 150 others.

- 200: The scope.
- form_param_value_invalid to_machine_id: to_machine_id must be another machine than the one that calls.
- form_param_array_size_exceeded scoped_machines: scoped_machines should not exceed 150 items.
- conflict: mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk may call mch_2yGkLpQ7Y3rXSwtU24CzTk9I7Em already
";

/// `POST /machines/{machine_id}/scopes`
pub(crate) async fn create_scope(call: &Call<'_>) -> Result<Answer, ApiError> {
    let ScopeRequest { to_machine_id } = call.read()?;
    let from = machine_id(call, 0)?;
    let to = to_machine_id.parse().map_err(|_| no_machine_id())?;
    let actor = call.actor()?;
    let created = call.app.authority.create_scope(actor, from, to).await;
    ok(&created.map_err(|error| call.refused(error))?)
}

pub(crate) const DELETE_SCOPE: &str = "Scopes: Stop a machine from calling another

Tokens that the machine creates from now on no longer include the other machine. Existing tokens stay valid until they expire; to end
them sooner, revoke them.

- 200: The scope is gone.
";

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
