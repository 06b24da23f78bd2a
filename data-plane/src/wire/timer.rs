//! Coarse deadlines: each connection has one slot, and each worker checks all slots in one sweep.
//!
//! To set a deadline is one store, so every phase of every request can have one without registering a timer. The price
//! is precision: a deadline is noticed up to [`GRAIN`] late, never early.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

/// Time between two sweeps.
pub(crate) const GRAIN: Duration = Duration::from_millis(50);

const NEVER: u64 = u64::MAX;

/// All deadlines of one worker.
pub(crate) struct Timers {
    start: Instant,
    /// Milliseconds since `start`, as of the last sweep.
    now: Cell<u64>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
}

struct Slot {
    deadline: u64,
    /// When it was set.
    since: u64,
    idle: bool,
    waker: Option<Waker>,
}

impl Slot {
    const fn unused() -> Self {
        Self { deadline: NEVER, since: 0, idle: false, waker: None }
    }
}

impl Timers {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            start: Instant::now(),
            now: Cell::new(0),
            slots: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
        })
    }

    /// Milliseconds since the worker began, as of the last sweep.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// Updates the clock and wakes tasks whose deadline has passed.
    pub(crate) fn sweep(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NEVER - 1);
        self.now.set(now);
        for slot in self.slots.borrow_mut().iter_mut().filter(|slot| slot.deadline <= now) {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// Ends the wait of up to `most` connections without a request: those that have waited longest, but at least for
    /// `least`. Returns their number.
    pub(crate) fn expire_longest_idle(&self, most: usize, least: Duration) -> u64 {
        let least = u64::try_from(least.as_millis()).unwrap_or(NEVER);
        let Some(latest) = self.now.get().checked_sub(least) else { return 0 };
        let mut slots = self.slots.borrow_mut();
        // A connection of HTTP/2 with streams has no deadline.
        let is_idle = |slot: &Slot| slot.idle && !matches!(slot.deadline, 0 | NEVER) && slot.since <= latest;
        let mut idle: Vec<(u64, usize)> = slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| is_idle(slot))
            .map(|(index, slot)| (slot.since, index))
            .collect();
        if idle.len() > most {
            idle.select_nth_unstable(most);
            idle.truncate(most);
        }
        for (_, index) in &idle {
            let slot = &mut slots[*index];
            slot.deadline = 0;
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
        idle.len() as u64
    }

    /// Ends the wait of all connections without a request, because the node drains.
    pub(crate) fn expire_idle(&self) {
        for slot in self.slots.borrow_mut().iter_mut().filter(|slot| slot.idle) {
            slot.deadline = 0;
        }
    }

    pub(crate) fn timer(self: &Rc<Self>) -> Timer {
        let slot = Slot::unused();
        let index = match self.free.borrow_mut().pop() {
            Some(index) => {
                self.slots.borrow_mut()[index] = slot;
                index
            }
            None => {
                let mut slots = self.slots.borrow_mut();
                slots.push(slot);
                slots.len() - 1
            }
        };
        Timer { timers: Rc::clone(self), index }
    }
}

/// One deadline at a time, for one task.
pub(crate) struct Timer {
    timers: Rc<Timers>,
    index: usize,
}

impl Timer {
    /// Milliseconds since the worker began, as of the last sweep.
    pub(crate) fn now(&self) -> u64 {
        self.timers.now.get()
    }

    /// Sets the deadline; the one before no longer counts. A duration of zero means no deadline.
    pub(crate) fn arm(&self, after: Duration) {
        self.set(after, false);
    }

    /// Sets the deadline of a connection that has no request: it also ends when the node drains.
    pub(crate) fn arm_idle(&self, after: Duration) {
        self.set(after, true);
    }

    fn set(&self, after: Duration, idle: bool) {
        let deadline = match u64::try_from(after.as_millis()) {
            Ok(0) | Err(_) => NEVER,
            // The clock may be one sweep behind: a deadline is never early.
            Ok(ms) => self.timers.now.get().saturating_add(ms).saturating_add(GRAIN.as_millis() as u64),
        };
        let slot = &mut self.timers.slots.borrow_mut()[self.index];
        slot.deadline = deadline;
        slot.since = self.timers.now.get();
        slot.idle = idle;
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub(crate) fn expired(&self, cx: &Context<'_>) -> bool {
        let slot = &mut self.timers.slots.borrow_mut()[self.index];
        if slot.deadline <= self.timers.now.get() {
            return true;
        }
        match &slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => slot.waker = Some(cx.waker().clone()),
        }
        false
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut slots = self.timers.slots.borrow_mut();
        slots[self.index] = Slot::unused();
        self.timers.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use super::*;

    #[tokio::test]
    async fn a_deadline_wakes_its_task_and_is_never_early() {
        let timers = Timers::new();
        let timer = timers.timer();
        let begun = Instant::now();
        timer.arm(Duration::from_millis(120));
        let expiry =
            std::future::poll_fn(|cx| if timer.expired(cx) { Poll::Ready(()) } else { Poll::Pending });
        let mut expiry = pin!(expiry);
        let mut sweeps = tokio::time::interval(Duration::from_millis(5));
        loop {
            tokio::select! {
                () = &mut expiry => break,
                _ = sweeps.tick() => timers.sweep(),
            }
        }
        assert!(begun.elapsed() >= Duration::from_millis(120));
    }

    #[test]
    fn of_idle_connections_those_that_waited_longest_make_room() {
        let timers = Timers::new();
        let cx = Context::from_waker(std::task::Waker::noop());
        let waiting: Vec<Timer> = (0..5_u64)
            .map(|i| {
                timers.now.set(i * 100);
                let timer = timers.timer();
                timer.arm_idle(Duration::from_secs(60));
                timer
            })
            .collect();
        // One has a request, and one has streams of HTTP/2.
        waiting[0].arm(Duration::from_secs(60));
        let streams = timers.timer();
        streams.arm_idle(Duration::ZERO);
        let expired = || waiting.iter().map(|timer| timer.expired(&cx)).collect::<Vec<_>>();
        assert_eq!(timers.expire_longest_idle(2, Duration::from_secs(1)), 0);
        timers.now.set(1_000);
        assert_eq!(timers.expire_longest_idle(2, Duration::from_millis(750)), 2);
        assert_eq!(expired(), [false, true, true, false, false]);
        assert_eq!(timers.expire_longest_idle(9, Duration::from_millis(700)), 1);
        assert_eq!(expired(), [false, true, true, true, false]);
        assert_eq!(timers.expire_longest_idle(9, Duration::from_millis(700)), 0);
        timers.now.set(100_000);
        assert_eq!(timers.expire_longest_idle(9, Duration::ZERO), 1);
        assert!(!streams.expired(&cx));
    }

    #[test]
    fn slots_are_used_again() {
        let timers = Timers::new();
        for _ in 0..1000 {
            drop((timers.timer(), timers.timer()));
        }
        assert_eq!(timers.slots.borrow().len(), 2);
    }
}
