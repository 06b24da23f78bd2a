//! Revisions, and rollback.

use weir_proto::v1;
use weir_snapshot::diff::{Difference, describe_all};

use super::{
    config::{applied, difference, waits},
    failure::Answer,
    page::page,
    values::time,
};
use crate::{
    app::{App, Author, page::Paged},
    store::Revision,
};

fn message(revision: Revision) -> v1::Revision {
    v1::Revision {
        revision: revision.revision,
        create_time: Some(time(revision.time_ms)),
        changes: describe_all(&revision.changes),
        actor: revision.actor,
        source: revision.source,
        differences: Vec::new(),
    }
}

pub(super) async fn list_revisions(
    app: &App,
    request: v1::ListRevisionsRequest,
) -> Answer<v1::ListRevisionsResponse> {
    let page = page("revisions", &[], request.page_size, &request.page_token)?;
    let found = app.revisions(page.after()?, page.read_size()).await?;
    let Paged { items, next } = page.of_read(found, |revision| revision.revision.to_string());
    Ok(v1::ListRevisionsResponse {
        revisions: items.into_iter().map(message).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

pub(super) async fn get_revision(app: &App, request: v1::GetRevisionRequest) -> Answer<v1::Revision> {
    let found = app.revision(request.revision).await?;
    let differences = found.changes.iter().map(|change| difference(Difference::of(change))).collect();
    Ok(v1::Revision { differences, ..message(found) })
}

pub(super) async fn rollback(
    app: &App,
    author: &Author,
    request: v1::RollbackRequest,
) -> Answer<v1::AppliedConfig> {
    let wait = waits(request.wait)?;
    applied(app.rollback(author, request.revision, wait).await?)
}
