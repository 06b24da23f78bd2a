//! Shell completion: scripts, and candidates that come from the control plane.
//!
//! The shell is blocked while it completes. If the control plane does not answer soon, there are no candidates, and no
//! error is printed.

use std::{ffi::OsStr, time::Duration};

use anyhow::Context as _;
use clap_complete::{Shell, engine::CompletionCandidate, env::Shells};
use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_admin_api::{BackendQuery, List, ListQuery, PoolQuery, RouteQuery, operations};
use weir_snapshot::config::Strategy;

use crate::{
    arguments::{Global, Output},
    client::{Call, Client},
    connection::Connection,
    contexts::Contexts,
    output::print_exact,
    usage::Flags,
};

/// Longest time that a shell waits for the control plane.
const DEADLINE: Duration = Duration::from_millis(800);

/// Writes the script that makes a shell call this program for completions.
pub(crate) fn script(shell: Shell) -> anyhow::Result<()> {
    let shells = Shells::builtins();
    let completer = shells.completer(&shell.to_string()).context("no completions for this shell")?;
    let mut script = Vec::new();
    completer.write_registration("COMPLETE", "weir", "weir", "weir", &mut script)?;
    print_exact(&String::from_utf8_lossy(&script));
    Ok(())
}

pub(crate) fn backends(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = items(Call::of(&operations::LIST_BACKENDS, &(), &BackendQuery::default()))
        .into_iter()
        .flat_map(|backend| {
            let about = format!("{} in {}", backend.url, backend.pool);
            [(backend.id, about.clone()), (backend.url, about)]
        });
    candidates(current, all)
}

pub(crate) fn pools(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = items(Call::of(&operations::LIST_POOLS, &(), &PoolQuery::default())).into_iter();
    candidates(current, all.map(|pool| (pool.name, format!("{} backends", pool.backends.len()))))
}

pub(crate) fn routes(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = items(Call::of(&operations::LIST_ROUTES, &(), &RouteQuery::default())).into_iter();
    candidates(current, all.map(|route| (route.name.clone(), format!("to {}", route.target()))))
}

pub(crate) fn certs(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = items(Call::of(&operations::LIST_CERTIFICATES, &(), &ListQuery::default())).into_iter();
    candidates(current, all.map(|certificate| (certificate.name, certificate.hosts.join(", "))))
}

pub(crate) fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = items(Call::of(&operations::LIST_NODES, &(), &ListQuery::default())).into_iter();
    candidates(current, all.map(|node| (node.id, node.address)))
}

pub(crate) fn tokens(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = items(Call::of(&operations::LIST_TOKENS, &(), &ListQuery::default())).into_iter();
    candidates(current, all.map(|token| (token.name, token.role.to_string())))
}

pub(crate) fn contexts(current: &OsStr) -> Vec<CompletionCandidate> {
    let contexts = Contexts::load().unwrap_or_default();
    let all: Vec<_> = contexts.names().map(|name| (name.to_owned(), String::new())).collect();
    candidates(current, all)
}

pub(crate) fn strategies(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, Strategy::ALL.iter().map(|(_, name)| ((*name).to_owned(), String::new())))
}

pub(crate) fn backend_fields(current: &OsStr) -> Vec<CompletionCandidate> {
    let all = ["weight=", "state=active", "state=draining", "state=disabled"];
    candidates(current, all.map(|field| (field.to_owned(), String::new())))
}

/// Completes fields of a pool or a route from the schema, and the strategies after `strategy=`.
pub(crate) fn fields(current: &OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_string_lossy();
    if typed.starts_with("strategy=") {
        let all = Strategy::ALL.iter().map(|(_, name)| (format!("strategy={name}"), String::new()));
        return candidates(current, all);
    }
    let is_route = words().iter().any(|word| matches!(word.as_str(), "route" | "routes"));
    let Ok(schema) = serde_json::from_str(&weir_snapshot::schema::text()) else { return Vec::new() };
    let before = typed.rfind('.').map_or("", |dot| typed.split_at(dot).0);
    candidates(current, schema_fields(&schema, if is_route { "Route" } else { "Pool" }, before))
}

/// Returns the fields below a path, with their descriptions from the schema.
fn schema_fields(schema: &Value, resource: &str, path: &str) -> Vec<(String, String)> {
    let Some(mut place) = definition(schema, resource) else { return Vec::new() };
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let Some(next) = place.get("properties").and_then(|fields| fields.get(name)) else {
            return Vec::new();
        };
        place = resolved(schema, next);
    }
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    let fields = place.get("properties").and_then(Value::as_object).into_iter().flatten();
    let field = |(name, field): (&String, &Value)| {
        let end = if resolved(schema, field).get("properties").is_some() { "." } else { "=" };
        let about = field.get("description").and_then(Value::as_str).unwrap_or_default();
        (format!("{prefix}{name}{end}"), about.lines().next().unwrap_or_default().to_owned())
    };
    fields.map(field).collect()
}

fn definition<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get("$defs")?.get(name)
}

/// Returns the type of a field. Follows a reference and unwraps an option.
fn resolved<'a>(schema: &'a Value, field: &'a Value) -> &'a Value {
    let of = |value: &'a Value| {
        let reference = value.get("$ref")?.as_str()?.rsplit('/').next()?;
        definition(schema, reference)
    };
    let any = field.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    of(field).or_else(|| any.clone().find_map(of)).unwrap_or(field)
}

fn candidates(current: &OsStr, all: impl IntoIterator<Item = (String, String)>) -> Vec<CompletionCandidate> {
    let typed = current.to_string_lossy();
    all.into_iter()
        .filter(|(name, _)| name.starts_with(&*typed))
        .map(|(name, about)| {
            let about = Some(about).filter(|about| !about.is_empty());
            CompletionCandidate::new(name).help(about.map(Into::into))
        })
        .collect()
}

/// Fetches a list from the control plane. Returns an empty list if that fails or takes too long.
fn items<T: DeserializeOwned>(call: Call<List<T>>) -> Vec<T> {
    let (global, flags) = typed(&words());
    let ask = async {
        let client = Client::new(&Connection::resolve(&global, flags)?)?;
        anyhow::Ok(client.call(call).await?.read()?.items)
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let answer = runtime.block_on(async { tokio::time::timeout(DEADLINE, ask).await });
    // Tasks that still run must not block the shell.
    runtime.shutdown_background();
    answer.ok().and_then(Result::ok).unwrap_or_default()
}

/// Returns the words of the command line so far: `weir -- weir backends drain`.
fn words() -> Vec<String> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Returns the connection flags among the words, or their values from the environment.
fn typed(words: &[String]) -> (Global, Flags) {
    let flag = |name: &str| {
        let mut words = words.iter();
        let mut found = None;
        while let Some(word) = words.next() {
            if let Some(value) = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                found = Some(value.to_owned());
            } else if word == name {
                found = words.next().cloned();
            }
        }
        found
    };
    let either = |name: &str, variable: &str| {
        let typed = flag(name);
        (typed.is_some(), typed.or_else(|| std::env::var(variable).ok()))
    };
    let (has_admin, admin) = either("--admin", "WEIR_ADMIN");
    let (has_token, token) = either("--token", "WEIR_TOKEN");
    let (has_file, token_file) = either("--token-file", "WEIR_TOKEN_FILE");
    let (has_ca, ca) = either("--ca", "WEIR_CA");
    let (has_context, context) = either("--context", "WEIR_CONTEXT");
    let global = Global {
        admin,
        token,
        token_file: token_file.map(Into::into),
        ca: ca.map(Into::into),
        context,
        output: Output::Table,
    };
    let flags =
        Flags { admin: has_admin, token: has_token, token_file: has_file, ca: has_ca, context: has_context };
    (global, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_from_the_schema() {
        let schema: Value = serde_json::from_str(&weir_snapshot::schema::text()).unwrap();
        let names = |resource, path| -> Vec<String> {
            schema_fields(&schema, resource, path).into_iter().map(|(name, _)| name).collect()
        };
        let pool = names("Pool", "");
        assert!(
            pool.contains(&"strategy=".to_owned()) && pool.contains(&"health_check.".to_owned()),
            "{pool:?}"
        );
        assert!(names("Pool", "health_check").contains(&"health_check.interval=".to_owned()));
        assert!(names("Route", "").contains(&"pool=".to_owned()));
        assert!(names("Route", "rate_limit").contains(&"rate_limit.requests=".to_owned()));
        assert!(names("Pool", "nothing").is_empty());
    }

    #[test]
    fn flags_of_the_words_are_used() {
        let words = ["weir", "--admin=http://a:1", "--context", "prod", "backends", "drain", ""];
        let (global, flags) = typed(&words.map(str::to_owned));
        assert_eq!((global.admin.as_deref(), global.context.as_deref()), (Some("http://a:1"), Some("prod")));
        assert!(flags.admin && flags.context && !flags.token);
    }
}
