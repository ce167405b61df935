//! What the authority counts, as Prometheus reads it. Labels come from fixed sets: operations, statuses, outcomes.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use countersign_authority::{Refusal, Statistics};
use http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::route::Operation;

/// Upper bounds of the request durations, in seconds.
const DURATIONS: [f64; 10] = [
    0.000_05, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0, 8.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: OperationLabel,
    status: u16,
}

/// An operation, or none for paths that do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct OperationLabel(Option<Operation>);

impl prometheus_client::encoding::EncodeLabelValue for OperationLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        use std::fmt::Write as _;
        match self.0 {
            Some(operation) => write!(encoder, "{operation:?}"),
            None => encoder.write_str("None"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerificationLabels {
    format: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MintLabels {
    format: &'static str,
    reused: bool,
}

/// The counters.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter<u64, AtomicU64>>,
    durations: Histogram,
    verifications: Family<VerificationLabels, Counter<u64, AtomicU64>>,
    mints: Family<MintLabels, Counter<u64, AtomicU64>>,
    pub(crate) connections: Gauge,
    store: StoreGauges,
}

/// Copies of the store's own counters, refreshed when somebody looks.
struct StoreGauges {
    commits: Gauge,
    operations: Gauge,
    commit_micros: Gauge,
    hits: Gauge,
    misses: Gauge,
    indexed: Gauge,
}

/// A new metric, registered.
fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// When a request began.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("countersign");
        let durations = Histogram::new(DURATIONS);
        registry.register(
            "http_request_duration_seconds",
            "Time from the end of a request to its answer",
            durations.clone(),
        );
        let own = &mut registry;
        Self {
            requests: registered(own, "http_requests", "Answered requests"),
            durations,
            verifications: registered(own, "verifications", "Verifications of tokens by outcome"),
            mints: registered(
                own,
                "tokens_issued",
                "Tokens handed out, new ones and reused ones",
            ),
            connections: registered(own, "connections", "Open connections"),
            store: StoreGauges {
                commits: registered(own, "store_commits", "Durable commits since the start"),
                operations: registered(
                    own,
                    "store_committed_operations",
                    "Operations in all commits; divided by commits it is the batch size",
                ),
                commit_micros: registered(
                    own,
                    "store_commit_microseconds",
                    "Time spent in commits since the start",
                ),
                hits: registered(
                    own,
                    "store_index_hits",
                    "Point reads answered from memory since the start",
                ),
                misses: registered(
                    own,
                    "store_index_misses",
                    "Point reads answered from the database since the start",
                ),
                indexed: registered(own, "store_indexed_tokens", "Tokens in the index in memory"),
            },
            registry,
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a duration for the metrics decides nothing"
    )]
    pub(crate) fn start(&self) -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub(crate) fn finish(
        &self,
        operation: Option<Operation>,
        status: StatusCode,
        stopwatch: Stopwatch,
    ) {
        let labels = RequestLabels {
            operation: OperationLabel(operation),
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        self.durations.observe(stopwatch.0.elapsed().as_secs_f64());
    }

    pub(crate) fn verified(&self, is_jwt: bool, refusal: Option<Refusal>) {
        let format = if is_jwt { "jwt" } else { "opaque" };
        let labels = VerificationLabels {
            format,
            outcome: refusal.map_or("valid", Refusal::as_str),
        };
        self.verifications.get_or_create(&labels).inc();
    }

    pub(crate) fn issued(&self, is_jwt: bool, is_reused: bool) {
        let format = if is_jwt { "jwt" } else { "opaque" };
        self.mints
            .get_or_create(&MintLabels {
                format,
                reused: is_reused,
            })
            .inc();
    }

    /// The page for Prometheus.
    pub(crate) fn page(&self, statistics: &Statistics) -> String {
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.store.commits, statistics.commits);
        set(&self.store.operations, statistics.committed_operations);
        set(&self.store.commit_micros, statistics.commit_micros);
        set(&self.store.hits, statistics.index_hits);
        set(&self.store.misses, statistics.index_misses);
        set(&self.store.indexed, statistics.indexed_tokens);
        let mut page = String::new();
        let _ = encode(&mut page, &self.registry);
        page
    }
}
