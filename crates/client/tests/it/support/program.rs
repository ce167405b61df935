//! An example's own executable, as its user starts it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

/// A program that listens. It ends with the test.
pub(crate) struct Program {
    pub(crate) url: String,
    child: Child,
    /// Kept, so that it can go on logging.
    _log: BufReader<ChildStderr>,
}

impl Program {
    /// Starts it with nothing but these variables, and waits until it has said where it listens.
    pub(crate) fn start(path: &str, argument: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(path)
            .arg(argument)
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(std::env::temp_dir())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let url = loop {
            let start = said.len();
            let length = log.read_line(&mut said).unwrap();
            assert!(length > 0, "it ended: {said}");
            let (_, line) = said.split_at(start);
            if let Some((_, rest)) = line.split_once("127.0.0.1:") {
                let digits = rest.split(|it: char| !it.is_ascii_digit()).next();
                break format!("http://127.0.0.1:{}", digits.unwrap());
            }
        };
        Self {
            url,
            child,
            _log: log,
        }
    }

    /// Asks it to end, as service managers do.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
