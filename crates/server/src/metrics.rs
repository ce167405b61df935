//! What the authority counts, as Prometheus reads it. Labels come from fixed sets: operations, statuses, outcomes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use countersign_authority::{Authority, Refusal};
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// Upper bounds of the request durations, in seconds.
const DURATIONS: [f64; 10] = [
    0.000_05, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0, 8.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// The name of an operation, the prefix of a mount, or `None` for paths that do not exist.
    operation: &'static str,
    status: u16,
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
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter<u64, AtomicU64>>,
    durations: Histogram,
    verifications: Family<VerificationLabels, Counter<u64, AtomicU64>>,
    mints: Family<MintLabels, Counter<u64, AtomicU64>>,
    unreadable: Counter<u64, AtomicU64>,
    pub(crate) connections: Gauge,
    log_lines_lost: Counter<u64, AtomicU64>,
    /// The count behind `log_lines_lost`.
    lost: Arc<AtomicU64>,
    /// Copies of the numbers that the store measures, by name.
    store: Mutex<BTreeMap<&'static str, Gauge>>,
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
    pub(crate) fn new(lost: Arc<AtomicU64>) -> Self {
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
            unreadable: registered(
                own,
                "http_unreadable_requests",
                "Connections that ended because what came was no request",
            ),
            connections: registered(own, "connections", "Open connections"),
            log_lines_lost: registered(
                own,
                "log_lines_lost",
                "Lines of the log that could not be written",
            ),
            lost,
            store: Mutex::default(),
            registry: Mutex::new(registry),
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
        operation: Option<&'static str>,
        status: StatusCode,
        stopwatch: Stopwatch,
    ) {
        let labels = RequestLabels {
            operation: operation.unwrap_or("None"),
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        self.durations.observe(stopwatch.0.elapsed().as_secs_f64());
    }

    /// Counts what could not be read as a request.
    pub(crate) fn count_unreadable(&self) {
        self.unreadable.inc();
    }

    /// Returns the page for Prometheus, including the authority's counts and its store's measurements.
    pub(crate) fn page(&self, authority: &Authority) -> String {
        let counters = authority.counters();
        for (format, refusal, count) in counters.verifications() {
            let labels = VerificationLabels {
                format: format.as_str(),
                outcome: refusal.map_or("valid", Refusal::as_str),
            };
            set(&self.verifications, &labels, count);
        }
        for (format, reused, count) in counters.issued() {
            let labels = MintLabels {
                format: format.as_str(),
                reused,
            };
            set(&self.mints, &labels, count);
        }
        let lost = self.lost.load(Ordering::Relaxed);
        self.log_lines_lost
            .inner()
            .fetch_max(lost, Ordering::Relaxed);
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        for measure in authority.measures() {
            let gauge = store.entry(measure.name).or_insert_with(|| {
                registered(
                    &mut registry,
                    &format!("store_{}", measure.name),
                    measure.help,
                )
            });
            gauge.set(i64::try_from(measure.value).unwrap_or(i64::MAX));
        }
        let mut page = String::new();
        let _ = encode(&mut page, &registry);
        page
    }
}

/// Sets a counter to the authority's count. Label sets that never occurred are left out.
fn set<L>(family: &Family<L, Counter<u64, AtomicU64>>, labels: &L, count: u64)
where
    L: Clone + Eq + std::hash::Hash,
{
    if count > 0 {
        let counter = family.get_or_create(labels);
        counter.inner().fetch_max(count, Ordering::Relaxed);
    }
}
