//! Runs the executable with a clean environment and holds on to what it said.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// What a command said and how it ended.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.stderr);
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.stdout))
    }

    /// Checks the form of a failure and returns it as `code`, error and, where there is one, hint.
    pub(crate) fn refusal(&self) -> String {
        assert_eq!(self.stdout, "", "a failure writes no data");
        let lines: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| !line.starts_with("Using "))
            .collect();
        assert!(
            match lines.as_slice() {
                [error] => error.starts_with("error: "),
                [error, hint] => error.starts_with("error: ") && hint.starts_with("hint: "),
                _ => false,
            },
            "{}",
            self.stderr
        );
        format!("{}\n{}", self.code, lines.join("\n"))
    }
}

/// A folder of its own, in which commands run.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) environment: Vec<(String, String)>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            environment: Vec::new(),
        }
    }

    /// A place with an authority in `data`; returns the key too.
    pub(crate) fn with_authority() -> (Self, String) {
        let place = Self::new();
        let keys = place.run(&["init", "--data", "data", "--json"]).json();
        let key = keys["secret_key"].as_str().expect("a key").to_owned();
        (place, key)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with(arguments, "")
    }

    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Outcome {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("starts");
        // A command that does not read its input may have ended already.
        let _ = child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes());
        let output = child.wait_with_output().expect("ends");
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Starts a command and goes on at once.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("starts")
    }

    /// Starts `dev` or `serve` on a free port.
    pub(crate) fn start(&self, arguments: &[&str]) -> Server {
        let mut child = self
            .command(arguments)
            .args(["--listen", "127.0.0.1:0"])
            .spawn()
            .expect("starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            if log.read_line(&mut line).expect("readable") == 0 {
                panic!("the server ended with {:?}: {said}", child.wait());
            }
            said.push_str(&line);
            let (_, after) = line.split_once("listening on ").unwrap_or_default();
            if let Some(url) = after
                .split(['"', '\n'])
                .next()
                .filter(|url| !url.is_empty())
            {
                break url.to_owned();
            }
        };
        // The pipe must not fill up.
        let rest = std::thread::spawn(move || {
            let _ = log.read_to_string(&mut said);
            said
        });
        Server {
            child,
            url: address,
            rest: Some(rest),
        }
    }
}

/// Sends these bytes on their own connection, and returns the response.
pub(crate) fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("listens");
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).expect("a socket");
    stream.write_all(request.as_bytes()).expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// All files of a folder with their content, without SQLite's index of its log and without sockets, which every process makes
/// anew.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file() && !path.to_string_lossy().ends_with("-shm"))
        .map(|path| {
            (
                path.file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned(),
                std::fs::read(&path).expect("readable"),
            )
        })
        .collect();
    files.sort();
    files
}

/// A server that runs until it is told to stop, or dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    rest: Option<std::thread::JoinHandle<String>>,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").expect("a URL").1
    }

    /// Sends a signal.
    pub(crate) fn send(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process lives");
    }

    pub(crate) fn port(&self) -> &str {
        self.url.rsplit(':').next().expect("a port")
    }

    /// Sends SIGTERM and returns what the process said on both channels, and its exit code.
    pub(crate) fn stop(self) -> Outcome {
        self.send(rustix::process::Signal::TERM);
        self.ended()
    }

    /// Waits for the end of the process, and returns what it said on both channels, and its exit code.
    pub(crate) fn ended(mut self) -> Outcome {
        let until = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < until, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut stdout = String::new();
        self.child
            .stdout
            .take()
            .expect("piped")
            .read_to_string(&mut stdout)
            .expect("UTF-8");
        let stderr = self.rest.take().expect("once").join().expect("read");
        Outcome {
            code: status.code().unwrap_or(-1),
            stdout,
            stderr,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
