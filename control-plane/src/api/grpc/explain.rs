//! Where a request would go, as messages.

use tonic::Status;
use weir_proto::v1;
use weir_snapshot::explain::{Asked, Filter, Passed, Says};

use crate::app::{App, BackendExplained, Explained, PoolExplained};

pub(super) fn explain(app: &App, request: &v1::ExplainRequest) -> Result<v1::ExplainResponse, Status> {
    let v1::ExplainRequest { method, url, headers, client } = request;
    let method: &str = if method.is_empty() { "GET" } else { method };
    let client = Some(client.as_str()).filter(|client| !client.is_empty());
    let asked = Asked::read(method, url, headers, client);
    let Explained { revision, way, pools } =
        app.explain(&asked.map_err(|problems| Status::invalid_argument(problems.to_string()))?);
    Ok(v1::ExplainResponse {
        revision,
        route: way.route.unwrap_or_default(),
        answer: way.answer.unwrap_or_default(),
        rewritten: way.rewritten.unwrap_or_default(),
        changes: way.changes,
        filters: way.filters.into_iter().map(filter).collect(),
        passed: way
            .passed
            .into_iter()
            .map(|Passed { route, because }| v1::RoutePassed { route, because })
            .collect(),
        more: u32::try_from(way.more).unwrap_or(u32::MAX),
        pools: pools.into_iter().map(pool).collect(),
    })
}

fn filter(Filter { filter, says, detail }: Filter) -> v1::FilterExplained {
    let says = match says {
        Says::Passes => "passes",
        Says::Refuses => "refuses",
        Says::Depends => "depends",
    };
    v1::FilterExplained { filter: filter.into(), says: says.into(), detail }
}

fn pool(explained: PoolExplained) -> v1::PoolExplained {
    let PoolExplained { pool, because, strategy, panic, backends } = explained;
    let backend = |BackendExplained { id, url, weight, may, because }| v1::BackendExplained {
        id,
        url,
        weight,
        may,
        because,
    };
    v1::PoolExplained {
        pool,
        because,
        strategy,
        panic,
        backends: backends.into_iter().map(backend).collect(),
    }
}
