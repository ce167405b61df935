//! The receiver as a whole, against an authority and issuers made of data.

mod jwts;
mod keys;
mod logs;
mod opaque;
mod routes;
pub(crate) mod support;
