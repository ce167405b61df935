//! `/countersign/changes`: the change log, for people who audit and programs that follow. Our extension.

use countersign_protocol::body::ChangeList;

use crate::call::Call;
use crate::fields::Query;
use crate::reply::{Answer, ApiError, Habit, ok};

/// `GET /countersign/changes`: up to 1000 records with a sequence number above `after`, in order.
pub(crate) async fn list(call: &Call<'_>) -> Result<Answer, ApiError> {
    let mut query = Query::parse(call.query, Habit::Parameters)?;
    let after = query.integer("after")?;
    let changes = call
        .app
        .authority
        .list_changes(call.actor()?, after)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&ChangeList { data: changes })
}
