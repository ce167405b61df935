//! `instance`: the tenants of an authority, their settings and their keys.

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Subcommand};
use countersign_client::{InstanceId, KeyId, KeyKind, SettingsChange, requests};
use countersign_protocol::body::ExposedSecret;
use countersign_protocol::instance::Instance;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::output::{self, SecretOutput};
use super::refusal::required;
use super::selection::TargetArgs;
use crate::exit::Failure;
use crate::folder::publishable_key;

#[derive(Args, Debug)]
pub(crate) struct InstanceArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(subcommand)]
    command: InstanceCommand,
}

#[derive(Debug, Subcommand)]
enum InstanceCommand {
    /// Lists all instances; with --data only
    #[command(after_help = "Example:\n  countersign instance list --data /var/lib/countersign")]
    List,
    /// Makes a further instance and shows its key once; with --data only
    #[command(
        after_help = "Example:\n  countersign instance create staging --test --data /var/lib/countersign --output staging.key"
    )]
    Create {
        /// Its name
        name: String,
        /// Makes a key that begins with sk_test_ instead of sk_live_
        #[arg(long)]
        test: bool,
        #[command(flatten)]
        output: SecretOutput,
    },
    /// Shows an instance and its settings
    #[command(after_help = "Example:\n  countersign instance show")]
    Show,
    /// Changes settings
    #[command(after_help = "Settings:\n  \
        jwt_scopes_claim=on|off      whether JWTs say which machines they are for\n  \
        null_expiration=default|never  what a token without a lifetime gets\n  \
        max_jwt_ttl=DURATION         the longest life of a JWT\n  \
        secret_reveal=on|off         whether machine keys can be shown again; off erases the copies\n  \
        token_pooling=on|off         whether --min-remaining hands out tokens again; off erases the copies\n  \
        issuer=URL|none              the issuer of JWTs, where it is not the public URL\n  \
        rate_limit=N/SECONDS|none    a limit on all requests of the instance\n  \
        machine_rate_limit=N/SECONDS|none  a limit on the requests of each machine\n\n\
        Example:\n  countersign instance set max_jwt_ttl=24h machine_rate_limit=1000/60")]
    Set {
        /// What to set
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = parse_setting)]
        settings: Vec<(String, Value)>,
        /// Erases kept secrets without a question
        #[arg(long)]
        yes: bool,
    },
    /// The keys of an instance
    #[command(
        subcommand,
        after_help = "Example:\n  countersign instance key create --output new.key"
    )]
    Key(InstanceKeyCommand),
}

#[derive(Debug, Subcommand)]
enum InstanceKeyCommand {
    /// Lists the keys, oldest first
    #[command(after_help = "Example:\n  countersign instance key list")]
    List,
    /// Makes a further key and shows it once
    #[command(after_help = "Example:\n  countersign instance key create --output new.key")]
    Create {
        /// Makes a key that begins with sk_test_ instead of sk_live_
        #[arg(long)]
        test: bool,
        #[command(flatten)]
        output: SecretOutput,
    },
    /// Revokes a key at once
    #[command(after_help = "Example:\n  countersign instance key revoke key_0123456789ab --yes")]
    Revoke {
        /// The key's id (not the key)
        #[arg(value_parser = parse_key_id)]
        id: KeyId,
        /// Does it without a question
        #[arg(long)]
        yes: bool,
    },
}

/// What `init` and `instance create` print as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct NewInstanceBody {
    pub(crate) instance_id: InstanceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_key: Option<ExposedSecret>,
    pub(crate) publishable_key: String,
}

pub(crate) async fn run(args: InstanceArgs) -> Result<(), Failure> {
    let json = args.target.json;
    match args.command {
        InstanceCommand::List => {
            let door = args.target.door().await?;
            let list = door.operate(requests::list_instances()).await?;
            let target = Connection::Door(door);
            if json {
                let shown = list
                    .data
                    .iter()
                    .map(|instance| shown_body(&target, instance));
                let (data, total_count) = (shown.collect::<Vec<_>>(), list.total_count);
                output::print_json(&json!({ "data": data, "total_count": total_count }))?;
            } else {
                show_list(&target, &list.data)?;
            }
            target.finish().await
        }
        InstanceCommand::Create { name, test, output } => {
            create(&args.target, &name, kind(test), &output).await
        }
        InstanceCommand::Show => {
            let target = args.target.open().await?;
            let instance = target.manage(requests::instance()).await?;
            show(&target, &instance, json)?;
            target.finish().await
        }
        InstanceCommand::Set { settings, yes } => {
            let erases = |name: &str| settings.contains(&(name.to_owned(), Value::Bool(false)));
            if erases("secret_reveal") || erases("token_pooling") {
                output::confirm(
                    yes,
                    "Erase the kept copies of secrets? They cannot be shown again; the secrets themselves go on working.",
                )?;
            }
            let target = args.target.open().await?;
            let change = settings
                .into_iter()
                .fold(SettingsChange::new(), |change, (name, value)| {
                    change.set(&name, value)
                });
            let instance = target.manage(requests::update_instance(&change)).await?;
            show(&target, &instance, json)?;
            target.finish().await
        }
        InstanceCommand::Key(command) => run_key(&args.target, command, json).await,
    }
}

fn kind(is_test: bool) -> KeyKind {
    if is_test {
        KeyKind::Test
    } else {
        KeyKind::Live
    }
}

async fn create(
    target: &TargetArgs,
    name: &str,
    kind: KeyKind,
    output: &SecretOutput,
) -> Result<(), Failure> {
    let door = target.door().await?;
    let prepared = output.prepare()?;
    let created = door.operate(requests::create_instance(name, kind)).await?;
    let key = required(created.secret_key)?;
    let is_shown = prepared.path().is_none();
    let id = created.id;
    let not_written = |failure: Failure| {
        let hint = format!("`countersign instance key create --instance {id}` makes another key");
        failure.context(format!("{id} was made")).with_hint(hint)
    };
    prepared.write(&key.0).map_err(not_written)?;
    let shown = is_shown.then_some(key);
    // The issuer of a new instance is below the public URL, so both have the same host.
    let publishable_key = publishable_key(&created.issuer, kind == KeyKind::Live);
    if target.json {
        let body = NewInstanceBody {
            instance_id: id,
            secret_key: shown,
            publishable_key,
        };
        output::print_json_once(&body).map_err(not_written)?;
    } else {
        let mut fields = vec![("id", id.to_string()), ("name", created.name)];
        fields.extend(shown.map(|key| ("secret key", key.0)));
        fields.push(("publishable key", publishable_key));
        output::print_fields_once(&fields).map_err(not_written)?;
    }
    Connection::Door(door).finish().await
}

async fn run_key(
    target: &TargetArgs,
    command: InstanceKeyCommand,
    json: bool,
) -> Result<(), Failure> {
    let target = target.open().await?;
    match command {
        InstanceKeyCommand::List => {
            let list = target.manage(requests::list_instance_keys()).await?;
            if json {
                output::print_json(&list)?;
            } else {
                let rows: Vec<_> = list
                    .data
                    .iter()
                    .map(|key| {
                        [
                            key.id.to_string(),
                            output::time(key.created_at),
                            output::time_or(key.revoked_at, ""),
                        ]
                    })
                    .collect();
                output::print_table(["ID", "CREATED", "REVOKED"], &rows, "No keys.")?;
            }
        }
        InstanceKeyCommand::Create { test, output } => {
            let prepared = output.prepare()?;
            let mut created = target
                .manage(requests::create_instance_key(kind(test)))
                .await?;
            let secret = required(created.secret_key.take())?.0;
            let id = created.id;
            let not_written = |failure: Failure| {
                failure
                    .context(format!("{id} was made"))
                    .with_hint(format!("`countersign instance key revoke {id}` ends it"))
            };
            if json {
                created.secret_key = prepared
                    .path()
                    .is_none()
                    .then(|| ExposedSecret(secret.clone()));
                prepared.write(&secret).map_err(not_written)?;
                output::print_json_once(&created).map_err(not_written)?;
            } else {
                let once = if prepared.path().is_none() {
                    " It is shown this once."
                } else {
                    ""
                };
                output::note(&format!("{id} is a new key of the instance.{once}"));
                prepared.write_or_print(&secret).map_err(not_written)?;
            }
        }
        InstanceKeyCommand::Revoke { id, yes } => {
            output::confirm(
                yes,
                &format!("Revoke {id}? What uses it is refused from then on."),
            )?;
            let revoked = target.manage(requests::revoke_instance_key(id)).await?;
            if json {
                output::print_json(&revoked)?
            } else {
                output::note(&format!("{id} is revoked."))
            }
        }
    }
    target.finish().await
}

/// What a setting's value is.
#[derive(Clone, Copy)]
enum Kind {
    Switch,
    Expiration,
    Duration,
    Url,
    Limit,
}

/// The settings, in the order of the help.
const SETTINGS: [(&str, Kind); 8] = [
    ("jwt_scopes_claim", Kind::Switch),
    ("null_expiration", Kind::Expiration),
    ("max_jwt_ttl", Kind::Duration),
    ("secret_reveal", Kind::Switch),
    ("token_pooling", Kind::Switch),
    ("issuer", Kind::Url),
    ("rate_limit", Kind::Limit),
    ("machine_rate_limit", Kind::Limit),
];

impl Kind {
    /// What is allowed, behind `must be`.
    fn rule(self) -> &'static str {
        match self {
            Self::Switch => "on or off",
            Self::Expiration => "default or never",
            Self::Duration => "a number with a unit, like 24h or 365d",
            Self::Url => "a URL like https://auth.example.com, or none",
            Self::Limit => "N/SECONDS like 1000/60, or none",
        }
    }

    /// The value as people write it, or as the API's JSON has it.
    fn read(self, text: &str) -> Option<Value> {
        match (self, text) {
            (Self::Switch, "on" | "true") => Some(json!(true)),
            (Self::Switch, "off" | "false") => Some(json!(false)),
            (Self::Expiration, "default" | "never") => Some(json!(text)),
            (Self::Duration, _) => output::parse_duration(text).ok().map(Value::from),
            (Self::Url | Self::Limit, "none" | "null") => Some(Value::Null),
            (Self::Url, _) => Some(json!(text)),
            (Self::Limit, _) => read_limit(text),
            (Self::Switch | Self::Expiration, _) => None,
        }
    }
}

fn read_limit(text: &str) -> Option<Value> {
    let Some((requests, seconds)) = text.split_once('/') else {
        return serde_json::from_str(text).ok().filter(Value::is_object);
    };
    let (requests, seconds) = (requests.parse::<u32>().ok()?, seconds.parse::<u32>().ok()?);
    Some(json!({ "requests": requests, "seconds": seconds }))
}

/// Reads `NAME=VALUE`.
fn parse_setting(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write NAME=VALUE, for instance max_jwt_ttl=24h")?;
    let Some((_, kind)) = SETTINGS.iter().find(|(known, _)| *known == name) else {
        let names = SETTINGS.map(|(name, _)| name).join(", ");
        return Err(format!("there is no setting '{name}'; there are {names}"));
    };
    let value = kind
        .read(value)
        .ok_or_else(|| format!("{name} must be {}", kind.rule()))?;
    Ok((name.to_owned(), value))
}

/// How to write a setting that was given to `instance set` as if it were a flag.
pub(crate) fn setting_hint(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else {
        return None;
    };
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    if !usage.to_string().contains("instance set") {
        return None;
    }
    let name = flag.strip_prefix("--")?.replace('-', "_");
    let (name, kind) = SETTINGS.iter().find(|(known, _)| *known == name)?;
    Some(format!(
        "write {name}=VALUE, without dashes; it must be {}",
        kind.rule()
    ))
}

fn parse_key_id(text: &str) -> Result<KeyId, &'static str> {
    text.parse().map_err(
        |_| "the id of a key begins with key_; the key itself never goes on the command line",
    )
}

/// Returns an instance as JSON, without an issuer if it is unknown.
fn shown_body(target: &Connection, instance: &Instance) -> Value {
    let mut body = json!(instance);
    if let Some(members) = body
        .as_object_mut()
        .filter(|_| !target.knows_issuer(instance))
    {
        members.insert("issuer".to_owned(), Value::Null);
    }
    body
}

fn show_list(target: &Connection, instances: &[Instance]) -> Result<(), Failure> {
    let rows: Vec<_> = instances
        .iter()
        .map(|instance| {
            [
                instance.id.to_string(),
                instance.name.clone(),
                output::time(instance.created_at),
                issuer(target, instance),
            ]
        })
        .collect();
    output::print_table(["ID", "NAME", "CREATED", "ISSUER"], &rows, "No instances.")
}

fn show(target: &Connection, instance: &Instance, json: bool) -> Result<(), Failure> {
    if json {
        return output::print_json(&shown_body(target, instance));
    }
    let mut fields = vec![
        ("id", instance.id.to_string()),
        ("name", instance.name.clone()),
        ("created", output::time(instance.created_at)),
        ("issuer", issuer(target, instance)),
    ];
    // The setting of the issuer has the same name as the result above it.
    let settings: Map<String, Value> =
        serde_json::from_value(json!(instance.settings)).unwrap_or_default();
    let settings = settings.iter().filter(|(name, _)| *name != "issuer");
    fields.extend(settings.map(|(name, value)| (name.as_str(), shown(name, value))));
    output::print_fields(&fields)
}

fn issuer(target: &Connection, instance: &Instance) -> String {
    if target.knows_issuer(instance) {
        instance.issuer.clone()
    } else {
        "derived from the public URL (give --public-url to see it)".to_owned()
    }
}

fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(true) => "on".to_owned(),
        Value::Bool(false) => "off".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if name.ends_with("_ttl") => number
            .as_i64()
            .map_or_else(|| number.to_string(), output::duration),
        Value::Object(limit) if limit.contains_key("requests") => {
            let part = |name| limit.get(name).map(Value::to_string).unwrap_or_default();
            format!("{}/{}", part("requests"), part("seconds"))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_people_would() {
        let parse = |text: &str| parse_setting(text).expect("a setting").1;
        assert_eq!(parse("secret_reveal=off"), json!(false));
        assert_eq!(parse("secret_reveal=true"), json!(true));
        assert_eq!(parse("max_jwt_ttl=24h"), json!(86_400));
        assert_eq!(parse("max_jwt_ttl=60s"), json!(60));
        assert_eq!(
            parse("rate_limit=100/10"),
            json!({"requests": 100, "seconds": 10})
        );
        assert_eq!(parse("rate_limit=null"), Value::Null);
        assert_eq!(
            parse("issuer=https://a.example/x"),
            json!("https://a.example/x")
        );
        assert_eq!(parse("null_expiration=never"), json!("never"));
        assert_eq!(parse("rate_limit=none"), Value::Null);
        assert_eq!(parse("issuer=none"), Value::Null);
    }

    #[test]
    fn a_setting_that_cannot_be_read_is_refused_with_what_is_allowed() {
        let refused = |text: &str| parse_setting(text).expect_err(text);
        assert_eq!(
            refused("rate_limit=10"),
            "rate_limit must be N/SECONDS like 1000/60, or none"
        );
        assert_eq!(
            refused("machine_rate_limit=-1/60"),
            "machine_rate_limit must be N/SECONDS like 1000/60, or none"
        );
        assert_eq!(
            refused("max_jwt_ttl=abc"),
            "max_jwt_ttl must be a number with a unit, like 24h or 365d"
        );
        assert_eq!(
            refused("jwt_scopes_claim=yes"),
            "jwt_scopes_claim must be on or off"
        );
        assert_eq!(
            refused("null_expiration=x"),
            "null_expiration must be default or never"
        );
        assert_eq!(
            refused("foo=1"),
            "there is no setting 'foo'; there are jwt_scopes_claim, null_expiration, max_jwt_ttl, secret_reveal, token_pooling, \
             issuer, rate_limit, machine_rate_limit"
        );
        assert_eq!(
            refused("secret_reveal"),
            "write NAME=VALUE, for instance max_jwt_ttl=24h"
        );
    }
}
