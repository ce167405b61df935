//! Finds the executable `countersign`, which serves the demo's authority.
//!
//! If cargo started the demo, cargo also builds the executable, so that one command is enough after a clone and the
//! demo never shows an old build.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

const NAME: &str = "countersign";
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");

/// What says where the executable is.
#[derive(Args, Debug)]
pub(crate) struct Executable {
    /// The executable `countersign` [default: built by cargo if cargo runs the demo, else the file beside the demo]
    #[arg(
        long = "countersign",
        env = "COUNTERSIGN_BIN",
        value_name = "FILE",
        hide_env_values = true
    )]
    named: Option<PathBuf>,
    /// Set by `cargo run`.
    #[arg(long, env = "CARGO", hide = true)]
    cargo: Option<PathBuf>,
}

impl Executable {
    /// Returns the absolute path of the executable. An error says which file is missing, or how the build ended.
    pub(crate) fn locate(&self) -> Result<PathBuf> {
        let own = std::env::current_exe().context("cannot find the file of the demo")?;
        let folder = own.parent().context("the demo has no folder")?;
        let found = match (&self.named, &self.cargo) {
            (Some(named), _) => named.clone(),
            (None, Some(cargo)) => build(cargo, folder)?,
            (None, None) => folder.join(NAME),
        };
        let is_missing = || format!("the executable {} is missing", found.display());
        found.canonicalize().with_context(is_missing)
    }
}

/// Builds the executable in the profile of the demo, which lies in `folder`. Cargo's progress goes to standard error.
fn build(cargo: &Path, folder: &Path) -> Result<PathBuf> {
    let output = Command::new(cargo)
        .args(["build", "--package", NAME, "--profile", profile(folder)?])
        .args(["--manifest-path", WORKSPACE])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", cargo.display()))?;
    ensure!(
        output.status.success(),
        "the build of {NAME} failed ({})",
        output.status
    );
    let Some(executable) = built(&String::from_utf8_lossy(&output.stdout)) else {
        bail!("cargo names no executable {NAME}");
    };
    Ok(executable)
}

/// The profile whose builds cargo puts into `folder`.
fn profile(folder: &Path) -> Result<&str> {
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => Ok("dev"),
        Some(name) => Ok(name),
        None => bail!("{} has no name", folder.display()),
    }
}

/// The executable in cargo's messages, which are one JSON object on each line.
fn built(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message.pointer("/target/name").and_then(Value::as_str) == Some(NAME))
        .find_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_build_names_its_profile() {
        for (folder, expected) in [
            ("/x/target/debug", "dev"),
            ("/x/target/release", "release"),
            ("/x/target/x86_64-unknown-linux-gnu/dist", "dist"),
        ] {
            assert_eq!(profile(Path::new(folder)).ok(), Some(expected));
        }
    }

    #[test]
    fn cargo_says_where_it_put_the_executable() {
        let library = r#"{"reason":"compiler-artifact","target":{"name":"countersign_client"},"executable":null}"#;
        let executable = r#"{"reason":"compiler-artifact","target":{"name":"countersign"},"executable":"/x/countersign"}"#;
        let end = r#"{"reason":"build-finished","success":true}"#;
        let messages = [library, executable, end].join("\n");
        assert_eq!(built(&messages), Some(PathBuf::from("/x/countersign")));
        assert_eq!(built(&[library, end].join("\n")), None);
    }

    #[test]
    fn a_missing_executable_is_named() {
        let executable = Executable {
            named: Some(PathBuf::from("/nowhere/countersign")),
            cargo: None,
        };
        let error = executable.locate().expect_err("it is missing");
        let error = format!("{error:#}");
        assert!(
            error.starts_with("the executable /nowhere/countersign is missing: "),
            "{error}"
        );
    }
}
