//! The commands that this program prints to be pasted: what they begin with, and how their arguments are quoted.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::environment::variable;

/// What the executable is called.
const NAME: &str = "countersign";

/// What starts this very program from the current folder: its name where a shell finds it by that, else its path.
pub(crate) fn program() -> String {
    let path = variable("PATH").unwrap_or_default();
    let shown = match (std::env::current_exe(), std::env::current_dir()) {
        (Ok(executable), Ok(folder)) => shown(&executable, &folder, &path),
        _ => PathBuf::from(NAME),
    };
    quoted(&shown)
}

fn shown(executable: &Path, folder: &Path, path: &str) -> PathBuf {
    let found = std::env::split_paths(path)
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(|folder| folder.join(NAME))
        .find(|candidate| is_executable(candidate));
    let is_this = found
        .and_then(|found| found.canonicalize().ok())
        .is_some_and(|found| found == executable);
    // A file that was replaced while it runs has no path any more.
    if is_this || !executable.exists() {
        return PathBuf::from(NAME);
    }
    match executable.strip_prefix(folder) {
        // A shell takes a bare name for one to be found.
        Ok(inside) if inside.components().count() == 1 => Path::new(".").join(inside),
        Ok(inside) => inside.to_owned(),
        Err(_) => executable.to_owned(),
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// An argument as a shell reads it.
pub(crate) fn quoted(argument: impl AsRef<OsStr>) -> String {
    let text = argument.as_ref().to_string_lossy();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_the_shell_finds_goes_by_its_name_and_another_by_its_path() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path().canonicalize().expect("a path");
        let (built, bin) = (root.join("target/release"), root.join("bin"));
        for folder in [&built, &bin] {
            std::fs::create_dir_all(folder).expect("made");
            std::fs::write(folder.join(NAME), "").expect("written");
        }
        let executable = built.join(NAME);
        let on_path = bin.to_str().expect("UTF-8");
        let text = |folder: &Path, path: &str| {
            shown(&executable, folder, path)
                .to_str()
                .expect("UTF-8")
                .to_owned()
        };
        assert_eq!(text(&root, ""), "target/release/countersign");
        assert_eq!(text(&built, ""), "./countersign");
        assert_eq!(text(&bin, ""), executable.to_str().expect("UTF-8"));
        // What cannot be started is not found, and what is found may be another program.
        for mode in [0o644, 0o755] {
            std::fs::set_permissions(bin.join(NAME), PermissionsExt::from_mode(mode)).expect("set");
            assert_eq!(text(&root, on_path), "target/release/countersign");
        }
        std::fs::remove_file(bin.join(NAME)).expect("removed");
        std::fs::set_permissions(&executable, PermissionsExt::from_mode(0o755)).expect("set");
        std::os::unix::fs::symlink(&executable, bin.join(NAME)).expect("linked");
        assert_eq!(text(&root, on_path), "countersign");
    }

    #[test]
    fn an_argument_is_one_word_to_a_shell() {
        assert_eq!(quoted("/var/lib/x-1"), "/var/lib/x-1");
        assert_eq!(quoted("https://a.example:1/b"), "https://a.example:1/b");
        assert_eq!(quoted("my data"), "'my data'");
        assert_eq!(quoted("it's; $HOME"), r"'it'\''s; $HOME'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("~"), "'~'");
    }
}
