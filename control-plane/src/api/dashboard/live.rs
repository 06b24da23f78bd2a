//! `/ui/events`: a page's live part, sent again whenever it came out differently.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::Stream;
use serde::Deserialize;

use super::{
    Page, Trouble,
    asked::{Asked, query},
};
use crate::{
    access::{Role, trail},
    app::App,
};

/// How often a page is looked at again. Reports over long ranges are not, their hours do not change by the second.
const EVERY: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
pub(super) struct Of {
    page: Page,
    #[serde(flatten)]
    asked: Asked,
}

/// Where the stream of a page is.
pub(super) fn address(page: Page, asked: &Asked) -> String {
    let name = match page {
        Page::Overview => "overview",
        Page::Pools => "pools",
        Page::Routes => "routes",
        Page::Explain => "explain",
        Page::Nodes => "nodes",
        Page::Reports => "reports",
        Page::Tail => "tail",
        Page::Revisions => "revisions",
        Page::Audit => "audit",
    };
    format!("/ui/events?page={name}{}", query(asked))
}

pub(super) async fn events(
    State(app): State<App>,
    Query(of): Query<Of>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Trouble> {
    // One address for all pages, so what the gate lets through here is looked at by the page.
    let role = trail::caller().map_or(Role::Viewer, |caller| caller.role);
    if !of.page.is_for(role) {
        let says = format!("this page is not for role {role}");
        return Err(Trouble { status: StatusCode::FORBIDDEN, says });
    }
    let stream = futures_util::stream::unfold((app, of, String::new()), async |(app, of, before)| {
        loop {
            tokio::time::sleep(EVERY).await;
            // What cannot be shown now stays as it is; the page said so when it was loaded.
            let Ok(page) = of.page.live(&app, &of.asked).await else { continue };
            let page = page.into_string().replace('\r', "");
            if page != before {
                let event = Event::default().event("page").data(&page);
                return Some((Ok(event), (app, of, page)));
            }
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}
