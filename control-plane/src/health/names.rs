//! The addresses of a backend's name, as the nodes have them: the last answer stays while the name server fails.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};
use weir_snapshot::backend_address::sorted;

/// How long an answer counts before the name is looked up again; the same as in the nodes.
const FRESH: Duration = Duration::from_secs(10);

/// While there is an older answer, a probe waits no longer than this for a newer one.
const PATIENCE: Duration = Duration::from_millis(200);

/// An answer: all addresses of the name.
type Answer = io::Result<Vec<SocketAddr>>;

/// Asks for the addresses of a name.
pub(super) type LookUp = dyn Fn(String, u16) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// Asks the system's resolver.
pub(super) fn system() -> Arc<LookUp> {
    Arc::new(|name, port| Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) }))
}

/// What is known of one backend's name.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<(Instant, Vec<SocketAddr>)>,
    /// The one lookup that is under way: a name server that does not answer holds up one thread a name, not one a probe.
    under_way: Option<JoinHandle<Answer>>,
}

impl Known {
    /// The addresses of a name, in the order in which they are used.
    ///
    /// # Errors
    /// The name has never had an address here, and has none now.
    pub(super) async fn addresses(&self, look_up: &LookUp, name: &str, port: u16) -> Answer {
        let mut state = self.0.lock().await;
        if let Some((at, last)) = &state.last
            && at.elapsed() < FRESH
        {
            return Ok(last.clone());
        }
        let State { last, under_way } = &mut *state;
        let lookup = under_way.get_or_insert_with(|| tokio::spawn(look_up(name.to_owned(), port)));
        let answer = match last {
            None => Some(lookup.await),
            Some(_) => timeout(PATIENCE, &mut *lookup).await.ok(),
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
            // The addresses that it had may well be good still.
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

    /// A name server that a test controls: `None` does not answer.
    #[derive(Default)]
    struct Server {
        says: Mutex<Option<Result<Vec<SocketAddr>, &'static str>>>,
        asked: AtomicU32,
    }

    fn server() -> (Arc<Server>, Arc<LookUp>) {
        let server = Arc::<Server>::default();
        let asked = Arc::clone(&server);
        let look_up: Arc<LookUp> = Arc::new(move |_, _| {
            asked.asked.fetch_add(1, Relaxed);
            let says = asked.says.lock().unwrap().clone();
            Box::pin(async move {
                match says {
                    Some(says) => says.map_err(io::Error::other),
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
        let say = |says| *server.says.lock().unwrap() = says;
        let ask = async || known.addresses(&*look_up, "books.internal", 80).await;
        say(Some(Err("no such name")));
        assert_eq!(ask().await.unwrap_err().to_string(), "no such name");
        say(Some(Ok(list(&["10.0.0.2:80", "10.0.0.1:80"]))));
        let first = list(&["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(ask().await.unwrap(), first);
        // An error, an empty answer, and none at all.
        for says in [Some(Err("server failure")), Some(Ok(Vec::new())), None] {
            say(says);
            tokio::time::advance(FRESH).await;
            assert_eq!(ask().await.unwrap(), first);
        }
        // It is asked once while it does not answer.
        let asked = server.asked.load(Relaxed);
        for _ in 0..20 {
            assert_eq!(ask().await.unwrap(), first);
        }
        assert_eq!(server.asked.load(Relaxed), asked);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_answer_replaces_the_last_one_once_it_is_old() {
        let ((server, look_up), known) = (server(), Known::default());
        let ask = async || known.addresses(&*look_up, "books.internal", 80).await.unwrap();
        *server.says.lock().unwrap() = Some(Ok(list(&["10.0.0.1:80"])));
        assert_eq!(ask().await, list(&["10.0.0.1:80"]));
        *server.says.lock().unwrap() = Some(Ok(list(&["10.0.0.9:80"])));
        assert_eq!(ask().await, list(&["10.0.0.1:80"]), "the answer is fresh");
        tokio::time::advance(FRESH).await;
        assert_eq!(ask().await, list(&["10.0.0.9:80"]));
    }
}
