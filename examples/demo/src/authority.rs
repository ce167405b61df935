//! The demo's authority: the executable `countersign` in a separate process, so that it can be killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use countersign_client::{Client, CreatedMachine, MachineId, NewMachine};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long a start may take, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// Ends the executable with the process that started it, however that process ends.
const END_WITH_PARENT: &str = "COUNTERSIGN_END_WITH_PARENT";

/// A running authority with an empty instance. It ends when this is dropped, and leaves nothing behind.
pub(crate) struct Authority {
    program: PathBuf,
    folder: TempDir,
    process: Child,
    port: u16,
    /// With the instance key.
    pub(crate) admin: Client,
}

/// What `init --json` prints.
#[derive(Deserialize)]
struct Made {
    secret_key: String,
}

impl Authority {
    /// Makes an authority with the executable `program` and serves it on a free port.
    pub(crate) async fn start(program: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the authority")?;
        let made = command(program)
            .args(["init", "--json", "--data"])
            .arg(folder.path().join("data"))
            .output()?;
        if !made.status.success() {
            bail!("init failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        let made: Made = serde_json::from_slice(&made.stdout).context("what init printed")?;
        let (process, port) = serve(program, &folder, 0).await?;
        let admin = Client::new(&url(port), &made.secret_key)?;
        Ok(Self {
            program: program.to_owned(),
            folder,
            process,
            port,
            admin,
        })
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// A new machine that may call others.
    pub(crate) async fn machine(&self, name: &str, calls: &[MachineId]) -> Result<CreatedMachine> {
        let new = NewMachine::named(name).calling(calls.iter().copied());
        Ok(self.admin.create_machine(&new).await?)
    }

    /// A client with a machine's key.
    pub(crate) fn client_of(&self, machine: &CreatedMachine) -> Result<Client> {
        Ok(Client::new(&self.url(), machine.key.expose())?)
    }

    /// Kills it with SIGKILL: nothing is tidied up.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again at the same address, after it was killed.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        (self.process, _) = serve(&self.program, &self.folder, self.port).await?;
        Ok(())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.kill();
    }
}

/// The executable, with no settings but those that are given here.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COUNTERSIGN_") {
            command.env_remove(name);
        }
    }
    command
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Serves on a port, or where it is 0 on a free one, and waits until it does.
async fn serve(program: &Path, folder: &TempDir, port: u16) -> Result<(Child, u16)> {
    let (port_file, log) = (folder.path().join("port"), folder.path().join("log"));
    if port_file.exists() {
        std::fs::remove_file(&port_file)?;
    }
    let mut process = command(program)
        .env(END_WITH_PARENT, "1")
        .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
        .arg("--data")
        .arg(folder.path().join("data"))
        .arg("--port-file")
        .arg(&port_file)
        .stdout(Stdio::null())
        .stderr(File::options().create(true).append(true).open(&log)?)
        .spawn()?;
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(&port_file).unwrap_or_default();
        if let Ok(port) = text.trim().parse() {
            return Ok((process, port));
        }
        let ended = process.try_wait()?.is_some();
        if ended || start.elapsed() > PATIENCE {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("the authority did not start:\n{log}");
        }
        sleep(POLL).await;
    }
}
