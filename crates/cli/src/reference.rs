//! The pages of `docs/reference` that come from this crate: command help, settings, exit codes. The test compares; with
//! UPDATE_REFERENCE=1 it writes.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Args as _, Command, CommandFactory as _};

use crate::Cli;
use crate::environment::variable;
use crate::exit::exit_code_reference;
use crate::settings::Settings;

/// The help is as wide as this everywhere.
const WIDTH: usize = 100;

#[test]
fn the_reference_is_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let pages = [
        ("cli.md", command_reference()),
        ("config.md", settings_reference()),
        ("exit-codes.md", exit_code_reference()),
    ];
    for (name, page) in pages {
        let path = folder.join(name);
        if variable("UPDATE_REFERENCE").is_some() {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
            std::fs::write(&path, &page).expect("the page can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page,
            "docs/reference/{name} is out of date: run UPDATE_REFERENCE=1 cargo test -p countersign reference"
        );
    }
}

#[test]
fn every_command_has_an_example_and_no_argument_takes_a_secret() {
    for (path, command) in commands() {
        let after = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            path == "countersign" || after.contains("Example:\n  countersign "),
            "{path} has no example"
        );
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            let is_secret = [
                "secret",
                "secret_key",
                "machine_key",
                "token",
                "master_key",
                "password",
            ]
            .contains(&name);
            assert!(
                !is_secret,
                "{path} takes {name} on the command line, where everybody can read it"
            );
        }
    }
}

#[test]
fn the_help_of_a_group_names_commands_that_exist() {
    let commands = commands();
    for (path, command) in &commands {
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        // `Tokens: create, list, verify, revoke`, unlike `Scopes: who may call whom`.
        let Some((_, list)) = about.split_once(": ").filter(|(_, list)| {
            command.has_subcommands() && list.split(", ").all(|word| !word.contains(' '))
        }) else {
            continue;
        };
        for word in list.split(", ") {
            let whole = format!("{path} {word}");
            assert!(
                commands.iter().any(|(path, _)| *path == whole),
                "{path} promises {word}, which does not exist"
            );
        }
    }
}

/// All commands, with the whole of what is typed for them.
fn commands() -> Vec<(String, Command)> {
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    let mut found = Vec::new();
    let mut waiting = vec![(root.get_name().to_owned(), root)];
    while let Some((path, command)) = waiting.pop() {
        let mut inner: Vec<_> = command
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help")
            .map(|inner| {
                (
                    format!("{path} {}", inner.get_name()),
                    inner.clone().term_width(WIDTH),
                )
            })
            .collect();
        inner.reverse();
        waiting.extend(inner);
        found.push((path, command));
    }
    found
}

fn command_reference() -> String {
    let mut page = String::from(
        "# Commands\n\nData goes to standard output, everything else to standard error. How commands end: [exit codes](exit-codes.md).\n\
         Secrets come from the environment, from files that nobody else may read, or from standard input; never from the command line.\n\n\
         This page is generated from the help of `countersign`.\n",
    );
    for (path, command) in commands() {
        // What the environment of this test holds is not for the page.
        let mut command = command.mut_args(|argument| argument.hide_env_values(true));
        let help = command.render_help().to_string();
        let help: String = help
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect();
        let _ = write!(page, "\n## {path}\n\n```text\n{}\n```\n", help.trim_end());
    }
    page
}

fn settings_reference() -> String {
    let mut page = String::from(
        "# Settings\n\nOf `countersign serve` and `countersign dev`. A flag comes before the environment, that before the file of `--config` \
         (TOML), and that before the default.\nUnknown keys in the file are errors.\n\nThis page is generated from `crates/cli/src/settings.rs`.\n\n\
         | Flag | Environment | Key in the file | Meaning |\n|---|---|---|---|\n",
    );
    let file_less = ["config", "port_file"];
    for argument in Settings::augment_args(Command::new("settings")).get_arguments() {
        let key = argument.get_id().as_str();
        let Some(flag) = argument.get_long() else {
            continue;
        };
        let environment = argument
            .get_env()
            .map(|name| format!("`{}`", name.to_string_lossy()))
            .unwrap_or_default();
        let in_file = if file_less.contains(&key) {
            String::new()
        } else {
            format!("`{key}`")
        };
        let meaning = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default()
            .replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `--{flag}` | {environment} | {in_file} | {meaning} |"
        );
    }
    page.push_str(
        "\nThe master key itself can stand in `COUNTERSIGN_MASTER_KEY`, in place of its file.\nIf `COUNTERSIGN_END_WITH_PARENT` is set, \
         the process is killed when the process that started it ends. This is for tests.\n",
    );
    page
}
