//! `page_size` and `page_token` (AIP-158).

use super::failure::invalid;
use crate::app::{AppError, page::Page};

/// Which page of `list` a caller wants; `filters` are the values of the list's filters.
pub(super) fn page(list: &str, filters: &[&str], page_size: i32, page_token: &str) -> Result<Page, AppError> {
    let size = u32::try_from(page_size).map_err(|_| invalid("page_size", "is negative"))?;
    Page::read(list, filters, Some(size), Some(page_token))
}
