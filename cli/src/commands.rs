//! The commands that ask the control plane.

use std::process::ExitCode;

use anyhow::bail;
use hyper::Method;
use serde_json::{Value, json};
use weir_snapshot::config::{HealthCheckKind, Match, Route};

use crate::{
    access,
    arguments::{Backends, Command, NodesCommand, Output, Which},
    certs,
    client::{Call, Client, encode},
    configuration, explain, nodes,
    output::{
        Column, cell, failure, items, print, print_exact, print_json, print_json_text, print_list, table,
    },
    report, tail,
};

const BACKENDS: [Column; 10] = [
    ("id", "id"),
    ("url", "url"),
    ("pool", "pool"),
    ("weight", "weight"),
    ("state", "state"),
    ("health", "health|alive"),
    ("breaker", "breaker"),
    ("active", "active_connections"),
    ("sessions", "sessions"),
    ("last check", "last_check"),
];
const ROUTES: [Column; 6] = [
    ("name", "name"),
    ("hosts", "words.hosts"),
    ("path", "words.path"),
    ("methods", "match.methods"),
    ("other", "words.other"),
    ("goes to", "words.target"),
];
const REFUSED: [Column; 5] = [
    ("route", "name"),
    ("ip_filter", "refused.ip_filter"),
    ("method", "refused.method"),
    ("rate_limit", "refused.rate_limit"),
    ("auth", "refused.auth"),
];

/// Whether the filters of a route have refused something.
fn refuses(route: &Value) -> bool {
    let counts = route.get("refused").and_then(Value::as_object);
    counts.is_some_and(|counts| counts.values().any(|count| count.as_u64() > Some(0)))
}

pub(crate) async fn run(client: &Client, output: Output, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Status => {
            let status = client.get("/status").await?;
            match output {
                Output::Json => print_json(&status),
                Output::Table => {
                    let list = |name: &str| status.get(name).map_or(&[][..], items);
                    let file = status.get("config_file").map(drift).unwrap_or_default();
                    print(&format!(
                        "revision {}\n{file}\n{}\n\n{}",
                        cell(&status, "revision"),
                        table(&BACKENDS, list("backends")),
                        nodes::table(list("nodes")),
                    ));
                    let refused: Vec<Value> =
                        list("routes").iter().filter(|route| refuses(route)).cloned().collect();
                    if !refused.is_empty() {
                        print(&format!("\nrefused by filters\n{}", table(&REFUSED, &refused)));
                    }
                    if !list("certificates").is_empty() {
                        print(&format!("\n{}", table(&certs::COLUMNS, list("certificates"))));
                    }
                }
            }
        }
        Command::Nodes { command: Some(NodesCommand::Access(command)), .. } => {
            access::node(client, output, command).await?;
        }
        Command::Nodes { command: Some(NodesCommand::List { watch }), .. }
        | Command::Nodes { watch, command: None } => nodes::run(client, output, watch).await?,
        Command::Backends(command) => backends(client, output, command).await?,
        Command::Certs(command) => certs::run(client, output, command).await?,
        Command::Pools => {
            let columns = [
                ("name", "name"),
                ("strategy", "strategy"),
                ("health check", "health_check.type"),
                ("backends", "backend_urls"),
            ];
            let mut pools = client.get("/pools").await?;
            if output == Output::Table {
                pools = Value::Array(items(&pools).iter().map(for_people).collect());
            }
            print_list(output, &pools, &columns);
        }
        Command::Routes => {
            let mut routes = client.get("/routes").await?;
            if output == Output::Table {
                routes = Value::Array(items(&routes).iter().map(in_words).collect());
            }
            print_list(output, &routes, &ROUTES);
        }
        Command::Strategy { pool, strategy } => {
            let body = json!({"pool": pool, "strategy": strategy});
            let answer = client.json(Method::POST, "/strategy", Some(body)).await?;
            done(output, &answer, &format!("pool {pool}: strategy {strategy}"));
        }
        Command::Diff { file } => return configuration::diff(client, output, &file).await,
        Command::Apply(arguments) => configuration::apply(client, output, arguments).await?,
        Command::Reload(changing) => configuration::reload(client, output, changing).await?,
        Command::Revisions(arguments) => configuration::revisions(client, output, arguments).await?,
        Command::Rollback { revision, changing } => {
            configuration::rollback(client, output, revision, changing).await?;
        }
        Command::Export => {
            let accept = if output == Output::Json { "application/json" } else { "application/yaml" };
            let call = Call { path: "/config", accept, ..Call::default() };
            let text = client.call(call).await?;
            match output {
                Output::Json => print_json_text(&text),
                Output::Table => print_exact(&text),
            }
            // It is a backup: a part of it is a failure, also where the reader of a pipe has left.
            if let Some(error) = failure().filter(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
                anyhow::bail!("the export is incomplete: {error}");
            }
        }
        Command::Token(command) => access::token(client, output, command).await?,
        Command::NodeToken(command) => access::node_token(client, output, command).await?,
        Command::Node(command) => access::node(client, output, command).await?,
        Command::Audit { limit, after } => access::audit(client, output, limit, after).await?,
        Command::Explain(about) => explain::run(client, output, about).await?,
        Command::Report(report) => report::run(client, output, report).await?,
        Command::Tail(arguments) => tail::run(client, output, arguments).await?,
        Command::Check { .. }
        | Command::HashPassword
        | Command::Schema
        | Command::Completions { .. }
        | Command::Load(_)
        | Command::Dev(_) => {
            bail!("this command does not ask the control plane")
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How the configuration differs from the control plane's configuration file.
fn drift(file: &Value) -> String {
    let count = file.get("drift_count").and_then(Value::as_u64).unwrap_or_default();
    let (path, applied) = (cell(file, "path"), cell(file, "applied"));
    if count == 0 {
        return format!("configuration file {path}: no differences (applied {applied})\n");
    }
    let differences = if count == 1 { "difference" } else { "differences" };
    let mut text =
        format!("configuration file {path}: {count} {differences} since it was applied {applied}\n");
    let listed = file.get("drift").map_or(&[][..], items);
    for difference in listed {
        text.push_str(&format!("  {}\n", cell(difference, "")));
    }
    if count > listed.len() as u64 {
        text.push_str(&format!("  and {} more\n", count - listed.len() as u64));
    }
    text
}

async fn backends(client: &Client, output: Output, command: Backends) -> anyhow::Result<()> {
    match command {
        Backends::List => print_list(output, &client.get("/backends").await?, &BACKENDS),
        Backends::Add { url, pool, weight } => {
            let mut body = json!({"url": url});
            if let Some(pool) = pool {
                body["pool"] = pool.into();
            }
            if let Some(weight) = weight {
                body["weight"] = weight.into();
            }
            let added = client.json(Method::POST, "/backends", Some(body)).await?;
            let said = format!("backend {} {url} added to pool {}", cell(&added, "id"), cell(&added, "pool"));
            done(output, &added, &said);
        }
        Backends::Remove(Which { backend, pool }) => {
            let answer = if is_url(&backend) {
                let mut body = json!({"url": backend});
                if let Some(pool) = pool {
                    body["pool"] = pool.into();
                }
                client.json(Method::DELETE, "/backends", Some(body)).await?
            } else {
                client.json(Method::DELETE, &format!("/backends/{}", encode(&backend)), None).await?
            };
            done(output, &answer, &format!("backend {backend} removed"));
        }
        Backends::Drain(which) => update(client, output, &which, json!({"state": "draining"})).await?,
        Backends::Enable(which) => update(client, output, &which, json!({"state": "active"})).await?,
        Backends::Disable(which) => update(client, output, &which, json!({"state": "disabled"})).await?,
        Backends::SetWeight { which, weight } => {
            update(client, output, &which, json!({"weight": weight})).await?;
        }
        Backends::Check(which) => {
            let id = find(client, &which).await?;
            let answer = client.json(Method::POST, &format!("/backends/{}/check", encode(&id)), None).await?;
            let works = answer.get("ok").and_then(Value::as_bool).unwrap_or_default();
            let said = if works { "works" } else { "does not work" };
            done(output, &answer, &format!("backend {id} {said}: {}", cell(&answer, "detail")));
            if !works {
                bail!("backend {id} does not work");
            }
        }
    }
    Ok(())
}

async fn update(client: &Client, output: Output, which: &Which, change: Value) -> anyhow::Result<()> {
    let id = find(client, which).await?;
    let changed = client.json(Method::PATCH, &format!("/backends/{}", encode(&id)), Some(change)).await?;
    let said =
        format!("backend {id}: state {}, weight {}", cell(&changed, "state"), cell(&changed, "weight"));
    done(output, &changed, &said);
    Ok(())
}

fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// The id of a backend that is named by id or URL.
async fn find(client: &Client, which: &Which) -> anyhow::Result<String> {
    if !is_url(&which.backend) {
        return Ok(which.backend.clone());
    }
    let list = client.get("/backends").await?;
    let wanted = which.backend.trim_end_matches('/');
    let text =
        |item: &Value, field: &str| item.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let found: Vec<&Value> = items(&list)
        .iter()
        .filter(|item| text(item, "url").eq_ignore_ascii_case(wanted))
        .filter(|item| which.pool.as_ref().is_none_or(|pool| *pool == text(item, "pool")))
        .collect();
    match found.as_slice() {
        [] => bail!("no backend {wanted} (see `weir backends list`)"),
        [one] => Ok(text(one, "id")),
        several => {
            let pools: Vec<String> = several.iter().map(|item| text(item, "pool")).collect();
            bail!("backend {wanted} stands in the pools {}: say which with --pool", pools.join(", "))
        }
    }
}

pub(crate) fn done(output: Output, answer: &Value, said: &str) {
    match output {
        Output::Json => print_json(answer),
        Output::Table => print(said),
    }
}

/// A route with what it takes and where it goes in words.
fn in_words(route: &Value) -> Value {
    let mut shown = route.clone();
    let Ok(route) = serde_json::from_value::<Route>(route.clone()) else { return shown };
    let hosts = if route.matches.hosts.is_empty() { "*".to_owned() } else { route.matches.hosts.join(", ") };
    let rest =
        Match { scheme: route.matches.scheme, headers: route.matches.headers.clone(), ..Match::default() };
    let other = if rest == Match::default() { String::new() } else { rest.to_string() };
    shown["words"] = json!({
        "hosts": hosts,
        "path": route.matches.paths().unwrap_or_else(|| "/*".into()),
        "other": other,
        "target": route.target(),
    });
    shown
}

fn for_people(pool: &Value) -> Value {
    let mut pool = pool.clone();
    if pool.pointer("/health_check/type").is_none() {
        pool["health_check"] = json!({ "type": HealthCheckKind::default() });
    }
    let urls: Vec<String> =
        pool.get("backends").map_or(&[][..], items).iter().map(|backend| cell(backend, "url")).collect();
    pool["backend_urls"] = urls.join(", ").into();
    pool
}
