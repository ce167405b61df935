//! Where the time of one verification goes inside the process, without HTTP.
//!
//! Opens the authority of a seeded data folder in this process and calls it on one thread, by that
//! thread's processor time. The parts are measured one by one in each round, over the same random
//! tokens; what `Authority::verify` takes beyond the hash and the look-up is the decision: parsing the token,
//! finding the caller's key, comparing digests, scope, revocation, expiry, noting the use, and making the answer.
//! A server calls `Authority::verify_presented`, which finds out who calls in the same operation of the store.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use countersign_authority::Accepts;
use countersign_protocol::ids::{InstanceId, Locator};
use countersign_protocol::secret::TokenString;
use countersign_store::Store;

use crate::authority;
use crate::candidate::{Plan, median};
use crate::clock::thread_processor_time;
use crate::deployment::Deployment;
use crate::metrics::wait_until_filled;
use crate::report::{Section, Table};
use crate::requests::Random;

/// Calls in a round for each millisecond of the plan's window, about what a server answers over HTTP in that time.
pub(crate) const CALLS_PER_MILLISECOND: u128 = 50;

/// A token to look up.
struct Sample<'a> {
    token: &'a str,
    locator: Locator,
}

/// Nanoseconds of processor time per call in each round, sorted.
#[derive(Default)]
pub(crate) struct Part(Vec<f64>);

pub fn section(plan: &Plan, deployment: &Deployment) -> Result<Section> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(plan, deployment))
}

async fn measure(plan: &Plan, deployment: &Deployment) -> Result<Section> {
    let samples = samples(plan, deployment)?;
    let data = deployment.data();
    let store = authority::open_store(&data, None)?;
    let authority = authority::open(&data, Arc::clone(&store)).await?;
    let indexed = || authority::measure(&*store, "indexed_tokens");
    wait_until_filled(deployment.stored(), indexed)?;
    let in_memory = indexed()?;

    let key = deployment.receiver_key();
    let receiver = authority.authenticate(key, Accepts::Machine).await?;
    let instance = receiver.instance_id();
    let hash_key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    let first = samples.first().context("no token is stored")?;
    let body = authority.verify(&receiver, first.token).await?;
    // Looks every token up once, so that those that were not in memory are, as far as there is room.
    nanoseconds_per_call(&samples, async |sample| {
        look_up(&*store, instance, sample.locator).await
    })
    .await?;

    let [mut hash, mut found, mut whole] = [const { Part(Vec::new()) }; 3];
    let [mut authenticate, mut presented, mut serialize] = [const { Part(Vec::new()) }; 3];
    let misses_before = authority::measure(&*store, "index_misses")?;
    for _ in 0..plan.rounds {
        hash.round(&samples, async |sample| {
            black_box(hmac::sign(&hash_key, sample.token.as_bytes()));
            Ok(())
        })
        .await?;
        found
            .round(&samples, async |sample| {
                look_up(&*store, instance, sample.locator).await
            })
            .await?;
        whole
            .round(&samples, async |sample| {
                black_box(authority.verify(&receiver, sample.token).await?);
                Ok(())
            })
            .await?;
        // As the server does every few seconds; else there would be no room to note further uses.
        authority.flush().await?;
        authenticate
            .round(&samples, async |_| {
                black_box(authority.authenticate(key, Accepts::Machine).await?);
                Ok(())
            })
            .await?;
        presented
            .round(&samples, async |sample| {
                black_box(authority.verify_presented(key, sample.token).await?);
                Ok(())
            })
            .await?;
        authority.flush().await?;
        serialize
            .round(&samples, async |_| {
                black_box(black_box(&body).to_json());
                Ok(())
            })
            .await?;
    }
    let missed_reads = authority::measure(&*store, "index_misses")? - misses_before;
    // The folder is for one process at a time, and for one store in it.
    drop((authority, store));
    let missed = misses(plan, deployment, &samples, instance).await?;

    let decision = whole.median() - hash.median() - found.median();
    let sum = presented.median() + serialize.median();
    let calls = samples.len();
    let rows = [
        ("keyed hash of the token", hash.cells()),
        ("look-up in the index", found.cells()),
        ("decision: the rest of verify", cells(decision)),
        ("= Authority::verify", whole.cells()),
        ("Authority::authenticate", authenticate.cells()),
        ("Authority::verify_presented", presented.cells()),
        ("serialization of the answer", serialize.cells()),
        ("= verify_presented + serialization", cells(sum)),
        ("look-up in the database instead", missed.cells()),
    ];
    Ok(Section {
        title: "In process",
        lead: format!(
            "The parts of one verification of an opaque token by a machine, on one thread and without HTTP: \
             {} rounds of {calls} calls with random ones of {} stored tokens. \
             At the start {in_memory} tokens were in memory, and {missed_reads} reads in all rounds went to the database.",
            plan.rounds,
            deployment.stored(),
        ),
        tables: vec![Table {
            headers: vec!["part", "processor ns", "in all rounds"],
            rows: rows
                .into_iter()
                .map(|(name, [figure, spread])| vec![name.to_owned(), figure, spread])
                .collect(),
        }],
        checks: vec![],
    })
}

/// Measures the look-up where no token finds room in memory.
async fn misses(
    plan: &Plan,
    deployment: &Deployment,
    samples: &[Sample<'_>],
    instance: InstanceId,
) -> Result<Part> {
    let store = authority::open_store(&deployment.data(), Some(0))?;
    let mut missed = Part::default();
    for _ in 0..plan.rounds {
        missed
            .round(samples, async |sample| {
                look_up(&*store, instance, sample.locator).await
            })
            .await?;
    }
    let expected = u64::try_from(plan.rounds * samples.len())?;
    ensure!(
        authority::measure(&*store, "index_misses")? >= expected,
        "a store without room for tokens answered from memory"
    );
    Ok(missed)
}

async fn look_up(store: &dyn Store, instance: InstanceId, locator: Locator) -> Result<()> {
    let found = store.token(instance, locator).await?;
    ensure!(black_box(found).is_some(), "a stored token was not found");
    Ok(())
}

/// Picks tokens at random.
fn samples<'a>(plan: &Plan, deployment: &'a Deployment) -> Result<Vec<Sample<'a>>> {
    let calls = usize::try_from(plan.window.as_millis() * CALLS_PER_MILLISECOND)?;
    let mut random = Random::default();
    let tokens = deployment.tokens();
    let sample = |_| {
        let token = std::str::from_utf8(tokens.at(random.below(tokens.len())))?;
        let locator = TokenString::locate(token).context("this is no token of ours")?;
        Ok(Sample { token, locator })
    };
    (0..calls).map(sample).collect()
}

impl Part {
    pub(crate) async fn round<S>(
        &mut self,
        samples: &[S],
        call: impl AsyncFnMut(&S) -> Result<()>,
    ) -> Result<()> {
        self.0.push(nanoseconds_per_call(samples, call).await?);
        self.0.sort_by(f64::total_cmp);
        Ok(())
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.0)
    }

    /// Returns the median and the extremes.
    pub(crate) fn cells(&self) -> [String; 2] {
        let [lowest, highest] =
            [self.0.first(), self.0.last()].map(|end| end.map_or(f64::NAN, |end| *end));
        [
            format!("{:.0}", self.median()),
            format!("{lowest:.0} to {highest:.0}"),
        ]
    }
}

/// A figure that was calculated from others.
fn cells(nanoseconds: f64) -> [String; 2] {
    [format!("{nanoseconds:.0}"), String::new()]
}

/// Returns the processor time of one call on this thread, averaged over all samples.
async fn nanoseconds_per_call<S>(
    samples: &[S],
    mut call: impl AsyncFnMut(&S) -> Result<()>,
) -> Result<f64> {
    let before = thread_processor_time();
    for sample in samples {
        call(sample).await?;
    }
    let used = thread_processor_time() - before;
    Ok(used.as_secs_f64() * 1e9 / samples.len() as f64)
}
