//! The crate against a real authority in this process, against one that misbehaves, and against recorded answers of Clerk.

mod administration;
mod clerk;
mod faults;
mod senders;
mod support;
