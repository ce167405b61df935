//! The RSA keys that sign M2M JWTs, and their public halves (RFC 7518 sections 3.3 and 6.3.1).

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{JwtClaims, JwtError, M2M_CATEGORY, read_payload, write_payload};
use crate::body::Jwk;
use crate::ids::SigningKeyId;

/// An RSA key that signs, parsed once.
pub struct SigningKey {
    pair: aws_lc_rs::rsa::KeyPair,
    header: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SigningKey([redacted])")
    }
}

/// A private key that could not be read or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the RSA key cannot be used")]
pub struct KeyError;

/// Makes a new RSA key of 2048 bits, e = 65537, as PKCS #8.
///
/// # Errors
/// Where the cryptography library cannot make one.
pub fn generate_rsa_key() -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError)?;
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError)?;
    Ok(Zeroizing::new(der.as_ref().to_vec()))
}

impl SigningKey {
    /// Reads a PKCS #8 key.
    ///
    /// # Errors
    /// Where it is no RSA key of at least 2048 bits.
    pub fn from_pkcs8(id: SigningKeyId, pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError)?;
        if pair.public_modulus_len() < 256 {
            return Err(KeyError);
        }
        let header =
            format!(r#"{{"alg":"RS256","cat":"{M2M_CATEGORY}","kid":"{id}","typ":"JWT"}}"#);
        Ok(Self {
            pair,
            header: URL_SAFE_NO_PAD.encode(header),
        })
    }

    /// Signs. This is the one costly act of the authority, about half a millisecond of processor time.
    ///
    /// # Errors
    /// Where the custom claims displace one of the others, or the cryptography library fails.
    pub fn sign(&self, claims: &JwtClaims<'_>) -> Result<String, KeyError> {
        let payload = write_payload(claims);
        // What is signed must read back as what was meant, by the strictest reader: no claim twice, none displaced.
        let read = read_payload(payload.as_bytes()).map_err(|_| KeyError)?;
        if read.subject != claims.subject
            || read.id != claims.id
            || read.issuer != claims.issuer
            || read.expires_at.as_seconds() != claims.expires_at
        {
            return Err(KeyError);
        }
        let mut token = String::with_capacity(self.header.len() + payload.len() * 4 / 3 + 352);
        token.push_str(&self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                token.as_bytes(),
                &mut signature,
            )
            .map_err(|_| KeyError)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The public half.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        let public = self.pair.public_key();
        VerifyingKey::from_components(
            public.modulus().big_endian_without_leading_zero(),
            public.exponent().big_endian_without_leading_zero(),
        )
        .expect("the public half of a key that was read can be read")
    }
}

/// The public half of a [`SigningKey`], parsed once.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    parsed: ParsedPublicKey,
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.modulus == other.modulus && self.exponent == other.exponent
    }
}

impl Eq for VerifyingKey {}

impl VerifyingKey {
    /// Takes modulus and exponent, big-endian, as a JWK carries them (RFC 7518 section 6.3.1).
    ///
    /// # Errors
    /// Where they are no RSA key of 2048 to 8192 bits.
    pub fn from_components(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let bits = modulus
            .first()
            .map(|first| modulus.len() * 8 - first.leading_zeros() as usize)
            .ok_or(KeyError)?;
        // An exponent of 1 verifies what anybody writes; an even one belongs to no key.
        let is_sound = exponent.last().is_some_and(|last| last % 2 == 1) && exponent != [1];
        if !(2048..=8192).contains(&bits) || !is_sound {
            return Err(KeyError);
        }
        let parsed = PublicKeyComponents {
            n: modulus,
            e: exponent,
        }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .map_err(|_| KeyError)?;
        Ok(Self {
            modulus: modulus.to_vec(),
            exponent: exponent.to_vec(),
            parsed,
        })
    }

    /// The key as the JWKS shows it.
    #[must_use]
    pub fn to_jwk(&self, id: SigningKeyId) -> Jwk {
        Jwk {
            key_use: "sig".to_owned(),
            kty: "RSA".to_owned(),
            kid: id,
            alg: "RS256".to_owned(),
            n: URL_SAFE_NO_PAD.encode(&self.modulus),
            e: URL_SAFE_NO_PAD.encode(&self.exponent),
        }
    }

    /// Checks an RS256 signature.
    ///
    /// # Errors
    /// [`JwtError::BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), JwtError> {
        self.parsed
            .verify_sig(message, signature)
            .map_err(|_| JwtError::BadSignature)
    }
}

/// Some issuers write the zero that a signed integer would begin with.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededRandom;
    use crate::time::Timestamp;

    fn key() -> VerifyingKey {
        let id = SigningKeyId::generate(Timestamp::EPOCH, &SeededRandom::new(1));
        let key = SigningKey::from_pkcs8(id, &generate_rsa_key().expect("a key"));
        key.expect("parses").verifying_key()
    }

    #[test]
    fn a_key_is_the_same_with_and_without_the_zero_of_a_signed_integer() {
        let key = key();
        let modulus = [&[0][..], &key.modulus].concat();
        assert_eq!(
            VerifyingKey::from_components(&modulus, &key.exponent),
            Ok(key)
        );
    }

    #[test]
    fn a_key_that_is_too_short_or_none_is_refused() {
        let key = key();
        for (modulus, exponent) in [
            (&key.modulus[..128], &key.exponent[..]),
            (&[], &key.exponent),
            (&[0xff; 1025], &key.exponent),
            (&key.modulus, &[]),
            (&key.modulus, &[1]),
            (&key.modulus, &[2]),
        ] {
            assert_eq!(
                VerifyingKey::from_components(modulus, exponent),
                Err(KeyError)
            );
        }
    }
}
