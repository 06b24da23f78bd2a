//! `/ui/events`: a page's live part, sent again whenever it came out differently.
//!
//! A page is rendered once for all who watch it, and compared by its hash. The event is kept once; each watcher takes copies of small
//! pieces of it. A watcher who is so slow that the rendering it reads has been replaced several times is cut off, and its
//! browser connects again. So watchers cost little memory, whatever they do.

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
    asked::{Asked, query},
};
use crate::{
    access::{Role, trail},
    app::App,
};

/// How often a page is looked at again. Reports over long ranges are not, their hours do not change by the second.
const EVERY: Duration = Duration::from_secs(2);
/// A larger page is looked at less often in proportion, so that a watcher has the time to read it.
const LARGE: usize = 1 << 20;
/// Renderings of a page that are kept for those who still read them.
const KEPT: usize = 3;
/// How much of a rendering is handed on at once.
const PIECE: usize = 64 << 10;
/// How often something is sent although nothing has changed, so that nobody takes the stream for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The pages that are watched. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Live(Arc<Mutex<Pages>>);

/// By page and query.
type Pages = HashMap<(Page, String), Weak<Watched>>;

/// A page that is watched: it is rendered as long as this lives.
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
    Extension(live): Extension<Live>,
    Query(of): Query<Of>,
) -> Result<Response, Trouble> {
    // One address for all pages, so what the gate lets through here is looked at by the page.
    let role = trail::caller().map_or(Role::Viewer, |caller| caller.role);
    if !of.page.is_for(role) {
        let says = format!("this page is not for role {role}");
        return Err(Trouble { status: StatusCode::FORBIDDEN, says });
    }
    let watched = live.watch(app, of.page, of.asked);
    let watcher = Watcher { latest: watched.latest.clone(), _watched: watched, seen: None, reading: None };
    let stream = futures_util::stream::unfold(watcher, async |mut watcher| {
        let piece = watcher.next().await?;
        Some((piece, watcher))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(stream)).into_response())
}

impl Live {
    fn watch(&self, app: App, page: Page, asked: Asked) -> Arc<Watched> {
        // Whatever else a query says, these pages are the same for everyone.
        let asked = match page {
            Page::Explain | Page::Reports | Page::Revisions | Page::Audit => asked,
            Page::Overview | Page::Pools | Page::Routes | Page::Nodes | Page::Tail => Asked::default(),
        };
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (page, query(&asked));
        if let Some(watched) = pages.get(&key).and_then(Weak::upgrade) {
            return watched;
        }
        pages.retain(|_, watched| watched.strong_count() > 0);
        let (send, latest) = watch::channel(None);
        let watched = Arc::new(Watched { latest });
        pages.insert(key, Arc::downgrade(&watched));
        tokio::spawn(render(app, page, asked, Arc::downgrade(&watched), send));
        watched
    }
}

/// Renders a page again and again, until nobody watches it.
async fn render(
    app: App,
    page: Page,
    asked: Asked,
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
        // What cannot be shown now stays as it is; the page said so when it was loaded.
        let Ok(live) = page.live(&app, &asked).await else { continue };
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

/// One who watches.
struct Watcher {
    latest: watch::Receiver<Option<Arc<Rendering>>>,
    _watched: Arc<Watched>,
    /// The hash of what it was sent last.
    seen: Option<u64>,
    /// What it is being sent, and how much of that it has.
    reading: Option<(Weak<Rendering>, usize)>,
}

impl Watcher {
    /// The next piece of its stream; `None`: the stream has ended.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some((rendering, sent)) = self.reading.take() {
                let Some(rendering) = rendering.upgrade() else {
                    // Cut, so that the browser does not take half an event for a whole one.
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
