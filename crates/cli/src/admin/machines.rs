//! `machine`: list, create, show, update, delete, and the keys.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use countersign_client::{ListMachines, MachineChange, MachineOrder, NewMachine, requests};
use countersign_protocol::body::{List, Machine};
use countersign_protocol::ids::MachineId;
use countersign_protocol::limits::MAX_PREVIOUS_TOKEN_TTL_SECONDS;

use super::connection::Connection;
use super::output::{self, SecretOutput};
use super::refusal::required;
use super::selection::TargetArgs;
use crate::exit::{Code, Failure};

/// The largest page that the API gives.
const PAGE: u32 = 500;

#[derive(Args, Debug)]
pub(crate) struct MachineArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(subcommand)]
    command: MachineCommand,
}

#[derive(Debug, Subcommand)]
enum MachineCommand {
    /// Lists machines
    #[command(after_help = "Example:\n  countersign machine list --query webhook --order-by name")]
    List {
        /// Only the machine with this id, and machines whose name contains this text
        #[arg(long, value_name = "TEXT")]
        query: Option<String>,
        /// `name` or `created_at`, with `-` in front for the largest first
        #[arg(
            long, value_name = "FIELD", default_value = "-created_at", allow_hyphen_values = true, hide_possible_values = true,
            value_parser = PossibleValuesParser::new(ORDERS.map(|(name, _)| name)).map(|name| order(&name))
        )]
        order_by: MachineOrder,
        #[command(flatten)]
        part: Part,
    },
    /// Makes a machine and shows its key
    #[command(
        after_help = "Example:\n  countersign machine create billing --calls ledger --ttl 1h --output billing.key"
    )]
    Create {
        /// Its name, 1 to 255 characters
        name: String,
        /// A machine that it may call, by id or name; give it again for each
        #[arg(long, value_name = "MACHINE")]
        calls: Vec<String>,
        /// The life of its tokens where a request names none [default: 1h]
        #[arg(long, value_name = "DURATION", value_parser = output::parse_duration)]
        ttl: Option<i64>,
        #[command(flatten)]
        output: SecretOutput,
    },
    /// Shows a machine
    #[command(after_help = "Example:\n  countersign machine show billing")]
    Show {
        /// The machine, by id or name
        machine: String,
    },
    /// Changes a machine's name or the life of its tokens
    #[command(after_help = "Example:\n  countersign machine update billing --ttl 12h")]
    Update {
        /// The machine, by id or name
        machine: String,
        /// The new name
        #[arg(long, value_name = "NAME", required_unless_present = "ttl")]
        name: Option<String>,
        /// The new life of its tokens where a request names none
        #[arg(long, value_name = "DURATION", value_parser = output::parse_duration)]
        ttl: Option<i64>,
    },
    /// Deletes a machine; its keys, scopes and tokens end at once
    #[command(after_help = "Example:\n  countersign machine delete billing --yes")]
    Delete {
        /// The machine, by id or name
        machine: String,
        /// Does it without a question
        #[arg(long)]
        yes: bool,
    },
    /// Shows a machine's newest key; the change log notes it
    #[command(after_help = "Example:\n  countersign machine secret billing --output billing.key")]
    Secret {
        /// The machine, by id or name
        machine: String,
        #[command(flatten)]
        output: SecretOutput,
    },
    /// Gives a machine a new key; the older ones go on working for a while
    #[command(
        after_help = "Example:\n  countersign machine rotate billing --previous-ttl 1h --output billing.next.key"
    )]
    Rotate {
        /// The machine, by id or name
        machine: String,
        /// How long the older keys go on working, up to 8h; 0 ends them at once
        #[arg(long, value_name = "DURATION", value_parser = output::parse_duration)]
        previous_ttl: i64,
        /// Ends the older keys at once without a question
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: SecretOutput,
    },
}

/// The orders of a list of machines, by the words of the API.
const ORDERS: [(&str, MachineOrder); 6] = [
    ("name", MachineOrder::Name),
    ("+name", MachineOrder::Name),
    ("-name", MachineOrder::NameDescending),
    ("created_at", MachineOrder::CreatedAt),
    ("+created_at", MachineOrder::CreatedAt),
    ("-created_at", MachineOrder::CreatedAtDescending),
];

fn order(name: &str) -> MachineOrder {
    let found = ORDERS.iter().find(|(known, _)| *known == name);
    found.map_or(MachineOrder::CreatedAtDescending, |(_, order)| *order)
}

/// Which part of a list.
#[derive(Args, Debug)]
pub(crate) struct Part {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// How many to pass over
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) offset: u64,
    /// All of them
    #[arg(long, conflicts_with_all = ["limit", "offset"])]
    pub(crate) all: bool,
}

impl Part {
    /// How many are wanted.
    pub(crate) fn wanted(&self) -> usize {
        if self.all {
            usize::MAX
        } else {
            usize::try_from(self.limit).unwrap_or(usize::MAX)
        }
    }

    /// Says that there are more.
    pub(crate) fn note_rest(&self, shown: usize, total: i64) {
        let passed = usize::try_from(self.offset)
            .unwrap_or(usize::MAX)
            .saturating_add(shown);
        if usize::try_from(total).is_ok_and(|total| passed < total) {
            output::note(&format!("{shown} of {total}; --all shows all of them."));
        }
    }
}

pub(crate) async fn run(args: MachineArgs) -> Result<(), Failure> {
    let json = args.target.json;
    let target = args.target.open().await?;
    match args.command {
        MachineCommand::List {
            query,
            order_by,
            part,
        } => {
            let mut page = ListMachines::new().order_by(order_by);
            if let Some(query) = query.filter(|query| !query.is_empty()) {
                page = page.matching(query);
            }
            let list = list(&target, &page, part.offset, part.wanted()).await?;
            if json {
                output::print_json(&list)?;
            } else {
                show_list(&list)?;
                part.note_rest(list.data.len(), list.total_count);
            }
        }
        MachineCommand::Create {
            name,
            calls,
            ttl,
            output,
        } => {
            let mut called = Vec::with_capacity(calls.len());
            for machine in &calls {
                called.push(resolve(&target, machine).await?);
            }
            let prepared = output.prepare()?;
            let mut new = NewMachine::named(name).calling(called);
            if let Some(ttl) = ttl {
                new = new.default_token_ttl(output::seconds(ttl));
            }
            let mut machine = target.manage(requests::create_machine(&new)).await?;
            let key = required(machine.secret_key.take())?;
            if prepared.path().is_none() {
                machine.secret_key = Some(key.clone());
            }
            let id = machine.id;
            let not_written = |failure: Failure| {
                failure
                    .context(format!("{id} was made"))
                    .with_hint(format!("`countersign machine secret {id}` shows its key"))
            };
            prepared.write(&key.0).map_err(not_written)?;
            show(&machine, json).map_err(not_written)?;
        }
        MachineCommand::Show { machine } => {
            let id = resolve(&target, &machine).await?;
            show(&target.manage(requests::machine(id)).await?, json)?;
        }
        MachineCommand::Update { machine, name, ttl } => {
            let id = resolve(&target, &machine).await?;
            let mut change = MachineChange::new();
            if let Some(name) = name {
                change = change.name(name);
            }
            if let Some(ttl) = ttl {
                change = change.default_token_ttl(output::seconds(ttl));
            }
            let update = requests::update_machine(id, &change);
            show(&target.manage(update).await?, json)?;
        }
        MachineCommand::Delete { machine, yes } => {
            let id = resolve(&target, &machine).await?;
            let machine = target.manage(requests::machine(id)).await?;
            let (id, name) = (machine.id, &machine.name);
            output::confirm(
                yes,
                &format!(
                    "Delete the machine {id} ({name})? Its keys, scopes and tokens end at once."
                ),
            )?;
            let deleted = target.manage(requests::delete_machine(id)).await?;
            if json {
                output::print_json(&deleted)?
            } else {
                output::note(&format!("{id} is deleted."))
            }
        }
        MachineCommand::Secret { machine, output } => {
            let id = resolve(&target, &machine).await?;
            let prepared = output.prepare()?;
            let key = target.manage(requests::machine_key(id)).await?;
            if json && prepared.path().is_none() {
                output::print_json(&key)?
            } else {
                prepared.write_or_print(&key.secret.0)?
            }
        }
        MachineCommand::Rotate {
            machine,
            previous_ttl,
            yes,
            output,
        } => {
            if previous_ttl > MAX_PREVIOUS_TOKEN_TTL_SECONDS {
                return Err(Failure::new(
                    Code::Usage,
                    "older keys can go on working for 8h at most",
                    "give --previous-ttl 8h or less",
                ));
            }
            let id = resolve(&target, &machine).await?;
            if previous_ttl == 0 {
                output::confirm(
                    yes,
                    &format!(
                        "End all older keys of {id} at once? What uses them is refused from then on."
                    ),
                )?;
            }
            let prepared = output.prepare()?;
            let rotate = requests::rotate_machine_key(id, output::seconds(previous_ttl));
            let key = target.manage(rotate).await?;
            let written = if json && prepared.path().is_none() {
                output::print_json_once(&key)
            } else {
                prepared.write_or_print(&key.secret.0)
            };
            written.map_err(|failure| {
                failure
                    .context(format!("{id} has a new key"))
                    .with_hint(format!("`countersign machine secret {id}` shows it"))
            })?;
        }
    }
    target.finish().await
}

/// As many machines as are wanted, page by page.
async fn list(
    target: &Connection,
    list: &ListMachines,
    mut offset: u64,
    wanted: usize,
) -> Result<List<Machine>, Failure> {
    let mut machines: Vec<Machine> = Vec::new();
    loop {
        let missing = u32::try_from(wanted.saturating_sub(machines.len())).unwrap_or(u32::MAX);
        let limit = missing.clamp(1, PAGE);
        let page = list.clone().limit(limit).offset(offset);
        let next = target.manage(requests::list_machines(&page)).await?;
        offset = offset.saturating_add(u64::try_from(next.data.len()).unwrap_or_default());
        let is_last = next.data.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        machines.extend(next.data);
        if is_last || machines.len() >= wanted {
            return Ok(List {
                data: machines,
                total_count: next.total_count,
            });
        }
    }
}

/// All machines, oldest first.
pub(crate) async fn all(target: &Connection, query: Option<&str>) -> Result<Vec<Machine>, Failure> {
    let mut page = ListMachines::new().order_by(MachineOrder::CreatedAt);
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        page = page.matching(query);
    }
    Ok(list(target, &page, 0, usize::MAX).await?.data)
}

/// The machine that a person means: by its id, or by its name where only one has it.
pub(crate) async fn resolve(target: &Connection, text: &str) -> Result<MachineId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let named: Vec<Machine> = all(target, Some(text))
        .await?
        .into_iter()
        .filter(|machine| machine.name == text)
        .collect();
    match named.as_slice() {
        [machine] => Ok(machine.id),
        [] => Err(Failure::new(
            Code::Refused,
            format!(
                "there is no machine with the id or name '{}'",
                output::visible(text)
            ),
            "`countersign machine list` shows the machines; names are compared exactly",
        )),
        several => {
            let ids: Vec<&str> = several.iter().map(|machine| machine.id.as_str()).collect();
            let hint = format!("give the id of one of them: {}", ids.join(", "));
            Err(Failure::new(
                Code::Refused,
                format!(
                    "{} machines are named '{}'",
                    several.len(),
                    output::visible(text)
                ),
                hint,
            ))
        }
    }
}

fn show_list(list: &List<Machine>) -> Result<(), Failure> {
    let rows: Vec<_> = list
        .data
        .iter()
        .map(|machine| {
            let calls: Vec<&str> = machine
                .scoped_machines
                .iter()
                .map(|called| called.name.as_str())
                .collect();
            [
                machine.id.to_string(),
                machine.name.clone(),
                output::duration(machine.default_token_ttl),
                output::time(machine.created_at),
                calls.join(", "),
            ]
        })
        .collect();
    output::print_table(
        ["ID", "NAME", "TOKEN LIFE", "CREATED", "MAY CALL"],
        &rows,
        "No machines. `countersign machine create NAME` makes one.",
    )
}

fn show(machine: &Machine, json: bool) -> Result<(), Failure> {
    if json {
        return output::print_json(machine);
    }
    let calls: Vec<String> = machine
        .scoped_machines
        .iter()
        .map(|called| format!("{} ({})", called.id, called.name))
        .collect();
    let mut fields = vec![
        ("id", machine.id.to_string()),
        ("name", machine.name.clone()),
        ("instance", machine.instance_id.to_string()),
        ("token life", output::duration(machine.default_token_ttl)),
        (
            "may call",
            if calls.is_empty() {
                "nobody".to_owned()
            } else {
                calls.join(", ")
            },
        ),
        ("created", output::time(machine.created_at)),
        ("updated", output::time(machine.updated_at)),
    ];
    if let Some(key) = &machine.secret_key {
        fields.push(("secret key", key.0.clone()));
    }
    output::print_fields(&fields)
}
