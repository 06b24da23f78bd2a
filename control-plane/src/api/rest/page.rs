//! Returns lists whole or page by page.

use weir_admin_api::List;
use weir_snapshot::Problem;

use super::problem::Refusal;
use crate::app::page::{Page, Paged};

/// `limit` and `page_token` of a list.
pub(super) struct Wanted<'a> {
    pub(super) limit: Option<u32>,
    pub(super) page_token: Option<&'a str>,
}

impl Wanted<'_> {
    /// The whole list, or one page if the caller asks for one. A page token is valid only for the same `list` and
    /// `filters`.
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
        // An absent filter differs from an empty one.
        let filters: Vec<String> = filters.iter().map(|filter| format!("{filter:?}")).collect();
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        Ok(list_of(Page::read(list, &filters, self.limit, self.page_token)?.of(items, key)))
    }
}

pub(super) fn list_of<T>(Paged { items, next }: Paged<T>) -> List<T> {
    List { items, next_page_token: next }
}

/// Rejects a page token together with the older parameter: both set the start of the page.
pub(super) fn one_of(older: (&str, bool), page_token: Option<&str>) -> Result<(), Refusal> {
    let (name, is_given) = older;
    if is_given && page_token.is_some_and(|token| !token.is_empty()) {
        let message = format!("not together with {name}");
        return Err(Refusal::bad_request(Problem::new("page_token", message).into()));
    }
    Ok(())
}
