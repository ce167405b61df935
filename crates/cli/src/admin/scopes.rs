//! `scope`: who may call whom; `why`: whether one may call another, and if not, why not.

use clap::{Args, Subcommand};
use countersign_client::{ListTokens, requests};
use countersign_protocol::body::{M2mTokenList, MachineScope, MachineScopeTag};
use countersign_protocol::ids::MachineId;
use serde_json::json;

use super::machines::{all, resolve};
use super::output;
use super::selection::TargetArgs;
use crate::exit::{Code, Failure};

#[derive(Args, Debug)]
pub(crate) struct ScopeArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(subcommand)]
    command: ScopeCommand,
}

#[derive(Debug, Subcommand)]
enum ScopeCommand {
    /// Lists who may call whom
    #[command(after_help = "Example:\n  countersign scope list billing")]
    List {
        /// Only scopes from or to this machine, by id or name
        machine: Option<String>,
    },
    /// Lets a machine call another one; tokens that exist already do not change
    #[command(after_help = "Example:\n  countersign scope add billing ledger")]
    Add {
        /// The machine that calls, by id or name
        from: String,
        /// The machine that is called, by id or name
        to: String,
    },
    /// Takes a scope away; tokens that exist already do not change
    #[command(after_help = "Example:\n  countersign scope remove billing ledger")]
    Remove {
        /// The machine that calls, by id or name
        from: String,
        /// The machine that is called, by id or name
        to: String,
    },
}

pub(crate) async fn run(args: ScopeArgs) -> Result<(), Failure> {
    let json = args.target.json;
    let target = args.target.open().await?;
    match args.command {
        ScopeCommand::List { machine } => {
            let only = match machine {
                Some(machine) => Some(resolve(&target, &machine).await?),
                None => None,
            };
            let machines = all(&target, None).await?;
            if let Some(only) =
                only.filter(|only| machines.iter().all(|machine| machine.id != *only))
            {
                return Err(no_machine(only));
            }
            let is_wanted =
                |from: MachineId, to: MachineId| only.is_none_or(|only| from == only || to == only);
            let mut scopes = Vec::new();
            let mut rows = Vec::new();
            for from in &machines {
                for to in from
                    .scoped_machines
                    .iter()
                    .filter(|to| is_wanted(from.id, to.id))
                {
                    scopes.push(scope(from.id, to.id));
                    rows.push([
                        from.name.clone(),
                        from.id.to_string(),
                        to.name.clone(),
                        to.id.to_string(),
                    ]);
                }
            }
            if json {
                output::print_json(&json!({ "data": scopes, "total_count": scopes.len() }))?;
            } else {
                let empty = "No scopes: nobody may call anybody. `countersign scope add FROM TO` makes one.";
                output::print_table(["FROM", "", "MAY CALL", ""], &rows, empty)?;
            }
        }
        ScopeCommand::Add { from, to } => {
            let (from, to) = (resolve(&target, &from).await?, resolve(&target, &to).await?);
            let scope = target.manage(requests::create_scope(from, to)).await?;
            let text = format!("{from} may call {to}, with tokens that are issued from now on.");
            if json {
                output::print_json(&scope)?
            } else {
                output::note(&text)
            }
        }
        ScopeCommand::Remove { from, to } => {
            let (from, to) = (resolve(&target, &from).await?, resolve(&target, &to).await?);
            let scope = target.manage(requests::delete_scope(from, to)).await?;
            let text = format!(
                "{from} gets no more tokens for {to}. Those that it holds stay as they are: `countersign token revoke` ends them."
            );
            if json {
                output::print_json(&scope)?
            } else {
                output::note(&text)
            }
        }
    }
    target.finish().await
}

fn scope(from_machine_id: MachineId, to_machine_id: MachineId) -> MachineScope {
    MachineScope {
        object: MachineScopeTag::Tag,
        from_machine_id,
        to_machine_id,
        created_at: None,
    }
}

fn no_machine(id: MachineId) -> Failure {
    Failure::new(
        Code::Refused,
        format!("there is no machine {id}"),
        "`countersign machine list` shows the machines",
    )
}

#[derive(Args, Debug)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The machine that calls, by id or name
    caller: String,
    /// The machine that is called, by id or name
    receiver: String,
}

/// A scope lets new tokens through; tokens carry the scopes of the time when they were issued. Both are looked at.
pub(crate) async fn why(args: WhyArgs) -> Result<(), Failure> {
    let json = args.target.json;
    let target = args.target.open().await?;
    let caller = resolve(&target, &args.caller).await?;
    let caller = target.manage(requests::machine(caller)).await?;
    let receiver = resolve(&target, &args.receiver).await?;
    let receiver = target.manage(requests::machine(receiver)).await?;
    let live = ListTokens::of(caller.id).all_formats();
    let M2mTokenList {
        m2m_tokens: newest,
        total_count: live,
    } = target.ask(requests::list_tokens(&live, 100, 0)).await?;
    let fitting = newest
        .iter()
        .filter(|token| token.scopes.contains(&receiver.id))
        .count();
    let is_allowed = caller
        .scoped_machines
        .iter()
        .any(|called| called.id == receiver.id);
    let is_reverse = receiver
        .scoped_machines
        .iter()
        .any(|called| called.id == caller.id);
    target.finish().await?;

    let (from, to) = (
        output::visible(&caller.name),
        output::visible(&receiver.name),
    );
    let tokens = match (newest.len(), fitting) {
        (0, _) => "It has no live token.".to_owned(),
        (looked_at, 0) => format!("None of its {looked_at} newest live tokens is for {to}."),
        (looked_at, fitting) => {
            format!("{fitting} of its {looked_at} newest live tokens are for {to}.")
        }
    };
    let (answer, next) = match (is_allowed, fitting) {
        (true, 0) if newest.is_empty() => (format!("{from} may call {to}."), None),
        (true, 0) => {
            let answer = format!(
                "{from} may call {to}, but every token that it holds is older than the scope."
            );
            (
                answer,
                Some(
                    "let it fetch a new token: scopes are copied when a token is issued".to_owned(),
                ),
            )
        }
        (true, _) => (format!("{from} may call {to}."), None),
        (false, _) if caller.id == receiver.id => (
            format!("{from} is both: a machine's tokens are never for itself."),
            Some("use two machines".to_owned()),
        ),
        (false, 0) if is_reverse => (
            format!("{from} may not call {to}: there is a scope in the other direction only."),
            Some(format!(
                "countersign scope add {} {}",
                caller.id, receiver.id
            )),
        ),
        (false, 0) => (
            format!("{from} may not call {to}: there is no scope between them."),
            Some(format!(
                "countersign scope add {} {}",
                caller.id, receiver.id
            )),
        ),
        (false, _) => (
            format!("{from} may no longer call {to}, but tokens from before go on until they end."),
            Some("`countersign token revoke` ends a token at once".to_owned()),
        ),
    };
    if json {
        output::print_json(&json!({
            "caller": caller.id,
            "receiver": receiver.id,
            "allowed": is_allowed,
            "reason": answer,
            "live_tokens": live,
            "newest_tokens": newest.len(),
            "newest_tokens_for_receiver": fitting,
        }))?;
    }
    if is_allowed {
        if !json {
            output::print(&format!("Yes. {answer} {tokens}"))?;
        }
        if let Some(next) = next {
            output::note(&format!("hint: {next}"));
        }
        return Ok(());
    }
    Err(Failure::new(
        Code::No,
        format!("{answer} {tokens}"),
        next.unwrap_or_default(),
    ))
}
