//! The audit log.

use weir_proto::v1;

use super::{failure::Answer, names::Named as _, page::page, values::time};
use crate::{
    app::{App, page::Paged},
    store::AuditEntry,
};

fn message(entry: AuditEntry) -> v1::AuditEntry {
    v1::AuditEntry {
        id: entry.id.unsigned_abs(),
        time: Some(time(entry.time_ms)),
        actor: entry.actor,
        role: v1::Role::of(&entry.role),
        source: entry.source,
        action: entry.action,
        outcome: v1::AuditOutcome::of(&entry.outcome),
        detail: entry.detail,
        revision: entry.revision.unwrap_or_default(),
        times: entry.times,
    }
}

pub(super) async fn list_audit_entries(
    app: &App,
    request: v1::ListAuditEntriesRequest,
) -> Answer<v1::ListAuditEntriesResponse> {
    let page = page("audit", &[], request.page_size, &request.page_token)?;
    let found = app.access().audit(page.after()?, page.read_size()).await?;
    let Paged { items, next } = page.of_read(found, |entry| entry.id.to_string());
    Ok(v1::ListAuditEntriesResponse {
        entries: items.into_iter().map(message).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}
