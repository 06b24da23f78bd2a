//! Writes the kinds of responses that operations declare.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Serialize;
use weir_admin_api::{
    Applied, Format, TailEvent,
    answer::{
        self, Answer, ConfigFileText, Created, Events, Metrics, OpenApi, Reported, RolledOut, Saved,
        SchemaDocument, Text,
    },
};

use super::report_csv::Csv;

/// A response that is written from the return value of a handler.
pub(super) trait Respond: Answer {
    /// The handler's return type.
    type Given: Send;

    /// Writes the response to a call of this path.
    fn respond(given: Self::Given, path: &str) -> Response;
}

/// A created resource.
pub(super) struct New<T> {
    /// The path of the resource.
    pub(super) location: String,
    pub(super) value: T,
}

impl<T> New<T> {
    /// The resource is in the list at `list`, under this key.
    pub(super) fn in_list(list: &str, key: &str, value: T) -> Self {
        const SEGMENT: &AsciiSet =
            &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@').remove(b':');
        Self { location: format!("{list}/{}", utf8_percent_encode(key, SEGMENT)), value }
    }
}

/// A resource that was created or replaced by a `PUT` to its own path.
pub(super) struct Put<T> {
    pub(super) is_new: bool,
    pub(super) value: T,
}

impl<T: Serialize + JsonSchema + Send> Respond for answer::Json<T> {
    type Given = T;

    fn respond(given: T, _: &str) -> Response {
        Json(given).into_response()
    }
}

impl<T: Serialize + JsonSchema + Send> Respond for Created<T> {
    type Given = New<T>;

    fn respond(New { location, value }: New<T>, _: &str) -> Response {
        // A new token is shown in no other response, and must not be cached.
        let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())];
        (StatusCode::CREATED, headers, Json(value)).into_response()
    }
}

impl<T: Serialize + JsonSchema + Send> Respond for Saved<T> {
    type Given = Put<T>;

    fn respond(Put { is_new, value }: Put<T>, path: &str) -> Response {
        if is_new {
            return (StatusCode::CREATED, [(header::LOCATION, path)], Json(value)).into_response();
        }
        Json(value).into_response()
    }
}

impl Respond for RolledOut {
    type Given = Applied;

    fn respond(applied: Applied, _: &str) -> Response {
        let status = if applied.active == Some(false) { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::OK };
        (status, Json(applied)).into_response()
    }
}

impl<T: Csv + Serialize + JsonSchema + Send> Respond for Reported<T> {
    type Given = (T, Format);

    fn respond((report, format): (T, Format), _: &str) -> Response {
        match format {
            Format::Csv => {
                ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], report.csv()).into_response()
            }
            Format::Json => {
                // A year of hours is several megabytes, so the buffer is reserved once.
                let mut text = Vec::with_capacity(report.json_bytes());
                match serde_json::to_writer(&mut text, &report) {
                    Ok(()) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
                    Err(_) => Json(report).into_response(),
                }
            }
        }
    }
}

/// Responses that their handlers write themselves.
macro_rules! written_by_handler {
    ($($kind:ty),*) => {
        $(
            impl Respond for $kind {
                type Given = Response;

                fn respond(given: Response, _: &str) -> Response {
                    given
                }
            }
        )*
    };
}

written_by_handler!(Text, Metrics, ConfigFileText, OpenApi, SchemaDocument, Events<TailEvent>);
