//! Converts a refusal of an authority, or a failure to reach one, to a failure of the command line: the exit code, a
//! message, and what to do.

use std::fmt;

use countersign_client::{Error, Refusal, SettingsError};
use countersign_protocol::body::ExposedSecret;
use countersign_protocol::door::SOCKET;
use countersign_protocol::error::NO_SUCH_PATH;

use super::output;
use crate::exit::{Code, Failure, TOKEN_HINT};

/// The path whose 404 is an answer.
const VERIFY: &str = "/m2m_tokens/verify";

/// Converts the error of a request for `path` at `address`.
pub(super) fn failure(address: &str, path: &str, error: Error) -> Failure {
    match error {
        Error::Refused(refusal) => refused(address, path, &refusal),
        error => failed(error),
    }
}

/// Converts a refusal of the authority at `address`.
fn refused(address: &str, path: &str, refusal: &Refusal) -> Failure {
    let first = refusal.errors().first();
    let text = first.map_or("no reason was given", |error| &error.long_message);
    if text == NO_SUCH_PATH {
        return no_such_path(address, path);
    }
    let (status, code) = (refusal.status().as_u16(), refusal.code());
    let trace = refusal.trace_id().unwrap_or("none");
    let (code_shown, trace) = (output::visible(code), output::visible(trace));
    let message = format!(
        "{} ({code_shown}, trace {trace})",
        output::visible(text).trim_end_matches('.')
    );
    let wait = refusal.retry_after().map(|wait| wait.as_secs().to_string());
    let again = format!("try again in {} s", wait.as_deref().unwrap_or("a few"));
    let (situation, hint) = match (status, code) {
        (401, "machine_secret_key_invalid") => (
            Code::Refused,
            "check CLERK_MACHINE_SECRET_KEY, or take the key with `countersign machine secret`"
                .to_owned(),
        ),
        (401, _) => (
            Code::Refused,
            "check CLERK_SECRET_KEY; `countersign instance key create --data DIR` makes a new key"
                .to_owned(),
        ),
        (403, _) => (
            Code::Refused,
            "this key is not allowed to do this; the message says why".to_owned(),
        ),
        (404, "resource_not_found") if path == VERIFY => (Code::No, TOKEN_HINT.to_owned()),
        (404, _) => (
            Code::Refused,
            "the `list` commands show what there is".to_owned(),
        ),
        (429, _) => (Code::Unavailable, again),
        (500.., _) => (
            Code::Unavailable,
            format!("{again}; see the authority's log under the trace id"),
        ),
        _ => (Code::Refused, hint(text).to_owned()),
    };
    Failure::new(situation, message, hint)
}

/// Converts an error other than a refusal.
fn failed(error: Error) -> Failure {
    match error {
        Error::Unreachable {
            address, reason, ..
        } => {
            let hint = if address.ends_with(SOCKET) {
                "did the server just stop? Only the user that runs the authority, and root, can use the operator's door".to_owned()
            } else if reason.contains("does not speak TLS") {
                let plain = address.replacen("https://", "http://", 1);
                format!("the server may use plain HTTP; try {plain}")
            } else if reason.contains("certificate") {
                "is the certificate valid for this name, and is its CA trusted here? Add a private CA to the system's certificates, or name its file in SSL_CERT_FILE".to_owned()
            } else {
                "is the authority running, and is the address right? `countersign dev` starts one on http://127.0.0.1:4840".to_owned()
            };
            Failure::new(
                Code::Unreachable,
                format!("cannot reach {address}: {reason}"),
                hint,
            )
        }
        Error::Settings(error @ SettingsError::Address(_)) => Failure::new(
            Code::Settings,
            error,
            "--url or CLERK_API_URL gives it; --insecure-http sends keys over plain HTTP, where the way there is safe",
        ),
        Error::Settings(error) => Failure::new(Code::Settings, error, ""),
        Error::Malformed {
            address, reason, ..
        } => foreign(format!(
            "the server at {address} is not an authority that this program knows: {reason}"
        )),
        error => foreign(error),
    }
}

/// Returns the secret of a response to the creation of a key or token. It is shown only there.
pub(super) fn required(secret: Option<ExposedSecret>) -> Result<ExposedSecret, Failure> {
    secret.ok_or_else(|| foreign("the authority's response does not contain the new key or token"))
}

/// What to say of another server than an authority.
pub(super) fn foreign(message: impl fmt::Display) -> Failure {
    let hint =
        "check the address: it must be the authority's own, not a page or proxy in front of it";
    Failure::new(Code::Unreachable, message, hint)
}

/// Says that an authority answers at `address` which does not know `path`.
fn no_such_path(address: &str, path: &str) -> Failure {
    let path = path.split('?').next().unwrap_or_default();
    let prefix = address
        .split_once("://")
        .and_then(|(_, rest)| rest.find('/').map(|slash| rest.split_at(slash).1))
        .unwrap_or_default();
    if prefix.is_empty() {
        return Failure::new(
            Code::Unreachable,
            format!("the authority at {address} has no path /v1{path}"),
            "it may be older than this program: compare the versions",
        );
    }
    let origin = address.strip_suffix(prefix).unwrap_or(address);
    Failure::new(
        Code::Unreachable,
        format!(
            "the address {address} is wrong: the authority there has no path {prefix}/v1{path}"
        ),
        format!("leave {prefix} out of the address: {origin}, with or without /v1"),
    )
}

/// What to type after a refusal, by what its text mentions. The first that fits counts.
const HINTS: [(&str, &str); 10] = [
    ("not found", "`countersign machine list` shows the machines"),
    (
        "to_machine_id",
        "name two machines: a machine's tokens are never for itself",
    ),
    (
        "scoped_machines",
        "`countersign scope list MACHINE` shows whom it may call",
    ),
    (
        "min_remaining_ttl_seconds",
        "--min-remaining sets it, and --ttl the lifetime of the token",
    ),
    ("seconds_until_expiration", LIFETIME),
    ("default_token_ttl", LIFETIME),
    (
        "is the active signing key",
        "`countersign key rotate --now` lets another key sign at once; after that, this one can be deleted",
    ),
    (
        "is published already",
        "`countersign key rotate --now` lets it sign at once",
    ),
    (
        "signing keys, which is the maximum",
        "`countersign key list` shows them, and `countersign key delete KID` deletes one",
    ),
    (
        "only live key of the instance",
        "`countersign instance key create` makes another one",
    ),
];

const LIFETIME: &str = "--ttl sets it: a number with a unit, like 365d, 12h or 30m";

/// What to do about a value or a state that the authority refuses; nothing where its text says it all.
pub(crate) fn hint(text: &str) -> &'static str {
    HINTS
        .iter()
        .find(|(mention, _)| text.contains(mention))
        .map_or("", |(_, hint)| hint)
}
