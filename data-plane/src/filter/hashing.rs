//! Checks passwords on separate threads: a hash is slow by design, and workers must not wait for it.
//!
//! There are few threads, so that password guessing cannot use more CPU than they have. The queue is short, and one
//! address cannot fill it, so that one guessing client does not keep the others out.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use argon2::{
    Argon2,
    password_hash::{PasswordVerifier as _, phc::PasswordHash},
};
use tokio::sync::oneshot;

use super::client_key;

/// Longest queue.
const MOST: usize = 256;

/// Most queued checks of one address.
const MOST_OF_ONE: u32 = 8;

/// After this long a request gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// One password to be checked.
struct Job {
    client: u64,
    hash: Arc<str>,
    password: Vec<u8>,
    until: Instant,
    sender: oneshot::Sender<bool>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    ready: Condvar,
    checked: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<Job>,
    /// Checks that are queued or running, by client.
    of_client: HashMap<u64, u32>,
    closed: bool,
}

/// The threads; they end when the value is dropped.
pub(crate) struct Hashing(Arc<Queue>);

impl Hashing {
    /// Starts one thread for every four cores.
    pub(super) fn start() -> Self {
        let queue = Arc::new(Queue::default());
        let threads = thread::available_parallelism().map_or(1, usize::from).div_ceil(4).min(8);
        for i in 0..threads {
            let queue = Arc::clone(&queue);
            let started = thread::Builder::new().name(format!("hashing-{i}")).spawn(move || queue.run());
            if let Err(error) = started {
                tracing::error!(%error, "cannot start a thread for password checks");
            }
        }
        Self(queue)
    }

    /// Queues a check; `None` if the queue is full. The result is whether the password is right; it may never arrive.
    pub(super) fn check(
        &self,
        address: IpAddr,
        hash: &Arc<str>,
        password: Vec<u8>,
    ) -> Option<oneshot::Receiver<bool>> {
        let client = client_key(address);
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = state.of_client.get(&client).copied().unwrap_or_default();
        if state.jobs.len() >= MOST || of_client >= MOST_OF_ONE {
            self.0.refused.fetch_add(1, Relaxed);
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let until = Instant::now() + PATIENCE;
        state.jobs.push_back(Job { client, hash: Arc::clone(hash), password, until, sender });
        state.of_client.insert(client, of_client + 1);
        drop(state);
        self.0.ready.notify_one();
        Some(receiver)
    }

    /// Completed checks.
    pub(crate) fn checked(&self) -> u64 {
        self.0.checked.load(Relaxed)
    }

    /// Checks rejected because the queue was full.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.ready.notify_all();
    }
}

impl Queue {
    fn run(&self) {
        while let Some(job) = self.next() {
            // Requests that have given up need no result.
            if !job.sender.is_closed() && Instant::now() < job.until {
                self.checked.fetch_add(1, Relaxed);
                // A panic must not end one of the few threads.
                let is_right = catch_unwind(AssertUnwindSafe(|| is_right(&job.password, &job.hash)));
                let _ = job.sender.send(is_right.unwrap_or(false));
            }
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = state.of_client.get_mut(&job.client) {
                *count -= 1;
                if *count == 0 {
                    state.of_client.remove(&job.client);
                }
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn is_right(password: &[u8], hash: &str) -> bool {
    if hash.starts_with("$2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    Argon2::default().verify_password(password, &hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `secret`, cheap.
    fn hash() -> Arc<str> {
        bcrypt::hash("secret", 4).unwrap().into()
    }

    #[tokio::test]
    async fn what_is_right_is_right() {
        let hashing = Hashing::start();
        let address = IpAddr::from([127, 0, 0, 1]);
        let argon2 = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzYWx0$1DC0bYcLHu4pcQOvkFgpaA";
        for (hash, password, right) in [
            (hash(), "secret", true),
            (hash(), "Secret", false),
            (hash(), "", false),
            (argon2.into(), "wrong", false),
            ("$2b$04$nonsense".into(), "secret", false),
            ("nonsense".into(), "secret", false),
        ] {
            let receiver = hashing.check(address, &hash, password.into()).unwrap();
            assert_eq!(receiver.await, Ok(right), "{hash} {password}");
        }
        assert_eq!(hashing.checked(), 6);
    }

    #[test]
    fn nobody_fills_the_queue_alone_and_it_has_a_bound() {
        // Without threads nothing moves.
        let hashing = Hashing(Arc::default());
        let ask = |last: u8| hashing.check(IpAddr::from([10, 0, 0, last]), &hash(), b"x".to_vec());
        let kept: Vec<_> = (0..20).filter_map(|_| ask(1)).collect();
        assert_eq!(kept.len(), MOST_OF_ONE as usize);
        assert!(ask(2).is_some());
        let others: Vec<_> = (3..=255).flat_map(|last| [ask(last), ask(last)]).flatten().collect();
        assert_eq!(kept.len() + 1 + others.len(), MOST);
        assert!(hashing.refused() > 0);
    }
}
