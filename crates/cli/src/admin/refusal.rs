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
        (409, _) => (
            Code::Refused,
            "it is there already or its number is limited; the `list` commands show what there is"
                .to_owned(),
        ),
        (429, _) => (Code::Unavailable, again),
        (500.., _) => (
            Code::Unavailable,
            format!("{again}; the authority's log tells more under the trace id"),
        ),
        _ => (
            Code::Refused,
            "see the command's --help for what is allowed".to_owned(),
        ),
    };
    Failure::new(situation, message, hint)
}
