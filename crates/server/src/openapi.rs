//! The OpenAPI document.

use bytes::Bytes;

/// The document as JSON.
pub(crate) fn document() -> Bytes {
    Bytes::from_static(b"{}")
}
