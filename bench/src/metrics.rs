//! What a server counts, above all about its index in memory: read from `/metrics` before and after a measurement.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock::now;
use crate::http;

/// How long the number of indexed tokens must stand still to count as final.
const STILL: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(250);

/// Counters of point reads, and the tokens in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct IndexState {
    pub tokens: u64,
    hits: u64,
    misses: u64,
    verifications: u64,
}

/// Where the point reads between two states were answered from.
#[derive(Clone, Copy, Debug)]
pub struct Reads {
    /// The share that memory answered.
    pub hits: f64,
    /// How many reads a verification took from the database. All but the token's own row are in memory, so this is about
    /// the share of tokens that were not.
    pub misses_per_verification: f64,
}

impl IndexState {
    pub fn read(address: SocketAddr) -> Result<Self> {
        Self::parse(&page(address)?)
    }

    fn parse(page: &str) -> Result<Self> {
        let number = |name| sum(page, name).with_context(|| format!("/metrics has no {name}"));
        Ok(Self {
            tokens: number("countersign_store_indexed_tokens")?,
            hits: number("countersign_store_index_hits")?,
            misses: number("countersign_store_index_misses")?,
            // A family without members has no line yet.
            verifications: number("countersign_verifications").unwrap_or(0),
        })
    }

    pub fn reads_since(&self, before: &Self) -> Reads {
        let hits = (self.hits - before.hits) as f64;
        let misses = (self.misses - before.misses) as f64;
        let verifications = (self.verifications - before.verifications) as f64;
        Reads {
            hits: hits / (hits + misses),
            misses_per_verification: misses / verifications,
        }
    }
}

/// Returns how many verifications a server has answered since its start.
pub fn verifications(address: SocketAddr) -> Result<u64> {
    Ok(sum(&page(address)?, "countersign_verifications").unwrap_or(0))
}

/// Returns how many tokens a server has handed out since its start.
pub fn issued_tokens(address: SocketAddr) -> Result<u64> {
    Ok(sum(&page(address)?, "countersign_tokens_issued").unwrap_or(0))
}

/// Waits until the index holds all `stored` tokens or has stopped growing, and returns how long it grew.
///
/// After a start the store fills its index in the background; a measurement before that is done
/// would measure the filling.
pub fn wait_until_filled(stored: usize, tokens: impl Fn() -> Result<u64>) -> Result<Duration> {
    const PATIENCE: Duration = Duration::from_secs(300);
    let stored = u64::try_from(stored)?;
    let start = now();
    let (mut last, mut since) = (tokens()?, start);
    while last < stored && since.elapsed() < STILL {
        ensure!(
            start.elapsed() < PATIENCE,
            "the index still grows after {PATIENCE:?}"
        );
        std::thread::sleep(PAUSE);
        let current = tokens()?;
        if current != last {
            (last, since) = (current, now());
        }
    }
    Ok(since - start)
}

fn page(address: SocketAddr) -> Result<String> {
    let (status, page) = http::call(address, &http::get("/metrics", None))?;
    ensure!(status == 200, "/metrics answered {status}");
    Ok(String::from_utf8(page)?)
}

/// Adds the values of a metric over all its labels. A counter's name may end in `_total`.
fn sum(page: &str, name: &str) -> Option<u64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = rest.strip_prefix("_total").unwrap_or(rest);
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest,
        };
        value.strip_prefix(' ')?.trim().parse::<u64>().ok()
    });
    values.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# TYPE countersign_verifications counter
countersign_verifications_total{format=\"opaque\",outcome=\"valid\"} 7
countersign_verifications_total{format=\"jwt\",outcome=\"expired\"} 3
countersign_store_index_hits 30
countersign_store_index_misses 10
countersign_store_indexed_tokens 5
countersign_store_indexed_tokens_of_something_else 99
";

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let state = IndexState::parse(PAGE).unwrap();
        let reads = state.reads_since(&IndexState::default());
        assert_eq!(state.tokens, 5);
        assert_eq!((reads.hits, reads.misses_per_verification), (0.75, 1.0));
        assert!(IndexState::parse("countersign_connections 1\n").is_err());
    }
}
