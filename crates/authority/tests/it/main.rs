//! The rules of an authority, on SQLite, with a clock that is set and seeded random bytes.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that cannot go on fails its test"
)]

mod audit;
mod back_end;
mod cut_offs;
mod faults;
mod instances;
mod isolation;
mod issue;
mod limits;
mod machines;
mod model;
mod presented;
mod records;
mod reuse;
mod revoke;
mod room;
mod signing_keys;
mod support;
mod time;
mod update;
mod verify;
mod whoami;
