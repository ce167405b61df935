//! The console's services on the command line. Settings come from the environment and from an `.env` file.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use console::client::RpcClient;
use console::settings::Environment;
use console::workflow::Outcome;
use console::{api, webhook, workflow};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// An RPC API, and a webhook handler and a workflow runner that call it
#[derive(Debug, Parser)]
struct Arguments {
    /// A file with settings. What is in the environment already is stronger [default: .env, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the RPC API
    Api,
    /// Serves the webhook handler
    Webhook,
    /// Completes the oldest open job of a repository
    Workflow {
        /// GitHub's id of the repository, such as 1296269
        github_repo_id: u64,
    },
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Before there are threads, which would read the environment while it changes.
    match &arguments.env_file {
        Some(file) => {
            dotenvy::from_path(file)
                .with_context(|| format!("cannot read the settings in {}", file.display()))?;
        }
        None => match dotenvy::from_path(".env") {
            Err(error) if error.not_found() => {}
            read => read.context("cannot read the settings in .env")?,
        },
    }
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    run(&arguments.command)
}

#[tokio::main]
async fn run(command: &Command) -> anyhow::Result<()> {
    let environment = Environment::of_process();
    match command {
        Command::Api => {
            let (address, settings) = environment.api()?;
            api::serve(listener(address).await?, settings, stop()).await
        }
        Command::Webhook => {
            let (address, settings) = environment.webhook()?;
            webhook::serve(listener(address).await?, settings, stop()).await
        }
        Command::Workflow { github_repo_id } => {
            let api = RpcClient::new(environment.workflow()?)?;
            match workflow::run(&api, *github_repo_id).await? {
                Outcome::NothingToDo => println!("nothing to do"),
                Outcome::Completed(job) => println!("completed {}", job.id),
            }
            Ok(())
        }
    }
}

async fn listener(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}"))
}

/// Ends with Ctrl-C, or when the system asks the process to end.
async fn stop() {
    let mut terminated = signal(SignalKind::terminate()).expect("there is a runtime with signals");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}
