//! Pages of a list, for REST and gRPC alike.
//!
//! A page token names the last item of a page. It contains a digest of the list's name, its filters and that item. A
//! token that was altered, or that belongs to another list or filter, is rejected. The digest has no key: a client that
//! computes a token itself learns nothing that the list does not show. In return, tokens remain valid after a restart,
//! and every control plane that uses the same database accepts them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use weir_snapshot::Problem;

use super::AppError;
use crate::access::sha256;

/// Items on a page if the caller gives no size.
pub const DEFAULT_SIZE: usize = 100;

/// The most items on a page. A larger size is reduced to this one.
pub const MAX_SIZE: usize = 1000;

/// Bytes of the digest in a token.
const DIGEST: usize = 8;

/// The parameter that error messages name.
const PARAMETER: &str = "page_token";

/// The list and page that a caller requests.
#[derive(Debug, Clone)]
pub struct Page {
    /// The list's name and filters.
    list: Vec<String>,
    size: usize,
    after: Option<Place>,
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The index of the page's last item.
    index: usize,
    /// The key of that item, such as its id.
    key: String,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    /// The page's items.
    pub items: Vec<T>,
    /// The token of the next page; `None` on the last page.
    pub next: Option<String>,
}

impl<T> Paged<T> {
    /// The same page with other items.
    pub fn map<U>(self, map: impl FnMut(T) -> U) -> Paged<U> {
        Paged { items: self.items.into_iter().map(map).collect(), next: self.next }
    }
}

impl Page {
    /// Reads the caller's parameters. `list` is the list's name, `filters` the values of its filters in a fixed order.
    /// A `size` of 0 or `None` means [`DEFAULT_SIZE`]; an empty token means the first page.
    ///
    /// # Errors
    /// The token does not belong to this list with these filters.
    pub fn read(
        list: &str,
        filters: &[&str],
        size: Option<u32>,
        token: Option<&str>,
    ) -> Result<Self, AppError> {
        let size = size.filter(|size| *size > 0).map_or(DEFAULT_SIZE, |size| size as usize).min(MAX_SIZE);
        let list = [list].iter().chain(filters).map(|part| (*part).to_owned()).collect();
        let mut page = Self { list, size, after: None };
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            page.after = Some(page.place(token).ok_or_else(|| {
                let message = "is not a page token of this list with these filters; pass the token of the page before \
                               unchanged, or none for the first page";
                AppError::Invalid(Problem::new(PARAMETER, message).into())
            })?);
        }
        Ok(page)
    }

    /// The key of the previous page's last item, for a list that is read from the database.
    ///
    /// # Errors
    /// The key in the token does not have the list's key type.
    pub fn after<K: std::str::FromStr>(&self) -> Result<Option<K>, AppError> {
        let key = self.after.as_ref().map(|place| place.key.parse());
        key.transpose().map_err(|_| AppError::invalid(PARAMETER, "is not a page token of this list"))
    }

    /// The number of items to read from the database: one more than the page holds, to detect whether there is a next
    /// page.
    pub fn read_size(&self) -> u32 {
        u32::try_from(self.size + 1).unwrap_or(u32::MAX)
    }

    /// The page of a complete list. `key` identifies an item. If the item that a token names has been deleted, the page
    /// begins with the item at its index.
    pub fn of<T>(&self, items: Vec<T>, key: impl Fn(&T) -> String) -> Paged<T> {
        let begin = self.after.as_ref().map_or(0, |place| {
            let found = items.iter().position(|item| key(item) == place.key);
            found.map_or(place.index, |index| index + 1).min(items.len())
        });
        let rest = items.into_iter().skip(begin).collect();
        self.cut(begin, rest, key)
    }

    /// The page of a list that the database has read from the previous page's end, with at most
    /// [`read_size`](Self::read_size) items.
    pub fn of_read<T>(&self, items: Vec<T>, key: impl Fn(&T) -> String) -> Paged<T> {
        let begin = self.after.as_ref().map_or(0, |place| place.index + 1);
        self.cut(begin, items, key)
    }

    fn cut<T>(&self, begin: usize, mut items: Vec<T>, key: impl Fn(&T) -> String) -> Paged<T> {
        let has_more = items.len() > self.size;
        items.truncate(self.size);
        let last = items.last().filter(|_| has_more);
        let next = last.map(|last| self.token(&Place { index: begin + items.len() - 1, key: key(last) }));
        Paged { items, next }
    }

    fn digest(&self, place: &Place) -> [u8; DIGEST] {
        let parts = self.list.iter().map(String::as_bytes).chain([place.key.as_bytes()]);
        let mut text = place.index.to_be_bytes().to_vec();
        for part in parts {
            // The length prefix separates the parts, whatever bytes they contain.
            text.extend(part.len().to_be_bytes());
            text.extend(part);
        }
        let mut digest = [0; DIGEST];
        digest.copy_from_slice(&sha256(&text)[..DIGEST]);
        digest
    }

    fn token(&self, place: &Place) -> String {
        let text = format!("{}/{}", place.index, place.key);
        URL_SAFE_NO_PAD.encode([&self.digest(place)[..], text.as_bytes()].concat())
    }

    fn place(&self, token: &str) -> Option<Place> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (digest, text) = bytes.split_at_checked(DIGEST)?;
        let (index, key) = std::str::from_utf8(text).ok()?.split_once('/')?;
        let place = Place { index: index.parse().ok()?, key: key.to_owned() };
        (self.digest(&place) == digest).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(token: Option<&str>) -> Result<Page, AppError> {
        Page::read("backends", &["default"], Some(2), token)
    }

    fn of(page: &Page, items: &[&'static str]) -> Paged<&'static str> {
        page.of(items.to_vec(), |item| (*item).to_owned())
    }

    #[test]
    fn pages_cover_a_list_once_and_in_order() {
        let all = ["a", "b", "c", "d", "e"];
        let (mut seen, mut token, mut pages) = (Vec::new(), None, 0);
        loop {
            let Paged { items, next } = of(&page(token.as_deref()).unwrap(), &all);
            seen.extend(items);
            pages += 1;
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!((seen.as_slice(), pages), (&all[..], 3));
        assert_eq!(
            of(&page(None).unwrap(), &["a", "b"]).next,
            None,
            "a page that is exactly full is the last"
        );
    }

    #[test]
    fn items_that_come_and_go_move_no_page() {
        let token = of(&page(None).unwrap(), &["a", "b", "c", "d"]).next;
        let second = page(token.as_deref()).unwrap();
        assert_eq!(of(&second, &["new", "a", "b", "c"]).items, ["c"]);
        assert_eq!(of(&second, &["a", "c", "d"]).items, ["c", "d"], "the item that the token names is gone");
        assert_eq!(of(&second, &[]).items, [""; 0]);
    }

    #[test]
    fn a_list_from_the_database_is_read_one_further() {
        let first = page(None).unwrap();
        assert_eq!((first.read_size(), first.after::<u64>().unwrap()), (3, None));
        let token = first.of_read(vec![9_u64, 8, 7], u64::to_string).next.unwrap();
        let second = page(Some(&token)).unwrap();
        assert_eq!(second.after::<u64>().unwrap(), Some(8));
        assert_eq!(second.of_read(vec![7_u64], u64::to_string), Paged { items: vec![7], next: None });
    }

    #[test]
    fn a_forged_token_and_that_of_another_list_or_filter_are_rejected() {
        let token = of(&page(None).unwrap(), &["a", "b", "c"]).next.unwrap();
        assert!(page(Some(&token)).is_ok() && page(Some("")).is_ok());
        let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let altered = URL_SAFE_NO_PAD.encode(bytes);
        for forged in ["x", "1", "AAAA", "not base64!", &token[1..], altered.as_str()] {
            let error = page(Some(forged)).unwrap_err().to_string();
            assert!(error.starts_with("page_token: "), "{error}");
        }
        for (list, filters) in [
            ("pools", &["default"][..]),
            ("backends", &["other"]),
            ("backends", &[]),
            ("backendsdefault", &[]),
        ] {
            assert!(Page::read(list, filters, None, Some(&token)).is_err(), "{list} {filters:?}");
        }
    }

    #[test]
    fn sizes_have_a_default_and_a_bound() {
        let size = |size| Page::read("pools", &[], size, None).unwrap().read_size();
        assert_eq!([size(None), size(Some(0)), size(Some(7)), size(Some(u32::MAX))], [101, 101, 8, 1001]);
    }
}
