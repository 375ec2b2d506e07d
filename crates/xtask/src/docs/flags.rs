//! `flags.md`: the command line.

use super::cell;
use clap::{Arg, CommandFactory};
use std::fmt::Write;

pub(super) fn page() -> Result<String, String> {
    let mut page = String::from(
        "# Flags\n\nThose of Envoy, with its defaults, and some of Nuncio's own (`--output`, `--watch`). A flag that is \
         accepted and does not act yet is named once in the log when it is given.\n\n\
         | flag | default | meaning |\n|---|---|---|\n",
    );
    let command = nuncio_server::Options::command();
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        row(&mut page, argument);
    }
    Ok(page)
}

fn row(page: &mut String, argument: &Arg) {
    let Some(long) = argument.get_long() else { return };
    let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let values: Vec<String> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let takes_value = argument.get_action().takes_values();
    let value = match (takes_value, values.is_empty()) {
        (false, _) => String::new(),
        (true, true) => " <value>".to_owned(),
        (true, false) => format!(" <{}>", values.join("\\|")),
    };
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = match takes_value && !defaults.is_empty() {
        true => format!("`{}`", defaults.join(" ")),
        false => String::new(),
    };
    let aliases = argument.get_all_aliases().unwrap_or_default();
    let aliases: String = aliases.iter().map(|alias| format!(" Also `--{alias}`.")).collect();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    // Writing into a String can't fail.
    let _ = writeln!(page, "| {short}`--{long}{value}` | {default} | {}{aliases} |", cell(&help));
}
