//! Reads counts: from the sums where they can answer the query, otherwise from the rows.

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Row as _, Sqlite, Transaction};

use super::{Dimension, Kept, Lost, Result, Run, StoredSum, packed, run};
use crate::store::{Store, StoreError};

/// Which requests a report covers; by default all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Labels, each with the names of which a request has one.
    pub(crate) labels: Vec<(Dimension, Vec<String>)>,
    /// Hosts are counted separately, so a host cannot be combined with another filter.
    pub(crate) host: Option<String>,
}

/// A range of one grain: starts in `from..to`, in minutes since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) grain: i64,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// How counts are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupBy {
    /// By period.
    Start,
    /// By a label.
    Label(Dimension),
}

impl Filter {
    /// The sums that match this filter exactly: their dimension, and their names as a JSON array.
    fn sum(&self) -> Option<(Dimension, String)> {
        match (&self.labels[..], &self.host) {
            ([], None) => Some((Dimension::All, r#"[""]"#.to_owned())),
            ([], Some(host)) => Some((Dimension::Host, json(std::slice::from_ref(host)))),
            ([(dimension, names)], None) => Some((*dimension, json(names))),
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self.sum(), Some((Dimension::All, _)))
    }
}

/// Names as a JSON array.
fn json(names: &[String]) -> String {
    serde_json::Value::from(names).to_string()
}

/// A read transaction: a view of the statistics that does not change.
pub(crate) struct Traffic {
    tx: Transaction<'static, Sqlite>,
}

impl Store {
    /// Begins a read transaction.
    pub(crate) async fn traffic(&self) -> Result<Traffic> {
        Ok(Traffic { tx: self.reader.begin().await? })
    }

    /// Returns the ids that backends with this URL have or had in any revision.
    pub(crate) async fn backends_by_url(&self, url: &str) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(
            "SELECT id FROM (
                 SELECT id FROM backends WHERE url = ?1
                 UNION
                 SELECT name FROM changes WHERE kind = 'backend'
                     AND (json_extract(after, '$.url') = ?1 OR json_extract(before, '$.url') = ?1))",
        )
        .bind(url)
        .fetch_all(&self.reader)
        .await?)
    }

    /// Returns whether a route, pool or backend has this name, had it in a stored revision, or was counted with it.
    pub(crate) async fn has_name(&self, dimension: Dimension, name: &str) -> Result<bool> {
        let Some((table, column)) = dimension.resource() else { return Ok(true) };
        let dimension = dimension.name();
        // The cheapest query first: a name that is in use costs one index lookup.
        for sql in [
            format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE {column} = ?1)"),
            format!(
                "SELECT EXISTS (SELECT 1 FROM sums INDEXED BY sums_by_name
                     WHERE grain > 1 AND grain = 1440 AND dimension = '{dimension}' AND name = ?1)"
            ),
            format!("SELECT EXISTS (SELECT 1 FROM changes WHERE kind = '{dimension}' AND name = ?1)"),
        ] {
            if sqlx::query_scalar(AssertSqlSafe(sql)).bind(name).fetch_one(&self.reader).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the names of routes, pools or backends, configured ones first.
    pub(crate) async fn names(&self, dimension: Dimension) -> Result<Vec<String>> {
        let Some((table, column)) = dimension.resource() else { return Ok(Vec::new()) };
        let dimension = dimension.name();
        let sql = format!(
            "SELECT {column} FROM {table}
             UNION ALL
             SELECT DISTINCT name FROM sums WHERE grain = 1440 AND dimension = '{dimension}' AND name <> ''
                 AND name NOT IN (SELECT {column} FROM {table})
             LIMIT 1000"
        );
        Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&self.reader).await?)
    }

    /// Returns backend ids with their current or last URLs.
    pub(crate) async fn backend_urls(&self) -> Result<Vec<(String, String)>> {
        Ok(sqlx::query_as(
            "SELECT id, url FROM backends
             UNION ALL
             SELECT name, json_extract(before, '$.url') FROM changes
             WHERE kind = 'backend' AND after IS NULL AND before IS NOT NULL
                 AND name NOT IN (SELECT id FROM backends)",
        )
        .fetch_all(&self.reader)
        .await?)
    }
}

impl Traffic {
    /// Calls a function with the counts of each period of a range, with its label, if grouped by one, and its start, in
    /// any order. The database keeps reading meanwhile.
    pub(crate) async fn counts(
        &mut self,
        read: Read,
        filter: &Filter,
        by: GroupBy,
        mut take: impl FnMut(&str, i64, &StoredSum<'_>) -> Result<()>,
    ) -> Result<()> {
        let source = Source::new(filter, by);
        let width = source.periods_at_once() * read.grain;
        let steps = (read.from..read.to).step_by(usize::try_from(width).unwrap_or(1));
        let steps = serde_json::Value::from_iter(steps).to_string();
        let sql = format!(
            "SELECT (SELECT {} {}) FROM json_each(?1) AS step",
            packed::columns(source.status(), source.label(by)),
            source.rows(read.grain, "step.value", "min(step.value + ?2, ?3)")
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(steps).bind(width).bind(read.to);
        let mut found = source.bind(query).fetch(&mut *self.tx);
        while let Some(row) = found.try_next().await? {
            if let Some(packed) = row.try_get(0)? {
                packed::each(packed, &mut take)?;
            }
        }
        Ok(())
    }

    /// Returns only the number of requests by start, in any order.
    pub(crate) async fn requests(&mut self, read: Read, filter: &Filter) -> Result<Vec<(i64, i64)>> {
        let source = Source::new(filter, GroupBy::Start);
        let sql = format!(
            "SELECT json_group_array(json_array(start, requests))
             FROM (SELECT start, SUM(requests) AS requests {} GROUP BY start)",
            source.rows(read.grain, "?2", "?3")
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(None::<&str>).bind(read.from).bind(read.to);
        let found = source.bind(query).fetch_one(&mut *self.tx).await?;
        serde_json::from_str(found.try_get(0)?)
            .map_err(|error| StoreError::Broken("statistics row", error.to_string()))
    }

    /// Returns the sequence runs that are relevant for a range: those within it, and for each node the run before it
    /// and the run after it.
    pub(crate) async fn runs(&mut self, from_ms: i64, to_ms: i64) -> Result<Vec<Run>> {
        sqlx::query(
            "WITH around AS (
                 SELECT node, MAX(CASE WHEN through_ms < ?1 THEN through_ms END) AS before,
                     MIN(CASE WHEN from_ms >= ?2 THEN from_ms END) AS after
                 FROM batches_seen GROUP BY node)
             SELECT node, boot, first, last, from_ms, through_ms, left
             FROM batches_seen JOIN around USING (node)
             WHERE (from_ms < ?2 AND through_ms >= ?1) OR through_ms = before OR from_ms = after
             ORDER BY node, boot, first",
        )
        .bind(from_ms)
        .bind(to_ms)
        .fetch_all(&mut *self.tx)
        .await?
        .iter()
        .map(run)
        .collect()
    }

    /// Returns the time ranges within a range in which counts were lost.
    pub(crate) async fn lost(&mut self, from_ms: i64, to_ms: i64) -> Result<Vec<Lost>> {
        sqlx::query(
            "SELECT node, from_ms, through_ms FROM batches_lost WHERE from_ms < ?2 AND through_ms >= ?1",
        )
        .bind(from_ms)
        .bind(to_ms)
        .fetch_all(&mut *self.tx)
        .await?
        .iter()
        .map(|row| {
            let (node, from_ms) = (row.try_get(0)?, row.try_get(1)?);
            Ok(Lost { node, from_ms, through_ms: row.try_get(2)? })
        })
        .collect()
    }

    /// Returns the start of the retained finer grains.
    pub(crate) async fn kept(&mut self) -> Result<Kept> {
        let mut kept = Kept { minutes_from: 0, hours_from: 0 };
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT key, value FROM meta WHERE key IN ('minutes_from', 'hours_from')")
                .fetch_all(&mut *self.tx)
                .await?;
        for (key, value) in rows {
            match key.as_str() {
                "minutes_from" => kept.minutes_from = value,
                _ => kept.hours_from = value,
            }
        }
        Ok(kept)
    }
}

/// The table that a query reads.
enum Source {
    /// The sums of a dimension: those with these names, a JSON array, or all.
    Sums(Dimension, Option<String>),
    /// The rows of `traffic` with these labels.
    Rows(Vec<(Dimension, Vec<String>)>),
}

impl Source {
    fn new(filter: &Filter, by: GroupBy) -> Self {
        let rows = || Self::Rows(filter.labels.clone());
        match by {
            GroupBy::Start => match filter.sum() {
                Some((dimension, names)) => Self::Sums(dimension, Some(names)),
                None => rows(),
            },
            GroupBy::Label(dimension) if filter.is_empty() => Self::Sums(dimension, None),
            GroupBy::Label(_) => rows(),
        }
    }

    /// Periods read by one statement. With names given, each period has one row per name; otherwise it may have ten
    /// thousand.
    fn periods_at_once(&self) -> i64 {
        match self {
            Self::Sums(_, Some(_)) => 168,
            Self::Sums(_, None) | Self::Rows(_) => 4,
        }
    }

    /// Requests by status, as JSON.
    fn status(&self) -> &'static str {
        match self {
            Self::Sums(..) => "json(status)",
            Self::Rows(_) => "json_object(CAST(status AS TEXT), requests)",
        }
    }

    fn label(&self, by: GroupBy) -> &'static str {
        let GroupBy::Label(dimension) = by else { return "''" };
        match (self, dimension) {
            (Self::Sums(..), _) => "name",
            // Rows have no host; a report that combines both is rejected earlier.
            (_, Dimension::All | Dimension::Host) => "''",
            (_, Dimension::Status) => "CAST(status AS TEXT)",
            (_, label) => label.name(),
        }
    }

    /// `FROM` and `WHERE` clauses; [`bind`](Self::bind) binds the parameters from the fourth on.
    ///
    /// The index of the sums by name does not include minutes. The condition on the grain is therefore repeated: SQLite
    /// must see that the grain is a coarse one, otherwise it may choose to read all names. With a route filter, each
    /// period is looked up by route, so that the rows of other routes in between are not read.
    fn rows(&self, grain: i64, from: &str, to: &str) -> String {
        let within = format!("start >= {from} AND start < {to}");
        match self {
            Self::Sums(dimension, names) => {
                let named = "name IN (SELECT value FROM json_each(?4))";
                let (index, named) = match (names, dimension) {
                    (None, _) | (_, Dimension::All) => ("", "TRUE".to_owned()),
                    _ if grain > 1 => ("INDEXED BY sums_by_name", format!("grain > 1 AND {named}")),
                    _ => ("", named.to_owned()),
                };
                let dimension = dimension.name();
                format!(
                    "FROM sums {index} WHERE grain = {grain} AND dimension = '{dimension}' AND {within} AND {named}"
                )
            }
            Self::Rows(labels) => {
                let mut sought = within.clone();
                let mut others = String::new();
                for (parameter, (dimension, names)) in (4..).zip(labels) {
                    let column = dimension.name();
                    let named = match names.len() {
                        1 => format!("{column} = ?{parameter}"),
                        _ => format!("{column} IN (SELECT value FROM json_each(?{parameter}))"),
                    };
                    if *dimension == Dimension::Route {
                        sought = format!(
                            "{named} AND start IN (
                                 SELECT start FROM sums WHERE grain = {grain} AND dimension = 'all' AND {within})"
                        );
                    } else {
                        others.push_str(" AND ");
                        others.push_str(&named);
                    }
                }
                format!("FROM traffic WHERE grain = {grain} AND {sought}{others}")
            }
        }
    }

    fn bind<'a>(&'a self, query: Query<'a>) -> Query<'a> {
        match self {
            Self::Sums(_, names) => query.bind(names),
            Self::Rows(labels) => labels.iter().fold(query, |query, (_, names)| match &names[..] {
                [name] => query.bind(name),
                names => query.bind(json(names)),
            }),
        }
    }
}

type Query<'a> = sqlx::query::Query<'a, Sqlite, sqlx::sqlite::SqliteArguments>;
