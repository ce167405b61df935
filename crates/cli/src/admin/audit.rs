//! `audit`: reading the change log, and checking that it is intact.

use clap::{Args, Subcommand};
use countersign_client::requests;
use countersign_protocol::body::{Change, ChangeList, ChangeLogReport};
use serde_json::json;

use super::connection::Connection;
use super::output;
use super::refusal::foreign;
use super::selection::TargetArgs;
use crate::exit::{Code, Failure};

/// How many records the API gives at once.
const PAGE: usize = 1000;

#[derive(Args, Debug)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Lists the changes, oldest first
    #[command(after_help = "Example:\n  countersign audit list --after 100 --json")]
    List {
        /// Only records with a greater number
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
        /// How many at most [default: all]
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Checks the chain of the whole log, and reports the first record that was altered or forged, or is missing between others
    #[command(after_help = "Example:\n  countersign audit verify")]
    Verify,
}

pub(crate) async fn run(args: AuditArgs) -> Result<(), Failure> {
    let json = args.target.json;
    let target = args.target.open().await?;
    match args.command {
        AuditCommand::List { mut after, limit } => {
            let wanted = limit.unwrap_or(usize::MAX);
            let mut changes: Vec<Change> = Vec::new();
            loop {
                let ChangeList { data: page } =
                    target.manage(requests::list_changes(after)).await?;
                let is_last = page.len() < PAGE;
                after = page.last().map_or(after, |last| last.sequence);
                changes.extend(page);
                if is_last || changes.len() >= wanted {
                    break;
                }
            }
            changes.truncate(wanted);
            if json {
                output::print_json(&ChangeList { data: changes })?;
            } else {
                show_list(&changes)?;
            }
        }
        AuditCommand::Verify => {
            let report = verify(&target).await?;
            let verified = report.verified;
            if json {
                let first_broken = report.first_broken;
                output::print_json(&json!({ "verified": verified, "first_broken": first_broken }))?;
            }
            match report.first_broken {
                Some(number) => {
                    return Err(Failure::new(
                        Code::No,
                        format!(
                            "record {number} of the change log is missing, altered or forged; the {verified} records before it are intact"
                        ),
                        "another program wrote to the database: compare it with a backup, and replace the keys",
                    ));
                }
                None if json => {}
                None => output::print(&format!("The change log is intact: {verified} records."))?,
            }
        }
    }
    target.finish().await
}

/// Checks the whole log, one part per request.
async fn verify(target: &Connection) -> Result<ChangeLogReport, Failure> {
    let mut after = 0;
    loop {
        let report = target.manage(requests::verify_changes(after)).await?;
        if report.complete {
            return Ok(report);
        }
        if report.verified <= after {
            return Err(foreign(format!(
                "the authority did not finish its check of the change log, which stopped at record {after}"
            )));
        }
        after = report.verified;
    }
}

fn show_list(changes: &[Change]) -> Result<(), Failure> {
    let rows: Vec<_> = changes
        .iter()
        .map(|change| {
            [
                change.sequence.to_string(),
                output::time(change.at),
                change.actor.clone(),
                change.kind.as_str().to_owned(),
                change.subject.clone(),
                change.detail.to_string(),
            ]
        })
        .collect();
    output::print_table(
        ["NUMBER", "AT", "BY", "CHANGE", "OF", "DETAIL"],
        &rows,
        "No changes.",
    )
}
