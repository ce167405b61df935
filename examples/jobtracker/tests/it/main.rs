//! The API, the bots and the issuer against a real authority, all in this process.
#![expect(
    clippy::unwrap_used,
    reason = "a helper that cannot go on fails its test"
)]

mod bots;
mod machines;
mod page;
mod program;
mod support;
mod users;
