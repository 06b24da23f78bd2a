//! Tasks for HTTP/2's streams, used again and again.
//!
//! A stream's future is some kilobytes large. To spawn one for each request would move it several times and give its
//! memory back each time; so a task takes one stream after the other, and waits among the idle ones in between.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use h2::{RecvStream, server::SendResponse};
use http::Request;

use super::http2::{OpenStream, stream};

/// How many tasks without work a worker keeps.
const KEEP: usize = 64;

/// A request of a stream and what to answer it with.
pub(super) struct Work {
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<bytes::Bytes>,
    pub(super) open: OpenStream,
}

/// A task's door.
#[derive(Default)]
struct StreamTask {
    work: RefCell<Option<Work>>,
    waker: RefCell<Option<Waker>>,
}

impl StreamTask {
    fn give(&self, work: Work) {
        *self.work.borrow_mut() = Some(work);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn poll_take(&self, cx: &Context<'_>) -> Poll<Work> {
        if let Some(work) = self.work.borrow_mut().take() {
            return Poll::Ready(work);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

thread_local! {
    /// This worker's tasks that have no work.
    static IDLE: RefCell<Vec<Rc<StreamTask>>> = const { RefCell::new(Vec::new()) };
}

/// Has a task serve the stream.
pub(super) fn serve(work: Work) {
    let idle = IDLE.with_borrow_mut(Vec::pop);
    if let Some(task) = idle {
        return task.give(work);
    }
    let task = Rc::<StreamTask>::default();
    task.give(work);
    // In a box: spawning moves what it is given several times.
    tokio::task::spawn_local(Box::pin(run(task)));
}

/// Keeps a task for another stream, unless there are enough.
fn keep(task: &Rc<StreamTask>) -> bool {
    IDLE.with_borrow_mut(|idle| {
        let has_room = idle.len() < KEEP;
        if has_room {
            idle.push(Rc::clone(task));
        }
        has_room
    })
}

async fn run(task: Rc<StreamTask>) {
    loop {
        let work = poll_fn(|cx| task.poll_take(cx)).await;
        stream(work).await;
        if !keep(&task) {
            return;
        }
    }
}
