//! How commands fail: one sentence, one hint, and an exit code of its own for each situation that a script would tell apart.

use std::fmt;

use countersign_store::sqlite::OpenError;

/// A situation with an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Failed,
    Usage,
    NotInitialised,
    InUse,
    Foreign,
    Newer,
    Damaged,
    MasterKey,
    Unreadable,
    Address,
    Settings,
    StoreFailed,
    Refused,
    Unreachable,
}

/// The codes, for `docs/reference/exit-codes.md`.
pub(crate) const CODES: &[(Code, u8, &str)] = &[
    (Code::Failed, 1, "Anything without a code of its own."),
    (Code::Usage, 2, "The command line cannot be understood; `--help` has an example."),
    (Code::NotInitialised, 3, "The data folder holds no authority: run `countersign init`."),
    (Code::InUse, 4, "Another process has the data folder open: use `--url`, or stop it."),
    (Code::Foreign, 5, "The folder or file belongs to another program."),
    (Code::Newer, 6, "A later version wrote the data: update this program."),
    (Code::Damaged, 7, "The data cannot be read: restore a backup."),
    (Code::MasterKey, 8, "The master key is missing, malformed, or of another authority."),
    (Code::Unreadable, 9, "A file cannot be opened, or others may read it: correct owner and mode."),
    (Code::Address, 10, "The address cannot be listened on."),
    (Code::Settings, 11, "A setting is wrong; the message names it."),
    (Code::StoreFailed, 12, "The disk failed while the authority ran. Nothing unwritten was acknowledged; look at the disk, then start again."),
    (Code::Refused, 13, "The authority refused: the message has its code and text."),
    (Code::Unreachable, 14, "The authority cannot be reached."),
];

impl Code {
    pub(crate) fn number(self) -> u8 {
        CODES.iter().find(|(code, ..)| *code == self).map_or(1, |(_, number, _)| *number)
    }
}

/// What a person reads when a command fails.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    message: String,
    hint: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: hint.to_string() }
    }

    /// Writes the two lines to standard error.
    pub(crate) fn report(&self) {
        anstream::eprintln!("\x1b[1;31merror:\x1b[0m {}", one_line(&self.message));
        anstream::eprintln!("\x1b[1;36mhint:\x1b[0m {}", one_line(&self.hint));
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let (code, hint) = match &error {
            OpenError::Missing(_) => (Code::NotInitialised, "make one with `countersign init --data DIR`, or start with `countersign dev`"),
            OpenError::InUse(_) => (Code::InUse, "stop the other process, or talk to it with `--url` and CLERK_SECRET_KEY"),
            OpenError::Foreign(_) => (Code::Foreign, "choose another folder with --data; nothing was changed in this one"),
            OpenError::Newer { .. } => (Code::Newer, "update this program, or restore a backup of the older version"),
            OpenError::Damaged(_) => (Code::Damaged, "restore a backup; the file was left as it is"),
            OpenError::Unreadable(_) => (Code::Unreadable, "the folder must belong to the user that runs this, and nobody else may read the files: chmod 600"),
            OpenError::Full => (Code::Failed, "make room on the disk"),
            _ => (Code::Failed, "look at the message above"),
        };
        Self::new(code, error, hint)
    }
}

impl From<countersign_authority::Error> for Failure {
    fn from(error: countersign_authority::Error) -> Self {
        use countersign_authority::Error;
        match &error {
            Error::WrongMasterKey => Self::new(
                Code::MasterKey,
                "the master key does not fit this data folder",
                "give the key that `countersign init` made, by --master-key-file or COUNTERSIGN_MASTER_KEY; without it the data cannot be opened",
            ),
            Error::NotInitialised => {
                Self::new(Code::NotInitialised, "the data folder holds no authority", "make one with `countersign init --data DIR`")
            }
            Error::Damaged(_) => Self::new(Code::Damaged, error, "restore a backup"),
            Error::Store(_) => Self::new(Code::Failed, error, "look at the disk and its free space"),
            Error::NotFound { .. } => Self::new(Code::Refused, error, "list what exists with the `list` command"),
            _ => Self::new(Code::Refused, error, "see the command's --help for what is allowed"),
        }
    }
}

/// The table as Markdown, for `docs/reference/exit-codes.md`.
pub(crate) fn exit_code_reference() -> String {
    let mut page = String::from(
        "# Exit codes\n\nEvery command ends with one of these. A failure writes one line `error: …` and one line `hint: …` to standard \
         error, and nothing to standard output.\n\nThis page is generated from `crates/cli/src/exit.rs`.\n\n| Code | When |\n|---|---|\n| 0 | Done. |\n",
    );
    for (_, number, when) in CODES {
        page.push_str(&format!("| {number} | {when} |\n"));
    }
    page
}
