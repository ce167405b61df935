//! `/machines` (contract: machines).

use std::sync::Arc;

use countersign_authority::{
    Invalid, MachineOrder, MachineQuery, MachineRequest, MachineUpdate, MachineWithScopes, Problem,
    SortBy, machine_body,
};
use countersign_protocol::body::{
    DeletedMachine, ExposedSecret, MachineScope, MachineScopeTag, MachineSecretKey,
    MachineSecretKeyTag, MachineTag,
};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::ids::MachineId;
use countersign_protocol::limits::{DEFAULT_TOKEN_TTL_SECONDS, MAX_MACHINES_PAGE, MAX_SCOPES};

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::api::tokens::page;
use crate::app::Call;
use crate::fields::{Body, Presence, Query};
use crate::reply::{Answer, ApiError, Habit, Place, ok, written};

const HABIT: Habit = Habit::Parameters;
/// How many machines are written where the request is answered.
const SMALL_PAGE: u32 = 50;

/// `GET /machines`
pub(crate) async fn list(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut query = Query::parse(call.query, HABIT)?;
    let text = query
        .text("query")?
        .filter(|text| !text.is_empty())
        .map(std::borrow::Cow::into_owned);
    let order = match query.text("order_by")? {
        None => MachineOrder {
            by: SortBy::CreatedAt,
            is_descending: true,
        },
        Some(text) => order(&text).ok_or_else(|| {
            let rule = "must be name or created_at, with + or - in front or nothing";
            query.wrong("order_by", Problem::NotAllowed(rule.into()))
        })?,
    };
    let page = page(&mut query, MAX_MACHINES_PAGE)?;
    let (actor, limit) = (call.actor()?, page.limit);
    let is_small = limit <= SMALL_PAGE;
    let share = if is_small {
        None
    } else {
        Some(call.app.listed.take(actor.instance().id, limit).await?)
    };
    let listed = call
        .app
        .authority
        .list_machines(actor, MachineQuery { text, order, page })
        .await;
    let (machines, total) = listed.map_err(|error| call.refused(error))?;
    let list = List {
        machines,
        total_count: i64::try_from(total).unwrap_or(i64::MAX),
    };
    let write = move || {
        let json = serde_json::to_vec(&list).unwrap_or_default();
        (json, share)
    };
    // A large one takes longer than others on this thread should have to wait.
    let (json, share) = if is_small {
        write()
    } else {
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|_| ApiError::overloaded())?
    };
    let mut list = written(200, json);
    // Until it counts among the large answers it counts among those that are made.
    if let Some(share) = share {
        list.extensions_mut().insert(Arc::new(share));
    }
    Ok(list)
}

/// A [`countersign_protocol::body::MachineList`] that is written without being built first: each machine is made when its turn
/// comes.
struct List {
    machines: Vec<MachineWithScopes>,
    total_count: i64,
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Data<'a>(&'a [MachineWithScopes]);
        impl Serialize for Data<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.iter().map(|machine| machine_body(machine, None)))
            }
        }
        let mut list = serializer.serialize_struct("MachineList", 2)?;
        list.serialize_field("data", &Data(&self.machines))?;
        list.serialize_field("total_count", &self.total_count)?;
        list.end()
    }
}

/// `POST /machines`
pub(crate) async fn create(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut body = Body::parse(&call.body, HABIT, Presence::Required)?;
    let name = body
        .text("name")?
        .ok_or_else(|| body.wrong("name", Problem::Missing))?
        .into_owned();
    let scoped = body.texts("scoped_machines")?.unwrap_or_default();
    if scoped.len() > MAX_SCOPES {
        return Err(body.wrong("scoped_machines", Problem::TooMany(MAX_SCOPES)));
    }
    let default_token_ttl = body
        .integer("default_token_ttl")?
        .unwrap_or(DEFAULT_TOKEN_TTL_SECONDS);
    body.finish()?;
    let scoped_machines: Vec<MachineId> = scoped
        .iter()
        .map(|id| {
            let missing = || Invalid::new("scoped_machines", Problem::NotFound);
            id.parse()
                .map_err(|_| ApiError::invalid(HABIT, Place::Body, &missing()))
        })
        .collect::<Result<_, _>>()?;
    let request = MachineRequest {
        name,
        scoped_machines,
        default_token_ttl,
    };
    let created = call
        .app
        .authority
        .create_machine(call.actor()?, request)
        .await
        .map_err(|error| call.refused(error))?;
    tracing::info!(machine.id = %created.machine.machine.id, actor = call.actor()?.name(), "machine created");
    ok(&machine_body(&created.machine, Some(&created.key)))
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
    ok(&machine_body(&machine, None))
}

/// `PATCH /machines/{machine_id}`
pub(crate) async fn update(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut body = Body::parse(&call.body, HABIT, Presence::Optional)?;
    let name = body.text("name")?.map(std::borrow::Cow::into_owned);
    let default_token_ttl = body.integer("default_token_ttl")?;
    body.finish()?;
    let id = machine_id(call, 0)?;
    let update = MachineUpdate {
        name,
        default_token_ttl,
    };
    let machine = call
        .app
        .authority
        .update_machine(call.actor()?, id, update)
        .await
        .map_err(|error| call.refused(error))?;
    tracing::info!(machine.id = %id, actor = call.actor()?.name(), "machine updated");
    ok(&machine_body(&machine, None))
}

/// `DELETE /machines/{machine_id}`
pub(crate) async fn delete(call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = machine_id(call, 0)?;
    call.app
        .authority
        .delete_machine(call.actor()?, id)
        .await
        .map_err(|error| call.refused(error))?;
    tracing::info!(machine.id = %id, actor = call.actor()?.name(), "machine deleted");
    ok(&DeletedMachine {
        object: MachineTag::Tag,
        id,
        deleted: true,
    })
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
    tracing::info!(machine.id = %id, actor = call.actor()?.name(), "machine key revealed");
    ok(&secret_key_body(key.expose()))
}

/// `POST /machines/{machine_id}/secret_key/rotate`
pub(crate) async fn rotate_secret_key(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut body = Body::parse(&call.body, HABIT, Presence::Required)?;
    let ttl = body
        .integer("previous_token_ttl")?
        .ok_or_else(|| body.wrong("previous_token_ttl", Problem::Missing))?;
    body.finish()?;
    let id = machine_id(call, 0)?;
    let key = call
        .app
        .authority
        .rotate_machine_key(call.actor()?, id, ttl)
        .await
        .map_err(|error| call.refused(error))?;
    tracing::info!(machine.id = %id, actor = call.actor()?.name(), previous_token_ttl = ttl, "machine key rotated");
    ok(&secret_key_body(key.expose()))
}

/// `POST /machines/{machine_id}/scopes`
pub(crate) async fn create_scope(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut body = Body::parse(&call.body, HABIT, Presence::Required)?;
    let to = body
        .text("to_machine_id")?
        .ok_or_else(|| body.wrong("to_machine_id", Problem::Missing))?;
    body.finish()?;
    let from = machine_id(call, 0)?;
    let to: MachineId = to.parse().map_err(|_| no_machine_id())?;
    let created_at = call
        .app
        .authority
        .create_scope(call.actor()?, from, to)
        .await
        .map_err(|error| call.refused(error))?;
    tracing::info!(from = %from, to = %to, actor = call.actor()?.name(), "scope created");
    ok(&scope_body(from, to, Some(created_at), None))
}

/// `DELETE /machines/{machine_id}/scopes/{other_machine_id}`
pub(crate) async fn delete_scope(call: &Call<'_>) -> Result<Answer, ApiError> {
    let (from, to) = (machine_id(call, 0)?, machine_id(call, 1)?);
    call.app
        .authority
        .delete_scope(call.actor()?, from, to)
        .await
        .map_err(|error| call.refused(error))?;
    tracing::info!(from = %from, to = %to, actor = call.actor()?.name(), "scope deleted");
    ok(&scope_body(from, to, None, Some(true)))
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

/// A sign and a field. A raw `+` in a query arrives as a space (contract: request conventions).
fn order(text: &str) -> Option<MachineOrder> {
    let (is_descending, field) = match text.strip_prefix('-') {
        Some(field) => (true, field),
        None => (false, text.strip_prefix(['+', ' ']).unwrap_or(text)),
    };
    let by = match field {
        "created_at" => SortBy::CreatedAt,
        "name" => SortBy::Name,
        _ => return None,
    };
    Some(MachineOrder { by, is_descending })
}

fn secret_key_body(key: &str) -> MachineSecretKey {
    MachineSecretKey {
        object: MachineSecretKeyTag::Tag,
        secret: ExposedSecret(key.to_owned()),
    }
}

fn scope_body(
    from_machine_id: MachineId,
    to_machine_id: MachineId,
    created_at: Option<countersign_protocol::time::Timestamp>,
    deleted: Option<bool>,
) -> MachineScope {
    MachineScope {
        object: MachineScopeTag::Tag,
        from_machine_id,
        to_machine_id,
        created_at,
        deleted,
    }
}
