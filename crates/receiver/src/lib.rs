//! For a machine that is called: who calls, a user, a machine, or somebody whom only the old check knows?
//!
//! A [`Receiver`] checks the `Authorization` header of a request (RFC 6750): opaque M2M tokens (`mt_…`) by a question to the
//! authority, M2M JWTs by the same question or by the issuer's keys, and users' JWTs by the keys of their issuer. It works against
//! Countersign and against Clerk. Routes say whom they [`Accept`]; handlers get a [`Caller`].
//!
//! ```no_run
//! use countersign_receiver::{Accept, Receiver};
//!
//! # fn example() -> Result<(), countersign_receiver::SetupError> {
//! // CLERK_API_URL, CLERK_MACHINE_SECRET_KEY, CLERK_M2M_MACHINE_ID_TRPC, CLERK_M2M_MACHINE_ID_WEBHOOK
//! let receiver = Receiver::from_env("trpc")?;
//! let only_the_webhook_machine = receiver.layer(Accept::service("webhook"));
//! # let _ = only_the_webhook_machine;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - What the authority said of an opaque token is believed for at most 5 s; a revocation is seen within that time.
//! - A JWT that is checked by keys stays good until it expires, even where it was revoked. Where that is too long, leave
//!   [`ReceiverBuilder::machine_issuer`] out: JWTs are then sent to the authority like opaque tokens.
//! - Where the authority or an issuer's keys cannot be had, the answer is 503 with `Retry-After`, never a pass (unless
//!   [`ReceiverBuilder::stale_if_error`] is wanted), and never a 401, which would make senders mint new tokens.
//! - A token that was refused is not tried by any other check. The legacy check is off unless it is configured and a route accepts
//!   it, and sees only requests whose `Authorization` holds nothing of the form of a bearer token.
//! - No token, key or secret is in a log, an error or a `Debug`.
//!
//! # Features
//!
//! - `axum`: [`Caller`], [`MachineCaller`] and [`UserCaller`] are extractors, and [`Refusal`] is a response. A handler that asks who
//!   calls is reached only behind [`Receiver::layer`].
#![warn(missing_docs)]

/// The guides' code is compiled.
#[cfg(all(doctest, feature = "axum"))]
mod guides {
    #[doc = include_str!("../../../docs/guide/receivers.md")]
    struct Receivers;
    #[doc = include_str!("../../../docs/guide/migration.md")]
    struct Migration;
}

mod accept;
mod authority;
mod builder;
mod cache;
mod caller;
mod clock;
mod credential;
mod error;
mod events;
#[cfg(feature = "axum")]
mod extract;
mod flight;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(test)]
mod interleavings;
mod jwks;
mod jwt;
mod keys;
mod layer;
mod legacy;
mod machine_jwt;
mod met;
mod receiver;
mod refusal;
mod remote;
mod services;
mod user_jwt;

/// What `flight` is compiled on; `interleavings` has another one.
mod sync {
    pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};
}
#[cfg(test)]
mod tests;

pub use accept::Accept;
pub use builder::ReceiverBuilder;
pub use caller::{Caller, LegacyCaller, MachineCaller, UserCaller};
pub use countersign_protocol::ids::{IdError, MachineId};
pub use countersign_protocol::secret::Secret;
pub use error::SetupError;
pub use events::Event;
pub use layer::{CheckLayer, CheckService};
pub use legacy::LegacyCheck;
pub use machine_jwt::MachineIssuer;
pub use receiver::Receiver;
pub use refusal::{Reason, Refusal};
pub use services::Services;
pub use user_jwt::UserIssuer;
