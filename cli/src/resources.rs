//! `weir pools` and `weir routes`: resources that are read and replaced as a whole.

use anyhow::{bail, ensure};
use hyper::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use weir_admin_api::{List, Pool, Revised, Route, SetStrategy, StrategySet};
use weir_snapshot::config::Match;

use crate::{
    arguments::{Content, Fields, Noun, Output, PoolsList, PoolsVerb, RoutesList, RoutesVerb},
    check,
    client::{Answer, Call, Client, ClientError, encode},
    each::{Done, each},
    fields,
    output::{
        Cell, Column, print, print_items, print_outcome, print_value, print_yaml, shown, tell, watch, word,
    },
};

const POOLS: [Column<Pool>; 4] = [
    Column::new("name", |pool| pool.name.as_str().into()),
    Column::new("strategy", |pool| word(&pool.strategy).into()),
    Column::new("health check", |pool| word(&pool.health_check.kind).into()),
    Column::text("backends", |pool| {
        let urls: Vec<String> = pool.backends.iter().map(|backend| backend.url.to_string()).collect();
        Some(urls.join(", ").as_str()).into()
    }),
];

const ROUTES: [Column<Route>; 6] = [
    Column::new("name", |route| route.name.as_str().into()),
    Column::text("hosts", |route| match route.matches.hosts.is_empty() {
        true => "*".into(),
        false => route.matches.hosts.join(", ").into(),
    }),
    Column::new("path", |route| route.matches.paths().unwrap_or_else(|| "/*".into()).into()),
    Column::new("methods", |route| Some(route.matches.methods.join(", ").as_str()).into()),
    Column::text("other", other_conditions),
    Column::new("goes to", |route| route.target().into()),
];

/// What of a match the other columns do not show.
fn other_conditions(route: &Route) -> Cell {
    let Match { scheme, headers, .. } = &route.matches;
    let rest = Match { scheme: *scheme, headers: headers.clone(), ..Match::default() };
    if rest == Match::default() { Cell::missing() } else { rest.to_string().into() }
}

/// A kind of resource.
#[derive(Clone, Copy)]
struct Kind {
    word: &'static str,
    path: &'static str,
}

const POOL: Kind = Kind { word: "pool", path: "/pools" };
const ROUTE: Kind = Kind { word: "route", path: "/routes" };

impl Kind {
    fn path_of(self, name: &str) -> String {
        format!("{}/{}", self.path, encode(name))
    }
}

pub(crate) async fn pools(
    client: &Client,
    output: Output,
    noun: Noun<PoolsList, PoolsVerb>,
) -> anyhow::Result<()> {
    match noun.verb.unwrap_or(PoolsVerb::List(noun.list)) {
        PoolsVerb::List(PoolsList { route, watch: every }) => {
            let path = filtered(POOL, "route", route);
            watch(every.watch, output, async || list(client, output, &path, &POOLS).await).await?;
            Ok(())
        }
        PoolsVerb::Get { name } => get::<Pool>(client, output, POOL, &name).await,
        PoolsVerb::Add { name, content } => add(client, output, POOL, &name, content).await,
        PoolsVerb::Set { name, content } => set(client, output, POOL, &name, content).await,
        PoolsVerb::Delete { names } => delete(client, output, POOL, &names).await,
    }
}

pub(crate) async fn routes(
    client: &Client,
    output: Output,
    noun: Noun<RoutesList, RoutesVerb>,
) -> anyhow::Result<()> {
    match noun.verb.unwrap_or(RoutesVerb::List(noun.list)) {
        RoutesVerb::List(RoutesList { pool, watch: every }) => {
            let path = filtered(ROUTE, "pool", pool);
            watch(every.watch, output, async || list(client, output, &path, &ROUTES).await).await?;
            Ok(())
        }
        RoutesVerb::Get { name } => get::<Route>(client, output, ROUTE, &name).await,
        RoutesVerb::Add { name, content } => add(client, output, ROUTE, &name, content).await,
        RoutesVerb::Set { name, content } => set(client, output, ROUTE, &name, content).await,
        RoutesVerb::Delete { names } => delete(client, output, ROUTE, &names).await,
    }
}

fn filtered(kind: Kind, filter: &str, value: Option<String>) -> String {
    match value {
        Some(value) => format!("{}?{filter}={}", kind.path, encode(&value)),
        None => kind.path.to_owned(),
    }
}

async fn list<T: DeserializeOwned>(
    client: &Client,
    output: Output,
    path: &str,
    columns: &[Column<T>],
) -> Result<(), ClientError> {
    print_items(output, &client.get::<List<T>>(path).await?, columns)
}

/// All settings, which no table holds: for people as in the configuration file.
async fn get<T: DeserializeOwned>(
    client: &Client,
    output: Output,
    kind: Kind,
    name: &str,
) -> anyhow::Result<()> {
    let value = client.get::<T>(&kind.path_of(name)).await?.json()?;
    match output.is_for_people() {
        true => print_yaml(&value),
        false => print_value(output, &value),
    }
    Ok(())
}

/// Only the name of a resource.
#[derive(Deserialize)]
struct Named {
    name: String,
}

async fn add(
    client: &Client,
    output: Output,
    kind: Kind,
    name: &str,
    content: Content,
) -> anyhow::Result<()> {
    let known: Answer<List<Named>> = client.get(kind.path).await?;
    if known.read()?.items.iter().any(|known| known.name == name) {
        bail!("{} {name:?} exists; `weir {}s set {name}` changes it", kind.word, kind.word);
    }
    let mut resource = json!({ "name": name });
    fill(&mut resource, content)?;
    // Another one that was added meanwhile is another revision.
    put(client, output, kind, name, &resource, known.revision).await
}

async fn set(
    client: &Client,
    output: Output,
    kind: Kind,
    name: &str,
    content: Content,
) -> anyhow::Result<()> {
    let has_changes = content.file.is_some() || !content.fields.fields.is_empty();
    ensure!(has_changes, "nothing to change: give FIELD=VALUE or --file FILE");
    if content.file.is_some() {
        let mut resource = json!({ "name": name });
        fill(&mut resource, content)?;
        return put(client, output, kind, name, &resource, None).await;
    }
    let known: Answer<Value> = client.get(&kind.path_of(name)).await?;
    let mut resource = known.json()?;
    fill(&mut resource, content)?;
    put(client, output, kind, name, &resource, known.revision).await
}

/// The content of a file in place of what there is, or fields in it.
fn fill(resource: &mut Value, content: Content) -> anyhow::Result<()> {
    let Content { file, fields: Fields { fields } } = content;
    if let Some(file) = file {
        let text = check::read(&file)?;
        let read: Value =
            serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{file}: {error}"))?;
        let Value::Object(read) = read else { bail!("{file}: not a mapping of fields to values") };
        if let Value::Object(resource) = resource {
            resource.extend(read);
        }
    }
    fields::set_all(resource, &fields)
}

/// What a changed resource may come with.
#[derive(Deserialize)]
struct Warned {
    #[serde(default)]
    warnings: Vec<String>,
}

async fn put(
    client: &Client,
    output: Output,
    kind: Kind,
    name: &str,
    resource: &Value,
    if_revision: Option<u64>,
) -> anyhow::Result<()> {
    let path = kind.path_of(name);
    let call = Call { method: Method::PUT, path: &path, if_revision, ..Call::default() }.with_json(resource);
    let answer: Answer<Warned> = client.call(call).await?;
    answer.read()?.warnings.iter().for_each(|warning| tell!("warning: {}", shown(warning)));
    match output.is_for_people() {
        true => print(&format!("{} {name} stored", kind.word)),
        false => print_value(output, &answer.json()?),
    }
    Ok(())
}

async fn delete(client: &Client, output: Output, kind: Kind, names: &[String]) -> anyhow::Result<()> {
    each(output, names, async |name| {
        let answer: Answer<Revised> = client.ask(Method::DELETE, &kind.path_of(name)).await?;
        Ok(Done::new(answer.json()?, format!("{} {name} deleted", kind.word)))
    })
    .await
}

/// `weir strategy POOL NAME`.
pub(crate) async fn set_strategy(
    client: &Client,
    output: Output,
    pool: &str,
    strategy: &str,
) -> anyhow::Result<()> {
    let body = match serde_json::from_value::<weir_admin_api::Strategy>(json!(strategy)) {
        Ok(strategy) => json!(SetStrategy { pool: pool.to_owned(), strategy }),
        // The control plane says which ones there are.
        Err(_) => json!({ "pool": pool, "strategy": strategy }),
    };
    let answer: Answer<StrategySet> = client.send(Method::POST, "/strategy", &body).await?;
    print_outcome(output, &answer, |_| format!("pool {pool}: strategy {strategy}"))
}
