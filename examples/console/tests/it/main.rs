//! The console against a real authority in this process.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by a panic; helpers outside of test functions count as code"
)]

mod api;
mod migration;
mod support;
mod webhook;
mod workflow;
