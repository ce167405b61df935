//! The one executable: serving, and administration from a terminal.
//!
//! Data goes to standard output, everything else to standard error. Exit codes are documented in
//! `docs/reference/exit-codes.md`.

mod dev;
mod exit;
mod folder;
mod logs;
mod process;
mod serve;
mod settings;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use countersign_authority::AuthorityOptions;

use crate::exit::{Code, Failure};
use crate::settings::Settings;

/// A self-hosted authority for machine-to-machine tokens that speaks Clerk's wire protocol.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 100, arg_required_else_help = true)]
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
    #[command(after_help = "Example:\n  countersign init --data /var/lib/countersign --json > keys.json")]
    Init(Init),
    /// Serves an authority that `init` made
    #[command(after_help = "Example:\n  countersign serve --data /var/lib/countersign --public-url https://auth.example.com")]
    Serve(Settings),
}

#[derive(Args, Debug)]
struct Init {
    /// The folder to make
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    data: PathBuf,
    /// Where senders and receivers will reach this authority
    #[arg(long, env = "COUNTERSIGN_PUBLIC_URL", value_name = "URL", default_value = "http://127.0.0.1:4840")]
    public_url: String,
    /// Prints one JSON object and nothing else
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    process::harden();
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.code.number())
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, error, "this is a fault of the operating system"))?;
    match command {
        Command::Dev(settings) => {
            let settings = settings.with_file()?;
            logs::start(&settings, "info,countersign::verification=debug,countersign::issue=debug")?;
            runtime.block_on(dev::run(settings))
        }
        Command::Serve(settings) => {
            let settings = settings.with_file()?;
            logs::start(&settings, "info")?;
            runtime.block_on(serve::run(settings))
        }
        Command::Init(init) => runtime.block_on(run_init(&init)),
    }
}

async fn run_init(init: &Init) -> Result<(), Failure> {
    let options = AuthorityOptions { public_url: init.public_url.clone(), ..AuthorityOptions::default() };
    let (authority, created) = folder::init(&init.data, options, true).await?;
    drop(authority);
    let publishable_key = folder::publishable_key(&init.public_url, true);
    if init.json {
        let keys = serde_json::json!({
            "instance_id": created.instance.id,
            "secret_key": created.key.expose(),
            "publishable_key": publishable_key,
        });
        anstream::println!("{keys}");
    } else {
        anstream::println!(
            "The authority in {} is ready.\n\n  Instance         {}\n  Secret key       {}\n  Publishable key  {publishable_key}\n\n\
             The secret key is shown this once. The master key is in {}: without it the data cannot be opened.\n\
             Start it with: countersign serve --data {}",
            init.data.display(),
            created.instance.id,
            created.key.expose(),
            init.data.join("master.key").display(),
            init.data.display(),
        );
    }
    Ok(())
}
