//! Job applications: an API that users and machines call side by side, and two bots that call it with M2M tokens.
//!
//! - [`api`] shows a receiver: who may call which route, and what a route knows of its caller.
//! - [`bots`] shows senders: a token source, and requests that carry its token.
//! - [`issuer`] stands for whoever signs users in.
//!
//! Each part is given what it needs. Only [`settings`] and the libraries' own `from_env` look at the environment.

pub mod api;
pub mod bots;
pub mod database;
pub mod issuer;
mod openapi;
mod seed;
pub mod settings;
pub mod status;
