//! Readers that stand still, and disks that are full: standard output and standard error never hold up the process.

use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeWriter, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Place, ask};

/// How many bytes a pipe takes before its writer waits (pipe(7)).
const PIPE_BYTES: usize = 65_536;

fn full_disk() -> Stdio {
    let device = File::options().write(true).open("/dev/full");
    device.expect("a device").into()
}

/// A pipe that takes nothing more. Its reader is returned to keep it open.
fn full_pipe() -> (std::io::PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[b'.'; PIPE_BYTES]).expect("room");
    (reader, writer)
}

/// A server with other streams than `Place` gives it.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(place: &Place, arguments: &[&str], stdout: Stdio, stderr: Stdio) -> Self {
        let child = place
            .command(arguments)
            .args(["--listen", "127.0.0.1:0", "--port-file", "port"])
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("starts");
        let mut running = Self {
            child,
            address: String::new(),
        };
        let port = place.path("port");
        let text = running.until("the server listens", |_| {
            std::fs::read_to_string(&port).ok()
        });
        running.address = format!("127.0.0.1:{text}");
        running
    }

    /// Waits until there is something.
    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Child) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = look(&mut self.child) {
                return found;
            }
            assert!(Instant::now() < end, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a request on its own connection, and returns the response.
    fn ask(&self, request: &str) -> String {
        ask(
            &self.address,
            &format!("{request}Host: localhost\r\nConnection: close\r\n\r\n"),
        )
    }

    fn is_healthy(&self) -> bool {
        self.ask("GET /healthz HTTP/1.1\r\n").ends_with("ok\n")
    }

    fn lost_lines(&self) -> u64 {
        let page = self.ask("GET /metrics HTTP/1.1\r\n");
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("countersign_log_lines_lost_total "));
        line.and_then(|count| count.parse().ok()).expect("a count")
    }

    /// Has lines logged until one is lost.
    fn lose_lines(&self) {
        while self.lost_lines() == 0 {
            self.refuse(500);
        }
    }

    /// Has refusals logged, each a line.
    fn refuse(&self, count: usize) {
        let mut stream = TcpStream::connect(&self.address).expect("listens");
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).expect("a socket");
        let mut answers = BufReader::new(stream.try_clone().expect("a socket"));
        for _ in 0..count {
            stream
                .write_all(b"GET /v1/machines HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk_test_nobody\r\n\r\n")
                .expect("open");
            let mut length = 0;
            loop {
                let mut line = String::new();
                answers.read_line(&mut line).expect("an answer");
                let line = line.trim().to_ascii_lowercase();
                if let Some(number) = line.strip_prefix("content-length: ") {
                    length = number.parse().expect("a number");
                }
                if line.is_empty() {
                    break;
                }
            }
            answers.read_exact(&mut vec![0; length]).expect("a body");
        }
    }

    /// Sends SIGTERM and returns the exit code.
    fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
        self.until("the server ends", |child| {
            child.try_wait().expect("a child")
        })
        .code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LOUD: [&str; 7] = [
    "serve",
    "--data",
    "data",
    "--log",
    "trace",
    "--max-auth-failures",
    "1000000",
];

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let (place, _) = Place::with_authority();
    let (reader, writer) = full_pipe();
    let running = Running::start(&place, &LOUD, Stdio::null(), writer.into());
    running.lose_lines();
    assert!(running.is_healthy());
    assert_eq!(running.stop(), Some(0));
    drop(reader);
}

#[test]
fn a_log_that_flows_again_says_how_many_lines_are_missing() {
    let (place, _) = Place::with_authority();
    let (reader, writer) = full_pipe();
    let running = Running::start(&place, &LOUD, Stdio::null(), writer.into());
    running.lose_lines();
    let told = BufReader::new(reader)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("lines of the log were lost"))
        .expect("a warning");
    assert!(told.contains("WARN") && told.contains("lines="), "{told}");
    assert!(running.is_healthy());
}

#[test]
fn a_full_disk_below_the_log_costs_lines_and_nothing_else() {
    let (place, _) = Place::with_authority();
    let running = Running::start(&place, &LOUD, Stdio::null(), full_disk());
    running.refuse(3);
    assert!(running.is_healthy() && running.lost_lines() > 0);
    assert_eq!(running.stop(), Some(0));

    // A command whose messages cannot be written ends as it would have.
    let failed = place
        .command(&["machine", "list"])
        .stderr(full_disk())
        .status();
    assert_eq!(failed.expect("ends").code(), Some(11));
}

#[test]
fn dev_serves_where_nobody_reads_its_greeting() {
    let place = Place::new();
    let (reader, writer) = full_pipe();
    let running = Running::start(&place, &["dev"], writer.into(), Stdio::null());
    assert!(running.is_healthy());
    assert_eq!(running.stop(), Some(0));
    drop(reader);
}

#[test]
fn a_secret_that_cannot_be_shown_names_the_way_to_another() {
    let place = Place::new();
    let mut outputs = vec![full_disk()];
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    outputs.push(writer.into());
    for (number, stdout) in outputs.into_iter().enumerate() {
        let folder = format!("data {number}");
        let output = place
            .command(&["init", "--json", "--data", &folder])
            .stdout(stdout)
            .output()
            .expect("ends");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("error: the authority is ready: cannot write to standard output: ")
                && said.contains(&format!(
                    "instance key create --data '{folder}'` makes another key"
                )),
            "{said}"
        );
        let key = place.run(&["instance", "key", "create", "--data", &folder]);
        assert_eq!(key.code, 0, "{}", key.stderr);
    }
}
