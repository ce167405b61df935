//! What both ends of machine-to-machine authentication must agree on: ids, secrets, bodies, scopes, JWTs and error codes.
//!
//! No input or output happens here, nothing is asynchronous, and nobody looks at a clock: the crate is shared by the
//! authority, by senders and by receivers. "Contract" in these pages is the wire protocol of Clerk's Backend API as
//! `docs/reference/wire.md` describes it.
#![warn(missing_docs)]

mod base62;
pub mod body;
pub mod bounds;
pub mod change;
pub mod claims;
pub mod door;
pub mod error;
pub mod ids;
pub mod instance;
pub mod json;
pub mod jwt;
pub mod limits;
pub mod page;
pub mod problem;
pub mod random;
pub mod request;
#[cfg(feature = "schema")]
pub mod schema;
pub mod scopes;
pub mod secret;
pub mod settings;
pub mod time;
pub mod token;
pub mod variables;

#[cfg(test)]
mod testing;
