//! The executable from outside: what it writes where, and how it ends.

#![expect(
    clippy::disallowed_methods,
    reason = "a test of processes looks at the real clock"
)]
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

mod administration;
mod door;
mod endings;
mod environment;
mod secrets;
mod serving;
mod streams;
mod support;
