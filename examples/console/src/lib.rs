//! The console: an RPC API that two machines call.
//!
//! A webhook handler hears from GitHub that somebody pushed and asks the API for a job; a workflow runner takes the job and
//! completes it. Both present a token for 365 days that they were given. The API knows which machine each of them is and lets each
//! do its own work and no other. While senders move to tokens, the API can still accept the shared secret from before.
//!
//! [`api`], [`webhook`] and [`workflow`] are the three services, [`rpc`] is what they say to each other. Only [`settings`] reads the
//! environment.

pub mod api;
pub mod client;
pub mod rpc;
pub mod settings;
pub mod webhook;
pub mod workflow;
