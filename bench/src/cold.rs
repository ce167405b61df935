//! A newcomer's wait: from a fresh clone with an empty target folder to an authority that answers.
//!
//! Clones the repository as committed, runs `cargo run --release -- dev` on all cores and waits for
//! `/readyz`. Crates that cargo has downloaded before are not downloaded again; the report says so.
//! Also here because it needs the same fresh process: the processor time of the build and the memory at
//! rest. The size of the executable is compared with the one that is shipped.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock::now;
use crate::deployment::wait_until_ready;
use crate::process::Server;
use crate::report::{Check, Section, Table, Target};

/// Long enough for a slow machine, short enough to end.
const PATIENCE: Duration = Duration::from_secs(40 * 60);
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// `shipped` is the executable of the profile `dist`.
pub fn section(work: &Path, shipped: &Path) -> Result<Section> {
    let folder = work.join("cold");
    let clone = folder.join("clone");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    eprintln!("  cloning and building, this takes minutes");

    let start = now();
    let status = Command::new("git")
        .args(["clone", "--quiet", "."])
        .arg(&clone)
        .status()
        .context("cannot run git")?;
    ensure!(status.success(), "git clone failed");
    // Paths must hold from inside the clone.
    let folder = folder.canonicalize()?;
    let mut command = Command::new("cargo");
    command
        .args(["run", "--release", "--", "dev", "--listen", "127.0.0.1:0"])
        .arg("--data")
        .arg(folder.join("data"))
        .current_dir(&clone)
        .env_remove("CARGO_TARGET_DIR");
    let mut server = Server::start(command, &folder, PATIENCE)?;
    wait_until_ready(&server, Duration::from_secs(60))?;
    let minutes = start.elapsed().as_secs_f64() / 60.0;

    let built = clone.join("target/release/countersign");
    let mebibytes = |bytes: u64| format!("{:.1}", bytes as f64 / MEBIBYTE);
    let row = vec![
        format!(
            "{:.0}",
            server.processor_time_with_children()?.as_secs_f64()
        ),
        mebibytes(fs::metadata(built)?.len()),
        mebibytes(fs::metadata(shipped)?.len()),
        mebibytes(server.resident_bytes()?),
    ];
    server.stop()?;
    fs::remove_dir_all(&folder)?;
    Ok(Section {
        title: "A newcomer's wait",
        lead: "`git clone`, then `cargo run --release -- dev` with an empty target folder until `/readyz` \
               answers 200; crates come from cargo's download cache where it has them."
            .to_owned(),
        tables: vec![Table {
            headers: vec![
                "processor seconds",
                "executable MiB",
                "as shipped (`dist`) MiB",
                "memory at rest MiB",
            ],
            rows: vec![row],
        }],
        checks: vec![Check {
            what: "minutes to the first answer",
            measured: minutes,
            target: Target::AtMost(8.0),
            goal: None,
        }],
    })
}
