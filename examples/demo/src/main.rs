//! Shows two deployments at work against a fresh authority: calls, refusals, and what happens when something goes wrong.
//!
//! The authority is the executable `countersign` in a separate process. The services of the examples run as tasks of this
//! process. Each step is shown with what was seen. The exit code is 0 only if every step held.

mod account;
mod authority;
mod console;
mod executable;
mod jobtracker;
mod services;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use account::Account;
use executable::Executable;

/// Shows two deployments at work against a fresh authority: calls, refusals, and what happens when something goes wrong.
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    max_term_width = 100,
    after_help = "Example:\n  cargo run --release -p demo"
)]
struct Arguments {
    #[command(flatten)]
    executable: Executable,
}

/// What went wrong, and what to do about it.
struct Failure {
    error: anyhow::Error,
    hint: &'static str,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { error, hint: "" }
    }
}

fn main() -> ExitCode {
    let Err(Failure { error, hint }) = run(&Arguments::parse()) else {
        return ExitCode::SUCCESS;
    };
    anstream::eprintln!("\x1b[1;31merror:\x1b[0m {error:#}");
    if !hint.is_empty() {
        anstream::eprintln!("\x1b[1;36mhint:\x1b[0m {hint}");
    }
    ExitCode::FAILURE
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let program = arguments.executable.locate().map_err(|error| Failure {
        error,
        hint: "build it with `cargo build --release -p countersign`, or name it in COUNTERSIGN_BIN",
    })?;
    // The authority ends with the thread that started it, so there is one thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(show(&program))
}

/// Shows both deployments, with an authority that `program` serves.
async fn show(program: &Path) -> Result<(), Failure> {
    let mut account = Account::default();
    let chapters = async {
        // A chapter ends where a step does not hold; the account has its reason.
        let _ = jobtracker::run(&mut account, program).await;
        let _ = console::run(&mut account, program).await;
    };
    // Whoever stops it leaves neither the authority nor its folder behind.
    tokio::select! {
        () = chapters => {}
        signal = stopped() => {
            signal.context("cannot watch signals")?;
            return Err(anyhow::anyhow!("the demo was stopped").into());
        }
    }
    let (held, all_held) = account.end();
    if !all_held {
        return Err(Failure {
            error: anyhow::anyhow!("not every step held ({held} did)"),
            hint: "the account above has the reason; this should not happen, please report it",
        });
    }
    anstream::println!(
        "\n\x1b[1mAll {held} steps held.\x1b[0m The code is in examples/jobtracker and examples/console."
    );
    Ok(())
}

/// Ends when somebody stops this program, or closes its terminal.
async fn stopped() -> std::io::Result<()> {
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = hung_up.recv() => {}
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    Ok(())
}
