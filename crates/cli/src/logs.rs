//! The log: one line per event on standard error, as text or JSON; and traces, where a collector is named.

use std::io::IsTerminal as _;

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::exit::{Code, Failure};
use crate::settings::{LogFormat, Settings};
use crate::stderr;
use crate::telemetry::Telemetry;

/// Begins to log. `default` is the filter where the settings name none.
pub(crate) fn start(settings: &Settings, default: &str) -> Result<Option<Telemetry>, Failure> {
    stderr::begin_queue();
    let filter = settings.log.as_deref().unwrap_or(default);
    let mut filter = parse(filter).ok_or_else(|| {
        let hint = "write a level (error, warn, info, debug, trace) or directives like info,countersign::verification=debug";
        Failure::new(Code::Settings, format!("the log filter '{filter}' cannot be understood: invalid filter directive"), hint)
    })?;
    let log = tracing_subscriber::fmt::layer().with_writer(|| stderr::Log);
    let log = match settings.log_format.unwrap_or_default() {
        LogFormat::Json => {
            // Where to reach the server is said at every level.
            filter = filter.with_target("countersign::listening", LevelFilter::INFO);
            log.json().flatten_event(true).boxed()
        }
        LogFormat::Text => log
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
    };
    let (telemetry, warning) = Telemetry::from_settings(settings)?;
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
    if let Some(warning) = warning {
        tracing::warn!("{warning}; no traces are sent");
    }
    Ok(telemetry)
}

/// Starts the log of a command that opened a data folder itself. It has only errors, whose cause the command's own message
/// does not contain. A second call changes nothing.
pub(crate) fn start_for_command() {
    let log = tracing_subscriber::fmt::layer()
        .with_writer(|| stderr::Log)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let _ = tracing_subscriber::registry()
        .with(log.with_filter(LevelFilter::ERROR))
        .try_init();
}

/// Reads directives separated by commas: each is a level, or a target and its level. `None` if one is malformed.
fn parse(filter: &str) -> Option<Targets> {
    filter
        .split(',')
        .try_fold(Targets::new(), |targets, directive| {
            Some(match directive.trim().split_once('=') {
                None => targets.with_default(level(directive)?),
                Some((target, text)) if is_target(target) => {
                    targets.with_target(target, level(text)?)
                }
                Some(_) => return None,
            })
        })
}

fn level(text: &str) -> Option<LevelFilter> {
    // The parser would take an empty text for a level.
    let text = Some(text.trim()).filter(|text| !text.is_empty())?;
    text.parse().ok()
}

fn is_target(text: &str) -> bool {
    let is_allowed = |letter: char| letter.is_alphanumeric() || "_-:".contains(letter);
    !text.is_empty() && text.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_has_a_level_for_each_target_and_one_for_the_others() {
        let filter = parse("WARN, countersign::verification=debug,hyper=off").expect("a filter");
        for (target, level, expected) in [
            ("countersign::issue", Level::WARN, true),
            ("countersign::issue", Level::INFO, false),
            ("countersign::verification", Level::DEBUG, true),
            ("countersign::verification", Level::TRACE, false),
            ("hyper::client", Level::ERROR, false),
        ] {
            assert_eq!(filter.would_enable(target, &level), expected, "{target}");
        }
        assert!(parse("off").is_some_and(|off| !off.would_enable("a", &Level::ERROR)));
    }

    #[test]
    fn a_filter_with_a_malformed_directive_is_rejected() {
        for wrong in [
            "",
            "info,",
            "inof",
            "info,=",
            "a=",
            "=info",
            "a=b=info",
            "[span]=info",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
