//! `audit`: reading the change log, and proving that nobody touched it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::bodies::ChangeBody;
use super::output;
use super::selection::TargetArgs;
use crate::exit::{Code, Failure};

/// How many entries the API gives at once.
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
        /// Only entries with a greater number
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
        /// How many at most [default: all]
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Follows the chain of the whole log and names the first entry that is missing, changed or planted; with --data only
    #[command(after_help = "Example:\n  countersign audit verify --data /var/lib/countersign")]
    Verify,
}

pub(crate) async fn run(args: AuditArgs) -> Result<(), Failure> {
    let json = args.target.json;
    match args.command {
        AuditCommand::List { mut after, limit } => {
            let target = args.target.open().await?;
            let wanted = limit.unwrap_or(usize::MAX);
            let mut changes: Vec<ChangeBody> = Vec::new();
            loop {
                let page = target.changes(after).await?;
                let is_last = page.len() < PAGE;
                after = page.last().map_or(after, |last| last.sequence);
                changes.extend(page);
                if is_last || changes.len() >= wanted {
                    break;
                }
            }
            changes.truncate(wanted);
            if json {
                output::print_json(&json!({ "data": changes }))
            } else {
                show_list(&changes)
            }
        }
        AuditCommand::Verify => {
            let report = args.target.local().await?.verify_audit().await?;
            if json {
                output::print_json(&report)?;
            }
            match report.first_broken {
                Some(number) => Err(Failure::new(
                    Code::No,
                    format!(
                        "entry {number} of the change log is missing, changed or planted; the {} before it are whole",
                        report.verified
                    ),
                    "somebody wrote to the database past this program: compare with a backup, and change the keys",
                )),
                None if json => Ok(()),
                None => output::print(&format!(
                    "The change log is whole: {} entries.",
                    report.verified
                )),
            }
        }
    }
}

fn show_list(changes: &[ChangeBody]) -> Result<(), Failure> {
    let rows: Vec<_> = changes
        .iter()
        .map(|change| {
            [
                change.sequence.to_string(),
                output::time(change.at),
                change.actor.clone(),
                change.kind.clone(),
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
