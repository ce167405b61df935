//! What an authority over HTTP refused, in the words of the command line: the situation for the exit code, and what to do.

use countersign_protocol::error::ErrorEnvelope;

use super::output;
use crate::exit::{Code, Failure, TOKEN_HINT};

/// The path whose 404 is an answer.
pub(super) const VERIFY: &str = "/m2m_tokens/verify";

/// What the authority said, for a person.
pub(super) fn refused(
    status: u16,
    path: &str,
    envelope: &ErrorEnvelope,
    retry_after: Option<&str>,
) -> Failure {
    let item = envelope.errors.first();
    let (code, text) = item.map_or(("unknown", "no reason was given"), |item| {
        (&*item.code, &*item.long_message)
    });
    let trace = envelope.clerk_trace_id.as_deref().unwrap_or("none");
    let message = format!(
        "{} ({code}, trace {trace})",
        output::visible(text).trim_end_matches('.')
    );
    let again = format!("try again in {} s", retry_after.unwrap_or("a few"));
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
            "the key that was given may not do this; the message says why".to_owned(),
        ),
        (404, "resource_not_found") if path == VERIFY => (Code::No, TOKEN_HINT.to_owned()),
        (404, _) => (
            Code::Refused,
            "the `list` commands show what there is".to_owned(),
        ),
        (429, _) => (Code::Unavailable, again),
        (500.., _) => (
            Code::Unavailable,
            format!("{again}; the authority's log tells more under the trace id"),
        ),
        _ => (Code::Refused, hint(text).to_owned()),
    };
    Failure::new(situation, message, hint)
}

/// What to type after a refusal, by what its text mentions; the texts are the same in place and over HTTP. The first that fits
/// counts.
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

const LIFETIME: &str = "--ttl sets it: seconds, or a duration like 365d, 12h or 30m";

/// What to do about a value or a state that the authority refuses; nothing where its text says it all.
pub(crate) fn hint(text: &str) -> &'static str {
    HINTS
        .iter()
        .find(|(mention, _)| text.contains(mention))
        .map_or("", |(_, hint)| hint)
}
