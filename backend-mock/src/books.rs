//! The bookstore: create, read, replace, update and delete under `/books`.
//!
//! The list is serialized once after a change, because load tests read it all the time.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Shop, problem};

/// Limit on the number of books, so that a load test cannot fill the memory.
const MAX_BOOKS: usize = 100_000;
const MAX_TEXT: usize = 1_000;

#[derive(Debug, Clone, Serialize)]
struct Book {
    id: u64,
    #[serde(flatten)]
    content: Content,
}

/// A book as sent by a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Content {
    title: String,
    author: String,
    #[serde(default)]
    isbn: Option<String>,
    #[serde(default)]
    year: Option<i32>,
    #[serde(default)]
    price: Option<f64>,
}

/// The changes of a PATCH; absent fields stay.
#[derive(Debug, Deserialize)]
pub(crate) struct Patch {
    title: Option<String>,
    author: Option<String>,
    isbn: Option<String>,
    year: Option<i32>,
    price: Option<f64>,
}

#[derive(Debug, thiserror::Error)]
enum BookError {
    #[error("no book {0:?}")]
    Unknown(String),
    #[error("{field}: another book has {value:?}")]
    Duplicate { field: &'static str, value: String },
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    #[error("the store is full ({MAX_BOOKS} books)")]
    Full,
}

impl IntoResponse for BookError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Duplicate { .. } => StatusCode::CONFLICT,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
        };
        problem(status, &self.to_string())
    }
}

impl Content {
    fn check(&self) -> Result<(), BookError> {
        let mut mistakes = Vec::new();
        for (field, text) in [("title", &self.title), ("author", &self.author)] {
            if text.trim().is_empty() {
                mistakes.push(format!("{field}: must not be empty"));
            } else if text.len() > MAX_TEXT {
                mistakes.push(format!("{field}: longer than {MAX_TEXT} bytes"));
            }
        }
        if let Some(isbn) = &self.isbn {
            let is_isbn = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if isbn.is_empty() || isbn.len() > 32 || !isbn.chars().all(is_isbn) {
                mistakes.push(format!("isbn: {isbn:?} is not 1 to 32 digits, letters and hyphens"));
            }
        }
        if self.price.is_some_and(|price| price < 0.0) {
            mistakes.push("price: must not be negative".to_owned());
        }
        if mistakes.is_empty() { Ok(()) } else { Err(BookError::Invalid(mistakes)) }
    }
}

/// All books.
pub(crate) struct Books(RwLock<Shelf>);

#[derive(Default)]
struct Shelf {
    books: BTreeMap<u64, Book>,
    ids_by_title: BTreeMap<String, u64>,
    ids_by_isbn: BTreeMap<String, u64>,
    last_id: u64,
    /// The list as JSON; `None` after a change.
    list: Option<Bytes>,
}

impl Books {
    /// Creates a few books.
    pub(crate) fn seeded() -> Self {
        let mut shelf = Shelf::default();
        for (title, author, isbn, year, price) in [
            (
                "The Rust Programming Language",
                "Steve Klabnik and Carol Nichols",
                "978-1718503106",
                2023,
                39.99,
            ),
            ("Designing Data-Intensive Applications", "Martin Kleppmann", "978-1449373320", 2017, 49.99),
            ("Site Reliability Engineering", "Betsy Beyer and others", "978-1491929124", 2016, 44.99),
            ("Release It!", "Michael T. Nygard", "978-1680502398", 2018, 47.95),
            ("The Art of Computer Programming, Volume 1", "Donald E. Knuth", "978-0201896831", 1997, 79.99),
        ] {
            let content = Content {
                title: title.to_owned(),
                author: author.to_owned(),
                isbn: Some(isbn.to_owned()),
                year: Some(year),
                price: Some(price),
            };
            // None of these is invalid or a duplicate.
            let _ = shelf.create(content);
        }
        Self(RwLock::new(shelf))
    }

    fn read<T>(&self, f: impl FnOnce(&Shelf) -> T) -> T {
        f(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut Shelf) -> T) -> T {
        f(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shelf {
    fn find(&self, id: &str) -> Result<&Book, BookError> {
        let found = id.parse().ok().and_then(|id: u64| self.books.get(&id));
        found.ok_or_else(|| BookError::Unknown(id.to_owned()))
    }

    fn create(&mut self, content: Content) -> Result<Book, BookError> {
        if self.books.len() >= MAX_BOOKS {
            return Err(BookError::Full);
        }
        let id = self.last_id + 1;
        let book = self.put(id, content)?;
        self.last_id = id;
        Ok(book)
    }

    /// Replaces the book with this id, if it exists.
    fn put(&mut self, id: u64, content: Content) -> Result<Book, BookError> {
        content.check()?;
        let taken =
            |ids: &BTreeMap<String, u64>, value: &str| ids.get(value).is_some_and(|other| *other != id);
        if taken(&self.ids_by_title, &content.title) {
            return Err(BookError::Duplicate { field: "title", value: content.title });
        }
        if let Some(isbn) = content.isbn.clone().filter(|isbn| taken(&self.ids_by_isbn, isbn)) {
            return Err(BookError::Duplicate { field: "isbn", value: isbn });
        }
        self.remove(id);
        self.ids_by_title.insert(content.title.clone(), id);
        if let Some(isbn) = &content.isbn {
            self.ids_by_isbn.insert(isbn.clone(), id);
        }
        let book = Book { id, content };
        self.books.insert(id, book.clone());
        self.list = None;
        Ok(book)
    }

    fn remove(&mut self, id: u64) {
        if let Some(Book { content, .. }) = self.books.remove(&id) {
            self.ids_by_title.remove(&content.title);
            if let Some(isbn) = &content.isbn {
                self.ids_by_isbn.remove(isbn);
            }
            self.list = None;
        }
    }
}

type Body<T> = Result<Json<T>, JsonRejection>;

fn rejected(rejection: &JsonRejection) -> Response {
    problem(rejection.status(), &rejection.body_text())
}

pub(crate) async fn list(State(shop): State<Arc<Shop>>) -> Response {
    let list = match shop.books.read(|shelf| shelf.list.clone()) {
        Some(list) => list,
        None => shop.books.write(|shelf| {
            let books: Vec<&Book> = shelf.books.values().collect();
            let list = Bytes::from(json!({ "items": books }).to_string());
            shelf.list.insert(list).clone()
        }),
    };
    ([(header::CONTENT_TYPE, "application/json")], list).into_response()
}

pub(crate) async fn read(State(shop): State<Arc<Shop>>, Path(id): Path<String>) -> Response {
    match shop.books.read(|shelf| shelf.find(&id).cloned()) {
        Ok(book) => Json(book).into_response(),
        Err(error) => error.into_response(),
    }
}

pub(crate) async fn create(State(shop): State<Arc<Shop>>, body: Body<Content>) -> Response {
    let content = match body {
        Ok(Json(content)) => content,
        Err(rejection) => return rejected(&rejection),
    };
    match shop.books.write(|shelf| shelf.create(content)) {
        Ok(book) => {
            let location = (header::LOCATION, format!("/books/{}", book.id));
            (StatusCode::CREATED, [location], Json(book)).into_response()
        }
        Err(error) => error.into_response(),
    }
}

pub(crate) async fn replace(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<String>,
    body: Body<Content>,
) -> Response {
    let content = match body {
        Ok(Json(content)) => content,
        Err(rejection) => return rejected(&rejection),
    };
    let replaced = shop.books.write(|shelf| {
        let id = shelf.find(&id)?.id;
        shelf.put(id, content)
    });
    match replaced {
        Ok(book) => Json(book).into_response(),
        Err(error) => error.into_response(),
    }
}

pub(crate) async fn update(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<String>,
    body: Body<Patch>,
) -> Response {
    let patch = match body {
        Ok(Json(patch)) => patch,
        Err(rejection) => return rejected(&rejection),
    };
    let updated = shop.books.write(|shelf| {
        let Book { id, content } = shelf.find(&id)?.clone();
        let content = Content {
            title: patch.title.unwrap_or(content.title),
            author: patch.author.unwrap_or(content.author),
            isbn: patch.isbn.or(content.isbn),
            year: patch.year.or(content.year),
            price: patch.price.or(content.price),
        };
        shelf.put(id, content)
    });
    match updated {
        Ok(book) => Json(book).into_response(),
        Err(error) => error.into_response(),
    }
}

pub(crate) async fn delete(State(shop): State<Arc<Shop>>, Path(id): Path<String>) -> Response {
    let deleted = shop.books.write(|shelf| {
        let id = shelf.find(&id)?.id;
        shelf.remove(id);
        Ok::<_, BookError>(())
    });
    match deleted {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}
