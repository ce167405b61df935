//! The tests of `it` on the store in memory, and those that need two nodes on the same data.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that cannot go on fails its test"
)]

mod back_end;
mod nodes;

#[path = "../it/audit.rs"]
mod audit;
#[path = "../it/cut_offs.rs"]
mod cut_offs;
#[path = "../it/faults.rs"]
mod faults;
#[path = "../it/instances.rs"]
mod instances;
#[path = "../it/isolation.rs"]
mod isolation;
#[path = "../it/issue.rs"]
mod issue;
#[path = "../it/limits.rs"]
mod limits;
#[path = "../it/machines.rs"]
mod machines;
#[path = "../it/model.rs"]
mod model;
#[path = "../it/presented.rs"]
mod presented;
#[path = "../it/records.rs"]
mod records;
#[path = "../it/reuse.rs"]
mod reuse;
#[path = "../it/revoke.rs"]
mod revoke;
#[path = "../it/room.rs"]
mod room;
#[path = "../it/signing_keys.rs"]
mod signing_keys;
#[path = "../it/support/mod.rs"]
mod support;
#[path = "../it/time.rs"]
mod time;
#[path = "../it/update.rs"]
mod update;
#[path = "../it/verify.rs"]
mod verify;
#[path = "../it/whoami.rs"]
mod whoami;
