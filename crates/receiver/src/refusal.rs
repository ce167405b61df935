//! Why a request is not let in, as programs, developers and RFC 6750 section 3 want to read it.
//!
//! 401: the credential is absent or no good. 403: it is good and this place wants another caller. 503: the receiver could not find
//! out, so the sender should come again with the same token; a 401 would make it mint a new one. No text holds a token.

use std::fmt;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use crate::accept::Accept;

/// Why a request is not let in. [`Reason::code`] is the short text for programs and metrics, from a fixed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There is no bearer token.
    TokenMissing,
    /// The `Authorization` header is repeated or cannot be read.
    HeaderMalformed,
    /// The bearer token is neither an M2M token nor a JWT.
    TokenUnrecognized,
    /// The token has a form that none has.
    TokenMalformed,
    /// The authority says that the token is not valid here: unknown, revoked, expired or not for this machine.
    TokenRefused,
    /// The token's life is over.
    TokenExpired,
    /// The token's life has not begun.
    TokenNotYetValid,
    /// The token was made for other machines.
    NotForThisMachine,
    /// The JWT's algorithm, type or an extension that it wants is not allowed.
    KindNotAllowed,
    /// The JWT was signed with a key that its issuer does not publish.
    KeyUnknown,
    /// The JWT's signature does not fit.
    SignatureInvalid,
    /// The JWT is of another issuer.
    IssuerUnknown,
    /// A claim of the JWT is absent or of the wrong type.
    ClaimsMalformed,
    /// The JWT is for another audience.
    AudienceWrong,
    /// The JWT was made for an application that is not on the list (`azp`).
    PartyNotAllowed,
    /// The user's session has steps left to complete.
    SessionPending,
    /// A machine may call this, another one.
    WrongMachine,
    /// Machines may call this, users not.
    MachineRequired,
    /// Users may call this, machines not.
    UserRequired,
    /// The authority does not answer, or not with an answer that counts.
    AuthorityUnavailable,
    /// More tokens are waiting for the authority than may.
    TooManyChecks,
    /// The authority does not accept this receiver's own key.
    ReceiverKeyRefused,
    /// The issuer's keys cannot be had.
    KeysUnavailable,
    /// A setting is missing that this check needs.
    NotConfigured,
    /// An extractor stands where no layer has checked the request.
    NotChecked,
}

/// A row: code, status, the `error` of RFC 6750, what is wrong, what to do.
type Row = (
    &'static str,
    StatusCode,
    Option<&'static str>,
    &'static str,
    &'static str,
);

const FAILED: &str = "Token verification failed";
const NOT_CONFIGURED: &str = "M2M not configured";
const INVALID: Option<&str> = Some("invalid_token");
const INSUFFICIENT: Option<&str> = Some("insufficient_scope");

impl Reason {
    /// The short text, in snake case.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.row().0
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    #[rustfmt::skip]
    fn row(self) -> Row {
        use StatusCode as S;
        match self {
            Self::TokenMissing => ("token_missing", S::UNAUTHORIZED, None, "No token was sent",
                "Send a token in the header 'Authorization: Bearer ...'."),
            Self::HeaderMalformed => ("header_malformed", S::BAD_REQUEST, Some("invalid_request"), "The Authorization header cannot be read",
                "Send exactly one Authorization header: the word Bearer, a space and one token."),
            Self::TokenUnrecognized => ("token_unrecognized", S::UNAUTHORIZED, INVALID, FAILED,
                "This is neither an M2M token (mt_...) nor a JWT. A key (ak_..., sk_...) is no token: mint one with it."),
            Self::TokenMalformed => ("token_malformed", S::UNAUTHORIZED, INVALID, FAILED,
                "The token has a form that no token has. Copy it again, whole."),
            Self::TokenRefused => ("token_refused", S::UNAUTHORIZED, INVALID, FAILED,
                "The authority does not accept the token here: it is unknown, revoked, expired, or its machine may not call this one. Get a new token; if that is refused too, add the scope."),
            Self::TokenExpired => ("token_expired", S::UNAUTHORIZED, INVALID, FAILED,
                "The token has expired. Get a new one."),
            Self::TokenNotYetValid => ("token_not_yet_valid", S::UNAUTHORIZED, INVALID, FAILED,
                "The token is not valid yet. Compare the clocks of the issuer and of this service."),
            Self::NotForThisMachine => ("not_for_this_machine", S::UNAUTHORIZED, INVALID, FAILED,
                "The token was made for other machines. Add the scope from its machine to this one, then get a new token."),
            Self::KindNotAllowed => ("kind_not_allowed", S::UNAUTHORIZED, INVALID, FAILED,
                "The JWT's algorithm, type or extensions are not accepted: use RS256, for users also ES256 or EdDSA, and a kid."),
            Self::KeyUnknown => ("key_unknown", S::UNAUTHORIZED, INVALID, FAILED,
                "The JWT names a key that its issuer does not publish. Get a new token from the right issuer."),
            Self::SignatureInvalid => ("signature_invalid", S::UNAUTHORIZED, INVALID, FAILED,
                "The JWT's signature does not fit. Copy the token again, whole."),
            Self::IssuerUnknown => ("issuer_unknown", S::UNAUTHORIZED, INVALID, FAILED,
                "The JWT is of an issuer that this service does not know. Compare its iss claim with the configured issuers."),
            Self::ClaimsMalformed => ("claims_malformed", S::UNAUTHORIZED, INVALID, FAILED,
                "A claim of the JWT is absent or of the wrong type."),
            Self::AudienceWrong => ("audience_wrong", S::UNAUTHORIZED, INVALID, FAILED,
                "The JWT is for another audience, or this service has none configured. Ask its issuer for a token with this service's audience."),
            Self::PartyNotAllowed => ("party_not_allowed", S::UNAUTHORIZED, INVALID, FAILED,
                "The JWT was made for an application (azp) that is not on this service's list."),
            Self::SessionPending => ("session_pending", S::UNAUTHORIZED, INVALID, FAILED,
                "The user's session has steps left to complete. Complete the sign-in first."),
            Self::WrongMachine => ("wrong_machine", S::FORBIDDEN, INSUFFICIENT, "This endpoint requires another machine's token",
                "The token is good, but of a machine that may not call this endpoint."),
            Self::MachineRequired => ("machine_required", S::FORBIDDEN, INSUFFICIENT, "This endpoint requires a machine token",
                "A user's token does not do. Call with an M2M token."),
            Self::UserRequired => ("user_required", S::FORBIDDEN, INSUFFICIENT, "This endpoint requires a user's token",
                "An M2M token does not do. Call with a user's session."),
            Self::AuthorityUnavailable => ("authority_unavailable", S::SERVICE_UNAVAILABLE, None, "The token cannot be checked now",
                "The authority does not answer. Try again later with the same token."),
            Self::TooManyChecks => ("too_many_checks", S::SERVICE_UNAVAILABLE, None, "The token cannot be checked now",
                "Too many checks are waiting. Try again later with the same token."),
            Self::ReceiverKeyRefused => ("receiver_key_refused", S::SERVICE_UNAVAILABLE, None, "The token cannot be checked now",
                "The authority does not accept the key of this service. Its operator must set the right machine key."),
            Self::KeysUnavailable => ("keys_unavailable", S::SERVICE_UNAVAILABLE, None, "The token cannot be checked now",
                "The issuer's keys cannot be fetched. Try again later with the same token."),
            Self::NotConfigured => ("not_configured", S::SERVICE_UNAVAILABLE, None, NOT_CONFIGURED,
                "The operator of this service must complete its settings; its log names what is missing."),
            Self::NotChecked => ("not_checked", S::INTERNAL_SERVER_ERROR, None, "The request was not checked",
                "Put the receiver's layer around this route."),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

/// A request that is not let in: a reason, a message, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    /// The services that the endpoint is for, where it is for some.
    service: Option<Box<str>>,
    retry_after_seconds: Option<u32>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason) -> Self {
        let retry_after_seconds = match reason {
            Reason::AuthorityUnavailable | Reason::TooManyChecks | Reason::KeysUnavailable => {
                Some(1)
            }
            // An operator must do something first.
            Reason::ReceiverKeyRefused | Reason::NotConfigured => Some(30),
            _ => None,
        };
        Self {
            reason,
            service: None,
            retry_after_seconds,
        }
    }

    /// A machine is wanted, or another one. Where the route is for services, the message names them.
    pub(crate) fn required(reason: Reason, accept: &Accept) -> Self {
        let names: Vec<_> = accept.services.iter().map(|it| &*it.name).collect();
        Self {
            service: (!names.is_empty()).then(|| names.join(" or ").into()),
            ..Self::new(reason)
        }
    }

    pub(crate) fn retry_after(mut self, after: Option<Duration>) -> Self {
        if let Some(after) = after {
            let seconds = u32::try_from(after.as_secs()).unwrap_or(u32::MAX);
            self.retry_after_seconds = Some(seconds.clamp(1, 300));
        }
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The status of the answer: 400, 401, 403, 500 or 503.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.reason.status()
    }

    /// What is wrong, in one clause.
    #[must_use]
    pub fn message(&self) -> String {
        match &self.service {
            Some(service) => format!("This endpoint requires {service} machine token"),
            None => self.reason.row().3.to_owned(),
        }
    }

    /// What to do, in a sentence.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        self.reason.row().4
    }

    /// How long to wait before the same request is worth another try.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after_seconds
            .map(|seconds| Duration::from_secs(u64::from(seconds)))
    }

    /// The answer: a JSON object with `reason`, `message` and `hint`, and the headers of RFC 6750 section 3.
    #[must_use]
    pub fn to_response<B: From<String>>(&self) -> Response<B> {
        let (code, status, error, ..) = self.reason.row();
        let message = self.message();
        let body = serde_json::json!({
            "error": error.unwrap_or(code),
            "reason": code,
            "message": message,
            "hint": self.hint(),
        });
        let mut response = Response::new(B::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status.is_client_error() {
            let challenge = challenge(error, &message, self.hint());
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// RFC 6750 section 3: without a token there is no error, only the challenge. The description may hold printable ASCII but
/// quotation marks and backslashes.
fn challenge(error: Option<&str>, message: &str, hint: &str) -> HeaderValue {
    let mut text = r#"Bearer realm="api""#.to_owned();
    if let Some(error) = error {
        text.push_str(r#", error=""#);
        text.push_str(error);
        text.push_str(r#"", error_description=""#);
        let description = format!("{message}. {hint}");
        text.extend(
            description
                .chars()
                .filter(|it| matches!(it, ' '..='~') && !matches!(it, '"' | '\\')),
        );
        text.push('"');
    }
    HeaderValue::from_str(&text).expect("the text is printable ASCII")
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.message(), self.reason)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge_of(refusal: &Refusal) -> Option<String> {
        let response = refusal.to_response::<String>();
        let challenge = response.headers().get(WWW_AUTHENTICATE)?;
        Some(challenge.to_str().expect("ASCII").to_owned())
    }

    #[test]
    fn without_a_token_the_challenge_names_no_error() {
        let refusal = Refusal::new(Reason::TokenMissing);
        assert_eq!(refusal.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            challenge_of(&refusal).as_deref(),
            Some(r#"Bearer realm="api""#)
        );
    }

    #[test]
    fn the_sentences_of_existing_deployments_are_kept() {
        let wrong = Refusal::required(Reason::WrongMachine, &Accept::service("webhook"));
        assert_eq!(
            wrong.message(),
            "This endpoint requires webhook machine token"
        );
        assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
        assert_eq!(
            Refusal::new(Reason::TokenRefused).message(),
            "Token verification failed"
        );
        assert_eq!(
            Refusal::new(Reason::NotConfigured).message(),
            "M2M not configured"
        );
    }

    #[test]
    fn a_refusal_for_want_of_an_answer_says_when_to_come_again_and_is_no_challenge() {
        let refusal =
            Refusal::new(Reason::AuthorityUnavailable).retry_after(Some(Duration::from_secs(7)));
        let response = refusal.to_response::<String>();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "7");
        assert_eq!(challenge_of(&refusal), None);
    }

    #[test]
    fn each_503_says_when_to_come_again() {
        for (reason, seconds) in [
            (Reason::AuthorityUnavailable, "1"),
            (Reason::TooManyChecks, "1"),
            (Reason::KeysUnavailable, "1"),
            (Reason::ReceiverKeyRefused, "30"),
            (Reason::NotConfigured, "30"),
        ] {
            let response = Refusal::new(reason).to_response::<String>();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            let after = response.headers().get(RETRY_AFTER);
            assert_eq!(after, Some(&HeaderValue::from_static(seconds)), "{reason}");
        }
        let unknown = Refusal::new(Reason::TokenRefused).to_response::<String>();
        assert_eq!(unknown.headers().get(RETRY_AFTER), None);
    }

    #[test]
    fn a_service_cannot_break_out_of_the_header() {
        let refusal = Refusal::required(
            Reason::WrongMachine,
            &Accept::service("web\"hook\\\r\nX: ü"),
        );
        let challenge = challenge_of(&refusal).expect("a challenge");
        assert!(
            challenge.contains(r#"requires webhookX:  machine token"#),
            "{challenge}"
        );
        assert_eq!(challenge.matches('"').count(), 6);
    }

    #[test]
    fn the_body_is_an_object_for_programs_and_people() {
        let body = Refusal::new(Reason::TokenExpired)
            .to_response::<String>()
            .into_body();
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(
            body,
            serde_json::json!({
                "error": "invalid_token",
                "reason": "token_expired",
                "message": "Token verification failed",
                "hint": "The token has expired. Get a new one.",
            })
        );
    }
}
