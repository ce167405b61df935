//! Machine-to-machine tokens for a service that calls others.
//!
//! A [`TokenSource`] makes a token when it is first asked, keeps it for its life, renews it ahead, and replaces it once after a
//! 401. It works against Countersign and against Clerk.
//!
//! ```no_run
//! # async fn example() -> Result<(), countersign_client::Error> {
//! // CLERK_API_URL and CLERK_MACHINE_SECRET_KEY say where the authority is and which machine this is.
//! let tokens = countersign_client::TokenSource::from_env()?;
//! let header = tokens.token().await?.authorization();
//! # Ok(())
//! # }
//! ```
//!
//! For clients that are tower services there is a [`TokenLayer`] (feature `tower`, on by default), for reqwest a wrapper
//! (feature `reqwest`). [`Client`] is the administration API: machines, scopes, keys, tokens.
//!
//! Everything needs a tokio runtime with time and I/O. Logs go to `tracing`; no key and no token is ever in them.
#![warn(missing_docs)]

/// The guide's code is compiled.
#[cfg(all(doctest, feature = "reqwest"))]
#[doc = include_str!("../../../docs/guide/senders.md")]
struct Guide;

mod address;
mod chance;
mod client;
mod environment;
mod error;
mod keys;
#[cfg(feature = "tower")]
mod layer;
mod machines;
#[cfg(feature = "reqwest")]
mod reqwest_client;
mod source;
mod tokens;
mod transport;

pub use client::{Client, ClientBuilder};
pub use countersign_protocol::error::{ErrorItem, ErrorMeta};
pub use countersign_protocol::ids::{IdError, InstanceId, MachineId, TokenId};
pub use countersign_protocol::secret::MachineKey;
pub use error::{Error, Refusal, SettingsError};
pub use keys::{Jwk, PublicDocument};
#[cfg(feature = "tower")]
pub use layer::{LayerError, TokenLayer, TokenService};
pub use machines::{
    CreatedMachine, ListMachines, Machine, MachineChange, MachineOrder, NewMachine, Scope,
    ScopedMachine,
};
#[cfg(feature = "reqwest")]
pub use reqwest_client::{ReqwestClient, ReqwestError, TokenRequest};
pub use source::{TokenSource, TokenSourceBuilder};
pub use tokens::{
    IssuedToken, ListTokens, NewToken, Token, TokenChange, TokenFormat, TokenList, TokenString,
};

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The part.
    pub items: Vec<T>,
    /// How many there are in all.
    pub total_count: u64,
}

/// A path with a query, its values escaped.
fn with_query(path: &str, query: &[(&str, String)]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let mut escaped = form_urlencoded::Serializer::new(String::new());
    for (name, value) in query {
        escaped.append_pair(name, value);
    }
    format!("{path}?{}", escaped.finish())
}
