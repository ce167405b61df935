//! `/countersign/changes`: the change log, for people who audit and programs that follow. Our extension.

use countersign_protocol::limits::MAX_SAFE_INTEGER;
use serde_json::{Value, json};

use crate::app::Call;
use crate::fields::Query;
use crate::reply::{Answer, ApiError, Habit, ok};

/// `GET /countersign/changes`: up to 1000 entries with a sequence number above `after`, in order.
pub(crate) async fn list(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut query = Query::parse(call.query, Habit::Parameters)?;
    let after = query.integer("after", 0, MAX_SAFE_INTEGER)?.unwrap_or(0);
    let after = u64::try_from(after).unwrap_or_default();
    let changes = call
        .app
        .authority
        .list_changes(call.actor()?, after)
        .await
        .map_err(|error| call.refused(error))?;
    let data: Vec<Value> = changes
        .iter()
        .map(|change| {
            json!({
                "object": "change",
                "sequence": change.sequence,
                "at": change.at,
                "actor": change.actor,
                "kind": change.kind.as_str(),
                "subject": change.subject,
                "detail": serde_json::from_str::<Value>(&change.detail).unwrap_or(Value::Null),
            })
        })
        .collect();
    ok(&json!({ "data": data }))
}
