//! HTTP/1.1 by hand: nothing is added, removed or repaired.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Long enough for any answer; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request to be written.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("Authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn json(self, body: &str) -> Self {
        self.header("Content-Type", "application/json").body(body)
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// Puts a prefix before the path.
    pub(crate) fn under(mut self, prefix: &str) -> Self {
        self.target.insert_str(0, prefix);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\n",
            self.method, self.target
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        [head.as_bytes(), self.body.as_deref().unwrap_or_default()].concat()
    }
}

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, request: &Request) -> Reply {
        self.write(&request.bytes());
        self.read(request.method == "HEAD")
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        // A server that has refused already may have closed its end.
        let _ = self.stream.write_all(bytes);
    }

    /// Waits until an answer begins.
    pub(crate) fn wait(&self) {
        assert_eq!(self.stream.peek(&mut [0]).ok(), Some(1));
    }

    /// Says that nothing more will come.
    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads one answer, the connection staying open.
    pub(crate) fn read(&mut self, is_head: bool) -> Reply {
        let end =
            self.fill_until(|buffer| buffer.windows(4).position(|window| window == b"\r\n\r\n"));
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap();
        let status = status_line.split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = match length {
            Some((_, length)) if !is_head => length.parse().unwrap(),
            _ => 0,
        };
        self.fill_until(|buffer| (buffer.len() >= length).then_some(0));
        let body = self.buffer.drain(..length).collect();
        Reply {
            status,
            headers,
            body,
        }
    }

    fn fill_until(&mut self, is_enough: impl Fn(&[u8]) -> Option<usize>) -> usize {
        loop {
            if let Some(found) = is_enough(&self.buffer) {
                return found;
            }
            let mut chunk = [0; 4096];
            let count = self
                .stream
                .read(&mut chunk)
                .expect("an answer comes in time");
            assert_ne!(
                count, 0,
                "the connection was closed after {:?}",
                self.buffer
            );
            self.buffer.extend_from_slice(&chunk[..count]);
        }
    }

    /// Whether the server closes without a further word.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }
}

/// An answer. It is shown whole but for the date, which is not ours, and the length, which the body tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(candidate, _)| candidate == name);
        let first = found.next()?;
        assert_eq!(found.next(), None, "{name} is given twice");
        Some(&first.1)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The same answer without what differs between two equal refusals: the trace id.
    pub(crate) fn without_trace(&self) -> String {
        let trace = self.header("clerk-trace-id").unwrap();
        self.to_string().replace(trace, "(trace)")
    }

    /// The answer in one line: a success with its body, a refusal with its code, words and parameter. What every refusal
    /// must have is checked on the way.
    pub(crate) fn line(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self}"
        );
        if self.is_success() {
            return format!("{} {}", self.status, self.text());
        }
        let envelope = self.value();
        let [error] = envelope["errors"].as_array().unwrap().as_slice() else {
            panic!("not one error: {self}")
        };
        let trace = self.header("clerk-trace-id").unwrap();
        assert_eq!(envelope["clerk_trace_id"], trace);
        assert!(trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert!(!error["message"].as_str().unwrap().is_empty());
        let meta = error
            .get("meta")
            .map(|meta| format!(" {meta}"))
            .unwrap_or_default();
        let (code, long) = (
            error["code"].as_str().unwrap(),
            error["long_message"].as_str().unwrap(),
        );
        format!("{} {code}: {long}{meta}", self.status)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.status)?;
        let mut headers: Vec<_> = self.headers.iter().collect();
        headers.sort();
        for (name, value) in headers {
            if !matches!(name.as_str(), "date" | "content-length") {
                writeln!(formatter, "{name}: {value}")?;
            }
        }
        write!(formatter, "\n{}", String::from_utf8_lossy(&self.body))
    }
}
