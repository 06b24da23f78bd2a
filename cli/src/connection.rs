//! Chooses the control plane that a command calls, and the token: from flags, then the environment, then the context,
//! then the default.
//!
//! A token or CA of a context is only used for the address of that context, so that it never reaches another server.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{
    arguments::Global,
    contexts::{Context, Contexts},
    usage::Flags,
};

/// Default address of the admin API.
pub(crate) const DEFAULT: &str = "http://127.0.0.1:8081";

/// Address of a control plane and the credentials for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) admin: String,
    pub(crate) token: Option<String>,
    pub(crate) ca: Option<PathBuf>,
}

impl Connection {
    /// Resolves the connection from flags, environment and stored contexts.
    pub(crate) fn resolve(global: &Global, flags: Flags) -> anyhow::Result<Self> {
        Self::choose(global, flags, Contexts::load)
    }

    fn choose(
        global: &Global,
        flags: Flags,
        load: impl FnOnce() -> anyhow::Result<Contexts>,
    ) -> anyhow::Result<Self> {
        let explicit = Explicit::of(global, flags)?;
        let context = match global.context.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => Some(load()?.get(name)?.clone()),
            // An explicit address needs no context.
            None if explicit.admin.is_some() => None,
            None => load()?.current()?.map(|(_, context)| context.clone()),
        };
        let Some(Context { admin, token, ca }) = context else {
            let admin = explicit.admin.unwrap_or_else(|| DEFAULT.to_owned());
            return Ok(Self { admin, token: explicit.token, ca: explicit.ca });
        };
        let is_same = explicit.admin.as_ref().is_none_or(|explicit| *explicit == admin);
        Ok(Self {
            admin: explicit.admin.unwrap_or(admin),
            token: explicit.token.or(token.filter(|_| is_same)),
            ca: explicit.ca.or(ca.filter(|_| is_same)),
        })
    }
}

/// Values from flags and the environment. `--context` on the command line disables the environment.
pub(crate) struct Explicit {
    pub(crate) admin: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) ca: Option<PathBuf>,
}

impl Explicit {
    pub(crate) fn of(global: &Global, flags: Flags) -> anyhow::Result<Self> {
        let reads_environment = !flags.context;
        let usable = |is_flag: bool| is_flag || reads_environment;
        let admin =
            global.admin.clone().filter(|admin| flags.admin || reads_environment && !admin.is_empty());
        let token = global.token.clone().filter(|token| usable(flags.token) && !token.is_empty());
        let file = global.token_file.as_deref();
        let file = file.filter(|file| usable(flags.token_file) && !file.as_os_str().is_empty());
        let token = match (token, file) {
            (Some(token), None) => Some(token),
            // A flag takes precedence over the environment, and a token over a token file.
            (Some(token), Some(_)) if flags.token || !flags.token_file => Some(token),
            (_, Some(file)) => Some(read_token(file)?),
            (None, None) => None,
        };
        let ca = global.ca.clone().filter(|ca| usable(flags.ca) && !ca.as_os_str().is_empty());
        Ok(Self { admin, token, ca })
    }
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read --token-file {}", file.display()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Output;

    fn global() -> Global {
        Global { admin: None, token: None, token_file: None, ca: None, context: None, output: Output::Table }
    }

    fn contexts() -> anyhow::Result<Contexts> {
        let mut contexts = Contexts::default();
        for (name, admin) in [("prod", "https://prod:8081"), ("test", "http://test:8081")] {
            let context = Context {
                admin: admin.into(),
                token: Some(format!("{name}-token")),
                ca: Some("ca.pem".into()),
            };
            contexts.insert(name, context);
        }
        contexts.use_context("prod")?;
        Ok(contexts)
    }

    fn choose(global: &Global, flags: Flags) -> (String, Option<String>) {
        let Connection { admin, token, .. } = Connection::choose(global, flags, contexts).unwrap();
        (admin, token)
    }

    fn is(admin: &str, token: &str) -> (String, Option<String>) {
        (admin.to_owned(), Some(token.to_owned()).filter(|token| !token.is_empty()))
    }

    #[test]
    fn flags_come_before_the_environment_before_the_context_before_the_default() {
        let none = Connection::choose(&global(), Flags::default(), || Ok(Contexts::default())).unwrap();
        assert_eq!((none.admin.as_str(), none.token), (DEFAULT, None));
        assert_eq!(choose(&global(), Flags::default()), is("https://prod:8081", "prod-token"));
        let with_context = Global { context: Some("test".into()), ..global() };
        assert_eq!(choose(&with_context, Flags::default()), is("http://test:8081", "test-token"));

        let environment =
            Global { admin: Some("http://env:1".into()), token: Some("env".into()), ..with_context };
        assert_eq!(choose(&environment, Flags::default()), is("http://env:1", "env"));
        // A context on the command line disables the environment.
        let typed = Flags { context: true, ..Flags::default() };
        assert_eq!(choose(&environment, typed), is("http://test:8081", "test-token"));
        let typed = Flags { context: true, admin: true, token: true, ..Flags::default() };
        assert_eq!(choose(&environment, typed), is("http://env:1", "env"));
    }

    #[test]
    fn a_token_of_a_context_goes_to_its_address_only() {
        let other = Global { admin: Some("http://other:1".into()), ..global() };
        assert_eq!(choose(&other, Flags::default()), is("http://other:1", ""));
        let other = Global { context: Some("prod".into()), ..other };
        let chosen = Connection::choose(&other, Flags::default(), contexts).unwrap();
        assert_eq!(chosen, Connection { admin: "http://other:1".into(), token: None, ca: None });
        let same = Global { admin: Some("https://prod:8081".into()), ..other };
        assert_eq!(choose(&same, Flags::default()), is("https://prod:8081", "prod-token"));
    }

    #[test]
    fn a_file_that_was_typed_comes_before_a_token_in_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "from-file\n").unwrap();
        let both = Global { token: Some("env".into()), token_file: Some(file), ..global() };
        let chosen = |flags| choose(&both, flags).1.unwrap();
        assert_eq!(chosen(Flags::default()), "env");
        assert_eq!(chosen(Flags { token_file: true, ..Flags::default() }), "from-file");
        assert_eq!(chosen(Flags { token: true, token_file: true, ..Flags::default() }), "env");
    }

    #[test]
    fn a_context_that_is_not_there_is_an_error_that_names_the_known_ones() {
        let wrong = Global { context: Some("prdo".into()), ..global() };
        let error = Connection::choose(&wrong, Flags::default(), contexts).unwrap_err().to_string();
        assert_eq!(error, "unknown context \"prdo\" (known: prod, test); did you mean \"prod\"?");
        let none = Connection::choose(&wrong, Flags::default(), || Ok(Contexts::default())).unwrap_err();
        assert!(none.to_string().contains("weir login prdo --admin URL"), "{none}");
    }
}
