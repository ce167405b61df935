//! The servers under measurement: started pinned to one core, asked for their processor time and
//! memory, stopped with SIGTERM.
//!
//! Processor time is user plus system time of the whole process, all threads, as in proc(5): what a
//! request costs the machine, whoever else competes for it. `taskset` replaces itself with the
//! server, so the child's number is the server's.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::clock::now;

/// The core that every server runs on, and the one that the load generator runs on.
pub const SERVER_CORE: usize = 0;
pub const LOAD_CORE: usize = 1;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a program on the server's core; see [`Server::start`].
    pub fn start_pinned(
        program: &Path,
        folder: &Path,
        arguments: &[&str],
        patience: Duration,
    ) -> Result<Self> {
        let mut command = Command::new("taskset");
        command
            .args(["-c", &SERVER_CORE.to_string()])
            .arg(program)
            .args(arguments);
        Self::start(command, folder, patience)
    }

    /// Starts a command that takes `--port-file` and waits until that file names its port. Both its
    /// outputs go to a log in `folder`, whose last lines explain a failure.
    pub fn start(mut command: Command, folder: &Path, patience: Duration) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let port_file = folder.join("port");
        let _ = fs::remove_file(&port_file);
        let log = folder.join("server.log");
        let output = File::create(&log)?;
        command
            .arg("--port-file")
            .arg(&port_file)
            // The benchmark's own setting must not look like one of the server's.
            .env_remove("COUNTERSIGN_BIN")
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut server = Self {
            child: command
                .spawn()
                .with_context(|| format!("cannot start {:?}", command.get_program()))?,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };

        let start = now();
        loop {
            if let Ok(port) = fs::read_to_string(&port_file)
                && let Ok(port) = port.trim().parse()
            {
                server.address.set_port(port);
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended ({status}): {}", last_lines(&log));
            }
            if start.elapsed() > patience {
                bail!("no port after {patience:?}: {}", last_lines(&log));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the processor time that the process has used so far.
    pub fn processor_time(&self) -> Result<Duration> {
        self.sum_of_times(2)
    }

    /// Returns the same with the time of all child processes that have ended, as those of a cargo that
    /// built the server and then became it.
    pub fn processor_time_with_children(&self) -> Result<Duration> {
        self.sum_of_times(4)
    }

    fn sum_of_times(&self, fields: usize) -> Result<Duration> {
        let stat = fs::read_to_string(self.proc_file("stat"))?;
        processor_time_of(&stat, fields).context("unreadable /proc/PID/stat")
    }

    /// Returns the resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(self.proc_file("status"))?;
        let kibibytes: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .context("no VmRSS in /proc/PID/status")?
            .parse()?;
        Ok(kibibytes * 1024)
    }

    /// Asks the server to end and waits until it has; nothing happens if it has ended already.
    pub fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let start = now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > Duration::from_secs(60) {
                bail!("the server did not end within a minute of SIGTERM");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn proc_file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the calling thread, and all that it starts from now on, on one core.
pub fn pin_this_thread(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores)
        .with_context(|| format!("cannot run on core {core}; two cores are needed"))
}

/// Adds so many of the fields from 14 on: user and system time of the process, then those of its
/// children. The name in field 2 may hold spaces, so counting starts behind it.
fn processor_time_of(stat: &str, fields: usize) -> Option<Duration> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let times = behind_name.split_whitespace().skip(11).take(fields);
    let ticks = times.map(|time| time.parse::<u64>().ok());
    let ticks = ticks.sum::<Option<u64>>()?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_micros(ticks * 1_000_000 / ticks_per_second))
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_user_plus_system() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 102 0 1 0 150 50 9 9 20 0 1 0 85427";
        let ticks = rustix::param::clock_ticks_per_second();
        for (fields, sum) in [(2, 200), (4, 218)] {
            assert_eq!(
                processor_time_of(stat, fields),
                Some(Duration::from_micros(sum * 1_000_000 / ticks))
            );
        }
    }
}
