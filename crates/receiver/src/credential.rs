//! What a request presents: the one `Authorization` header (RFC 6750 section 2.1; neither form nor query is looked at).

use countersign_protocol::jwt::segments;
use countersign_protocol::limits::{MAX_JWT_BYTES, MAX_JWT_HEADER_BYTES};
use countersign_protocol::secret::{MAX_SECRET_LENGTH, TokenString};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::refusal::Reason;

/// The shortest opaque token that is worth a question, prefix included. Clerk's have 35 characters, Countersign's 46.
const MIN_OPAQUE_LENGTH: usize = TokenString::PREFIX.len() + 16;

const SCHEME: &str = "bearer";

/// What a bearer token is by its form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential<'a> {
    /// Neither M2M token nor JWT. The legacy check may know it.
    Other,
    /// An `mt_` token.
    Opaque(&'a str),
    /// A JWT, of a machine or of a user.
    Jwt(&'a str),
}

/// The bearer token that a request presents, of whatever form; `None` where there is no header, or one of another scheme. An
/// error means that something was presented that nobody may let in.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Reason> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    if lines.next().is_some() {
        return Err(Reason::HeaderMalformed);
    }
    let line = std::str::from_utf8(line.as_bytes()).map_err(|_| Reason::HeaderMalformed)?;
    let (scheme, rest) = line.split_at_checked(SCHEME.len()).unwrap_or((line, ""));
    if scheme.eq_ignore_ascii_case(SCHEME) && (rest.is_empty() || rest.starts_with(' ')) {
        return Ok(Some(rest.trim_start_matches(' ')));
    }
    // What tries to present a token, in a wrong form, is never a legacy caller's.
    let mut words =
        line.split(|letter: char| !(letter.is_ascii_alphanumeric() || "_-.".contains(letter)));
    if words.any(|word| word.eq_ignore_ascii_case(SCHEME) || is_like_token(word)) {
        return Err(Reason::HeaderMalformed);
    }
    Ok(None)
}

/// Whether a word begins like an opaque token in any case, or is a JWT.
fn is_like_token(word: &str) -> bool {
    begins_like_opaque(word) || (word.starts_with("eyJ") && segments(word).is_some())
}

fn begins_like_opaque(word: &str) -> bool {
    let prefix = word.get(..TokenString::PREFIX.len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(TokenString::PREFIX))
}

impl<'a> Credential<'a> {
    /// Tells the kinds of tokens apart by their form. An error means that nobody may let this one in.
    pub(crate) fn of(token: &'a str) -> Result<Self, Reason> {
        let rest = token.strip_prefix(TokenString::PREFIX);
        // Without an early end, so that the compiler looks at many bytes at once.
        let is_plain = |text: &str| {
            text.bytes()
                .fold(true, |all, byte| all & byte.is_ascii_alphanumeric())
        };
        if rest.is_some_and(is_plain)
            && (MIN_OPAQUE_LENGTH..=MAX_SECRET_LENGTH).contains(&token.len())
        {
            return Ok(Self::Opaque(token));
        }
        let is_word = token
            .bytes()
            .fold(true, |all, byte| all & byte.is_ascii_graphic());
        if token.is_empty() || !is_word {
            return Err(Reason::HeaderMalformed);
        }
        if begins_like_opaque(token) {
            return Err(Reason::TokenMalformed);
        }
        match segments(token) {
            None => Ok(Self::Other),
            Some([header, ..])
                if token.len() <= MAX_JWT_BYTES && header.len() <= MAX_JWT_HEADER_BYTES =>
            {
                Ok(Self::Jwt(token))
            }
            Some(_) => Err(Reason::TokenMalformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Result<&'static str, Reason> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                AUTHORIZATION,
                HeaderValue::from_bytes(line.as_bytes()).expect("a header"),
            );
        }
        let Some(token) = bearer(&headers)? else {
            return Ok("nothing");
        };
        Ok(match Credential::of(token)? {
            Credential::Other => "other",
            Credential::Opaque(_) => "opaque",
            Credential::Jwt(_) => "jwt",
        })
    }

    #[test]
    fn each_kind_is_told_by_its_form() {
        let clerk = format!("Bearer mt_{}", "A1".repeat(16));
        let ours = format!("bearer mt_{}", "aZ9".repeat(14) + "x");
        assert_eq!(read(&[&clerk]), Ok("opaque"));
        assert_eq!(read(&[&ours]), Ok("opaque"));
        assert_eq!(read(&["BEARER  a.b.c"]), Ok("jwt"));
        assert_eq!(read(&["Bearer shared-secret"]), Ok("other"));
        assert_eq!(read(&["Basic dXNlcjpwYXNz"]), Ok("nothing"));
        assert_eq!(read(&[]), Ok("nothing"));
    }

    #[test]
    fn what_is_ambiguous_or_impossible_is_refused_before_anybody_is_asked() {
        let good = format!("Bearer mt_{}", "A1".repeat(16));
        assert_eq!(read(&[&good, &good]), Err(Reason::HeaderMalformed));
        assert_eq!(read(&["Bearer"]), Err(Reason::HeaderMalformed));
        assert_eq!(read(&[&format!("{good} x")]), Err(Reason::HeaderMalformed));
        assert_eq!(read(&["Bearer ü"]), Err(Reason::HeaderMalformed));
        let token = format!("mt_{}", "A1".repeat(16));
        for line in [
            format!("Bearer\t{token}"),
            format!("Bearer:{token}"),
            format!("Bearer,{token}"),
            format!("Basic dXNlcjpwYXNz, Bearer {token}"),
            format!("Token Bearer {token}"),
            token.clone(),
            format!("Token {token}"),
            format!("Token token=\"{token}\""),
            "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln".to_owned(),
        ] {
            assert_eq!(read(&[&line]), Err(Reason::HeaderMalformed), "{line}");
        }
        for prefix in ["MT_", "Mt_", "mT_"] {
            let line = format!("Bearer {prefix}{}", "A1".repeat(16));
            assert_eq!(read(&[&line]), Err(Reason::TokenMalformed), "{line}");
        }
        assert_eq!(read(&[&format!("{good}-")]), Err(Reason::TokenMalformed));
        assert_eq!(read(&["Bearer mt_short"]), Err(Reason::TokenMalformed));
        assert_eq!(
            read(&[&format!("Bearer mt_{}", "a".repeat(300))]),
            Err(Reason::TokenMalformed)
        );
        assert_eq!(
            read(&[&format!("Bearer {}.b.c", "a".repeat(20_000))]),
            Err(Reason::TokenMalformed)
        );
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
                let _ = bearer(&headers).map(|token| token.map(Credential::of));
            }
        }
    }
}
