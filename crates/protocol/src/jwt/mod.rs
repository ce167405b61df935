//! M2M JSON Web Tokens: RS256 with an M2M category in the header (contract: JWT M2M tokens; RFC 7515, 7519, 8725).
//!
//! Reading is strict and in a fixed order: size, three segments, header, key, signature, claims. A value of the wrong type
//! is refused, never taken for absent. What the claims mean now (times, revocation, scopes) is the caller's to decide.

mod keys;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::claims::{Claims, RESERVED_CLAIMS};
use crate::ids::{MachineId, SigningKeyId, TokenId};
use crate::json::{self, Object};
use crate::limits::{MAX_JWT_BYTES, MAX_JWT_HEADER_BYTES, MAX_JWT_HEADER_MEMBERS};
use crate::scopes::Scopes;
use crate::time::Timestamp;

pub use keys::{KeyError, SigningKey, VerifyingKey, generate_rsa_key};

/// The header member `cat` of every M2M JWT; a user session has another one.
pub const M2M_CATEGORY: &str = "cl_B7d4PD333AAA";

/// How far `exp` may lie in the past, in milliseconds.
pub const EXPIRY_LEEWAY_MILLIS: i64 = 5_000;
/// How far `nbf` and `iat` may lie in the future, in milliseconds (FAPI 2.0 section 5.3.2.1: at most 10 s).
pub const FUTURE_LEEWAY_MILLIS: i64 = 10_000;
/// How long before its issue a token begins to be valid, in seconds: room for clocks that run behind.
pub const NOT_BEFORE_SECONDS: i64 = 10;

/// Why a JWT is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwtError {
    /// The text is no compact JWT.
    #[error("the token is not a well-formed JWT")]
    Malformed,
    /// Another algorithm, type or category, or an extension that must be understood.
    #[error("the JWT is not an M2M token signed with RS256")]
    WrongKind,
    /// The signature does not fit the key.
    #[error("the JWT's signature is not valid")]
    BadSignature,
    /// A claim is absent or of the wrong type.
    #[error("a claim of the JWT is absent or malformed")]
    BadClaims,
}

/// Whether `text` looks like a JWT rather than an opaque token: three segments.
#[must_use]
pub fn looks_like_jwt(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Header, payload and signature of a compact JWT (RFC 7515 section 3.1), as they are encoded.
#[must_use]
pub fn segments(text: &str) -> Option<[&str; 3]> {
    let mut parts = text.split('.');
    let segments = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(segments)
}

/// The claims that the authority writes.
#[derive(Clone, Debug)]
pub struct JwtClaims<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `sub`.
    pub subject: MachineId,
    /// `iat`, whole seconds.
    pub issued_at: i64,
    /// `exp`, whole seconds.
    pub expires_at: i64,
    /// `jti`.
    pub id: TokenId,
    /// `scopes`, where the instance writes it.
    pub scopes: Option<&'a Scopes>,
    /// The caller's own claims, an object.
    pub custom: Option<&'a Claims>,
}

/// A header that was read before, and the key that it wants. An issuer writes the same one into each token that it signs with a key.
#[derive(Clone, Debug)]
pub struct KnownHeader {
    encoded: Box<str>,
    key_id: SigningKeyId,
}

/// A JWT whose form is right and whose signature is not checked yet. It shows nothing but the key it wants.
#[derive(Debug)]
pub struct UnverifiedJwt<'a> {
    header: &'a str,
    key_id: SigningKeyId,
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

impl<'a> UnverifiedJwt<'a> {
    /// Reads size, segments and header.
    ///
    /// # Errors
    /// [`JwtError::Malformed`] or [`JwtError::WrongKind`].
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        Self::parse_knowing(None, token)
    }

    /// The same, without reading the header anew where it is the known one, letter by letter.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_knowing(known: Option<&KnownHeader>, token: &'a str) -> Result<Self, JwtError> {
        let [header, payload, signature] = segments(token).ok_or(JwtError::Malformed)?;
        if token.len() > MAX_JWT_BYTES || header.len() > MAX_JWT_HEADER_BYTES {
            return Err(JwtError::Malformed);
        }
        let (signed, _) = token.split_at(header.len() + 1 + payload.len());
        let key_id = match known {
            Some(known) if *known.encoded == *header => known.key_id,
            _ => read_header(header)?,
        };
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| JwtError::Malformed)?;
        Ok(Self {
            header,
            key_id,
            signed,
            payload,
            signature,
        })
    }

    /// The `kid` of the header.
    #[must_use]
    pub fn key_id(&self) -> SigningKeyId {
        self.key_id
    }

    /// The header, to be known when the next JWT is read; `None` where it is the known one already.
    #[must_use]
    pub fn header_unless(&self, known: Option<&KnownHeader>) -> Option<KnownHeader> {
        let is_known = known.is_some_and(|known| *known.encoded == *self.header);
        (!is_known).then(|| KnownHeader {
            encoded: self.header.into(),
            key_id: self.key_id,
        })
    }

    /// Checks the signature, then reads the claims.
    ///
    /// # Errors
    /// [`JwtError::BadSignature`] or [`JwtError::BadClaims`].
    pub fn verify(self, key: &VerifyingKey) -> Result<VerifiedJwt, JwtError> {
        read_payload(&self.verify_payload(key)?)
    }

    /// Reads the claims before the signature is checked, so that the caller can look up the token and its key first.
    ///
    /// # Errors
    /// [`JwtError::Malformed`] or [`JwtError::BadClaims`].
    pub fn read(self) -> Result<ReadJwt<'a>, JwtError> {
        let payload = URL_SAFE_NO_PAD
            .decode(self.payload)
            .map_err(|_| JwtError::Malformed)?;
        Ok(ReadJwt {
            claims: read_payload(&payload)?,
            jwt: self,
        })
    }

    /// Checks the signature and leaves the claims to the caller, who may know other issuers than this authority.
    ///
    /// # Errors
    /// [`JwtError::BadSignature`] or [`JwtError::Malformed`].
    pub fn verify_payload(self, key: &VerifyingKey) -> Result<Vec<u8>, JwtError> {
        key.verify(self.signed.as_bytes(), &self.signature)?;
        URL_SAFE_NO_PAD
            .decode(self.payload)
            .map_err(|_| JwtError::Malformed)
    }
}

/// A JWT with parsed claims and an unchecked signature. It exposes only its key id and its token id.
#[derive(Debug)]
pub struct ReadJwt<'a> {
    jwt: UnverifiedJwt<'a>,
    claims: VerifiedJwt,
}

impl ReadJwt<'_> {
    /// The `kid` of the header.
    #[must_use]
    pub fn key_id(&self) -> SigningKeyId {
        self.jwt.key_id
    }

    /// Returns the `jti` of the token. It is not verified: use it to look up the token, not as proof.
    #[must_use]
    pub fn claimed_id(&self) -> TokenId {
        self.claims.id
    }

    /// Checks the signature and returns the claims.
    ///
    /// # Errors
    /// [`JwtError::BadSignature`].
    pub fn verify(self, key: &VerifyingKey) -> Result<VerifiedJwt, JwtError> {
        key.verify(self.jwt.signed.as_bytes(), &self.jwt.signature)?;
        Ok(self.claims)
    }
}

/// The claims of a JWT whose signature is right.
#[derive(Clone, Debug)]
pub struct VerifiedJwt {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: MachineId,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `nbf`, where present.
    pub not_before: Option<Timestamp>,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `jti`.
    pub id: TokenId,
    /// `scopes`, where present and a list of machine ids.
    pub scopes: Option<Scopes>,
}

impl VerifiedJwt {
    /// Whether the token's life is over at `now`, with the leeway for clocks.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now.millis_since(self.expires_at) >= EXPIRY_LEEWAY_MILLIS
    }

    /// Whether the token's life has not begun at `now`, with the leeway for clocks.
    #[must_use]
    pub fn is_from_the_future(&self, now: Timestamp) -> bool {
        [Some(self.issued_at), self.not_before]
            .into_iter()
            .flatten()
            .any(|start| start.millis_since(now) > FUTURE_LEEWAY_MILLIS)
    }
}

fn write_payload(claims: &JwtClaims<'_>) -> String {
    let issuer = serde_json::Value::from(claims.issuer);
    let not_before = claims.issued_at.saturating_sub(NOT_BEFORE_SECONDS);
    let JwtClaims {
        subject,
        issued_at,
        expires_at,
        id,
        ..
    } = claims;
    let mut payload = format!(
        r#"{{"iss":{issuer},"sub":"{subject}","iat":{issued_at},"nbf":{not_before},"exp":{expires_at},"jti":"{id}""#
    );
    if let Some(scopes) = claims.scopes {
        payload.push_str(r#","scopes":""#);
        payload.push_str(scopes.as_str());
        payload.push('"');
    }
    let members = claims
        .custom
        .and_then(|custom| custom.as_str().strip_prefix('{')?.strip_suffix('}'));
    if let Some(members) = members.filter(|members| !members.is_empty()) {
        payload.push(',');
        payload.push_str(members);
    }
    payload.push('}');
    payload
}

fn read_header(encoded: &str) -> Result<SigningKeyId, JwtError> {
    let header = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| JwtError::Malformed)?;
    let mut header =
        Object::parse_up_to(MAX_JWT_HEADER_MEMBERS, &header).map_err(|_| JwtError::Malformed)?;
    let mut text = |name: &str| {
        header
            .take(name)
            .map(|value| json::text(value).ok_or(JwtError::WrongKind))
            .transpose()
    };
    let is_m2m = text("alg")?.as_deref() == Some("RS256")
        && text("typ")?.is_none_or(|kind| kind == "JWT")
        && text("cat")?.as_deref() == Some(M2M_CATEGORY);
    let key_id = text("kid")?.and_then(|id| id.parse().ok());
    if !is_m2m || header.names().any(|name| matches!(name, "crit" | "b64")) {
        return Err(JwtError::WrongKind);
    }
    key_id.ok_or(JwtError::WrongKind)
}

fn read_payload(payload: &[u8]) -> Result<VerifiedJwt, JwtError> {
    fn text(value: Option<&RawValue>) -> Result<Cow<'_, str>, JwtError> {
        value.and_then(json::text).ok_or(JwtError::BadClaims)
    }
    let mut claims = Object::parse(payload).map_err(|_| JwtError::BadClaims)?;
    let [issuer, subject, expires_at, not_before, issued_at, id] =
        RESERVED_CLAIMS.map(|name| claims.take(name));
    let time = |value: &RawValue| numeric_date(value).ok_or(JwtError::BadClaims);
    let required = |value: Option<&RawValue>| value.ok_or(JwtError::BadClaims).and_then(time);
    Ok(VerifiedJwt {
        issuer: text(issuer)?.into_owned(),
        subject: text(subject)?.parse().map_err(|_| JwtError::BadClaims)?,
        issued_at: required(issued_at)?,
        not_before: not_before.map(time).transpose()?,
        expires_at: required(expires_at)?,
        id: text(id)?.parse().map_err(|_| JwtError::BadClaims)?,
        scopes: claims
            .take("scopes")
            .and_then(json::text)
            .and_then(|scopes| Scopes::parse(&scopes).ok()),
    })
}

/// Reads a NumericDate (RFC 7519 section 2), which may have a fraction.
#[must_use]
pub fn numeric_date(value: &RawValue) -> Option<Timestamp> {
    json::check(value).ok()?;
    let text = value.get();
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_seconds(seconds);
    }
    let millis = serde_json::from_str::<f64>(text).ok()? * 1000.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the line before bounds the number"
    )]
    (millis.abs() < 9e15).then(|| Timestamp::from_millis(millis.floor() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Locator;
    use crate::testing::SeededRandom;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
        let id = SigningKeyId::generate(Timestamp::EPOCH, &SeededRandom::new(1));
        SigningKey::from_pkcs8(id, &generate_rsa_key().expect("a key")).expect("parses")
    });

    fn subject() -> MachineId {
        MachineId::generate(Timestamp::EPOCH, &SeededRandom::new(2))
    }

    fn id() -> TokenId {
        TokenId::from_parts(Locator::new(7).expect("fits"), 8)
    }

    fn sign(custom: Option<&str>) -> String {
        let custom = custom.map(|text| {
            Claims::from_stored(text.to_owned())
                .expect("JSON")
                .expect("some")
        });
        let scopes: Scopes = [subject()].into_iter().collect();
        let claims = JwtClaims {
            issuer: "https://auth.example.com",
            subject: subject(),
            issued_at: 1_700_000_000,
            expires_at: 1_700_003_600,
            id: id(),
            scopes: Some(&scopes),
            custom: custom.as_ref(),
        };
        KEY.sign(&claims).expect("signs")
    }

    #[test]
    fn a_signed_token_verifies_and_keeps_its_claims() {
        let token = sign(Some(r#"{"role":"bot","n":1.0}"#));
        let jwt = UnverifiedJwt::parse(&token)
            .expect("well formed")
            .verify(&KEY.verifying_key())
            .expect("verifies");
        assert_eq!(jwt.subject, subject());
        assert_eq!(jwt.id, id());
        assert!(jwt.scopes.expect("scopes").contains(&subject()));
        let payload = URL_SAFE_NO_PAD
            .decode(token.split('.').nth(1).expect("payload"))
            .expect("base64url");
        assert!(
            String::from_utf8(payload)
                .expect("UTF-8")
                .ends_with(r#","role":"bot","n":1.0}"#)
        );
    }

    #[test]
    fn times_have_their_leeway_and_no_more() {
        let token = sign(None);
        let jwt = UnverifiedJwt::parse(&token)
            .expect("well formed")
            .verify(&KEY.verifying_key())
            .expect("verifies");
        let at = |seconds| Timestamp::from_seconds(seconds).expect("fits");
        assert!(!jwt.is_expired(at(1_700_003_604)));
        assert!(jwt.is_expired(at(1_700_003_605)));
        assert!(!jwt.is_from_the_future(at(1_699_999_990)));
        assert!(jwt.is_from_the_future(at(1_699_999_989)));
    }

    #[test]
    fn another_header_is_refused_before_the_key_is_used() {
        let kid = SigningKeyId::generate(Timestamp::EPOCH, &SeededRandom::new(1));
        let good = format!(r#""kid":"{kid}","cat":"{M2M_CATEGORY}""#);
        let parse = |header: String| {
            let token = format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header));
            UnverifiedJwt::parse(&token).map(|jwt| jwt.key_id())
        };
        assert_eq!(parse(format!(r#"{{"alg":"RS256",{good}}}"#)), Ok(kid));
        for header in [
            format!(r#"{{"alg":"none",{good}}}"#),
            format!(r#"{{"alg":"HS256",{good}}}"#),
            format!(r#"{{"alg":"RS256","typ":"at+jwt",{good}}}"#),
            format!(r#"{{"alg":"RS256","typ":1,{good}}}"#),
            format!(r#"{{"alg":"RS256","crit":["exp"],{good}}}"#),
            format!(r#"{{"alg":"RS256","b64":false,{good}}}"#),
            format!(r#"{{"alg":"RS256","kid":"{kid}","cat":"cl_B7d4PD111AAA"}}"#),
            format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"RS256","kid":"../etc","cat":"{M2M_CATEGORY}"}}"#),
        ] {
            assert_eq!(parse(header.clone()), Err(JwtError::WrongKind), "{header}");
        }
        assert_eq!(
            parse(format!(r#"{{"alg":"RS256","alg":"RS256",{good}}}"#)),
            Err(JwtError::Malformed)
        );
    }

    #[test]
    fn a_key_of_another_pair_does_not_verify() {
        let other = SigningKey::from_pkcs8(
            SigningKeyId::generate(Timestamp::EPOCH, &SeededRandom::new(1)),
            &generate_rsa_key().expect("a key"),
        )
        .expect("parses");
        let token = sign(None);
        let jwt = UnverifiedJwt::parse(&token).expect("well formed");
        assert_eq!(
            jwt.verify(&other.verifying_key()).err(),
            Some(JwtError::BadSignature)
        );
    }

    #[test]
    fn a_header_that_is_too_long_is_not_read() {
        let header = |padding: usize| {
            let header = format!(
                r#"{{"alg":"RS256","cat":"{M2M_CATEGORY}","kid":"{}","x":"{}"}}"#,
                "ins_2xhFjEI5X2qWRvtV13BzSj8H6Dk",
                "x".repeat(padding)
            );
            format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header))
        };
        assert!(UnverifiedJwt::parse(&header(1000)).is_ok());
        let long = UnverifiedJwt::parse(&header(2000)).map(|_| ());
        assert_eq!(long, Err(JwtError::Malformed));
    }

    #[test]
    fn a_header_with_many_members_is_not_read() {
        let header = |more: usize| {
            let more: String = (0..more).map(|name| format!(r#","{name}":0"#)).collect();
            let header = format!(
                r#"{{"alg":"RS256","cat":"{M2M_CATEGORY}","kid":"ins_2xhFjEI5X2qWRvtV13BzSj8H6Dk"{more}}}"#
            );
            format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header))
        };
        assert!(UnverifiedJwt::parse(&header(29)).is_ok());
        let many = UnverifiedJwt::parse(&header(30)).map(|_| ());
        assert_eq!(many, Err(JwtError::Malformed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_changed_token_never_verifies(place in 0_usize..600, digit in 0_u8..62) {
            let mut bytes = sign(None).into_bytes();
            let place = place % bytes.len();
            let digit = crate::base62::digit_of(digit);
            prop_assume!(bytes[place] != digit && bytes[place] != b'.');
            bytes[place] = digit;
            let changed = String::from_utf8(bytes).expect("ASCII");
            let accepted = UnverifiedJwt::parse(&changed).and_then(|jwt| jwt.verify(&KEY.verifying_key()));
            prop_assert!(accepted.is_err());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[A-Za-z0-9_.-]{0,80}") {
            let _ = UnverifiedJwt::parse(&text);
        }
    }
}
