//! Lists as a whole or page by page, and their filters by pool and route.

use weir_admin_api::List;
use weir_snapshot::{Config, Problem, config::Route, nearest};

use super::problem::Refusal;
use crate::app::page::{Page, Paged};

/// `limit` and `page_token` of a list.
pub(super) struct Wanted<'a> {
    pub(super) limit: Option<u32>,
    pub(super) page_token: Option<&'a str>,
}

impl Wanted<'_> {
    /// The whole list, or a page of it where one is asked for. `list` and `filters` are what a page token belongs to.
    pub(super) fn of<T>(
        self,
        list: &str,
        filters: &[Option<&str>],
        items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<List<T>, Refusal> {
        if self.limit.is_none() && self.page_token.is_none() {
            return Ok(List::whole(items));
        }
        // A filter that is absent is another one than an empty one.
        let filters: Vec<String> = filters.iter().map(|filter| format!("{filter:?}")).collect();
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        Ok(list_of(Page::read(list, &filters, self.limit, self.page_token)?.of(items, key)))
    }
}

pub(super) fn list_of<T>(Paged { items, next }: Paged<T>) -> List<T> {
    List { items, next_page_token: next }
}

/// The pools that a route can send requests to.
pub(super) fn pools_of(route: &Route) -> impl Iterator<Item = &str> {
    let split = route.split.iter().map(|share| share.pool.as_str());
    let fallback = route.fallback.iter().filter_map(|fallback| fallback.pool.as_deref());
    [route.pool.as_str()].into_iter().chain(split).chain(fallback).filter(|name| !name.is_empty())
}

/// The route that `?route=` names.
pub(super) fn route<'a>(config: &'a Config, name: &str) -> Result<&'a Route, Refusal> {
    let found = config.routes.iter().find(|route| route.name == name);
    found.ok_or_else(|| unknown("route", name, config.routes.iter().map(|route| route.name.as_str())))
}

/// Checks that there is the pool that `?pool=` names.
pub(super) fn check_pool(config: &Config, name: &str) -> Result<(), Refusal> {
    if config.pools.iter().any(|pool| pool.name == name) {
        return Ok(());
    }
    Err(unknown("pool", name, config.pools.iter().map(|pool| pool.name.as_str())))
}

fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Refusal {
    let hint = nearest(name, known).map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    Refusal::bad_request(Problem::new(kind, format!("there is no {kind} {name:?}{hint}")).into())
}

/// A page token continues a list, and so does the older parameter: which of two is meant cannot be told.
pub(super) fn one_of(older: (&str, bool), page_token: Option<&str>) -> Result<(), Refusal> {
    let (name, is_given) = older;
    if is_given && page_token.is_some_and(|token| !token.is_empty()) {
        let message = format!("not together with {name}");
        return Err(Refusal::bad_request(Problem::new("page_token", message).into()));
    }
    Ok(())
}
