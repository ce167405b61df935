//! The rules of an authority, on SQLite in a temporary folder, with a clock that is set and seeded random bytes.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that cannot go on fails its test"
)]

mod audit;
mod faults;
mod instances;
mod isolation;
mod issue;
mod limits;
mod machines;
mod model;
mod reuse;
mod revoke;
mod signing_keys;
mod support;
mod time;
mod update;
mod verify;
