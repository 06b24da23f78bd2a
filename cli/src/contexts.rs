//! Contexts: named control planes, each with a token and a CA, stored in a file in the user's config folder.
//!
//! The file holds tokens, so it is written with mode 0600. If other users can read it, a warning is printed.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use weir_admin_api::operations;
use weir_snapshot::nearest;

use crate::{
    arguments::{ContextsVerb, Global, Login, Noun, Output, Plain},
    client::Client,
    connection::{Connection, DEFAULT, Explicit},
    hidden_input,
    output::{Cell, Column, print_card, print_done, print_list, tell},
    usage::Flags,
};

/// Address of a control plane and the credentials for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) admin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
}

/// The contexts of a user.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Reads the user's file. A missing file means no contexts.
    pub(crate) fn load() -> anyhow::Result<Self> {
        match path() {
            Ok(path) => Self::read(&path),
            Err(_) => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let place = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read the contexts in {place}")),
        };
        if let Ok(found) = std::fs::metadata(path)
            && found.mode() & 0o077 != 0
        {
            let mode = found.mode() & 0o777;
            tell!(
                "warning: {place} holds tokens and other users can read it (mode {mode:04o}): chmod 600 {place}"
            );
        }
        // The parser's message would quote the line, which may hold a token.
        serde_saphyr::from_str(&text).map_err(|error| match error.location() {
            Some(at) => {
                anyhow::anyhow!("{place}:{}: not a file of contexts as `weir login` writes it", at.line())
            }
            None => anyhow::anyhow!("{place}: not a file of contexts as `weir login` writes it"),
        })
    }

    /// Writes the user's file.
    fn save(&self) -> anyhow::Result<PathBuf> {
        let path = path()?;
        self.write(&path).with_context(|| format!("cannot write the contexts to {}", path.display()))?;
        Ok(path)
    }

    /// Writes the file atomically, readable only by its owner.
    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let folder = path.parent().context("the path has no folder")?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // A temporary file has mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(serde_saphyr::to_string(self)?.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> anyhow::Result<&Context> {
        let Some(context) = self.contexts.get(name) else {
            if self.contexts.is_empty() {
                bail!("unknown context {name:?}: there are none; weir login {name} --admin URL adds it");
            }
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let near = nearest(name, known.iter().copied());
            let near = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
            bail!("unknown context {name:?} (known: {}){near}", known.join(", "));
        };
        Ok(context)
    }

    /// The current context and its name.
    pub(crate) fn current(&self) -> anyhow::Result<Option<(&str, &Context)>> {
        let Some(name) = self.current.as_deref() else { return Ok(None) };
        Ok(Some((
            name,
            self.get(name).context("the current context is gone; choose one with `weir contexts use`")?,
        )))
    }

    pub(crate) fn insert(&mut self, name: &str, context: Context) {
        self.contexts.insert(name.to_owned(), context);
    }

    pub(crate) fn use_context(&mut self, name: &str) -> anyhow::Result<()> {
        self.get(name)?;
        self.current = Some(name.to_owned());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        self.get(name)?;
        self.contexts.remove(name);
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
        Ok(())
    }

    /// Names of all contexts.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.contexts.keys().map(String::as_str)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |(name, context): (&String, &Context)| Row {
            name: name.clone(),
            is_current: self.current.as_ref() == Some(name),
            admin: context.admin.clone(),
            has_token: context.token.is_some(),
            ca: context.ca.as_ref().map(|ca| ca.display().to_string()),
        };
        self.contexts.iter().map(row).collect()
    }
}

/// A context without its token.
#[derive(Debug, Clone, Serialize)]
struct Row {
    name: String,
    #[serde(rename = "current")]
    is_current: bool,
    admin: String,
    has_token: bool,
    ca: Option<String>,
}

const COLUMNS: [Column<Row>; 5] = [
    Column::new("context", |row| row.name.as_str().into()),
    Column::new("current", |row| if row.is_current { Cell::from("yes").good() } else { "".into() }),
    Column::new("admin", |row| row.admin.as_str().into()),
    Column::new("token", |row| if row.has_token { "yes".into() } else { Cell::missing() }),
    Column::new("ca", |row| row.ca.as_deref().into()),
];

/// Path of the file: `$XDG_CONFIG_HOME/weir/contexts.yaml`, or `~/.config/weir/contexts.yaml`.
fn path() -> anyhow::Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    let config = config.context("there is no place for contexts: neither XDG_CONFIG_HOME nor HOME is set")?;
    Ok(config.join("weir/contexts.yaml"))
}

/// `weir login`: checks the token with the control plane, then stores the context.
pub(crate) async fn login(global: &Global, flags: Flags, login: Login) -> anyhow::Result<()> {
    let name = login.name;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    ensure!(
        (1..=64).contains(&name.len()) && name.chars().all(fits),
        "context {name:?}: a name is 1 to 64 of a-z, A-Z, 0-9, - _ . @"
    );
    let mut contexts = Contexts::load()?;
    let explicit = Explicit::of(global, flags)?;
    let known = contexts.contexts.get(&name).cloned();
    let admin = explicit.admin.or(known.map(|known| known.admin)).unwrap_or_else(|| DEFAULT.to_owned());
    let ca = explicit.ca.map(std::path::absolute).transpose().context("--ca")?;
    let token = match explicit.token {
        Some(token) => Some(token),
        None => read_token(&admin)?,
    };
    let connection = Connection { admin, token, ca };
    let client = Client::new(&connection)?;
    let status = client.ask(&operations::GET_STATUS, &(), &()).await?.read()?;
    let Connection { admin, token, ca } = connection;
    let has_token = token.is_some();
    contexts.insert(&name, Context { admin: admin.clone(), token, ca });
    contexts.use_context(&name)?;
    let path = contexts.save()?;
    let made = json!({ "context": name, "admin": admin, "has_token": has_token, "file": path.display().to_string() });
    let without = if has_token { "" } else { " without a token" };
    print_done(
        global.output,
        &made,
        &format!(
            "context {name}: {admin}, revision {}{without}; stored in {}",
            status.revision,
            path.display()
        ),
    );
    warn_of_environment();
    Ok(())
}

/// Reads a token from the terminal, without echo, or from a pipe.
fn read_token(admin: &str) -> anyhow::Result<Option<String>> {
    let stdin = io::stdin();
    let line = if stdin.is_terminal() {
        hidden_input::line(&format!("token for {admin} (empty: none): "))?
    } else {
        let mut line = String::new();
        stdin.lock().read_line(&mut line).context("cannot read the token from standard input")?;
        line
    };
    Ok(Some(line.trim().to_owned()).filter(|token| !token.is_empty()))
}

/// Warns that the environment takes precedence over the context that the user has just chosen.
fn warn_of_environment() {
    for name in ["WEIR_ADMIN", "WEIR_TOKEN", "WEIR_TOKEN_FILE", "WEIR_CA", "WEIR_CONTEXT"] {
        if std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
            tell!("note: {name} is set and takes precedence over the current context");
        }
    }
}

pub(crate) fn run(output: Output, noun: Noun<Plain, ContextsVerb>) -> anyhow::Result<()> {
    let mut contexts = Contexts::load()?;
    match noun.verb.unwrap_or(ContextsVerb::List(noun.list)) {
        ContextsVerb::List(Plain {}) => {
            let rows = contexts.rows();
            print_list(output, &json!({ "items": rows }), &COLUMNS, &rows);
        }
        ContextsVerb::Get { name } => {
            let name = match name {
                Some(name) => name,
                None => contexts
                    .current()?
                    .context("there is no current context; weir login adds one")?
                    .0
                    .to_owned(),
            };
            contexts.get(&name)?;
            let row = contexts.rows().into_iter().find(|row| row.name == name);
            let row = row.context("the context is gone")?;
            print_card(output, &json!(row), &COLUMNS, &row);
        }
        ContextsVerb::Use { name } => {
            contexts.use_context(&name)?;
            contexts.save()?;
            print_done(output, &json!({ "current": name }), &format!("context {name} is current"));
            warn_of_environment();
        }
        ContextsVerb::Delete { names } => delete(output, contexts, &names)?,
    }
    Ok(())
}

/// `weir logout`: deletes the named context, or the current one.
pub(crate) fn logout(output: Output, name: Option<String>) -> anyhow::Result<()> {
    let contexts = Contexts::load()?;
    let name = match name {
        Some(name) => name,
        None => contexts.current()?.context("there is no current context")?.0.to_owned(),
    };
    delete(output, contexts, &[name])
}

fn delete(output: Output, mut contexts: Contexts, names: &[String]) -> anyhow::Result<()> {
    // Check all names first, so that either all contexts are deleted or none.
    names.iter().try_for_each(|name| contexts.get(name).map(drop))?;
    names.iter().try_for_each(|name| contexts.remove(name))?;
    contexts.save()?;
    for name in names {
        print_done(output, &json!({ "deleted": name }), &format!("context {name} deleted"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn context(admin: &str) -> Context {
        Context { admin: admin.into(), token: Some("weir_x".into()), ca: None }
    }

    #[test]
    fn the_file_is_its_owners_alone_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config/weir/contexts.yaml");
        let mut contexts = Contexts::default();
        contexts.insert("prod", context("https://prod:8081"));
        contexts.use_context("prod").unwrap();
        contexts.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let read = Contexts::read(&path).unwrap();
        assert_eq!(read.current().unwrap(), Some(("prod", &context("https://prod:8081"))));
        // Rewriting the file restores its mode.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        read.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Contexts::read(&folder.path().join("none")).unwrap().names().next().is_none());
    }

    #[test]
    fn a_broken_file_is_named_and_its_content_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contexts.yaml");
        for text in
            ["contexts: [weir_secret]\n", "contexts: { a: { admin: x, tokn: weir_secret } }\n", "weir_secret"]
        {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", Contexts::read(&path).unwrap_err());
            assert!(error.contains("contexts.yaml") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_deleted_context_is_current_no_more() {
        let mut contexts = Contexts::default();
        contexts.insert("a", context("http://a:1"));
        contexts.use_context("a").unwrap();
        assert!(contexts.remove("b").is_err() && contexts.use_context("b").is_err());
        contexts.remove("a").unwrap();
        assert_eq!(contexts.current().unwrap(), None);
    }
}
