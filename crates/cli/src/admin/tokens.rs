//! `token`: create, list, verify, revoke.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use countersign_client::{ListTokens, NewToken, TokenFormat, requests};
use countersign_protocol::body::{ExposedSecret, M2mToken, M2mTokenList};
use countersign_protocol::claims::Claims;
use countersign_protocol::ids::TokenId;
use countersign_protocol::secret::Secret;
use serde_json::value::RawValue;

use super::connection::Connection;
use super::machines::{Part, resolve};
use super::output::{self, SecretOutput};
use super::refusal::required;
use super::selection::{TargetArgs, read_secret};
use crate::environment::variable;
use crate::exit::{Code, Failure};

/// The largest page that the API gives.
const PAGE: i64 = 100;

/// Which formats of tokens to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ListedFormat {
    Opaque,
    Jwt,
    All,
}

/// What a new token's string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum NewFormat {
    Opaque,
    Jwt,
}

#[derive(Args, Debug)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Issues a token to a machine and shows it
    #[command(
        alias = "issue",
        after_help = "Example:\n  countersign token create webhook --ttl 365d --output webhook.token"
    )]
    Create {
        /// The machine, by id or name [default: the one whose key is in CLERK_MACHINE_SECRET_KEY or --machine-key-file]
        machine: Option<String>,
        /// MACHINE as a flag
        #[arg(long = "machine", value_name = "MACHINE", conflicts_with = "machine")]
        machine_flag: Option<String>,
        /// How long it lives [default: what the machine says]
        #[arg(long, value_name = "DURATION", value_parser = output::parse_duration)]
        ttl: Option<i64>,
        /// What it carries, any JSON; an object for a JWT. Not for secrets: claims can be read by everybody who has the token
        #[arg(long, value_name = "JSON")]
        claims: Option<String>,
        /// What its string is
        #[arg(long, value_enum, default_value = "opaque")]
        format: NewFormat,
        /// Hands out an equal token again that still lives so long, instead of a new one
        #[arg(long, value_name = "DURATION", value_parser = output::parse_duration)]
        min_remaining: Option<i64>,
        #[command(flatten)]
        output: SecretOutput,
    },
    /// Lists a machine's live tokens
    #[command(
        after_help = "Example:\n  countersign token list webhook --revoked --expired --format all"
    )]
    List {
        /// The machine, by id or name [default: the one whose key is at hand]
        machine: Option<String>,
        /// Revoked ones too
        #[arg(long)]
        revoked: bool,
        /// Expired ones too
        #[arg(long)]
        expired: bool,
        /// Which formats
        #[arg(long, value_enum, default_value = "all")]
        format: ListedFormat,
        #[command(flatten)]
        part: Part,
    },
    /// Says whether a token is valid, and what it carries. The token comes from a file, a variable or standard input
    #[command(
        after_help = "Example:\n  countersign token verify --token-env CLERK_M2M_TOKEN_WEBHOOK"
    )]
    Verify {
        /// A file with the token, or - for standard input
        #[arg(long, value_name = "FILE", conflicts_with = "token_env")]
        token_file: Option<PathBuf>,
        /// The name of the variable with the token
        #[arg(long, value_name = "NAME")]
        token_env: Option<String>,
        /// Verifies as this receiver would, by id or name
        #[arg(long, value_name = "MACHINE")]
        machine: Option<String>,
    },
    /// Revokes a token for good, opaque or JWT
    #[command(
        after_help = "Example:\n  countersign token revoke mt_f7f0ba8c3b4843ce7d85fcdd5e71853e --reason \"left in a log\" --yes"
    )]
    Revoke {
        /// The token's id (not the token)
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Does it without a question
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(args: TokenArgs) -> Result<(), Failure> {
    let json = args.target.json;
    let target = args.target.open().await?;
    match args.command {
        TokenCommand::Create {
            machine,
            machine_flag,
            ttl,
            claims,
            format,
            min_remaining,
            output,
        } => {
            let mut new = NewToken::new();
            if let Some(claims) = claims {
                new = new.claims_text(parse_claims(&claims)?);
            }
            if let Some(ttl) = ttl {
                new = new.lifetime(output::seconds(ttl));
            }
            if let Some(min_remaining) = min_remaining {
                new = new.reuse(output::seconds(min_remaining));
            }
            if format == NewFormat::Jwt {
                new = new.format(TokenFormat::Jwt);
            }
            let machine = match machine.or(machine_flag) {
                Some(machine) => Some(resolve(&target, &machine).await?),
                None => None,
            };
            if format == NewFormat::Jwt && machine.is_some() {
                refuse_unknown_issuer(&target).await?;
            }
            let prepared = output.prepare()?;
            let mut token = target.act_as(machine, requests::create_token(&new)).await?;
            let secret = required(token.token.take())?.0;
            let id = token.id;
            let not_written = |failure: Failure| {
                failure
                    .context(format!("{id} was issued"))
                    .with_hint(format!("`countersign token revoke {id}` ends it"))
            };
            if json {
                if prepared.path().is_none() {
                    token.token = Some(ExposedSecret(secret.clone()));
                }
                prepared.write(&secret).map_err(not_written)?;
                output::print_json_once(&token).map_err(not_written)?;
            } else {
                output::note(&format!(
                    "{id} of {}, until {}.",
                    token.subject,
                    output::time_or(token.expiration, "revoked")
                ));
                prepared.write_or_print(&secret).map_err(not_written)?;
            }
        }
        TokenCommand::List {
            machine,
            revoked,
            expired,
            format,
            part,
        } => {
            let subject = match machine {
                Some(machine) => Some(resolve(&target, &machine).await?),
                None => target.own_machine().await?,
            };
            let subject = subject.ok_or_else(|| {
                Failure::new(
                    Code::Usage,
                    "no machine was named",
                    "name it by id or name: countersign token list MACHINE",
                )
            })?;
            let mut wanted = ListTokens::of(subject);
            if revoked {
                wanted = wanted.with_revoked();
            }
            if expired {
                wanted = wanted.with_expired();
            }
            wanted = match format {
                ListedFormat::Opaque => wanted,
                ListedFormat::Jwt => wanted.jwts(),
                ListedFormat::All => wanted.all_formats(),
            };
            let list = list(&target, &wanted, &part).await?;
            if json {
                output::print_json(&list)?;
            } else {
                show_list(&list)?;
                part.note_rest(list.m2m_tokens.len(), list.total_count);
            }
        }
        TokenCommand::Verify {
            token_file,
            token_env,
            machine,
        } => {
            let token = read_token(token_file.as_deref(), token_env.as_deref())?;
            let machine = match machine {
                Some(machine) => Some(resolve(&target, &machine).await?),
                None => None,
            };
            let verify = requests::verify_token(token.expose());
            let verified = target.ask_as(machine, verify).await?;
            if json {
                output::print_json(&verified)?
            } else {
                show(&verified)?
            }
        }
        TokenCommand::Revoke { id, reason, yes } => {
            let id: TokenId = id.parse().map_err(|_| {
                // What was given may be the token itself; it is not repeated.
                let hint = "`countersign token list` shows the ids; `countersign token verify` shows the one of a token";
                Failure::new(Code::Usage, "this is not a token id: token ids are mt_ and 32 lowercase hexadecimal digits", hint)
            })?;
            output::confirm(yes, &format!("Revoke {id} for good?"))?;
            let revoked = target
                .ask(requests::revoke_token(id, reason.as_deref()))
                .await?;
            if json {
                output::print_json(&revoked)?
            } else {
                output::note(&format!("{id} is revoked."))
            }
        }
    }
    target.finish().await
}

/// As many tokens as are wanted, page by page.
async fn list(
    target: &Connection,
    list: &ListTokens,
    part: &Part,
) -> Result<M2mTokenList, Failure> {
    let (wanted, mut offset) = (part.wanted(), part.offset);
    let mut m2m_tokens: Vec<M2mToken> = Vec::new();
    loop {
        let missing = i64::try_from(wanted.saturating_sub(m2m_tokens.len())).unwrap_or(i64::MAX);
        let limit = missing.clamp(1, PAGE);
        let next = target
            .ask(requests::list_tokens(list, limit, offset))
            .await?;
        let count = next.m2m_tokens.len();
        offset = offset.saturating_add(u64::try_from(count).unwrap_or_default());
        let is_last = i64::try_from(count).is_ok_and(|count| count < limit);
        m2m_tokens.extend(next.m2m_tokens);
        if is_last || m2m_tokens.len() >= wanted {
            return Ok(M2mTokenList {
                m2m_tokens,
                total_count: next.total_count,
            });
        }
    }
}

/// Refuses to issue a JWT if its issuer is unknown.
async fn refuse_unknown_issuer(target: &Connection) -> Result<(), Failure> {
    let Connection::Door(_) = target else {
        return Ok(());
    };
    if target.knows_issuer(&target.manage(requests::instance()).await?) {
        return Ok(());
    }
    Err(Failure::new(
        Code::Settings,
        "a JWT needs an issuer, and the data folder does not record the public URL",
        "give --public-url with the value that `serve` uses, or set the issuer: countersign instance set issuer=https://auth.example.com",
    ))
}

fn parse_claims(text: &str) -> Result<Box<RawValue>, Failure> {
    let wrong = |error: String| {
        Failure::new(
            Code::Usage,
            format!("the claims cannot be used: {error}"),
            "write JSON, for instance --claims '{\"region\":\"eu\"}'",
        )
    };
    let value: &RawValue = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    Claims::new(value).map_err(|error| wrong(error.to_string()))?;
    Ok(value.to_owned())
}

fn read_token(file: Option<&Path>, name: Option<&str>) -> Result<Secret, Failure> {
    match (file, name) {
        (Some(file), _) => read_secret(file),
        (None, Some(name)) => variable(name).map(Secret::new).ok_or_else(|| {
            Failure::new(
                Code::Settings,
                format!("the variable {name} is not set"),
                "--token-env takes the name of a variable that holds the token",
            )
        }),
        (None, None) if std::io::stdin().is_terminal() => Err(Failure::new(
            Code::Usage,
            "no token was given",
            "name a file with --token-file, a variable with --token-env, or send the token to standard input; it never goes on the command line",
        )),
        (None, None) => read_secret(Path::new("-")),
    }
}

fn state(token: &M2mToken) -> &'static str {
    match (token.revoked, token.expired) {
        (true, _) => "revoked",
        (false, true) => "expired",
        (false, false) => "live",
    }
}

fn show_list(list: &M2mTokenList) -> Result<(), Failure> {
    let rows: Vec<_> = list
        .m2m_tokens
        .iter()
        .map(|token| {
            [
                token.id.to_string(),
                state(token).to_owned(),
                output::time(token.created_at),
                output::time_or(token.expiration, "never"),
                output::time_or(token.last_used_at, "never"),
                token.scopes.as_str().to_owned(),
                token
                    .revocation_reason
                    .as_deref()
                    .unwrap_or_default()
                    .to_owned(),
            ]
        })
        .collect();
    output::print_table(
        [
            "ID",
            "STATE",
            "CREATED",
            "EXPIRES",
            "LAST USED",
            "FOR",
            "REASON",
        ],
        &rows,
        "No such tokens.",
    )
}

fn show(token: &M2mToken) -> Result<(), Failure> {
    output::print_fields(&[
        ("id", token.id.to_string()),
        ("machine", token.subject.to_string()),
        ("for", token.scopes.as_str().to_owned()),
        (
            "claims",
            token
                .claims
                .as_ref()
                .map_or("none", Claims::as_str)
                .to_owned(),
        ),
        ("created", output::time(token.created_at)),
        ("expires", output::time_or(token.expiration, "never")),
    ])
}
