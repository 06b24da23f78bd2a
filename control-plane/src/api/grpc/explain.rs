//! Explains where a request would go.

use weir_admin_api::{ExplainedBackend, ExplainedPool};
use weir_proto::v1;
use weir_snapshot::explain::{Filter, SampleRequest, SkippedRoute, Verdict};

use super::{failure::Answer, given};
use crate::app::{App, AppError};

pub(super) async fn explain(app: &App, request: v1::ExplainRequest) -> Answer<v1::ExplainResponse> {
    let v1::ExplainRequest { method, url, headers, client } = request;
    let method = given(method).unwrap_or_else(|| "GET".into());
    let headers: Vec<String> =
        headers.into_iter().map(|header| format!("{}: {}", header.name, header.value)).collect();
    let sample = SampleRequest::read(&method, &url, &headers, given(client).as_deref());
    let explained = app.explain(&sample.map_err(AppError::Invalid)?);
    let passed = |SkippedRoute { route, because }| v1::RoutePassed { route, because };
    Ok(v1::ExplainResponse {
        revision: explained.revision,
        route: explained.route.unwrap_or_default(),
        answer: explained.answer.unwrap_or_default(),
        rewritten: explained.rewritten.unwrap_or_default(),
        changes: explained.changes,
        filters: explained.filters.into_iter().map(filter).collect(),
        passed: explained.passed.into_iter().map(passed).collect(),
        more: u32::try_from(explained.more).unwrap_or(u32::MAX),
        pools: explained.pools.into_iter().map(pool).collect(),
    })
}

fn filter(Filter { filter, says, detail }: Filter) -> v1::FilterExplained {
    let verdict = match says {
        Verdict::Passes => v1::FilterVerdict::Passes,
        Verdict::Refuses => v1::FilterVerdict::Refuses,
        Verdict::Depends => v1::FilterVerdict::Depends,
    };
    v1::FilterExplained { filter, verdict: verdict.into(), detail }
}

fn pool(explained: ExplainedPool) -> v1::PoolExplained {
    let ExplainedPool { pool, because, strategy, panic, backends } = explained;
    let backend = |ExplainedBackend { id, url, weight, may, because }| v1::BackendExplained {
        id,
        url,
        weight,
        eligible: may,
        because,
    };
    v1::PoolExplained {
        pool,
        because,
        strategy: strategy.to_string(),
        panic,
        backends: backends.into_iter().map(backend).collect(),
    }
}
