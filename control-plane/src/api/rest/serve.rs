//! Serves declared operations: reads path, query and body of a call into the declared types, runs the handler under the
//! call's `If-Match`, and writes the response.

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRequestParts as _, Request, State},
    http::{HeaderMap, request::Parts},
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, on},
};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use weir_admin_api::{
    endpoint::{Endpoint, Method, Operation},
    parameters,
};

use super::{
    answer::Respond,
    body::ReadBody,
    extract::{Path, QueryReader},
    guard::Tag,
    problem::Refusal,
};
use crate::{
    access::trail::{self, Caller},
    api::access::author,
    app::{App, Author},
    stats::Stats,
};

/// A call, read into the types that its operation declares.
pub(super) struct Call<P, Q, B, S = App> {
    /// The use cases. Changes are rejected if `If-Match` names another revision than the current one.
    pub(super) app: S,
    pub(super) author: Author,
    pub(super) path: P,
    pub(super) query: Q,
    pub(super) body: B,
    /// The rest of the request's head.
    pub(super) head: Parts,
}

/// The use cases that handlers call.
pub(super) trait UseCases: Clone + Send + Sync + 'static {
    /// The same use cases, limited to changes of the revision that `If-Match` names.
    fn guarded(&self, headers: &HeaderMap) -> Result<Self, Refusal>;

    /// The current revision as an `ETag`.
    fn tag(&self) -> Option<Tag>;
}

impl UseCases for App {
    fn guarded(&self, headers: &HeaderMap) -> Result<Self, Refusal> {
        Ok(self.at(super::guard::expected(headers, self)?))
    }

    fn tag(&self) -> Option<Tag> {
        Some(Tag::of(self))
    }
}

impl UseCases for Stats {
    fn guarded(&self, _: &HeaderMap) -> Result<Self, Refusal> {
        Ok(self.clone())
    }

    fn tag(&self) -> Option<Tag> {
        None
    }
}

/// The operations that have a handler.
pub(super) struct Served<S> {
    router: Router<S>,
    operations: Vec<&'static Operation>,
}

impl<S: UseCases> Served<S> {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), operations: Vec::new() }
    }

    /// Serves an operation with a handler of the declared types.
    pub(super) fn serve<P, Q, B, A, H, F>(
        mut self,
        endpoint: &'static Endpoint<P, Q, B, A>,
        handler: H,
    ) -> Self
    where
        P: DeserializeOwned + Serialize + Send + Sync + 'static,
        Q: DeserializeOwned + JsonSchema + Send + 'static,
        B: ReadBody + 'static,
        A: Respond + 'static,
        H: Fn(Call<P, Q, B::Value, S>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<A::Given, Refusal>> + Send + 'static,
    {
        let operation = &endpoint.operation;
        let reader = Arc::new(QueryReader::new(parameters::of::<Q>()));
        let handle = move |State(app): State<S>, request: Request| {
            let (reader, handler) = (Arc::clone(&reader), handler.clone());
            async move {
                let answer = answer::<P, Q, B, A, S, F>(operation, &reader, handler, app, request).await;
                answer.unwrap_or_else(Refusal::into_response)
            }
        };
        let method = match operation.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Put => MethodFilter::PUT,
            Method::Patch => MethodFilter::PATCH,
            Method::Delete => MethodFilter::DELETE,
        };
        self.router = self.router.route(operation.path, on(method, handle));
        self.operations.push(operation);
        self
    }

    /// The router, and the operations that it serves.
    pub(super) fn finish(self) -> (Router<S>, Vec<&'static Operation>) {
        (self.router, self.operations)
    }
}

async fn answer<P, Q, B, A, S, F>(
    operation: &Operation,
    reader: &QueryReader,
    handler: impl FnOnce(Call<P, Q, B::Value, S>) -> F,
    app: S,
    request: Request,
) -> Result<Response, Refusal>
where
    P: DeserializeOwned + Serialize + Send + Sync,
    Q: DeserializeOwned,
    B: ReadBody,
    A: Respond,
    S: UseCases,
    F: Future<Output = Result<A::Given, Refusal>>,
{
    let (mut parts, body) = request.into_parts();
    let app = app.guarded(&parts.headers)?;
    // The tag must not be newer than the content of the response.
    let mut tag = app.tag();
    let Path(path) = Path::<P>::from_request_parts(&mut parts, &()).await?;
    let query = reader.read(&parts.uri)?;
    let body = B::read(&path, body).await?;
    let author = author(parts.extensions.get::<Caller>(), "rest");
    let uri = parts.uri.clone();
    let given = handler(Call { app, author, path, query, body, head: parts }).await?;
    if operation.is_change()
        && let Some(revision) = trail::made_revision()
    {
        tag = Some(Tag::revision(revision));
    }
    let answer = A::respond(given, uri.path());
    Ok(match tag.filter(|_| operation.has_etag) {
        Some(tag) => (tag, answer).into_response(),
        None => answer,
    })
}
