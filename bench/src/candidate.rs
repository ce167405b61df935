//! The comparison itself: candidates measured in turn, round after round, medians of the rounds.
//!
//! Alternating puts every candidate through the same weather on a machine that is not ours alone.
//! Each round opens new connections, warms up outside the measurement, then counts answers and the
//! server's processor time over the same window.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::load::{Bound, Expected, Load};
use crate::process::Server;
use crate::requests::Requests;

/// How long and how often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub rounds: usize,
    pub warm_up: Duration,
    pub window: Duration,
    pub connections: usize,
}

/// What one round of one candidate found: microseconds of processor time per answer, answers per
/// second, and latencies in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub processor: f64,
    pub rate: f64,
    pub p50: f64,
    pub p99: f64,
}

/// The medians of a candidate's rounds, and the extremes of its processor time.
#[derive(Clone, Debug)]
pub struct Figures {
    pub name: String,
    pub median: Round,
    pub lowest: f64,
    pub highest: f64,
}

/// Something that can be measured for a while.
pub trait Candidate {
    fn name(&self) -> &str;
    fn round(&mut self, plan: &Plan) -> Result<Round>;
}

/// A server that answers one kind of request.
#[derive(Debug)]
pub struct Http<'a> {
    pub name: String,
    pub server: &'a Server,
    pub requests: Requests,
    pub expected: Expected,
}

impl Http<'_> {
    /// Returns the size of this candidate's answers, for a yardstick of the same size.
    pub fn body_bytes(&mut self) -> Result<usize> {
        let mut load = Load::connect(self.server.address(), 1)?;
        let bound = Bound::count(16);
        let tally = load.run(&mut self.requests, self.expected, bound, &mut |_| Ok(()))?;
        Ok(usize::try_from(tally.body_bytes / tally.answers)?)
    }
}

impl Candidate for Http<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn round(&mut self, plan: &Plan) -> Result<Round> {
        let mut load = Load::connect(self.server.address(), plan.connections)?;
        let mut run = |duration| {
            let bound = Bound::duration(duration);
            load.run(&mut self.requests, self.expected, bound, &mut |_| Ok(()))
        };
        run(plan.warm_up)?;
        let before = self.server.processor_time()?;
        let mut tally = run(plan.window)?;
        let used = self.server.processor_time()? - before;
        Ok(Round {
            processor: used.as_secs_f64() * 1e6 / tally.answers as f64,
            rate: tally.rate(),
            p50: tally.percentile(0.5),
            p99: tally.percentile(0.99),
        })
    }
}

/// Measures all candidates in each round, one after the other.
pub fn alternate(plan: &Plan, candidates: &mut [&mut dyn Candidate]) -> Result<Vec<Figures>> {
    let mut rounds: Vec<Vec<Round>> = candidates.iter().map(|_| Vec::new()).collect();
    for number in 1..=plan.rounds {
        for (candidate, results) in candidates.iter_mut().zip(&mut rounds) {
            let round = candidate
                .round(plan)
                .with_context(|| candidate.name().to_owned())?;
            eprintln!(
                "  round {number} of {}: {:<34} {:>8.2} µs {:>9.0}/s",
                plan.rounds,
                candidate.name(),
                round.processor,
                round.rate
            );
            results.push(round);
        }
    }
    Ok(candidates
        .iter()
        .zip(&rounds)
        .map(|(candidate, rounds)| Figures::of(candidate.name(), rounds))
        .collect())
}

impl Figures {
    fn of(name: &str, rounds: &[Round]) -> Self {
        let sorted = |field: fn(&Round) -> f64| {
            let mut values: Vec<_> = rounds.iter().map(field).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let median = |field| median(&sorted(field));
        let processor = sorted(|round| round.processor);
        Self {
            name: name.to_owned(),
            median: Round {
                processor: median(|round| round.processor),
                rate: median(|round| round.rate),
                p50: median(|round| round.p50),
                p99: median(|round| round.p99),
            },
            lowest: processor.first().copied().unwrap_or(f64::NAN),
            highest: processor.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// Returns the middle of sorted values, the upper one of two.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_take_the_median_of_each_column() {
        let round = |processor, rate| Round {
            processor,
            rate,
            p50: 1.0,
            p99: 2.0,
        };
        let figures = Figures::of("x", &[round(3.0, 10.0), round(1.0, 30.0), round(2.0, 20.0)]);
        assert_eq!((figures.median.processor, figures.median.rate), (2.0, 20.0));
        assert_eq!((figures.lowest, figures.highest), (1.0, 3.0));
    }
}
