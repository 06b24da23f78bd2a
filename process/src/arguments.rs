//! Command line parsing.

use std::ffi::{OsStr, OsString};

use clap::{ArgMatches, Command, Parser, parser::ValueSource};

/// Parses the command line. On an error, and for `--help` and `--version`, it prints the text and ends the process.
///
/// clap itself returns exit status 0 even if the help text could not be written.
pub fn parse<T: Parser>() -> T {
    match matches(T::command()).and_then(|matches| T::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => end(&error),
    }
}

/// The same, with former names of environment variables (see [`FormerNames`]).
pub fn parse_with_former_names<T: Parser>(names: &'static [FormerName]) -> (T, FormerNames) {
    let (command, mut former) = with_former_names(T::command(), names);
    match matches(command).and_then(|matches| Ok((T::from_arg_matches(&matches)?, matches))) {
        Ok((arguments, matches)) => {
            former.used.retain(|name| {
                matches.value_source(name.argument).is_some_and(|source| source == ValueSource::EnvVariable)
            });
            (arguments, former)
        }
        Err(error) => end(&error),
    }
}

fn matches(command: Command) -> Result<ArgMatches, clap::Error> {
    command.try_get_matches_from(std::env::args_os())
}

/// Prints an error of the command line, or the help, and ends the process.
pub fn end(error: &clap::Error) -> ! {
    let printed = error.print();
    if error.use_stderr() {
        std::process::exit(error.exit_code());
    }
    if let Err(problem) = printed
        && problem.kind() != std::io::ErrorKind::BrokenPipe
    {
        let problem = anyhow::Error::new(problem).context("cannot write to standard output");
        crate::ending::print(&problem);
        std::process::exit(1);
    }
    std::process::exit(0)
}

/// A name that the environment variable of an argument had before.
#[derive(Debug)]
pub struct FormerName {
    /// The argument's id, which is the name of its field.
    pub argument: &'static str,
    /// The variable's former name.
    pub name: &'static str,
    /// Whether a value can only be meant for this argument: another program may use the name for something else.
    pub accepts: fn(&OsStr) -> bool,
    /// Another program of Weir uses the name still.
    pub is_shared: bool,
}

/// Former names of environment variables that are set.
#[derive(Debug, Default)]
pub struct FormerNames {
    used: Vec<&'static FormerName>,
    current: Vec<(&'static str, String)>,
    ignored: Vec<&'static FormerName>,
}

impl FormerNames {
    /// Logs which variables should be renamed. To be called once the log is there.
    pub fn log(&self) {
        for name in &self.used {
            let use_instead = self.current(name);
            tracing::warn!(variable = name.name, use_instead, "this environment variable has a new name");
        }
        for name in &self.ignored {
            let in_use = self.current(name);
            tracing::warn!(
                variable = name.name,
                in_use,
                "environment variable ignored: its new name is set too"
            );
        }
    }

    fn current(&self, name: &FormerName) -> &str {
        self.current.iter().find(|(former, _)| *former == name.name).map_or("", |(_, current)| current)
    }
}

/// Lets arguments whose variable is not set read its former name.
#[must_use]
pub fn with_former_names(command: Command, names: &'static [FormerName]) -> (Command, FormerNames) {
    rename(command, names, |name| std::env::var_os(name))
}

fn rename(
    mut command: Command,
    names: &'static [FormerName],
    variable: impl Fn(&str) -> Option<OsString>,
) -> (Command, FormerNames) {
    let mut former = FormerNames::default();
    for name in names {
        let Some(value) = variable(name.name).filter(|value| !value.is_empty() && (name.accepts)(value))
        else {
            continue;
        };
        let argument = command.get_arguments().find(|argument| argument.get_id() == name.argument);
        let Some(current) = argument.and_then(|argument| argument.get_env()).map(OsStr::to_owned) else {
            continue;
        };
        let current = current.to_string_lossy().into_owned();
        match variable(&current) {
            Some(set) if set == value => continue,
            Some(_) if name.is_shared => continue,
            Some(_) => former.ignored.push(name),
            None => {
                command = command.mut_arg(name.argument, |argument| argument.env(name.name));
                former.used.push(name);
            }
        }
        former.current.push((name.name, current));
    }
    (command, former)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const NAMES: &[FormerName] = &[FormerName {
        argument: "admin",
        name: "WEIR_TEST_ADMIN",
        accepts: |value| value.to_str().is_some_and(|text| text.parse::<SocketAddr>().is_ok()),
        is_shared: false,
    }];

    fn names(set: &'static [(&'static str, &'static str)]) -> (Option<String>, FormerNames) {
        let argument = clap::Arg::new("admin").long("admin").env("WEIR_TEST_ADMIN_LISTEN");
        let variable = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into());
        let (command, former) = rename(Command::new("test").arg(argument), NAMES, variable);
        let env = command.get_arguments().find(|argument| argument.get_id() == "admin");
        let env = env.and_then(|argument| argument.get_env());
        (env.map(|name| name.to_string_lossy().into_owned()), former)
    }

    #[test]
    fn a_former_name_is_read_where_its_value_fits() {
        let (reads, former) = names(&[("WEIR_TEST_ADMIN", "0.0.0.0:8081")]);
        assert_eq!(reads.as_deref(), Some("WEIR_TEST_ADMIN"));
        assert_eq!(
            former.used.iter().map(|name| former.current(name)).collect::<Vec<_>>(),
            ["WEIR_TEST_ADMIN_LISTEN"]
        );
        // The address that `weir` calls.
        let (reads, former) = names(&[("WEIR_TEST_ADMIN", "http://127.0.0.1:8081")]);
        assert_eq!(reads.as_deref(), Some("WEIR_TEST_ADMIN_LISTEN"));
        assert!(former.used.is_empty() && former.ignored.is_empty(), "{former:?}");
    }

    #[test]
    fn the_new_name_wins() {
        let set = &[("WEIR_TEST_ADMIN", "0.0.0.0:8081"), ("WEIR_TEST_ADMIN_LISTEN", "0.0.0.0:9081")];
        let (reads, former) = names(set);
        assert_eq!(reads.as_deref(), Some("WEIR_TEST_ADMIN_LISTEN"));
        assert!(former.used.is_empty() && former.ignored.len() == 1, "{former:?}");
        let same = &[("WEIR_TEST_ADMIN", "0.0.0.0:8081"), ("WEIR_TEST_ADMIN_LISTEN", "0.0.0.0:8081")];
        assert!(names(same).1.ignored.is_empty());
    }
}
