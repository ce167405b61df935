//! Variables of the environment. This is the only module that reads them. One that is empty counts as not set.

use clap::builder::Resettable;
use clap::{Arg, Command};

/// Returns the command line without the variables that are set to nothing: those count as not set.
pub(crate) fn without_empty_variables(command: Command) -> Command {
    command
        .mut_args(|argument| match variable_of(&argument) {
            Some(name) if is_empty(name) => argument.env(Resettable::Reset),
            _ => argument,
        })
        .mut_subcommands(without_empty_variables)
}

/// Returns a message about the command line with the names of variables for options that were not given there.
pub(crate) fn with_variables(message: &str, command: &Command) -> String {
    let mut message = message.to_owned();
    for argument in command.get_arguments() {
        let Some(long) = argument.get_long() else {
            continue;
        };
        let is_given = std::env::args().any(|given| {
            let rest = given
                .strip_prefix("--")
                .and_then(|rest| rest.strip_prefix(long));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        });
        if let Some(name) =
            variable_of(argument).filter(|name| !is_given && variable(name).is_some())
        {
            message = message.replace(&format!("'{argument}'"), name);
        }
    }
    command.get_subcommands().fold(message, |message, command| {
        with_variables(&message, command)
    })
}

/// Whether a variable is set to nothing. One that is not Unicode is something: it may be a path, and else clap refuses it.
fn is_empty(name: &str) -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that reads the environment"
    )]
    let value = std::env::var_os(name);
    value.is_some_and(|value| value.to_str().is_some_and(|text| text.trim().is_empty()))
}

fn variable_of(argument: &Arg) -> Option<&str> {
    argument.get_env().and_then(|name| name.to_str())
}

/// Whether a variable is set, and not to `false`.
pub(crate) fn is_set(name: &str) -> bool {
    variable(name).is_some_and(|text| parse_boolean(&text) != Ok(false))
}

/// Reads a boolean as people write it.
pub(crate) fn parse_boolean(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("write true or false"),
    }
}

/// A variable of the environment; an empty one counts as absent, and so does one that is no text.
pub(crate) fn variable(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that reads the environment"
    )]
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}
