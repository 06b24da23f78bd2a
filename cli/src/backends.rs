//! `weir backends`.

use anyhow::bail;
use serde::Serialize;
use weir_admin_api::{
    Backend, BackendByUrl, BackendQuery, BackendState, BackendUpdate, BreakerState, Health, Id, NewBackend,
    operations,
};

use crate::{
    arguments::{BackendsList, BackendsVerb, Noun, Output, Several, Which},
    client::{Call, Client},
    each::{Done, each},
    fields,
    output::{Cell, Column, print_items, print_one, print_outcome, watch, word},
    usage::nearest,
};

/// Columns of the table of backends.
pub(crate) const COLUMNS: [Column<Backend>; 11] = [
    Column::new("id", |backend| backend.id.as_str().into()),
    Column::new("url", |backend| backend.url.as_str().into()),
    Column::new("pool", |backend| backend.pool.as_str().into()),
    Column::new("weight", |backend| backend.weight.to_string().into()),
    Column::new("state", |backend| state(backend.state)),
    Column::new("health", |backend| health(backend.health)),
    Column::new("breaker", |backend| breaker(backend.breaker)),
    Column::new("active", |backend| backend.active_connections.to_string().into()),
    Column::wide("sessions", |backend| backend.sessions.to_string().into()),
    Column::wide("ejected by", |backend| Some(backend.ejected_by.join(", ").as_str()).into()),
    Column::text("last check", |backend| Some(backend.last_check.as_str()).into()),
];

fn state(state: BackendState) -> Cell {
    let cell = Cell::from(word(&state));
    match state {
        BackendState::Active => cell,
        BackendState::Draining => cell.warning(),
        BackendState::Disabled => cell.bad(),
    }
}

fn health(health: Health) -> Cell {
    let cell = Cell::from(word(&health));
    match health {
        Health::Up => cell.good(),
        Health::Unknown => cell.warning(),
        Health::Down => cell.bad(),
    }
}

fn breaker(breaker: BreakerState) -> Cell {
    let cell = Cell::from(word(&breaker));
    match breaker {
        BreakerState::Closed => cell,
        BreakerState::HalfOpen => cell.warning(),
        BreakerState::Open => cell.bad(),
    }
}

pub(crate) async fn run(
    client: &Client,
    output: Output,
    noun: Noun<BackendsList, BackendsVerb>,
) -> anyhow::Result<()> {
    match noun.verb.unwrap_or(BackendsVerb::List(noun.list)) {
        BackendsVerb::List(BackendsList { pool, route, watch: every }) => {
            let query = BackendQuery { pool, route, ..BackendQuery::default() };
            let show = async || -> anyhow::Result<()> {
                let list = client.ask(&operations::LIST_BACKENDS, &(), &query).await?;
                Ok(print_items(output, &list, &COLUMNS)?)
            };
            watch(every.watch, output, show).await
        }
        BackendsVerb::Get(which) => {
            let id = find(client, &which).await?;
            let answer = client.ask(&operations::GET_BACKEND, &Id { id }, &()).await?;
            print_one(output, &answer, &COLUMNS)
        }
        BackendsVerb::Add { url, pool, weight } => {
            let new = NewBackend { url, pool, weight };
            let answer = client.send(&operations::CREATE_BACKEND, &(), &(), &new).await?;
            print_outcome(output, &answer, |added| {
                format!("backend {} {} added to pool {}", added.id, new.url, added.pool)
            })
        }
        BackendsVerb::Set { which, fields } => {
            let mut update = serde_json::json!({});
            fields::set_all(&mut update, &fields)?;
            let several = Several { backends: vec![which.backend], pool: which.pool };
            change(client, output, several, &update).await
        }
        BackendsVerb::SetWeight { which, weight } => {
            let several = Several { backends: vec![which.backend], pool: which.pool };
            change(client, output, several, &BackendUpdate { weight: Some(weight), state: None }).await
        }
        BackendsVerb::Drain(several) => set_state(client, output, several, BackendState::Draining).await,
        BackendsVerb::Enable(several) => set_state(client, output, several, BackendState::Active).await,
        BackendsVerb::Disable(several) => set_state(client, output, several, BackendState::Disabled).await,
        BackendsVerb::Delete(several) => delete(client, output, several).await,
        BackendsVerb::Check(several) => check(client, output, several).await,
    }
}

async fn set_state(
    client: &Client,
    output: Output,
    several: Several,
    state: BackendState,
) -> anyhow::Result<()> {
    change(client, output, several, &BackendUpdate { weight: None, state: Some(state) }).await
}

async fn change(
    client: &Client,
    output: Output,
    several: Several,
    update: &impl Serialize,
) -> anyhow::Result<()> {
    let ids = find_all(client, several).await?;
    each(output, &ids, async |id| {
        let path = Id { id: id.to_owned() };
        let call = Call::of(&operations::UPDATE_BACKEND, &path, &()).json(update);
        let answer = client.call(call).await?;
        let said = match output.is_for_people() {
            true => {
                let changed = answer.read()?;
                format!("backend {id} is {}, weight {}", word(&changed.state), changed.weight)
            }
            false => String::new(),
        };
        Ok(Done::new(answer.json()?, said))
    })
    .await
}

async fn delete(client: &Client, output: Output, several: Several) -> anyhow::Result<()> {
    // The control plane looks up a backend by URL itself, in any spelling.
    if let ([url], pool) = (several.backends.as_slice(), &several.pool)
        && is_url(url)
    {
        let body = BackendByUrl { url: Some(url.clone()), pool: pool.clone() };
        let call = Call::of(&operations::DELETE_BACKEND_BY_URL, &(), &BackendByUrl::default()).json(&body);
        let answer = client.call(call).await?;
        return print_outcome(output, &answer, |_| format!("backend {url} deleted"));
    }
    let ids = find_all(client, several).await?;
    each(output, &ids, async |id| {
        let answer = client.ask(&operations::DELETE_BACKEND, &Id { id: id.to_owned() }, &()).await?;
        Ok(Done::new(answer.json()?, format!("backend {id} deleted")))
    })
    .await
}

async fn check(client: &Client, output: Output, several: Several) -> anyhow::Result<()> {
    let ids = find_all(client, several).await?;
    each(output, &ids, async |id| {
        let answer = client.ask(&operations::CHECK_BACKEND, &Id { id: id.to_owned() }, &()).await?;
        let result = answer.read()?;
        let (said, failure) = match result.ok {
            true => ("passes its health check", None),
            false => ("fails its health check", Some(format!("backend {id} fails its health check"))),
        };
        Ok(Done { value: answer.json()?, said: format!("backend {id} {said}: {}", result.detail), failure })
    })
    .await
}

fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// Returns the id of a backend given by id or URL.
async fn find(client: &Client, which: &Which) -> anyhow::Result<String> {
    let several = Several { backends: vec![which.backend.clone()], pool: which.pool.clone() };
    Ok(find_all(client, several).await?.concat())
}

/// Returns the ids of backends given by id or URL. If there are several, all must exist before the first is changed.
async fn find_all(client: &Client, several: Several) -> anyhow::Result<Vec<String>> {
    let Several { backends: names, pool } = several;
    if let [one] = names.as_slice()
        && !is_url(one)
    {
        return Ok(names);
    }
    let known = client.ask(&operations::LIST_BACKENDS, &(), &BackendQuery::default()).await?.read()?.items;
    names.iter().map(|name| find_in(&known, name, pool.as_deref())).collect()
}

fn find_in(known: &[Backend], name: &str, pool: Option<&str>) -> anyhow::Result<String> {
    let wanted = name.trim_end_matches('/');
    let is_it = |backend: &&Backend| match is_url(name) {
        true => backend.url.eq_ignore_ascii_case(wanted) && pool.is_none_or(|pool| backend.pool == pool),
        false => backend.id == name,
    };
    let found: Vec<&Backend> = known.iter().filter(is_it).collect();
    match found.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => {
            let names = known.iter().map(|backend| if is_url(name) { &*backend.url } else { &*backend.id });
            let near = nearest(wanted, names);
            let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            bail!("there is no backend {wanted}{near} (see `weir backends`)")
        }
        several => {
            let pools: Vec<&str> = several.iter().map(|backend| backend.pool.as_str()).collect();
            bail!("backend {wanted} is in the pools {}: choose one with --pool", pools.join(", "))
        }
    }
}
