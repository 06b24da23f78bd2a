//! Builds the clap command tree. Usage lines show only what is specific to a command, and an unknown verb or noun gets
//! a suggestion at every level.

use std::ffi::OsString;

use clap::{
    ArgMatches, Command, CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use weir_process::{FormerName, FormerNames};
pub(crate) use weir_snapshot::nearest;

use crate::{arguments::Arguments, dev::Dev};

/// The parsed command line.
pub(crate) struct Typed {
    pub(crate) arguments: Arguments,
    /// Connection flags that are on the command line, not in the environment.
    pub(crate) flags: Flags,
    pub(crate) former: FormerNames,
}

/// Which connection flags are on the command line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flags {
    pub(crate) admin: bool,
    pub(crate) token: bool,
    pub(crate) token_file: bool,
    pub(crate) ca: bool,
    pub(crate) context: bool,
}

/// Parses the command line. On an error, or for help, prints a message and exits.
pub(crate) fn parse() -> Typed {
    let (command, former) = command_with(Dev::FORMER_NAMES);
    let words: Vec<OsString> = std::env::args_os().collect();
    let parsed = command.clone().try_get_matches_from(&words).and_then(|matches| {
        let arguments = Arguments::from_arg_matches(&matches)?;
        if arguments.command.misplaced_flags() {
            let said =
                "a flag of `list` stands before another verb; flags follow the verb that they belong to";
            return Err(command.clone().error(ErrorKind::ArgumentConflict, said));
        }
        Ok(Typed { arguments, flags: flags(&matches), former })
    });
    match parsed {
        Ok(typed) => typed,
        Err(error) => weir_process::end(&suggested(error, &command, &words)),
    }
}

fn flags(matches: &ArgMatches) -> Flags {
    let is_typed = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
    Flags {
        admin: is_typed("admin"),
        token: is_typed("token"),
        token_file: is_typed("token_file"),
        ca: is_typed("ca"),
        context: is_typed("context"),
    }
}

/// The whole command tree.
pub(crate) fn command() -> Command {
    command_with(&[]).0
}

fn command_with(names: &'static [FormerName]) -> (Command, FormerNames) {
    let mut former = FormerNames::default();
    let mut command = Arguments::command().mut_subcommand("dev", |dev| {
        let (dev, found) = weir_process::with_former_names(dev, names);
        former = found;
        dev
    });
    command.build();
    (with_short_usage(command), former)
}

/// Replaces clap's usage lines in errors, which list every flag that has a value, even from the environment.
fn with_short_usage(mut command: Command) -> Command {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start().trim_start_matches("Usage:").trim().to_owned();
    command.override_usage(usage).mut_subcommands(with_short_usage)
}

/// Adds a suggestion and the list of known words to the error of an unknown noun or verb.
fn suggested(mut error: clap::Error, command: &Command, words: &[OsString]) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidSubcommand).cloned() else {
        return error;
    };
    let mut level = command;
    let mut words = words.iter().skip(1).map(|word| word.to_string_lossy());
    for word in words.by_ref().take_while(|word| *word != wrong) {
        level = level.find_subcommand(&*word).unwrap_or(level);
    }
    // The user may have written the verb first, as in kubectl.
    let noun = words.next().and_then(|noun| command.find_subcommand(&*noun));
    let verb = noun.and_then(|noun| noun.find_subcommand(&wrong));
    let tip = match (noun, verb) {
        (Some(noun), Some(verb)) if level.get_name() == command.get_name() => {
            error.remove(ContextKind::SuggestedSubcommand);
            format!("the noun comes first: weir {} {}", noun.get_name(), verb.get_name())
        }
        _ if error.get(ContextKind::SuggestedSubcommand).is_some() => return error,
        _ => {
            let names = level.get_subcommands().filter(|sub| !sub.is_hide_set()).map(Command::get_name);
            format!("known: {}", names.collect::<Vec<_>>().join(", "))
        }
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(words: &[&str]) -> String {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let command = command();
        let error = command.clone().try_get_matches_from(&words).unwrap_err();
        suggested(error, &command, &words).to_string()
    }

    #[test]
    fn the_tree_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_unknown_noun_or_verb_gets_a_suggestion_at_every_level() {
        for (words, says) in [
            (&["weir", "backend5"][..], "'backends'"),
            (&["weir", "xyzzy"], "known: status, backends"),
            (&["weir", "backends", "drian"], "'drain'"),
            (&["weir", "backends", "explode"], "known: list, get, add, set, delete"),
            (&["weir", "pools", "gett", "x"], "'get'"),
            (&["weir", "reports", "hurly"], "'hourly'"),
            (&["weir", "report", "hurly"], "'hourly'"),
            (&["weir", "revisions", "lsit"], "did you mean \"list\"?"),
            (&["weir", "node-tokens", "creat"], "'create'"),
            (&["weir", "contexts", "usee"], "'use'"),
            (&["weir", "get", "backends"], "weir backends get"),
            (&["weir", "delete", "pools", "x"], "weir pools delete"),
        ] {
            let error = error(words);
            assert!(error.contains(says), "{words:?}: {error}");
        }
    }

    #[test]
    fn no_usage_line_shows_the_flags_of_the_connection() {
        fn each(command: &Command, check: &mut dyn FnMut(&str)) {
            check(&command.clone().render_usage().to_string());
            command.get_subcommands().for_each(|sub| each(sub, check));
        }
        each(&command(), &mut |usage| {
            assert!(!usage.contains("--admin") && !usage.contains("--token"), "{usage}");
        });
        let error = error(&["weir", "--admin", "http://a:1", "--token", "t", "backends", "add"]);
        assert!(error.contains("weir backends add [OPTIONS] <URL>") && !error.contains("--admin"), "{error}");
    }

    #[test]
    fn flags_of_a_list_belong_to_the_list() {
        let misplaced = |words: &[&str]| {
            let matches = command().try_get_matches_from(words).unwrap();
            Arguments::from_arg_matches(&matches).unwrap().command.misplaced_flags()
        };
        assert!(misplaced(&["weir", "backends", "--pool", "a", "delete", "b1"]));
        assert!(!misplaced(&["weir", "backends", "delete", "b1", "--pool", "a"]));
        assert!(!misplaced(&["weir", "backends", "-o", "json", "list"]));
        assert!(misplaced(&["weir", "revisions", "5", "get", "5"]));
    }
}
