//! The log: one line per event on standard error, as text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::exit::{Code, Failure};
use crate::settings::{LogFormat, Settings};

/// Begins to log. `default` is the filter where the settings name none.
pub(crate) fn start(settings: &Settings, default: &str) -> Result<(), Failure> {
    let filter = settings.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        let hint = "write a level (error, warn, info, debug, trace) or directives like info,countersign::verification=debug";
        Failure::new(Code::Settings, format!("the log filter '{filter}' cannot be understood: {error}"), hint)
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format.unwrap_or_default() {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
    }
    Ok(())
}
