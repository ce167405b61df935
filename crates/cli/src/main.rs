//! The one executable: serving, and administration from a terminal.
//!
//! Data goes to standard output, everything else to standard error. Exit codes are documented in
//! `docs/reference/exit-codes.md`.

mod admin;
mod dev;
mod door;
mod environment;
mod exit;
mod folder;
mod invocation;
mod logs;
mod memory;
mod process;
#[cfg(test)]
mod reference;
mod refusals;
mod serve;
mod settings;
mod stderr;
mod telemetry;
mod tls;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use countersign_authority::AuthorityOptions;
use countersign_protocol::body::ExposedSecret;

use crate::admin::output::{self, SecretOutput};
use crate::admin::{Admin, NewInstanceBody};
use crate::exit::{Code, Failure};
use crate::settings::Settings;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A self-hosted authority for machine-to-machine tokens that speaks Clerk's wire protocol.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    args_override_self = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The five-minute start: makes what is missing, serves on this machine, prints keys and a request to paste
    #[command(after_help = "Example:\n  countersign dev")]
    Dev(Settings),
    /// Makes a data folder with a master key, a signing key, a first instance and its key, which is printed once
    #[command(
        after_help = "Example:\n  countersign init --data /var/lib/countersign --output instance.key"
    )]
    Init(Init),
    /// Serves an authority that `init` made
    #[command(
        after_help = "Example:\n  countersign serve --data /var/lib/countersign --public-url https://auth.example.com"
    )]
    Serve(Settings),
    #[command(flatten)]
    Admin(Admin),
}

#[derive(Args, Debug)]
struct Init {
    /// The folder to make
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
    /// The file for the master key, made where it is missing [default: master.key in the data folder]. The key itself can
    /// stand in the environment as COUNTERSIGN_MASTER_KEY
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// Where senders and receivers will reach this authority [default: http://127.0.0.1:4840]. It goes into the publishable key
    /// and into the line that says how to start; the data do not keep it, so `serve` is told again
    #[arg(long, env = "COUNTERSIGN_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// Prints one JSON object and nothing else
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    output: SecretOutput,
}

fn main() -> ExitCode {
    process::harden();
    let mut command = environment::without_empty_variables(Cli::command());
    let outcome = match parse(command.clone()) {
        Ok(cli) => run(cli.command),
        Err(error)
            if error.use_stderr()
                && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            command.build();
            let failure = Failure::from_clap(&error, &command);
            Err(match admin::setting_hint(&error) {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            })
        }
        // The help and the version, which somebody asked for or needs.
        Err(error) => error.exit(),
    };
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.code.number())
        }
    };
    stderr::finish();
    code
}

fn parse(command: clap::Command) -> Result<Cli, clap::Error> {
    let matches = command.try_get_matches()?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let (Command::Dev(settings) | Command::Serve(settings), Some((_, matches))) =
        (&mut cli.command, matches.subcommand())
    {
        let source = matches.value_source("otlp_endpoint");
        settings.is_otlp_endpoint_shared = source == Some(ValueSource::EnvVariable);
    }
    Ok(cli)
}

fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                Code::Failed,
                error,
                "this is a fault of the operating system",
            )
        })?;
    match command {
        Command::Dev(settings) => {
            let filter = "info,countersign::verification=debug,countersign::issue=debug";
            runtime.block_on(logged(settings.with_file()?, filter, dev::run))
        }
        Command::Serve(settings) => {
            runtime.block_on(logged(settings.with_file()?, "info", serve::run))
        }
        Command::Init(init) => runtime.block_on(run_init(&init)),
        Command::Admin(admin) => runtime.block_on(admin::run(admin)),
    }
}

/// Runs a server with its log and traces.
async fn logged(
    settings: Settings,
    filter: &str,
    serve: impl AsyncFnOnce(Settings) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let telemetry = logs::start(&settings, filter)?;
    let outcome = serve(settings).await;
    if let Some(telemetry) = telemetry {
        telemetry.stop().await;
    }
    outcome
}

async fn run_init(init: &Init) -> Result<(), Failure> {
    let defaults = AuthorityOptions::default();
    if let Some(url) = &init.public_url {
        settings::check_public_url(url)?;
    }
    let public_url = init.public_url.clone().unwrap_or(defaults.public_url);
    let options = AuthorityOptions {
        public_url: public_url.clone(),
        ..defaults
    };
    let output = init.output.prepare()?;
    let Some((authority, _, created)) =
        folder::init(&init.data, init.master_key_file.as_deref(), options, true).await?
    else {
        return Err(Failure::new(
            Code::Failed,
            format!("{} holds an authority already", init.data.display()),
            "start it with `countersign serve --data DIR`, or choose another folder",
        ));
    };
    drop(authority);
    let shown = output
        .path()
        .is_none()
        .then(|| ExposedSecret(created.key.expose().to_owned()));
    let not_written = |failure: Failure| {
        let hint = format!(
            "`{} instance key create --data {}` makes another key",
            invocation::program(),
            invocation::quoted(&init.data)
        );
        failure.context("the authority is ready").with_hint(hint)
    };
    output.write(created.key.expose()).map_err(not_written)?;
    let publishable_key = folder::publishable_key(&public_url, true);
    let instance_id = created.instance.id;
    if init.json {
        let body = NewInstanceBody {
            instance_id,
            secret_key: shown,
            publishable_key,
        };
        return output::print_json_once(&body).map_err(not_written);
    }
    let data = init.data.display();
    let (key, once) = shown.map_or_else(Default::default, |key| {
        (
            format!("  Secret key       {}\n", key.0),
            "The secret key is shown this once. ",
        )
    });
    let master = match init.master_key_place() {
        None => "The master key came from COUNTERSIGN_MASTER_KEY and is kept in no file:\n`serve` needs it there, too, and without it".to_owned(),
        Some(file) => format!("The master key is in {}:\nwithout it", file.display()),
    };
    let text = format!(
        "The authority in {data} is ready.\n\n  Instance         {instance_id}\n{key}  Publishable key  {publishable_key}\n\n\
         {once}{master} the data cannot be opened.\nStart it with: {}",
        init.serve_command(),
    );
    output::print_once(&text).map_err(not_written)
}

impl Init {
    /// The file of the master key; `None` where the environment holds the key itself, which comes before any file.
    fn master_key_place(&self) -> Option<PathBuf> {
        let is_in_environment = environment::variable("COUNTERSIGN_MASTER_KEY").is_some();
        let file = self.master_key_file.clone();
        (!is_in_environment).then(|| file.unwrap_or_else(|| self.data.join("master.key")))
    }

    /// What starts this authority: all that was said here and that the data do not keep.
    fn serve_command(&self) -> String {
        let mut command = format!(
            "{} serve --data {}",
            invocation::program(),
            invocation::quoted(&self.data)
        );
        let file = self.master_key_file.as_ref().and(self.master_key_place());
        if let Some(file) = file {
            let _ = write!(command, " --master-key-file {}", invocation::quoted(file));
        }
        if let Some(url) = &self.public_url {
            let _ = write!(command, " --public-url {}", invocation::quoted(url));
        }
        command
    }
}
