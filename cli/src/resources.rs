//! `weir pools` and `weir routes`: resources that are always read and replaced as a whole.

use anyhow::{bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_admin_api::{Name, Pool, PoolQuery, Revised, Route, RouteQuery, operations};
use weir_snapshot::config::Match;

use crate::{
    arguments::{Content, Fields, Noun, Output, PoolsList, PoolsVerb, RoutesList, RoutesVerb},
    check,
    client::{Call, Client},
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

/// Conditions of a match that the other columns do not show.
fn other_conditions(route: &Route) -> Cell {
    let Match { scheme, headers, .. } = &route.matches;
    let rest = Match { scheme: *scheme, headers: headers.clone(), ..Match::default() };
    if rest == Match::default() { Cell::missing() } else { rest.to_string().into() }
}

/// A kind of resource, with its operations.
#[derive(Clone, Copy)]
struct Kind {
    word: &'static str,
    get: fn(&Name) -> Call<Value>,
    put: fn(&Name) -> Call<Warned>,
    delete: fn(&Name) -> Call<Revised>,
}

const POOL: Kind = Kind {
    word: "pool",
    get: |name| Call::of(&operations::GET_POOL, name, &()).reads(),
    put: |name| Call::of(&operations::PUT_POOL, name, &()).reads(),
    delete: |name| Call::of(&operations::DELETE_POOL, name, &()),
};
const ROUTE: Kind = Kind {
    word: "route",
    get: |name| Call::of(&operations::GET_ROUTE, name, &()).reads(),
    put: |name| Call::of(&operations::PUT_ROUTE, name, &()).reads(),
    delete: |name| Call::of(&operations::DELETE_ROUTE, name, &()),
};

/// Response to a change: its warnings.
#[derive(Deserialize)]
struct Warned {
    #[serde(default)]
    warnings: Vec<String>,
}

pub(crate) async fn pools(
    client: &Client,
    output: Output,
    noun: Noun<PoolsList, PoolsVerb>,
) -> anyhow::Result<()> {
    match noun.verb.unwrap_or(PoolsVerb::List(noun.list)) {
        PoolsVerb::List(PoolsList { route, watch: every }) => {
            let query = PoolQuery { route, ..PoolQuery::default() };
            let show = async || -> anyhow::Result<()> {
                let list = client.ask(&operations::LIST_POOLS, &(), &query).await?;
                Ok(print_items(output, &list, &POOLS)?)
            };
            watch(every.watch, output, show).await
        }
        PoolsVerb::Get { name } => get(client, output, POOL, name).await,
        PoolsVerb::Add { name, content } => {
            let known = client.ask(&operations::LIST_POOLS, &(), &PoolQuery::default()).await?;
            let is_there = known.read()?.items.iter().any(|pool| pool.name == name);
            let known = Known { is_there, revision: known.revision };
            add(client, output, POOL, name, content, known).await
        }
        PoolsVerb::Set { name, content } => set(client, output, POOL, name, content).await,
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
            let query = RouteQuery { pool, ..RouteQuery::default() };
            let show = async || -> anyhow::Result<()> {
                let list = client.ask(&operations::LIST_ROUTES, &(), &query).await?;
                Ok(print_items(output, &list, &ROUTES)?)
            };
            watch(every.watch, output, show).await
        }
        RoutesVerb::Get { name } => get(client, output, ROUTE, name).await,
        RoutesVerb::Add { name, content } => {
            let known = client.ask(&operations::LIST_ROUTES, &(), &RouteQuery::default()).await?;
            let is_there = known.read()?.items.iter().any(|route| route.name == name);
            let known = Known { is_there, revision: known.revision };
            add(client, output, ROUTE, name, content, known).await
        }
        RoutesVerb::Set { name, content } => set(client, output, ROUTE, name, content).await,
        RoutesVerb::Delete { names } => delete(client, output, ROUTE, &names).await,
    }
}

/// Shows all settings, which do not fit into a table. For people they are written as in the configuration file.
async fn get(client: &Client, output: Output, kind: Kind, name: String) -> anyhow::Result<()> {
    let value = client.call((kind.get)(&Name { name })).await?.json()?;
    match output.is_for_people() {
        true => print_yaml(&value),
        false => print_value(output, &value),
    }
    Ok(())
}

/// Whether a resource exists, according to the list at a revision.
struct Known {
    is_there: bool,
    revision: Option<u64>,
}

async fn add(
    client: &Client,
    output: Output,
    kind: Kind,
    name: String,
    content: Content,
    known: Known,
) -> anyhow::Result<()> {
    if known.is_there {
        bail!("{} {name:?} exists; `weir {}s set {name}` changes it", kind.word, kind.word);
    }
    let mut resource = json!({ "name": name });
    fill(&mut resource, content)?;
    // If a resource of the same name was added meanwhile, the revision differs and the call is rejected.
    put(client, output, kind, name, &resource, known.revision).await
}

async fn set(
    client: &Client,
    output: Output,
    kind: Kind,
    name: String,
    content: Content,
) -> anyhow::Result<()> {
    let has_changes = content.file.is_some() || !content.fields.fields.is_empty();
    ensure!(has_changes, "nothing to change: give FIELD=VALUE or --file FILE");
    if content.file.is_some() {
        let mut resource = json!({ "name": name });
        fill(&mut resource, content)?;
        return put(client, output, kind, name, &resource, None).await;
    }
    let known = client.call((kind.get)(&Name { name: name.clone() })).await?;
    let mut resource = known.json()?;
    fill(&mut resource, content)?;
    put(client, output, kind, name, &resource, known.revision).await
}

/// Replaces the content with that of a file, or sets single fields.
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

async fn put(
    client: &Client,
    output: Output,
    kind: Kind,
    name: String,
    resource: &Value,
    if_revision: Option<u64>,
) -> anyhow::Result<()> {
    let name = Name { name };
    let answer = client.call((kind.put)(&name).json(resource).at(if_revision)).await?;
    answer.read()?.warnings.iter().for_each(|warning| tell!("warning: {}", shown(warning)));
    match output.is_for_people() {
        true => print(&format!("{} {} stored", kind.word, name.name)),
        false => print_value(output, &answer.json()?),
    }
    Ok(())
}

async fn delete(client: &Client, output: Output, kind: Kind, names: &[String]) -> anyhow::Result<()> {
    each(output, names, async |name| {
        let answer = client.call((kind.delete)(&Name { name: name.to_owned() })).await?;
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
    // Sent as typed: the control plane checks the name of the strategy.
    let body = json!({ "pool": pool, "strategy": strategy });
    let answer = client.call(Call::of(&operations::SET_STRATEGY, &(), &()).json(&body)).await?;
    print_outcome(output, &answer, |_| format!("pool {pool}: strategy {strategy}"))
}
