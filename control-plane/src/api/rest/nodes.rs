//! `/nodes`: list nodes, revoke or allow them, include or exclude their counts.

use weir_admin_api::{AllowedNode, Id, List, ListQuery, Node, NodeCounting, RevokedNode};

use super::{page::Wanted, problem::Refusal, serve::Call};
use crate::{
    access::nodes::Allowed,
    app::{App, AppError, Author},
    time::rfc3339,
};

pub(super) async fn list(call: Call<(), ListQuery, ()>) -> Result<List<Node>, Refusal> {
    let ListQuery { limit, page_token } = call.query;
    let wanted = Wanted { limit, page_token: page_token.as_deref() };
    wanted.of("nodes", &[], call.app.nodes(), |node| node.id.clone())
}

pub(super) async fn get(call: Call<Id, (), ()>) -> Result<Node, Refusal> {
    let Id { id } = call.path;
    let found = call.app.nodes().into_iter().find(|node| node.id == id);
    Ok(found.ok_or_else(|| AppError::not_found("node", &id))?)
}

pub(super) async fn revoke(call: Call<Id, (), ()>) -> Result<RevokedNode, Refusal> {
    let Id { id } = call.path;
    call.app.access().nodes().revoke(&id, &call.author.actor).await.map_err(AppError::from)?;
    let known = call.app.knows_node(&id);
    Ok(RevokedNode { id, revoked: true, known })
}

pub(super) async fn allow(call: Call<Id, (), ()>) -> Result<AllowedNode, Refusal> {
    let Id { id } = call.path;
    let permit_expires = match call.app.allow_node(&id, &call.author.actor).await? {
        Allowed::Rejoin => None,
        Allowed::Beside(until) => Some(rfc3339(until)),
    };
    Ok(AllowedNode { id, revoked: false, permit_expires })
}

pub(super) async fn exclude(call: Call<Id, (), ()>) -> Result<NodeCounting, Refusal> {
    count(&call.app, &call.author, call.path.id, true).await
}

pub(super) async fn include(call: Call<Id, (), ()>) -> Result<NodeCounting, Refusal> {
    count(&call.app, &call.author, call.path.id, false).await
}

async fn count(app: &App, author: &Author, id: String, excluded: bool) -> Result<NodeCounting, Refusal> {
    app.exclude_node(&id, excluded, &author.actor).await?;
    Ok(NodeCounting { id, excluded })
}
