//! Tests that compare the reference of the command line and of the programs' flags in `docs/reference` with the code.
//!
//! `WEIR_UPDATE=1 cargo test -p weir reference` regenerates the reference.

use std::{fmt::Write as _, path::Path};

use clap::{Arg, Command, CommandFactory as _};

use crate::usage;

const WRITTEN_BY: &str = "<!-- Written by `WEIR_UPDATE=1 cargo test -p weir reference`. -->\n";

fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name);
    if std::env::var_os("WEIR_UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/reference/{name} is not what the programs say; write it anew with WEIR_UPDATE=1 cargo test -p weir reference"
    );
}

#[test]
fn the_reference_of_commands_is_that_of_the_program() {
    let mut command = usage::command();
    let mut text = format!(
        "# Commands of `weir`\n\n{WRITTEN_BY}\n\
         Commands are a noun and a verb, such as `weir backends drain b1`. Without a verb, a noun lists. How output, contexts and \
         exit status work is described in [the command line](output.md); flags and variables of all programs are in \
         [flags](flags.md).\n\n| command | does |\n|---|---|\n"
    );
    let commands: Vec<Command> = shown(&command);
    for sub in &commands {
        let name = sub.get_name();
        writeln!(text, "| [`weir {name}`](#weir-{name}) | {} |", about(sub)).unwrap();
    }
    for sub in &commands {
        describe(&mut text, sub, 2);
    }
    text.push_str("\n## Flags of every command\n\n");
    arguments(&mut text, command.get_arguments().filter(|argument| argument.is_global_set()));
    text.push_str(
        "\n## Aliases\n\nNouns may be singular (`weir backend`), and these spellings work too:\n\n",
    );
    text.push_str("| alias | command |\n|---|---|\n");
    aliases(&mut text, &mut command, "weir");
    for (old, new) in [
        ("`weir revisions N`", "`weir revisions get N`"),
        ("`weir report KIND`", "`weir reports KIND`"),
        ("`weir strategy POOL NAME`", "`weir pools set POOL strategy=NAME`"),
        ("`weir backends set-weight ID N`", "`weir backends set ID weight=N`"),
        ("`--format F` of reports", "`--output F`"),
    ] {
        writeln!(text, "| {old} | {new} |").unwrap();
    }
    compare("cli.md", &text);
}

#[test]
fn the_reference_of_flags_is_that_of_the_programs() {
    let mut text = format!(
        "# Flags and environment variables\n\n{WRITTEN_BY}\n\
         Every flag has an environment variable; a flag takes precedence. A variable has one meaning in all programs. Former \
         names are read where their value can only be meant for the program, with a warning in its log.\n\n\
         `WEIR_LOG` chooses what is logged, such as `WEIR_LOG=debug` or `WEIR_LOG=info,control_plane=debug`.\n"
    );
    let mut former = Vec::new();
    for (command, names) in [
        (control_plane::Arguments::command(), control_plane::Arguments::FORMER_NAMES),
        (data_plane::Arguments::command(), data_plane::Arguments::FORMER_NAMES),
        (backend_mock::Arguments::command(), backend_mock::Arguments::FORMER_NAMES),
    ] {
        writeln!(text, "\n## `{}`\n\n{}\n", command.get_name(), about(&command)).unwrap();
        arguments(&mut text, command.get_arguments());
        for name in names {
            let argument =
                command.get_arguments().find(|argument| argument.get_id() == name.argument).unwrap();
            former.push((name.name, env(argument).unwrap(), command.get_name().to_owned()));
        }
    }
    let command = usage::command();
    text.push_str(
        "\n## `weir`\n\nFlags of every command; those of single commands are in [commands](cli.md).\n\n",
    );
    arguments(&mut text, command.get_arguments().filter(|argument| argument.is_global_set()));
    text.push_str("\n### `weir dev`\n\n");
    let dev = command.find_subcommand("dev").unwrap();
    arguments(&mut text, dev.get_arguments().filter(|argument| !argument.is_global_set()));
    text.push_str("\n## Former names\n\n| former | now | program |\n|---|---|---|\n");
    for (name, now, program) in former {
        writeln!(text, "| `{name}` | `{now}` | `{program}` |").unwrap();
    }
    compare("flags.md", &text);
}

#[test]
fn every_flag_of_a_server_has_a_variable_of_its_own() {
    let mut known: Vec<(String, String)> = Vec::new();
    for command in [
        control_plane::Arguments::command(),
        data_plane::Arguments::command(),
        backend_mock::Arguments::command(),
        usage::command(),
    ] {
        for argument in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
            let long = argument.get_long().unwrap().to_owned();
            if matches!(long.as_str(), "help" | "version") {
                continue;
            }
            let name =
                env(argument).unwrap_or_else(|| panic!("--{long} of {} has no variable", command.get_name()));
            known.push((name, format!("--{long} of {}", command.get_name())));
        }
    }
    // Variables with the same meaning in several programs.
    let shared = ["WEIR_LOG_FORMAT", "WEIR_ALLOW_CORE_DUMPS", "WEIR_INSECURE", "WEIR_JOIN_TOKEN_FILE"];
    for (at, (name, flag)) in known.iter().enumerate() {
        let other = known[..at].iter().find(|(other, _)| other == name);
        assert!(other.is_none() || shared.contains(&name.as_str()), "{name}: {flag} and {other:?}");
    }
}

fn shown(command: &Command) -> Vec<Command> {
    let is_shown = |sub: &&Command| !sub.is_hide_set() && sub.get_name() != "help";
    command.get_subcommands().filter(is_shown).cloned().collect()
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn describe(text: &mut String, command: &Command, depth: usize) {
    let mut command = command.clone();
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let name = usage.split(" [").next().unwrap_or(&usage).split(" <").next().unwrap_or(&usage).to_owned();
    let long = command.get_long_about().map_or_else(|| about(&command), ToString::to_string);
    writeln!(text, "\n{} `{name}`\n\n{long}\n\n```text\n{usage}\n```\n", "#".repeat(depth)).unwrap();
    let own: Vec<&Arg> = command.get_arguments().filter(|argument| !argument.is_global_set()).collect();
    arguments(text, own.into_iter());
    for sub in shown(&command) {
        describe(text, &sub, depth + 1);
    }
}

fn arguments<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let is_shown = |argument: &&Arg| {
        !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version")
    };
    let arguments: Vec<&Arg> = arguments.filter(is_shown).collect();
    if arguments.is_empty() {
        return;
    }
    let has_variables = arguments.iter().any(|argument| argument.get_env().is_some());
    text.push_str(if has_variables {
        "| flag | variable | meaning |\n|---|---|---|\n"
    } else {
        "| argument | meaning |\n|---|---|\n"
    });
    for argument in arguments {
        let names = argument.get_value_names().unwrap_or_default();
        let value = names.first().map_or("VALUE", |name| name.as_str());
        let takes_value = argument.get_action().takes_values();
        let is_optional = argument.get_num_args().is_some_and(|count| count.min_values() == 0);
        let flag = match (argument.get_long(), argument.get_short()) {
            (None, _) => format!("`<{value}>`"),
            (Some(long), short) => {
                let short = short.map_or_else(String::new, |short| format!("-{short}, "));
                let value = match (takes_value, is_optional) {
                    (true, true) => format!("[={value}]"),
                    (true, false) => format!(" {value}"),
                    (false, _) => String::new(),
                };
                format!("`{short}--{long}{value}`")
            }
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.replace('\n', " ").replace('|', "\\|");
        let defaults: Vec<_> =
            argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = match defaults.is_empty() || argument.is_hide_default_value_set() || !takes_value {
            true => String::new(),
            false => format!(" [default: {}]", defaults.join(", ")),
        };
        let possible: Vec<String> =
            argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let possible = match possible.is_empty() || argument.is_hide_possible_values_set() || !takes_value {
            true => String::new(),
            false => format!(" [{}]", possible.join(", ")),
        };
        let meaning = format!("{help}{possible}{default}");
        match has_variables {
            true => {
                let variable = env(argument).map_or_else(String::new, |name| format!("`{name}`"));
                writeln!(text, "| {flag} | {variable} | {meaning} |").unwrap();
            }
            false => writeln!(text, "| {flag} | {meaning} |").unwrap(),
        }
    }
}

fn env(argument: &Arg) -> Option<String> {
    argument.get_env().map(|name| name.to_string_lossy().into_owned())
}

fn aliases(text: &mut String, command: &mut Command, path: &str) {
    for sub in shown(command) {
        let full = format!("{path} {}", sub.get_name());
        let names: Vec<String> = sub.get_all_aliases().map(|alias| format!("`{path} {alias}`")).collect();
        if !names.is_empty() {
            writeln!(text, "| {} | `{full}` |", names.join(", ")).unwrap();
        }
        aliases(text, &mut sub.clone(), &full);
    }
}
