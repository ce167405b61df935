//! The shared secret from before there were tokens.
//!
//! The receiver tries it only where no token was presented, logs `using legacy auth` and counts. The secret is the same for all, so
//! who calls is what the caller says: good enough for a count, never for a decision.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use countersign_protocol::secret::Secret;
use countersign_receiver::LegacyCheck;

use super::procedures::{WEBHOOK, WORKFLOW};
use crate::rpc::{LEGACY_CALLER_HEADER, LEGACY_SECRET_HEADER};

/// Lets in whoever knows the secret, under the name of the service that it says it is.
pub(super) fn check(secret: &Secret) -> LegacyCheck {
    // Digests are compared: they are of one length, and the secret is not kept.
    let expected = digest(&SHA256, secret.expose().as_bytes());
    LegacyCheck::by(move |headers| {
        let presented = headers.get(LEGACY_SECRET_HEADER)?.as_bytes();
        let presented = digest(&SHA256, presented);
        verify_slices_are_equal(presented.as_ref(), expected.as_ref()).ok()?;
        let said = headers.get(LEGACY_CALLER_HEADER);
        let said = said.and_then(|value| value.to_str().ok());
        let known = [WEBHOOK, WORKFLOW].into_iter().find(|it| said == Some(it));
        Some(known.unwrap_or("unknown").to_owned())
    })
}
