//! `/countersign/changes`: the change log, for people who audit and programs that follow. Our extension.

use countersign_protocol::body::{ChangeList, ChangeLogReport, ChangeLogReportTag};
use countersign_protocol::request::{ListChanges, VerifyChanges};

use crate::call::Call;
use crate::reply::{Answer, ApiError, ok};

/// `GET /countersign/changes`: up to 1000 records with a sequence number above `after`, in order.
pub(crate) async fn list(call: &Call<'_>) -> Result<Answer, ApiError> {
    let ListChanges { after } = call.query()?;
    let changes = call
        .app
        .authority
        .list_changes(call.actor()?, after)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&ChangeList { data: changes })
}

/// `GET /countersign/changes/verify`: whether the records with a sequence number above `after` are intact. One request
/// checks a bounded number of records.
pub(crate) async fn verify(call: &Call<'_>) -> Result<Answer, ApiError> {
    let VerifyChanges { after } = call.query()?;
    let report = call
        .app
        .authority
        .verify_audit(call.actor()?, after)
        .await
        .map_err(|error| call.refused(error))?;
    ok(&ChangeLogReport {
        complete: report.is_complete,
        first_broken: report.first_broken,
        object: ChangeLogReportTag::Tag,
        verified: report.verified,
    })
}
