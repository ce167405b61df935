//! The load generator: keep-alive connections that send, wait for the whole answer, and send again.
//!
//! One thread and one readiness loop on raw sockets, two system calls per request, so that the
//! server is the bottleneck and its wake-ups are shared by several requests, as under real load.
//! Every answer is compared with what was expected, and a run with a single other answer fails:
//! a refusal is cheaper than the work, and must never count as speed.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::clock::now;
use crate::http;
use crate::requests::Requests;

/// A server that answers nothing for this long is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a right answer looks like: its status, and words that its body must contain.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub status: u16,
    pub contains: &'static str,
}

/// What the servers that do nothing answer.
pub const BARE: Expected = Expected {
    status: 200,
    contains: "xx",
};

/// A run ends at whichever comes first; requests under way are still awaited and counted.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub duration: Duration,
    pub count: u64,
}

impl Bound {
    pub fn duration(duration: Duration) -> Self {
        Self {
            duration,
            count: u64::MAX,
        }
    }

    pub fn count(count: u64) -> Self {
        Self {
            duration: Duration::from_secs(3600),
            count,
        }
    }
}

/// What one run found.
#[derive(Debug)]
pub struct Tally {
    pub answers: u64,
    pub body_bytes: u64,
    pub elapsed: Duration,
    unexpected: u64,
    first_unexpected: Option<String>,
    latencies: Latencies,
}

impl Tally {
    /// Returns the answers per second.
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the latency in milliseconds that the given share of answers did not exceed.
    pub fn percentile(&mut self, share: f64) -> f64 {
        self.latencies.percentile(share).as_secs_f64() * 1e3
    }

    fn check(self) -> Result<Self> {
        if let Some(first) = &self.first_unexpected {
            bail!(
                "{} of {} answers were not as expected, the first of them: {first}",
                self.unexpected,
                self.answers
            );
        }
        ensure!(self.answers > 0, "no answer came in the time given");
        Ok(self)
    }
}

/// All latencies of a run, so that percentiles are exact.
#[derive(Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        self.0
            .push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the share lies between 0 and 1, so the place lies within the list"
    )]
    pub fn percentile(&mut self, share: f64) -> Duration {
        let Some(last) = self.0.len().checked_sub(1) else {
            return Duration::ZERO;
        };
        let place = (last as f64 * share).round() as usize;
        let (_, value, _) = self.0.select_nth_unstable(place.min(last));
        Duration::from_nanos(u64::from(*value))
    }
}

struct Connection {
    stream: TcpStream,
    sent: Instant,
    received: Vec<u8>,
}

/// A set of open connections to one server.
pub struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    chunk: Vec<u8>,
}

impl std::fmt::Debug for Load {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Load({} connections)", self.connections.len())
    }
}

impl Load {
    pub fn connect(address: SocketAddr, connections: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let mut opened = Vec::with_capacity(connections);
        for number in 0..connections {
            let stream = std::net::TcpStream::connect(address).context("cannot connect")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(number), Interest::READABLE)?;
            opened.push(Connection {
                stream,
                sent: now(),
                received: Vec::with_capacity(4096),
            });
        }
        Ok(Self {
            poll,
            connections: opened,
            chunk: vec![0; 64 * 1024],
        })
    }

    /// Sends until the bound is reached and hands every expected body to `on_body`.
    pub fn run(
        &mut self,
        requests: &mut Requests,
        expected: Expected,
        bound: Bound,
        on_body: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Tally> {
        let words = memchr::memmem::Finder::new(expected.contains);
        let mut tally = Tally {
            answers: 0,
            body_bytes: 0,
            elapsed: Duration::ZERO,
            unexpected: 0,
            first_unexpected: None,
            latencies: Latencies::default(),
        };
        let start = now();
        let mut to_send = bound.count;
        let mut under_way = 0;
        for connection in &mut self.connections {
            if to_send > 0 {
                connection.send(requests.next_request())?;
                to_send -= 1;
                under_way += 1;
            }
        }

        let mut events = Events::with_capacity(self.connections.len().max(1));
        while under_way > 0 {
            self.poll.poll(&mut events, Some(PATIENCE))?;
            ensure!(!events.is_empty(), "no answer for {PATIENCE:?}");
            for event in &events {
                let connection = self
                    .connections
                    .get_mut(event.token().0)
                    .expect("each event names a registered connection");
                connection.receive(&mut self.chunk)?;
                let Some(response) = http::parse(&connection.received)? else {
                    continue;
                };
                let answered = now();
                tally.answers += 1;
                tally.body_bytes += response.body.len() as u64;
                tally.latencies.record(answered - connection.sent);
                if response.status == expected.status && words.find(response.body).is_some() {
                    on_body(response.body)?;
                } else {
                    tally.unexpected += 1;
                    tally.first_unexpected.get_or_insert_with(|| {
                        let text = String::from_utf8_lossy(response.body);
                        format!(
                            "{} {}",
                            response.status,
                            text.chars().take(400).collect::<String>()
                        )
                    });
                }
                connection.received.clear();
                if to_send > 0 && answered - start < bound.duration {
                    connection.send(requests.next_request())?;
                    to_send -= 1;
                } else {
                    under_way -= 1;
                }
            }
        }
        tally.elapsed = start.elapsed();
        tally.check()
    }
}

impl Connection {
    fn send(&mut self, request: &[u8]) -> Result<()> {
        self.sent = now();
        let written = self.stream.write(request).context("cannot send")?;
        ensure!(
            written == request.len(),
            "a request did not fit the socket's buffer"
        );
        Ok(())
    }

    /// Takes what has arrived. Events come once per arrival, so a full chunk is followed by another read.
    fn receive(&mut self, chunk: &mut [u8]) -> Result<()> {
        loop {
            match self.stream.read(chunk) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) => {
                    self.received.extend_from_slice(chunk.split_at(count).0);
                    if count < chunk.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot receive"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact() {
        let mut latencies = Latencies::default();
        for milliseconds in (0..=100).rev() {
            latencies.record(Duration::from_millis(milliseconds));
        }
        assert_eq!(latencies.percentile(0.5), Duration::from_millis(50));
        assert_eq!(latencies.percentile(0.99), Duration::from_millis(99));
        assert_eq!(Latencies::default().percentile(0.5), Duration::ZERO);
    }
}
