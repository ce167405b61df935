//! Counts what the metrics page shows: verifications by outcome, and issued tokens.

use std::sync::atomic::{AtomicU64, Ordering};

use countersign_protocol::token::TokenFormat;

use crate::error::Refusal;

const FORMATS: [TokenFormat; 2] = [TokenFormat::Opaque, TokenFormat::Jwt];
/// The outcomes of a verification: valid, and each refusal.
const OUTCOMES: [Option<Refusal>; 5] = [
    None,
    Some(Refusal::Unknown),
    Some(Refusal::Revoked),
    Some(Refusal::Expired),
    Some(Refusal::NotInScope),
];
const REUSED: [bool; 2] = [false, true];

/// The live counters.
#[derive(Default)]
pub(crate) struct Tally {
    verifications: [[AtomicU64; OUTCOMES.len()]; FORMATS.len()],
    issued: [[AtomicU64; REUSED.len()]; FORMATS.len()],
}

impl Tally {
    pub(crate) fn verified(&self, format: TokenFormat, outcome: Option<Refusal>) {
        count(&self.verifications, place(format), outcome_place(outcome));
    }

    pub(crate) fn issued(&self, format: TokenFormat, is_reused: bool) {
        count(&self.issued, place(format), usize::from(is_reused));
    }

    pub(crate) fn snapshot(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            verifications: self
                .verifications
                .each_ref()
                .map(|row| row.each_ref().map(read)),
            issued: self.issued.each_ref().map(|row| row.each_ref().map(read)),
        }
    }
}

/// The counts since the authority was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    verifications: [[u64; OUTCOMES.len()]; FORMATS.len()],
    issued: [[u64; REUSED.len()]; FORMATS.len()],
}

impl Counters {
    /// Returns the number of verifications by format and outcome; `None` is a valid token.
    pub fn verifications(&self) -> impl Iterator<Item = (TokenFormat, Option<Refusal>, u64)> {
        labeled(FORMATS, OUTCOMES, self.verifications)
    }

    /// Returns the number of tokens handed out, by format and by whether an existing token was
    /// reused.
    pub fn issued(&self) -> impl Iterator<Item = (TokenFormat, bool, u64)> {
        labeled(FORMATS, REUSED, self.issued)
    }
}

fn labeled<A: Copy, B: Copy, const N: usize, const M: usize>(
    rows: [A; N],
    columns: [B; M],
    counts: [[u64; M]; N],
) -> impl Iterator<Item = (A, B, u64)> {
    rows.into_iter().zip(counts).flat_map(move |(row, counts)| {
        columns
            .into_iter()
            .zip(counts)
            .map(move |(column, count)| (row, column, count))
    })
}

fn place(format: TokenFormat) -> usize {
    match format {
        TokenFormat::Opaque => 0,
        TokenFormat::Jwt => 1,
    }
}

fn outcome_place(outcome: Option<Refusal>) -> usize {
    match outcome {
        None => 0,
        Some(Refusal::Unknown) => 1,
        Some(Refusal::Revoked) => 2,
        Some(Refusal::Expired) => 3,
        Some(Refusal::NotInScope) => 4,
    }
}

fn count<const M: usize>(counters: &[[AtomicU64; M]], row: usize, column: usize) {
    if let Some(counter) = counters.get(row).and_then(|row| row.get(column)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_a_counter_of_its_own() {
        let tally = Tally::default();
        let mut times = 0;
        for format in FORMATS {
            for outcome in OUTCOMES {
                times += 1;
                for _ in 0..times {
                    tally.verified(format, outcome);
                }
            }
        }
        tally.issued(TokenFormat::Jwt, true);
        let counters = tally.snapshot();
        let counts: Vec<_> = counters.verifications().collect();
        assert_eq!(counts.len(), 10);
        for (number, (format, outcome, count)) in (0_usize..).zip(counts) {
            assert_eq!(format, FORMATS[number / 5]);
            assert_eq!(outcome, OUTCOMES[number % 5]);
            assert_eq!(count, number as u64 + 1);
        }
        let issued: Vec<_> = counters.issued().map(|(_, _, count)| count).collect();
        assert_eq!(issued, [0, 0, 0, 1]);
    }
}
