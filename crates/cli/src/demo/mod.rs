//! `countersign demo`: two deployments at work against a fresh authority, with what happens when something goes wrong.
//!
//! The authority is this program in a process of its own; the examples' services run as tasks of this one. Each step is shown
//! with what was seen. The exit code is 0 only if every step held.

mod account;
mod authority;
mod console;
mod jobtracker;
mod services;

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Code, Failure};
use account::Account;

/// Shows both deployments.
pub(crate) async fn run() -> Result<(), Failure> {
    let mut account = Account::default();
    let chapters = async {
        // A chapter ends where a step does not hold; the account has its reason.
        let _ = jobtracker::run(&mut account).await;
        let _ = console::run(&mut account).await;
    };
    // Whoever stops it leaves neither the authority nor its folder behind.
    tokio::select! {
        () = chapters => {}
        signal = stopped() => {
            signal.map_err(|error| Failure::new(Code::Failed, error, ""))?;
            return Err(Failure::new(Code::Failed, "the demo was stopped", ""));
        }
    }
    let (held, all_held) = account.end();
    if !all_held {
        return Err(Failure::new(
            Code::Failed,
            format!("not every step held ({held} did)"),
            "the account above has the reason; this should not happen, please report it",
        ));
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
