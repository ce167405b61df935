//! The crate from outside: against a real authority in this process, and against servers that misbehave.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that cannot go on fails its test"
)]

mod authority;
mod faults;
#[expect(dead_code, reason = "these tests do not act as the operator")]
#[path = "../../../client/tests/it/support/mod.rs"]
mod support;
