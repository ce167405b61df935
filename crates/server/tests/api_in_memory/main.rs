//! The tests of `api` on the store in memory: a back end that is not SQLite serves the same API.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that cannot go on fails its test"
)]

mod back_end;

#[path = "../api/changes.rs"]
mod changes;
#[path = "../api/docs.rs"]
mod docs;
#[path = "../api/faults.rs"]
mod faults;
#[path = "../api/instance.rs"]
mod instance;
#[path = "../api/jwks.rs"]
mod jwks;
#[path = "../api/limits.rs"]
mod limits;
#[path = "../api/machines.rs"]
mod machines;
#[path = "../api/neighbours.rs"]
mod neighbours;
#[path = "../api/requests.rs"]
mod requests;
#[path = "../api/scopes.rs"]
mod scopes;
#[path = "../api/secret_keys.rs"]
mod secret_keys;
#[path = "../api/signing_keys.rs"]
mod signing_keys;
#[path = "../api/support/mod.rs"]
mod support;
#[path = "../api/tokens_create.rs"]
mod tokens_create;
#[path = "../api/tokens_list.rs"]
mod tokens_list;
#[path = "../api/tokens_revoke.rs"]
mod tokens_revoke;
#[path = "../api/tokens_update.rs"]
mod tokens_update;
#[path = "../api/tokens_verify.rs"]
mod tokens_verify;
#[path = "../api/whoami.rs"]
mod whoami;
