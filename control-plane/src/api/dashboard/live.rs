//! `/ui/events`: sends a page's live part again whenever its HTML has changed.
//!
//! A page is rendered once for all its watchers, and compared by hash. The event is stored once; each watcher copies
//! small pieces of it. A watcher is disconnected if the rendering that it reads has been replaced several times; its
//! browser then reconnects. So a watcher costs little memory, however slow it is.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use tokio::{sync::watch, time::sleep};

use super::{
    Page, Trouble,
    page_query::{PageQuery, encode},
};
use crate::{
    access::{Role, trail},
    app::App,
};

/// How often a page is rendered again. Reports over long ranges are not: their hours do not change within seconds.
const EVERY: Duration = Duration::from_secs(2);
/// Size above which a page is rendered less often, in proportion to its size, so that a watcher has time to read it.
const LARGE: usize = 1 << 20;
/// Renderings of a page that are kept for watchers that still read them.
const KEPT: usize = 3;
/// Bytes of a rendering that are sent at once.
const PIECE: usize = 64 << 10;
/// Interval of keep-alive messages while nothing changes, so that clients and proxies do not close the stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The pages that have watchers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Live(Arc<Mutex<Pages>>);

/// Keyed by page and query.
type Pages = HashMap<(Page, String), Weak<Watched>>;

/// A page with watchers. It is rendered for as long as this value exists.
#[derive(Debug)]
struct Watched {
    latest: watch::Receiver<Option<Arc<Rendering>>>,
}

/// A page's live part as an event.
#[derive(Debug)]
struct Rendering {
    hash: u64,
    event: Vec<u8>,
}

#[derive(Deserialize)]
pub(super) struct Of {
    page: Page,
    #[serde(flatten)]
    params: PageQuery,
}

/// The URL of a page's stream.
pub(super) fn address(page: Page, params: &PageQuery) -> String {
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
    format!("/ui/events?page={name}{}", encode(params))
}

pub(super) async fn events(
    State(app): State<App>,
    Extension(live): Extension<Live>,
    Query(of): Query<Of>,
) -> Result<Response, Trouble> {
    // All pages share this one address, so the gate cannot tell them apart: the role is checked here, per page.
    let role = trail::caller().map_or(Role::Viewer, |caller| caller.role);
    if !of.page.is_for(role) {
        let says = format!("this page is not for role {role}");
        return Err(Trouble { status: StatusCode::FORBIDDEN, says });
    }
    let watched = live.watch(app, of.page, of.params);
    let watcher = Watcher { latest: watched.latest.clone(), _watched: watched, seen: None, reading: None };
    let stream = futures_util::stream::unfold(watcher, async |mut watcher| {
        let piece = watcher.next().await?;
        Some((piece, watcher))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(stream)).into_response())
}

impl Live {
    fn watch(&self, app: App, page: Page, params: PageQuery) -> Arc<Watched> {
        // These pages do not depend on the query, so all watchers share one rendering.
        let params = match page {
            Page::Explain | Page::Reports | Page::Revisions | Page::Audit => params,
            Page::Overview | Page::Pools | Page::Routes | Page::Nodes | Page::Tail => PageQuery::default(),
        };
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (page, encode(&params));
        if let Some(watched) = pages.get(&key).and_then(Weak::upgrade) {
            return watched;
        }
        pages.retain(|_, watched| watched.strong_count() > 0);
        let (send, latest) = watch::channel(None);
        let watched = Arc::new(Watched { latest });
        pages.insert(key, Arc::downgrade(&watched));
        tokio::spawn(render(app, page, params, Arc::downgrade(&watched), send));
        watched
    }
}

/// Renders a page repeatedly until it has no watchers.
async fn render(
    app: App,
    page: Page,
    params: PageQuery,
    watched: Weak<Watched>,
    send: watch::Sender<Option<Arc<Rendering>>>,
) {
    let mut kept: VecDeque<Arc<Rendering>> = VecDeque::with_capacity(KEPT);
    let mut every = EVERY;
    loop {
        sleep(every).await;
        if watched.strong_count() == 0 {
            return;
        }
        // On an error the page keeps its last content; the error was shown when the page was loaded.
        let Ok(live) = page.live(&app, &params).await else { continue };
        let rendering = Rendering::new(&live.into_string());
        every = EVERY * u32::try_from(1 + rendering.event.len() / LARGE).unwrap_or(u32::MAX);
        if kept.back().is_some_and(|last| last.hash == rendering.hash) {
            continue;
        }
        let rendering = Arc::new(rendering);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&rendering));
        send.send_replace(Some(rendering));
    }
}

impl Rendering {
    fn new(page: &str) -> Self {
        let mut event = Vec::with_capacity(page.len() + page.len() / 8);
        event.extend_from_slice(b"event: page\n");
        for line in page.split('\n') {
            event.extend_from_slice(b"data: ");
            event.extend(line.bytes().filter(|byte| *byte != b'\r'));
            event.push(b'\n');
        }
        event.push(b'\n');
        let mut hasher = DefaultHasher::new();
        event.hash(&mut hasher);
        Self { hash: hasher.finish(), event }
    }
}

/// One client that watches a page.
struct Watcher {
    latest: watch::Receiver<Option<Arc<Rendering>>>,
    _watched: Arc<Watched>,
    /// The hash of the rendering that was sent last.
    seen: Option<u64>,
    /// The rendering being sent, and how many of its bytes have been sent.
    reading: Option<(Weak<Rendering>, usize)>,
}

impl Watcher {
    /// The next piece of the stream; `None` if the stream has ended.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some((rendering, sent)) = self.reading.take() {
                let Some(rendering) = rendering.upgrade() else {
                    // Ends with an error, so that the browser does not take a partial event for a complete one.
                    return Some(Err(io::Error::new(io::ErrorKind::TimedOut, "too slow for this page")));
                };
                let end = rendering.event.len().min(sent + PIECE);
                let piece = Bytes::copy_from_slice(&rendering.event[sent..end]);
                if end < rendering.event.len() {
                    self.reading = Some((Arc::downgrade(&rendering), end));
                }
                return Some(Ok(piece));
            }
            let latest = self.latest.borrow_and_update().clone();
            if let Some(rendering) = latest.filter(|latest| self.seen != Some(latest.hash)) {
                self.seen = Some(rendering.hash);
                self.reading = Some((Arc::downgrade(&rendering), 0));
                continue;
            }
            tokio::select! {
                changed = self.latest.changed() => changed.ok()?,
                () = sleep(KEEP_ALIVE) => return Some(Ok(Bytes::from_static(b":\n\n"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher(latest: &watch::Sender<Option<Arc<Rendering>>>) -> Watcher {
        let latest = latest.subscribe();
        Watcher { latest: latest.clone(), _watched: Arc::new(Watched { latest }), seen: None, reading: None }
    }

    #[tokio::test]
    async fn an_event_is_sent_whole_and_once_until_it_differs() {
        let (send, _) = watch::channel(None);
        let mut watcher = watcher(&send);
        let page = "a\r\nb".to_owned() + &"x".repeat(2 * PIECE);
        let rendering = Arc::new(Rendering::new(&page));
        send.send_replace(Some(Arc::clone(&rendering)));
        let mut got = Vec::new();
        while got.len() < rendering.event.len() {
            got.extend(watcher.next().await.unwrap().unwrap());
        }
        assert!(got.starts_with(b"event: page\ndata: a\ndata: bxx") && got.ends_with(b"x\n\n"));
        send.send_replace(Some(Arc::new(Rendering::new(&page))));
        tokio::time::pause();
        assert_eq!(watcher.next().await.unwrap().unwrap(), ":\n\n", "the same is not sent again");
    }

    #[tokio::test]
    async fn a_slow_watcher_holds_no_rendering_and_is_cut_off_once_it_is_gone() {
        let (send, _) = watch::channel(None);
        let mut watcher = watcher(&send);
        let rendering = Arc::new(Rendering::new(&"x".repeat(3 * PIECE)));
        let held = Arc::downgrade(&rendering);
        send.send_replace(Some(rendering));
        watcher.next().await.unwrap().unwrap();
        send.send_replace(Some(Arc::new(Rendering::new("y"))));
        assert_eq!(held.strong_count(), 0);
        watcher.next().await.unwrap().unwrap_err();
    }
}
