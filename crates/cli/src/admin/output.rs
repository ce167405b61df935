//! How commands show what they found: JSON for programs, aligned columns for people; secrets to a private file on request.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Args;
use countersign_protocol::time::Timestamp;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::exit::{Code, Failure};
use crate::folder::{draft, parent, unwritable};
use crate::stderr;

/// How long a server waits for who reads its standard output.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Writes data to standard output. A reader that has seen enough, like `head`, is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match write_out(text) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| not_shown(&error)),
    }
}

/// Writes what is shown only once to standard output.
pub(crate) fn print_once(text: &str) -> Result<(), Failure> {
    write_out(text).map_err(|error| not_shown(&error))
}

/// Writes data to standard output, but waits only a moment for somebody to read it.
pub(crate) fn print_or_go_on(text: String) -> Result<(), Failure> {
    let (done, written) = mpsc::channel();
    thread::spawn(move || done.send(print(&text)));
    written.recv_timeout(MAX_WAIT).unwrap_or_else(|_| {
        tracing::warn!("nobody reads the standard output");
        Ok(())
    })
}

fn write_out(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

fn not_shown(error: &io::Error) -> Failure {
    Failure::new(
        Code::Failed,
        format!("cannot write to standard output: {error}"),
        "what was asked for was done, but not shown",
    )
}

/// Writes something that is not the data to standard error.
pub(crate) fn note(text: &str) {
    let lines: Vec<_> = text.lines().map(visible).collect();
    stderr::line(&lines.join("\n"));
}

/// Writes one JSON document: on a terminal with white space, for programs on one line.
pub(crate) fn print_json<T: Serialize>(body: &T) -> Result<(), Failure> {
    print(&to_json(body)?)
}

/// Writes one JSON document that is shown only once.
pub(crate) fn print_json_once<T: Serialize>(body: &T) -> Result<(), Failure> {
    print_once(&to_json(body)?)
}

fn to_json<T: Serialize>(body: &T) -> Result<String, Failure> {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(body)
    } else {
        serde_json::to_string(body)
    };
    text.map_err(|error| Failure::new(Code::Failed, error, "this is a bug in this program"))
}

/// Aligned columns below a header. Nothing but a note where there are no rows.
pub(crate) fn print_table<const N: usize>(
    headers: [&str; N],
    rows: &[[String; N]],
    empty: &str,
) -> Result<(), Failure> {
    if rows.is_empty() {
        note(empty);
        return Ok(());
    }
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| visible(cell)))
        .collect();
    let mut widths = headers.map(width);
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let mut text = format!("\x1b[1m{}\x1b[0m", line(headers.iter().copied(), &widths));
    for row in &rows {
        let _ = write!(text, "\n{}", line(row.iter().map(String::as_str), &widths));
    }
    print(&text)
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, widest) in cells.zip(widths) {
        let gap = widest.saturating_sub(width(cell)) + 2;
        let _ = write!(text, "{cell}{:gap$}", "");
    }
    text.truncate(text.trim_end().len());
    text
}

/// One thing, a name and a value per line.
pub(crate) fn print_fields(fields: &[(&str, String)]) -> Result<(), Failure> {
    print(&aligned(fields))
}

/// The same for what is shown only once.
pub(crate) fn print_fields_once(fields: &[(&str, String)]) -> Result<(), Failure> {
    print_once(&aligned(fields))
}

fn aligned(fields: &[(&str, String)]) -> String {
    let widest = fields
        .iter()
        .map(|(name, _)| width(name))
        .max()
        .unwrap_or_default();
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| {
            format!(
                "\x1b[1m{name}\x1b[0m{:gap$}{}",
                "",
                visible(value),
                gap = widest - width(name) + 2
            )
        })
        .collect();
    lines.join("\n")
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// A text from elsewhere without what would steer a terminal: control characters and marks that turn the direction.
pub(crate) fn visible(text: &str) -> String {
    let is_hidden = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(is_hidden) {
        return text.to_owned();
    }
    text.chars()
        .map(|letter| {
            if is_hidden(letter) {
                letter.escape_default().to_string()
            } else {
                letter.to_string()
            }
        })
        .collect()
}

/// A point in time for people, UTC.
pub(crate) fn time(at: Timestamp) -> String {
    let seconds = at.as_seconds();
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(day);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// The same, or a word for its absence.
pub(crate) fn time_or(at: Option<Timestamp>, absent: &str) -> String {
    at.map_or_else(|| absent.to_owned(), time)
}

/// A whole number of seconds; none are negative, because [`parse_duration`] refuses those.
pub(crate) fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// Year, month and day of a day since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

/// The units of a duration, largest first.
const UNITS: [(char, i64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Seconds for people: `365d`, `1h`, `1h30m`.
pub(crate) fn duration(seconds: i64) -> String {
    let mut text = String::new();
    let mut rest = seconds;
    for (unit, length) in UNITS {
        if rest >= length {
            let _ = write!(text, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// Reads a duration like `365d`, `12h`, `1h30m`. A number alone could mean days or seconds, unless it is 0.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let wrong = || "write a number with a unit, like 365d, 12h, 30m, 90s or 1h30m".to_owned();
    if text == "0" {
        return Ok(0);
    }
    let mut total: i64 = 0;
    let mut digits = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let (_, length) = UNITS
            .into_iter()
            .find(|(unit, _)| *unit == letter)
            .ok_or_else(wrong)?;
        let count: i64 = digits.parse().map_err(|_| wrong())?;
        total = count
            .checked_mul(length)
            .and_then(|more| total.checked_add(more))
            .ok_or_else(wrong)?;
        digits.clear();
    }
    if text.is_empty() || !digits.is_empty() {
        Err(wrong())
    } else {
        Ok(total)
    }
}

/// Asks before something that cannot be undone. Without a terminal the answer has to be `--yes`.
pub(crate) fn confirm(yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let question = visible(question);
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::new(
            Code::Usage,
            format!("{question} There is no terminal to ask on"),
            "give --yes to do it without a question",
        ));
    }
    stderr::text(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let is_read = io::stdin().read_line(&mut answer).is_ok();
    if is_read && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(
        Code::Failed,
        "nothing was changed",
        "answer y, or give --yes",
    ))
}

/// Where a secret goes.
#[derive(Args, Debug)]
pub(crate) struct SecretOutput {
    /// Writes the secret to this new file, which only its owner can read, instead of showing it
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl SecretOutput {
    /// Makes sure that the file can be written, and is none that exists, before there is a secret to lose.
    pub(crate) fn prepare(&self) -> Result<PreparedOutput, Failure> {
        let Some(path) = &self.output else {
            return Ok(PreparedOutput(None));
        };
        // A link that leads nowhere is something, too.
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let file = draft(path).map_err(|error| refused(path, &error))?;
        Ok(PreparedOutput(Some((file, path.clone()))))
    }
}

/// A place for a secret that is about to be made.
pub(crate) struct PreparedOutput(Option<(NamedTempFile, PathBuf)>);

impl PreparedOutput {
    /// Whether the secret goes to a file and is not to be shown.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|(_, path)| path.as_path())
    }

    /// Writes the secret where it goes to a file, and leaves it alone otherwise.
    pub(crate) fn write(self, secret: &str) -> Result<(), Failure> {
        let Some((mut file, path)) = self.0 else {
            return Ok(());
        };
        let write = || -> io::Result<()> {
            file.as_file_mut().write_all(secret.as_bytes())?;
            file.as_file_mut().write_all(b"\n")?;
            file.as_file().sync_all()?;
            // Never over a file that appeared meanwhile.
            file.persist_noclobber(&path)?;
            std::fs::File::open(parent(&path))?.sync_all()
        };
        write().map_err(|error| refused(&path, &error))?;
        note(&format!("The secret is in {}.", path.display()));
        Ok(())
    }

    /// Writes the secret to its file, or shows it as the only data.
    pub(crate) fn write_or_print(self, secret: &str) -> Result<(), Failure> {
        // It may come from another machine, and goes to a terminal.
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::new(
                Code::Unreachable,
                "the server is not an authority: the secret in its response contains invalid characters",
                "check the address: it must be the authority's own, not a page or proxy in front of it",
            ));
        }
        if self.0.is_some() {
            self.write(secret)
        } else {
            print_once(secret)
        }
    }
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    if error.kind() == ErrorKind::AlreadyExists {
        return exists(path);
    }
    Failure::new(
        Code::Unreadable,
        unwritable(path, error),
        "--output names a file in a folder that you may write to",
    )
}

fn exists(path: &Path) -> Failure {
    Failure::new(
        Code::Failed,
        format!(
            "{} exists already, and it may hold a secret",
            path.display()
        ),
        "name another file with --output, or remove this one first",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_civil() {
        assert_eq!(time(Timestamp::EPOCH), "1970-01-01 00:00:00Z");
        assert_eq!(
            time(Timestamp::from_millis(1_767_225_599_999)),
            "2025-12-31 23:59:59Z"
        );
        assert_eq!(
            time(Timestamp::from_millis(951_782_400_000)),
            "2000-02-29 00:00:00Z"
        );
    }

    #[test]
    fn durations_survive_their_text() {
        for (text, seconds) in [
            ("365d", 31_536_000),
            ("1h30m", 5_400),
            ("0s", 0),
            ("59s", 59),
        ] {
            assert_eq!(parse_duration(text), Ok(seconds));
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(parse_duration("0"), Ok(0));
        for text in [
            "",
            "-1",
            "365",
            "d",
            "1d2",
            "1y",
            "99999999999999999999d",
            "1.5h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let output = SecretOutput {
            output: Some(path.clone()),
        };
        let prepared = output.prepare().expect("nothing is there");
        std::fs::write(&path, "of somebody else").expect("written");
        assert!(prepared.write("a secret").is_err());
        assert_eq!(
            std::fs::read_to_string(&path).expect("a file"),
            "of somebody else"
        );
        let left = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 1, "no draft is left");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(visible("a\x1b[2Jb\u{202e}c\n"), "a\\u{1b}[2Jb\\u{202e}c\\n");
        assert_eq!(visible("Fakturierung äöü"), "Fakturierung äöü");
    }
}
