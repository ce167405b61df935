//! How commands fail: one sentence, a hint where there is something to do, and an exit code of its own for each situation that a script would tell apart.

use std::fmt;

use countersign_protocol::ids::TokenId;

use crate::environment::with_variables;
use crate::stderr;

/// A situation with an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Failed,
    Usage,
    NotInitialized,
    InUse,
    Foreign,
    Version,
    Damaged,
    MasterKey,
    Unreadable,
    Address,
    Settings,
    StoreFailed,
    Refused,
    Unreachable,
    Unavailable,
    No,
}

/// The codes, for `docs/reference/exit-codes.md`.
pub(crate) const CODES: &[(Code, u8, &str)] = &[
    (Code::Failed, 1, "Anything without a code of its own."),
    (
        Code::Usage,
        2,
        "The command line cannot be understood; `--help` has an example.",
    ),
    (
        Code::NotInitialized,
        3,
        "The data folder holds no authority: run `countersign init`.",
    ),
    (
        Code::InUse,
        4,
        "Another process has the data folder open: use `--url`, or stop it.",
    ),
    (
        Code::Foreign,
        5,
        "The folder or file belongs to another program.",
    ),
    (
        Code::Version,
        6,
        "Another version wrote the data. If it is a later version, update this program. If it is a build from before the first release, start with a new data folder.",
    ),
    (
        Code::Damaged,
        7,
        "The data cannot be read: restore a backup.",
    ),
    (
        Code::MasterKey,
        8,
        "The master key is missing, malformed, or of another authority.",
    ),
    (
        Code::Unreadable,
        9,
        "A file cannot be opened, or others may read it: correct owner and mode.",
    ),
    (Code::Address, 10, "The address cannot be listened on."),
    (
        Code::Settings,
        11,
        "A setting is wrong or missing; the message names it.",
    ),
    (
        Code::StoreFailed,
        12,
        "The disk failed while the authority ran. Nothing unwritten was acknowledged; look at the disk, then start again.",
    ),
    (
        Code::Refused,
        13,
        "The authority refused: the message has its code and text.",
    ),
    (
        Code::Unreachable,
        14,
        "The authority cannot be reached, or the server at that address is not an authority.",
    ),
    (
        Code::Unavailable,
        15,
        "The authority is overloaded, limits the rate, or failed: the same command may succeed later.",
    ),
    (
        Code::No,
        16,
        "The answer is no: the token does not verify, the machine may not call, the change log is broken.",
    ),
];

impl Code {
    pub(crate) fn number(self) -> u8 {
        CODES
            .iter()
            .find(|(code, ..)| *code == self)
            .map_or(1, |(_, number, _)| *number)
    }
}

/// What a person reads when a command fails.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    message: String,
    /// Empty where the message says it all.
    hint: String,
}

/// The message without the hint, for the log.
impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&one_line(&self.message))
    }
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
            hint: hint.to_string(),
        }
    }

    /// What clap says about a command line that it cannot understand, in our form.
    pub(crate) fn from_clap(error: &clap::Error, command: &clap::Command) -> Self {
        let text = with_variables(&error.render().to_string(), command);
        let mut paragraphs = text
            .split("\n\n")
            .map(str::trim)
            .filter(|paragraph| !paragraph.is_empty());
        let message = paragraphs
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned();
        let rest: Vec<&str> = paragraphs.collect();
        // The tip to pass a misspelt flag as a value, behind `--`, helps nobody: no value here begins with two dashes.
        let tip = rest
            .iter()
            .flat_map(|paragraph| paragraph.lines())
            .filter_map(|line| line.trim().strip_prefix("tip: "))
            .find(|tip| !tip.starts_with("to pass "));
        let usage = rest
            .iter()
            .find_map(|paragraph| paragraph.strip_prefix("Usage: "));
        let hint = match (tip, usage) {
            (Some(tip), _) => tip.to_owned(),
            (None, Some(usage)) => format!(
                "write `{}`; --help has an example",
                usage.lines().next().unwrap_or_default()
            ),
            (None, None) => "--help has an example".to_owned(),
        };
        Self::new(Code::Usage, message, hint)
    }

    /// Puts what was being done in front of the message.
    pub(crate) fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Replaces the hint by one that knows more.
    pub(crate) fn with_hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = hint.to_string();
        self
    }

    /// Writes the message and the hint to standard error, a line each.
    pub(crate) fn report(&self) {
        stderr::line(&format!(
            "\x1b[1;31merror:\x1b[0m {}",
            one_line(&self.message)
        ));
        if !self.hint.is_empty() {
            stderr::line(&format!("\x1b[1;36mhint:\x1b[0m {}", one_line(&self.hint)));
        }
    }
}

/// One line without control characters, and without a secret that somebody gave in the wrong place.
fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut shown = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while !rest.is_empty() {
        let word = rest
            .find(|letter| !is_secret_letter(letter))
            .map_or(rest, |end| rest.get(..end).unwrap_or(rest));
        shown.push_str(if is_secret(word) { "[redacted]" } else { word });
        rest = rest.get(word.len()..).unwrap_or_default();
        if let Some(letter) = rest.chars().next() {
            shown.push(if letter.is_control() {
                '\u{fffd}'
            } else {
                letter
            });
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        }
    }
    shown
}

fn is_secret_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.')
}

/// Whether a word is a key, a token string or a JWT. Ids of tokens share the tokens' prefix and are none.
fn is_secret(word: &str) -> bool {
    let is_key = ["sk_", "ak_", "mt_"]
        .iter()
        .any(|prefix| word.starts_with(prefix))
        && word.len() >= 16;
    (is_key && !TokenId::is_well_formed(word))
        || (word.starts_with("eyJ") && word.matches('.').count() == 2)
}

/// What to do about a token that does not verify.
pub(crate) const TOKEN_HINT: &str =
    "issue a new one with `countersign token create`; `countersign why` says who may call whom";

/// The table as Markdown, for `docs/reference/exit-codes.md`.
#[cfg(test)]
pub(crate) fn exit_code_reference() -> String {
    let mut page = String::from(
        "# Exit codes\n\nEvery command ends with one of these. A failure writes one line `error: …` to standard error and, where there is \
         something to do about it, one line `hint: …`; nothing to standard output, except that `audit verify --json` reports a broken chain there.\n\nThis page is generated from `crates/cli/src/exit.rs`.\n\n| Code | When |\n|---|---|\n| 0 | Done. |\n",
    );
    for (_, number, when) in CODES {
        page.push_str(&format!("| {number} | {when} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_situation_has_one_number() {
        let mut numbers: Vec<u8> = CODES.iter().map(|(_, number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), CODES.len());
    }

    #[test]
    fn a_message_is_one_line_without_secrets_and_control_characters() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtY2gifQ.c2ln";
        let text = format!(
            "a\n  b 'sk_test_0123456789abcdef', mt_{} and\x1b[2J {jwt} mt_{}",
            "x".repeat(43),
            "0".repeat(32)
        );
        let expected = format!(
            "a b '[redacted]', [redacted] and\u{fffd}[2J [redacted] mt_{}",
            "0".repeat(32)
        );
        assert_eq!(one_line(&text), expected);
        assert_eq!(one_line("use sk_… or ak_…"), "use sk_… or ak_…");
    }
}
