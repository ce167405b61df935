//! `/countersign/changes`: the change log, for people who audit and programs that follow. Our extension.

use countersign_protocol::body::{ChangeList, ChangeLogReport, ChangeLogReportTag};
use countersign_protocol::request::{ListChanges, VerifyChanges};

use crate::call::Call;
use crate::reply::{Answer, ApiError, ok};

pub(crate) const LIST: &str = "Instance: Read the change log

Lists all changes in order, with time and actor. To follow the log, ask for the records after the last sequence number that you
saw. Verifications, and tokens that a machine creates for itself, are not recorded.

- 200: The records.
";

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

pub(crate) const VERIFY: &str = "Instance: Check the change log

Finds the first record of the change log that was altered or forged, or that is missing between others. It cannot detect that the
newest records were removed. One request checks at most 20,000 records. If `complete` is
false, ask again with `after` set to `verified`.

- 200: The result.
- form_param_value_invalid after: after must be the number of a record of the change log.
";

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
