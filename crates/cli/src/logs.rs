//! The log: one line per event on standard error, as text or JSON; and traces, where a collector is named.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::exit::{Code, Failure};
use crate::settings::{LogFormat, Settings};
use crate::telemetry::Telemetry;

/// Begins to log. `default` is the filter where the settings name none.
pub(crate) fn start(settings: &Settings, default: &str) -> Result<Option<Telemetry>, Failure> {
    let filter = settings.log.as_deref().unwrap_or(default);
    let mut filter = EnvFilter::builder().parse(filter).map_err(|error| {
        let hint = "write a level (error, warn, info, debug, trace) or directives like info,countersign::verification=debug";
        Failure::new(Code::Settings, format!("the log filter '{filter}' cannot be understood: {error}"), hint)
    })?;
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = match settings.log_format.unwrap_or_default() {
        LogFormat::Json => {
            // Where to reach the server is said at every level.
            let always = "countersign::listening=info".parse();
            filter = filter.add_directive(always.expect("it is a directive"));
            log.json().flatten_event(true).boxed()
        }
        LogFormat::Text => log
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
    };
    let telemetry = settings
        .otlp_endpoint
        .as_deref()
        .map(Telemetry::new)
        .transpose()?;
    let traces = telemetry.as_ref().map(|telemetry| {
        let requests = Targets::new().with_target("countersign::request", LevelFilter::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(telemetry.tracer())
            .with_filter(requests)
    });
    tracing_subscriber::registry()
        .with(log.with_filter(filter))
        .with(traces)
        .init();
    Ok(telemetry)
}
