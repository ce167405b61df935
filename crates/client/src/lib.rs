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
//! (feature `reqwest`). [`Client`] is the administration API: machines, scopes, keys, tokens, instances, signing keys and the change log.
//!
//! Everything needs a tokio runtime with time and I/O. Logs go to `tracing`; no key and no token is ever in them.
#![warn(missing_docs)]

/// The guide's code is compiled.
#[cfg(all(doctest, feature = "reqwest"))]
#[doc = include_str!("../../../docs/guide/senders.md")]
struct Guide;

mod address;
mod chance;
mod changes;
mod client;
mod environment;
mod error;
mod instances;
mod keys;
#[cfg(feature = "tower")]
mod layer;
mod machines;
mod request;
#[cfg(feature = "reqwest")]
mod reqwest_client;
mod signing_keys;
mod source;
mod tokens;
mod transport;
mod whoami;

pub use changes::{Change, ChangeLogReport};
pub use client::{Client, ClientBuilder};
pub use countersign_protocol::error::{ErrorItem, ErrorMeta};
pub use countersign_protocol::ids::{IdError, InstanceId, KeyId, MachineId, SigningKeyId, TokenId};
pub use countersign_protocol::secret::{InstanceKey, MachineKey};
pub use countersign_protocol::settings::{InstanceSettings, NullExpiration, RateLimit};
pub use error::{Error, Refusal, SettingsError};
pub use instances::{
    CreatedInstance, CreatedInstanceKey, Instance, InstanceKeyInfo, KeyKind, SettingsChange,
};
pub use keys::{Jwk, PublicDocument};
#[cfg(feature = "tower")]
pub use layer::{LayerError, TokenLayer, TokenService};
pub use machines::{
    CreatedMachine, ListMachines, Machine, MachineChange, MachineOrder, NewMachine, Scope,
    ScopedMachine,
};
#[cfg(feature = "reqwest")]
pub use reqwest_client::{ReqwestClient, ReqwestError, TokenRequest};
pub use signing_keys::{SigningKey, SigningKeyState};
pub use source::{TokenSource, TokenSourceBuilder};
pub use tokens::{
    IssuedToken, ListTokens, NewToken, Token, TokenChange, TokenFormat, TokenList, TokenString,
};
pub use whoami::WhoAmI;

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

/// The requests of the API, each with the type of its answer's body.
///
/// The methods of [`Client`] send these and return types that are easier to work with. A program that needs the types of
/// the wire, such as a command line that prints JSON, sends these requests with [`Client::send`].
pub mod requests {
    pub use crate::changes::{list_changes, verify_changes};
    pub use crate::instances::{
        create_instance, create_instance_key, instance, list_instance_keys, list_instances,
        revoke_instance_key, update_instance,
    };
    pub use crate::keys::jwks;
    pub use crate::machines::{
        create_machine, create_scope, delete_machine, delete_scope, list_machines, machine,
        machine_key, rotate_machine_key, update_machine,
    };
    pub use crate::request::Request;
    pub use crate::signing_keys::{delete_signing_key, list_signing_keys, rotate_signing_key};
    pub use crate::tokens::{create_token, list_tokens, revoke_token, update_token, verify_token};
    pub use crate::whoami::whoami;
}
