//! GitHub's signature: HMAC-SHA-256 of the body as it came, in hexadecimal digits after `sha256=`.

use std::fmt::Write as _;

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use axum::http::{HeaderMap, HeaderName};
use thiserror::Error;

/// Where the signature stands.
pub const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("x-hub-signature-256");

const SCHEME: &str = "sha256=";

/// Why a body is not GitHub's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// There is no signature, or more than one.
    #[error("the header x-hub-signature-256 must be there once")]
    Missing,
    /// It is no signature, or not the one of this body.
    #[error("the signature does not fit")]
    Wrong,
}

/// The signature of a body, as the header holds it. For tests, and whoever plays GitHub.
#[must_use]
pub fn sign(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&key(secret), body);
    let mut text = SCHEME.to_owned();
    for byte in tag.as_ref() {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

pub(super) fn key(secret: &str) -> Key {
    Key::new(HMAC_SHA256, secret.as_bytes())
}

/// Whether the body has the signature that its headers say. Equal or not takes the same time.
pub(super) fn verify(key: &Key, headers: &HeaderMap, body: &[u8]) -> Result<(), SignatureError> {
    let mut lines = headers.get_all(SIGNATURE_HEADER).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(SignatureError::Missing);
    };
    let text = line.to_str().map_err(|_| SignatureError::Wrong)?;
    let tag = text.strip_prefix(SCHEME).and_then(bytes_of);
    let tag = tag.ok_or(SignatureError::Wrong)?;
    hmac::verify(key, body, &tag).map_err(|_| SignatureError::Wrong)
}

/// The 32 bytes that 64 hexadecimal digits stand for. Small letters only, so that a signature has one spelling.
fn bytes_of(hexadecimal: &str) -> Option<[u8; 32]> {
    let digit = |character: u8| match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    let (pairs, rest) = hexadecimal.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const SIGNATURE: &str =
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn verified(signatures: &[&str], body: &[u8]) -> Result<(), SignatureError> {
        let mut headers = HeaderMap::new();
        for signature in signatures {
            headers.append(SIGNATURE_HEADER, signature.parse().unwrap());
        }
        verify(&key(SECRET), &headers, body)
    }

    #[test]
    fn the_example_of_githubs_documentation_verifies() {
        assert_eq!(sign(SECRET, BODY), SIGNATURE);
        assert_eq!(verified(&[SIGNATURE], BODY), Ok(()));
    }

    #[test]
    fn another_body_another_spelling_or_half_a_signature_does_not() {
        assert_eq!(
            verified(&[SIGNATURE], b"Hello, World?"),
            Err(SignatureError::Wrong)
        );
        for wrong in [
            "",
            "sha256=",
            &SIGNATURE[..70],
            &SIGNATURE[7..],
            &SIGNATURE.replace("sha256", "sha1"),
            &SIGNATURE.to_uppercase().replace("SHA256", "sha256"),
            &format!("{SIGNATURE}00"),
        ] {
            assert_eq!(
                verified(&[wrong], BODY),
                Err(SignatureError::Wrong),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_signature_must_be_there_once() {
        assert_eq!(verified(&[], BODY), Err(SignatureError::Missing));
        assert_eq!(
            verified(&[SIGNATURE, SIGNATURE], BODY),
            Err(SignatureError::Missing)
        );
    }
}
