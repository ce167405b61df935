//! What may be known of a JWT before its signature is checked: its form, its header, and which issuer's keys it wants.
//!
//! The header is read strictly (RFC 8725): a value of the wrong type is refused, `crit` and `b64` are refused, and the keys that
//! a header may carry or point to (`jwk`, `jku`, `x5u`, `x5c`) are not looked at.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_protocol::json::{self, Object};
use countersign_protocol::jwt::{
    EXPIRY_LEEWAY_MILLIS, FUTURE_LEEWAY_MILLIS, numeric_date, segments,
};
use countersign_protocol::limits::MAX_JWT_HEADER_MEMBERS;
use countersign_protocol::time::Timestamp;
use serde_json::value::RawValue;

use crate::refusal::Reason;

/// A JWT whose header was read.
pub(crate) struct Jwt<'a> {
    pub(crate) algorithm: String,
    pub(crate) kid: Option<String>,
    pub(crate) category: Option<String>,
    /// Whether its type says that it is an OAuth access token (RFC 9068 section 2.1), and not just any JWT.
    pub(crate) is_access_token: bool,
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Jwt<'a> {
    pub(crate) fn read(token: &'a str) -> Result<Self, Reason> {
        let [header, payload, signature] = segments(token).ok_or(Reason::TokenMalformed)?;
        let (signed, _) = token.split_at(header.len() + 1 + payload.len());
        let header = decode(header)?;
        let mut header = Object::parse_up_to(MAX_JWT_HEADER_MEMBERS, &header)
            .map_err(|_| Reason::TokenMalformed)?;
        let mut text = |name: &str| Ok(take_text(&mut header, name)?.map(Cow::into_owned));
        let algorithm = text("alg")?.ok_or(Reason::KindNotAllowed)?;
        let (kind, kid, category) = (text("typ")?, text("kid")?, text("cat")?);
        let is_understood = !header.names().any(|name| matches!(name, "crit" | "b64"));
        let is_access_token = match kind.as_deref().map(short) {
            // Those of other uses, such as logout, are no credentials.
            _ if !is_understood => return Err(Reason::KindNotAllowed),
            None => false,
            Some(kind) if kind == "jwt" => false,
            Some(kind) if kind == "at+jwt" => true,
            Some(_) => return Err(Reason::KindNotAllowed),
        };
        Ok(Self {
            algorithm,
            kid,
            category,
            is_access_token,
            signed,
            payload,
            signature,
        })
    }

    /// What the signature is of.
    pub(crate) fn signed(&self) -> &'a [u8] {
        self.signed.as_bytes()
    }

    pub(crate) fn signature(&self) -> Result<Vec<u8>, Reason> {
        decode(self.signature)
    }

    pub(crate) fn payload(&self) -> Result<Vec<u8>, Reason> {
        decode(self.payload)
    }
}

/// A media type as a header's `typ` has it (RFC 7515 section 4.1.9).
fn short(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    match kind.strip_prefix("application/") {
        Some(rest) => rest.to_owned(),
        None => kind,
    }
}

fn decode(text: &str) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Reason::TokenMalformed)
}

/// Takes a member that must be a text, if it is there.
pub(crate) fn take_text<'a>(
    object: &mut Object<'a>,
    name: &str,
) -> Result<Option<Cow<'a, str>>, Reason> {
    let value = object.take(name);
    value.map(text_of).transpose()
}

/// A text, and nothing else.
pub(crate) fn text_of(value: &RawValue) -> Result<Cow<'_, str>, Reason> {
    json::text(value).ok_or(Reason::ClaimsMalformed)
}

/// The times of a JWT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    issued_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    pub(crate) expires_at: Timestamp,
}

impl Times {
    /// Takes `exp`, which must be there, `nbf` and `iat`.
    pub(crate) fn take(claims: &mut Object<'_>) -> Result<Self, Reason> {
        let mut time = |name| {
            claims
                .take(name)
                .map(|value| numeric_date(value).ok_or(Reason::ClaimsMalformed))
                .transpose()
        };
        Ok(Self {
            issued_at: time("iat")?,
            not_before: time("nbf")?,
            expires_at: time("exp")?.ok_or(Reason::ClaimsMalformed)?,
        })
    }

    pub(crate) fn has_issued_at(&self) -> bool {
        self.issued_at.is_some()
    }

    /// Whether the token is alive, with a leeway for clocks. To be asked again each time it is presented.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), Reason> {
        if now.millis_since(self.expires_at) >= EXPIRY_LEEWAY_MILLIS {
            return Err(Reason::TokenExpired);
        }
        let mut starts = [self.issued_at, self.not_before].into_iter().flatten();
        if starts.any(|start| start.millis_since(now) > FUTURE_LEEWAY_MILLIS) {
            return Err(Reason::TokenNotYetValid);
        }
        Ok(())
    }
}
