//! Operations of the API: the declaration of each, and the Rust types of its parts.
//!
//! An [`Endpoint`] carries the types of its path, query, body and answer, so that the server's handler and the
//! client's call are checked by the compiler. Its [`Operation`] is the same declaration without type parameters, from
//! which the role table, the OpenAPI document and the reference page are made.

use std::marker::PhantomData;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Role,
    answer::{Answer, Response},
    body::{Body, RequestBody},
};

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

impl Method {
    /// Name in an HTTP request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Permission that a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// None: the call needs no token.
    Nothing,
    /// A token with this role or a higher one.
    Role(Role),
}

/// A group of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: &'static str,
    /// Its subject.
    pub description: &'static str,
}

/// Makes the schema of a type.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The declaration of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Its name, unique in the API, such as `listBackends`.
    pub id: &'static str,
    /// Its method.
    pub method: Method,
    /// Its path with parameters in braces, such as `/backends/{id}`.
    pub path: &'static str,
    /// Its group.
    pub tag: Tag,
    /// Its effect in one line; further lines are details.
    pub summary: &'static str,
    /// Permission that its caller needs.
    pub need: Need,
    /// Whether its answer has an `ETag`: it shows or changes what `If-Match` guards.
    pub has_etag: bool,
    /// Error statuses beside those that every operation has.
    pub errors: &'static [u16],
    /// The parameters in its path, as an object.
    pub path_parameters: SchemaOf,
    /// The parameters in its query, as an object.
    pub query: SchemaOf,
    /// Its body.
    pub body: fn(&mut SchemaGenerator) -> Option<RequestBody>,
    /// Its answers when it succeeds.
    pub answers: fn(&mut SchemaGenerator) -> Vec<Response>,
}

/// Errors that every operation can have.
pub const COMMON_ERRORS: [u16; 7] = [400, 401, 403, 421, 429, 500, 503];

impl Operation {
    /// Whether the operation changes data. `If-Match` guards all such operations.
    pub const fn is_change(&self) -> bool {
        !matches!(self.method, Method::Get)
    }
}

/// An operation with the types of its path parameters `P`, query `Q`, body `B` and answer `A`.
pub struct Endpoint<P, Q, B, A> {
    /// Its declaration.
    pub operation: Operation,
    types: PhantomData<fn(P, Q, B) -> A>,
}

const fn endpoint<P: JsonSchema, Q: JsonSchema, B: Body, A: Answer>(
    method: Method,
    path: &'static str,
    id: &'static str,
    tag: Tag,
    need: Need,
) -> Endpoint<P, Q, B, A> {
    Endpoint {
        operation: Operation {
            id,
            method,
            path,
            tag,
            summary: "",
            need,
            has_etag: false,
            errors: &[],
            path_parameters: P::json_schema,
            query: Q::json_schema,
            body: B::declare,
            answers: A::declare,
        },
        types: PhantomData,
    }
}

/// A `GET`.
pub(crate) const fn get<P: JsonSchema, Q: JsonSchema, A: Answer>(
    path: &'static str,
    id: &'static str,
    tag: Tag,
    need: Need,
) -> Endpoint<P, Q, (), A> {
    endpoint(Method::Get, path, id, tag, need)
}

/// A `POST`.
pub(crate) const fn post<P: JsonSchema, Q: JsonSchema, B: Body, A: Answer>(
    path: &'static str,
    id: &'static str,
    tag: Tag,
    need: Need,
) -> Endpoint<P, Q, B, A> {
    endpoint(Method::Post, path, id, tag, need)
}

/// A `PUT`.
pub(crate) const fn put<P: JsonSchema, Q: JsonSchema, B: Body, A: Answer>(
    path: &'static str,
    id: &'static str,
    tag: Tag,
    need: Need,
) -> Endpoint<P, Q, B, A> {
    endpoint(Method::Put, path, id, tag, need)
}

/// A `PATCH`.
pub(crate) const fn patch<P: JsonSchema, Q: JsonSchema, B: Body, A: Answer>(
    path: &'static str,
    id: &'static str,
    tag: Tag,
    need: Need,
) -> Endpoint<P, Q, B, A> {
    endpoint(Method::Patch, path, id, tag, need)
}

/// A `DELETE`.
pub(crate) const fn delete<P: JsonSchema, Q: JsonSchema, B: Body, A: Answer>(
    path: &'static str,
    id: &'static str,
    tag: Tag,
    need: Need,
) -> Endpoint<P, Q, B, A> {
    endpoint(Method::Delete, path, id, tag, need)
}

impl<P, Q, B, A> Endpoint<P, Q, B, A> {
    /// Its answer has an `ETag`.
    pub(crate) const fn etag(mut self) -> Self {
        self.operation.has_etag = true;
        self
    }

    /// Error statuses beside those that every operation has.
    pub(crate) const fn errors(mut self, errors: &'static [u16]) -> Self {
        self.operation.errors = errors;
        self
    }

    pub(crate) const fn summary(mut self, summary: &'static str) -> Self {
        self.operation.summary = summary;
        self
    }
}

/// ASCII characters to encode: all but those that RFC 3986 allows in path segments and query values.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

impl<P: Serialize, Q: Serialize, B, A> Endpoint<P, Q, B, A> {
    /// Path and query of a call.
    pub fn target(&self, path: &P, query: &Q) -> String {
        let mut target = String::new();
        let names = serde_json::to_value(path).unwrap_or_default();
        for segment in self.operation.path.split('/').skip(1) {
            target.push('/');
            match segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) {
                Some(name) => push_encoded(&mut target, &names[name]),
                None => target.push_str(segment),
            }
        }
        let mut separator = '?';
        let query = serde_json::to_value(query).unwrap_or_default();
        for (name, value) in query.as_object().into_iter().flatten() {
            let values = match value {
                Value::Array(values) => values.as_slice(),
                value => std::slice::from_ref(value),
            };
            for value in values.iter().filter(|value| !value.is_null()) {
                target.push(separator);
                target.push_str(name);
                target.push('=');
                push_encoded(&mut target, value);
                separator = '&';
            }
        }
        target
    }
}

fn push_encoded(target: &mut String, value: &Value) {
    match value {
        Value::String(text) => target.extend(utf8_percent_encode(text, ENCODED)),
        other => target.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use crate::{BackendQuery, ExplainQuery, Id, operations};

    #[test]
    fn a_call_s_target_has_its_parameters_encoded() {
        let path = Id { id: "a/b ü".into() };
        assert_eq!(operations::GET_NODE.target(&path, &()), "/nodes/a%2Fb%20%C3%BC");
        let query = BackendQuery { pool: Some("a&b".into()), limit: Some(7), ..BackendQuery::default() };
        assert_eq!(operations::LIST_BACKENDS.target(&(), &query), "/backends?limit=7&pool=a%26b");
        let query = ExplainQuery {
            url: "http://a/?x=1".into(),
            header: vec!["a: 1".into(), "b: 2".into()],
            ..ExplainQuery::default()
        };
        assert_eq!(
            operations::EXPLAIN.target(&(), &query),
            "/explain?header=a:%201&header=b:%202&url=http:%2F%2Fa%2F%3Fx%3D1"
        );
    }
}
