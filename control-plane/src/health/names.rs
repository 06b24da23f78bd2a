//! Resolves backend names as nodes do: the last answer is kept while the name server fails.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};
use weir_snapshot::backend_address::sorted;

/// How long an answer is used before the name is resolved again, as in nodes.
const MAX_AGE: Duration = Duration::from_secs(10);

/// How long a probe waits for a new answer while it has an older one.
const MAX_WAIT: Duration = Duration::from_millis(200);

/// All addresses of a name, or why there are none.
type Answer = io::Result<Vec<SocketAddr>>;

/// Resolves a name and port.
pub(super) type LookUp = dyn Fn(String, u16) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// Uses the system's resolver.
pub(super) fn system() -> Arc<LookUp> {
    Arc::new(|name, port| Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) }))
}

/// Cached addresses of one backend's name.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<(Instant, Vec<SocketAddr>)>,
    /// The running lookup. There is at most one: a name server that does not answer blocks one thread per name, not one
    /// per probe.
    under_way: Option<JoinHandle<Answer>>,
}

impl Known {
    /// Returns the addresses of a name, in the order of use.
    ///
    /// # Errors
    /// The name does not resolve, and has never resolved before.
    pub(super) async fn addresses(&self, look_up: &LookUp, name: &str, port: u16) -> Answer {
        let mut state = self.0.lock().await;
        if let Some((at, last)) = &state.last
            && at.elapsed() < MAX_AGE
        {
            return Ok(last.clone());
        }
        let State { last, under_way } = &mut *state;
        let lookup = under_way.get_or_insert_with(|| tokio::spawn(look_up(name.to_owned(), port)));
        let answer = match last {
            None => Some(lookup.await),
            Some(_) => timeout(MAX_WAIT, &mut *lookup).await.ok(),
        };
        let Some(answer) = answer else {
            return Ok(last.as_ref().map(|(_, last)| last.clone()).unwrap_or_default());
        };
        *under_way = None;
        match (answer.map_err(io::Error::other).flatten(), last) {
            (Ok(found), last) if !found.is_empty() => {
                let found = sorted(found);
                *last = Some((Instant::now(), found.clone()));
                Ok(found)
            }
            // The earlier addresses may still be valid.
            (_, Some((_, last))) => Ok(last.clone()),
            (Ok(_), None) => Err(io::Error::other("the name has no address")),
            (Err(error), None) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    };

    use super::*;

    /// A name server controlled by the test: `None` does not answer.
    #[derive(Default)]
    struct Server {
        answer: Mutex<Option<Result<Vec<SocketAddr>, &'static str>>>,
        queries: AtomicU32,
    }

    fn server() -> (Arc<Server>, Arc<LookUp>) {
        let server = Arc::<Server>::default();
        let queries = Arc::clone(&server);
        let look_up: Arc<LookUp> = Arc::new(move |_, _| {
            queries.queries.fetch_add(1, Relaxed);
            let answer = queries.answer.lock().unwrap().clone();
            Box::pin(async move {
                match answer {
                    Some(answer) => answer.map_err(io::Error::other),
                    None => std::future::pending().await,
                }
            })
        });
        (server, look_up)
    }

    fn list(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_answer_stays_while_the_name_server_fails() {
        let ((server, look_up), known) = (server(), Known::default());
        let set_answer = |answer| *server.answer.lock().unwrap() = answer;
        let ask = async || known.addresses(&*look_up, "books.internal", 80).await;
        set_answer(Some(Err("no such name")));
        assert_eq!(ask().await.unwrap_err().to_string(), "no such name");
        set_answer(Some(Ok(list(&["10.0.0.2:80", "10.0.0.1:80"]))));
        let first = list(&["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(ask().await.unwrap(), first);
        // An error, an empty answer, and no answer.
        for answer in [Some(Err("server failure")), Some(Ok(Vec::new())), None] {
            set_answer(answer);
            tokio::time::advance(MAX_AGE).await;
            assert_eq!(ask().await.unwrap(), first);
        }
        // There is only one query while the server does not answer.
        let queries = server.queries.load(Relaxed);
        for _ in 0..20 {
            assert_eq!(ask().await.unwrap(), first);
        }
        assert_eq!(server.queries.load(Relaxed), queries);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_answer_replaces_the_last_one_once_it_is_old() {
        let ((server, look_up), known) = (server(), Known::default());
        let ask = async || known.addresses(&*look_up, "books.internal", 80).await.unwrap();
        *server.answer.lock().unwrap() = Some(Ok(list(&["10.0.0.1:80"])));
        assert_eq!(ask().await, list(&["10.0.0.1:80"]));
        *server.answer.lock().unwrap() = Some(Ok(list(&["10.0.0.9:80"])));
        assert_eq!(ask().await, list(&["10.0.0.1:80"]), "the answer is fresh");
        tokio::time::advance(MAX_AGE).await;
        assert_eq!(ask().await, list(&["10.0.0.9:80"]));
    }
}
