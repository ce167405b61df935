//! The HTTP face, spoken to byte by byte: one file per group of endpoints, snapshots of whole answers.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that cannot go on fails its test"
)]

#[path = "../../../authority/tests/it/back_end.rs"]
#[expect(dead_code, reason = "the authority's tests use the rest")]
mod back_end;
mod changes;
mod description;
mod docs;
mod faults;
mod instance;
mod jwks;
mod limits;
mod machines;
mod mounts;
mod neighbours;
mod requests;
mod scopes;
mod secret_keys;
mod signing_keys;
mod support;
mod tokens_create;
mod tokens_list;
mod tokens_revoke;
mod tokens_update;
mod tokens_verify;
mod whoami;
