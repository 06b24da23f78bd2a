//! `weir explain METHOD URL`: shows which route a request would match, and why the others do not match.

use weir_admin_api::{ExplainQuery, Explained, ExplainedBackend, operations};

use crate::{
    arguments::{Explain, Output},
    client::Client,
    output::{Cell, Column, Safe, Table, print_answer, shown, tell, word},
};

const BACKENDS: [Column<ExplainedBackend>; 5] = [
    Column::new("backend", |backend| backend.id.as_str().into()),
    Column::new("url", |backend| backend.url.as_str().into()),
    Column::new("weight", |backend| backend.weight.to_string().into()),
    Column::new("could be picked", |backend| match backend.may {
        true => Cell::from("yes").good(),
        false => Cell::from("no").warning(),
    }),
    Column::new("because", |backend| Some(backend.because.join("; ").as_str()).into()),
];

/// Maximum number of routes shown that do not match, unless all are requested.
const OTHERS: usize = 5;

pub(crate) async fn run(client: &Client, output: Output, about: Explain) -> anyhow::Result<()> {
    let Explain { method, url, headers, client: address, all } = about;
    let url = with_scheme(url);
    let query = ExplainQuery { method: Some(method), url, header: headers, client: address };
    let answer = client.ask(&operations::EXPLAIN, &(), &query).await?;
    print_answer(output, &answer, |explained| text(&explained, all, output))?;
    Ok(())
}

/// Adds `http://` to a URL that begins with a host, as curl does.
fn with_scheme(url: String) -> String {
    let begin = url.split_once("://").map_or("/", |(scheme, _)| scheme);
    if url.is_empty() || url.starts_with('/') || !begin.contains(['/', '?', '#']) {
        return url;
    }
    tell!("the URL has no scheme: reading it as http://{url}");
    format!("http://{url}")
}

fn text(explained: &Explained, all: bool, output: Output) -> Safe {
    let revision = explained.revision;
    let mut text = Safe::new(&match &explained.route {
        Some(route) => format!("route {} (revision {revision})", shown(route)),
        None => format!("no route (revision {revision})"),
    });
    let mut line = |said: String| text.push_text(&said);
    for filter in &explained.filters {
        let (name, detail) = (shown(&filter.filter), shown(&filter.detail));
        line(format!("  {name} {}: {detail}", word(&filter.says)));
    }
    if let Some(rewritten) = &explained.rewritten {
        line(format!("  asks the backend for {}", shown(rewritten)));
    }
    for change in &explained.changes {
        line(format!("  {}", shown(change)));
    }
    if let Some(answer) = &explained.answer {
        line(format!("the node answers {}", shown(answer)));
    }
    for pool in &explained.pools {
        let (name, strategy, because) = (shown(&pool.pool), word(&pool.strategy), shown(&pool.because));
        text.push_text(&format!("pool {name}, {strategy}: {because}"));
        text.push(&Table::of(&BACKENDS, &pool.backends, output).render(Output::Wide).indented());
    }
    let passed = &explained.passed;
    let shown_count = if all { passed.len() } else { OTHERS };
    if !passed.is_empty() {
        text.push_text("other routes");
    }
    for route in passed.iter().take(shown_count) {
        text.push_text(&format!("  {}: {}", shown(&route.route), shown(&route.because)));
    }
    let more = explained.more + passed.len().saturating_sub(shown_count);
    if more > 0 {
        text.push_text(&format!("  and {more} more"));
    }
    text
}
