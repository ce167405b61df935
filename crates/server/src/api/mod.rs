//! The handlers: parse, call one method of the authority, wrap. One file per noun.

pub(crate) mod changes;
pub(crate) mod docs;
pub(crate) mod instances;
pub(crate) mod jwks;
pub(crate) mod machines;
pub(crate) mod operator;
pub(crate) mod state;
pub(crate) mod tokens;
