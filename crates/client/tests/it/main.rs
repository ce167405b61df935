//! The crate against a real authority in this process, against one that misbehaves, and against recorded answers of Clerk.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that cannot go on fails its test"
)]

mod administration;
mod clerk;
mod door;
mod faults;
mod instances;
mod senders;
mod support;
