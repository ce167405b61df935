//! `key`: the signing keys of JWTs.

use clap::{Args, Subcommand};
use countersign_client::requests;
use countersign_protocol::ids::SigningKeyId;
use countersign_protocol::instance::SigningKeyInfo;

use super::output;
use super::selection::TargetArgs;
use crate::exit::Failure;

#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Lists the signing keys, oldest first
    #[command(after_help = "Example:\n  countersign key list")]
    List,
    /// Publishes the next signing key. It signs after an hour, when every receiver has seen it
    #[command(after_help = "Example:\n  countersign key rotate")]
    Rotate {
        /// Lets it sign at once, as after a leak; receivers meet an unknown key and fetch it
        #[arg(long)]
        now: bool,
        /// Does that without a question
        #[arg(long)]
        yes: bool,
    },
    /// Deletes a signing key; every JWT that it signed is refused from then on
    #[command(
        after_help = "Example:\n  countersign key delete ins_2GIoQhbUpy0hX7B2cVkuTMinXoD --yes"
    )]
    Delete {
        /// The key's `kid`
        kid: SigningKeyId,
        /// Does it without a question
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(args: KeyArgs) -> Result<(), Failure> {
    let json = args.target.json;
    let target = args.target.open().await?;
    match args.command {
        KeyCommand::List => {
            let list = target.manage(requests::list_signing_keys()).await?;
            if json {
                output::print_json(&list)?
            } else {
                show_list(&list.data)?
            }
        }
        KeyCommand::Rotate { now, yes } => {
            if now {
                output::confirm(
                    yes,
                    "Sign with the next key at once? Receivers that keep the key set meet a key that they do not know.",
                )?;
            }
            let key = target.manage(requests::rotate_signing_key(now)).await?;
            if json {
                output::print_json(&key)?;
            } else {
                let when = if now {
                    "now".to_owned()
                } else {
                    output::time_or(key.active_at, "in an hour")
                };
                output::note(&format!("{} signs from {when} on.", key.kid));
                show_list(&[key])?;
            }
        }
        KeyCommand::Delete { kid, yes } => {
            output::confirm(
                yes,
                &format!("Delete {kid}? Every JWT that it signed is refused from then on."),
            )?;
            let deleted = target.manage(requests::delete_signing_key(kid)).await?;
            if json {
                output::print_json(&deleted)?
            } else {
                output::note(&format!("{kid} is deleted."))
            }
        }
    }
    target.finish().await
}

fn show_list(keys: &[SigningKeyInfo]) -> Result<(), Failure> {
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                key.kid.to_string(),
                key.state.to_string(),
                output::time(key.published_at),
                output::time_or(key.active_at, ""),
                output::time_or(key.retired_at, ""),
                output::time_or(key.last_expires_at, ""),
            ]
        })
        .collect();
    output::print_table(
        [
            "KID",
            "STATE",
            "PUBLISHED",
            "SIGNS FROM",
            "SIGNED UNTIL",
            "LAST JWT ENDS",
        ],
        &rows,
        "No signing keys.",
    )
}
