//! Converts errors of opening and closing the store and the authority in this process to failures of the command line:
//! the exit code and a hint. Refused requests are converted in `admin::refusal`.

use countersign_authority::Error;
use countersign_store::OpenError;

use crate::admin::refusal_hint;
use crate::exit::{Code, Failure};
use crate::invocation::quoted;

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let (code, hint) = match &error {
            OpenError::Missing(folder) => {
                let hint = format!(
                    "make one with `countersign init --data {}`, or start with `countersign dev`",
                    quoted(folder)
                );
                return Self::new(Code::NotInitialized, &error, hint);
            }
            OpenError::Loose(path) => {
                let hint = format!("chmod 600 {}", quoted(path));
                return Self::new(Code::Unreadable, &error, hint);
            }
            OpenError::InUse(_) => (
                Code::InUse,
                "stop the other process; if it is a server, administer it with `--data` or `--url`",
            ),
            OpenError::Foreign(_) => (
                Code::Foreign,
                "choose another folder with --data; nothing was changed in this one",
            ),
            OpenError::Newer { .. } => (
                Code::Version,
                "update this program, or restore a backup of the older version",
            ),
            OpenError::Older(_) => (
                Code::Version,
                "start with a new data folder; the file was left as it is",
            ),
            OpenError::Damaged(_) => (
                Code::Damaged,
                "restore a backup; the file was left as it is",
            ),
            OpenError::Unreadable(_) => (
                Code::Unreadable,
                "--data must name a folder on a local disk that your user can create, or owns with its files",
            ),
            OpenError::Full => (Code::Failed, "make room on the disk"),
            _ => (Code::Failed, "see the message above"),
        };
        Self::new(code, error, hint)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::WrongMasterKey => Self::new(
                Code::MasterKey,
                "the master key does not fit this data folder",
                "give the key that `countersign init` made, by --master-key-file or COUNTERSIGN_MASTER_KEY; without it the data cannot be opened",
            ),
            Error::NotInitialized => Self::new(
                Code::NotInitialized,
                "the data folder holds no authority",
                "make one with `countersign init --data DIR`",
            ),
            Error::Damaged(_) => Self::new(Code::Damaged, error, "restore a backup"),
            Error::Unavailable(_) => {
                Self::new(Code::Failed, error, "check the disk and its free space")
            }
            Error::Fault(_) => Self::new(Code::Failed, error, "this is a bug in this program"),
            Error::Overloaded | Error::Busy(_) => {
                Self::new(Code::Unavailable, error, "try again a little later")
            }
            _ => {
                let message = error.to_string();
                let hint = refusal_hint(&message);
                Self::new(Code::Refused, message, hint)
            }
        }
    }
}
