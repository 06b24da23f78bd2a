//! The worker threads: each has its own runtime, listening sockets and [`Worker`].

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    client_limits::{ClientConnections, ClientRequests, NodeRequests},
    config::Config,
    fleet::Active,
    listener::{self, ListenerSocket},
    stats::{Cut, Recorder},
    wire::{
        timer::GRAIN,
        tls::{self, Certificates, Tickets},
    },
    worker::{Worker, WorkerCounters},
};

/// How long a worker may take to end after all requests have ended.
const STOP: Duration = Duration::from_secs(2);

/// A command from the control thread.
enum Command {
    Activate(Arc<Active>, oneshot::Sender<()>),
    Drain(oneshot::Sender<()>),
    Stop,
}

struct WorkerHandle {
    commands: mpsc::UnboundedSender<Command>,
    counters: Arc<WorkerCounters>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl WorkerHandle {
    fn take_thread(&self) -> Option<thread::JoinHandle<()>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// All workers of the node, as the control thread sees them.
pub(crate) struct Workers {
    handles: Vec<WorkerHandle>,
    /// Address for HTTP.
    pub(crate) http: SocketAddr,
    /// Address for HTTPS.
    pub(crate) https: Option<SocketAddr>,
    certificates: Option<Arc<Certificates>>,
    requests: Arc<NodeRequests>,
}

/// Address and TLS settings for HTTPS.
#[derive(Clone)]
pub(crate) struct Https {
    pub(crate) address: SocketAddr,
    pub(crate) config: Arc<rustls::ServerConfig>,
    /// The certificates of the configuration.
    pub(crate) certificates: Arc<Certificates>,
}

impl Https {
    /// The HTTPS listener that the flags ask for, if any.
    pub(crate) fn new(config: &Config, tickets: &Arc<Tickets>) -> anyhow::Result<Option<Self>> {
        let own = match (&config.tls_cert, &config.tls_key) {
            (Some(certificate), Some(key)) => Some(tls::own_certificate(certificate, key)?),
            (None, None) => None,
            _ => anyhow::bail!("--tls-cert and --tls-key go together"),
        };
        let Some(address) = config.https else { return Ok(None) };
        let certificates = Arc::new(Certificates::new(own));
        let server = tls::server_config(&certificates, tickets)?;
        Ok(Some(Self { address, config: server, certificates }))
    }
}

impl Workers {
    /// Starts `count` workers that accept on `http` and `https` (port 0: one free port for all of them).
    ///
    /// # Errors
    /// An address cannot be bound, or a thread cannot be started.
    pub(crate) fn start(
        count: usize,
        mut http: SocketAddr,
        mut https: Option<Https>,
        recorder: impl Fn() -> Recorder + Send + Clone + 'static,
    ) -> io::Result<Self> {
        let mut handles = Vec::with_capacity(count);
        let client_connections = Arc::new(ClientConnections::default());
        let requests = NodeRequests::new(count);
        listener::ensure_free(http)?;
        for i in 0..count {
            let mut sockets = vec![ListenerSocket { socket: listener::bind(http)?, tls: None }];
            http = sockets[0].socket.local_addr()?;
            if let Some(https) = &mut https {
                if i == 0 {
                    // The address may also be in use by the HTTP listener above.
                    listener::ensure_free(https.address)?;
                }
                let socket = listener::bind(https.address)?;
                https.address = socket.local_addr()?;
                sockets.push(ListenerSocket { socket, tls: Some(Arc::clone(&https.config)) });
            }
            let (commands, inbox) = mpsc::unbounded_channel();
            let counters = Arc::new(WorkerCounters::default());
            let worker_counters = Arc::clone(&counters);
            let (recorder, client_connections) = (recorder.clone(), Arc::clone(&client_connections));
            let client_requests = ClientRequests::new(&requests, i);
            let run = move || {
                let ended =
                    run(sockets, inbox, worker_counters, client_connections, client_requests, recorder());
                if let Err(error) = ended {
                    tracing::error!(worker = i, %error, "worker ended");
                }
            };
            let thread = thread::Builder::new().name(format!("worker-{i}")).spawn(run)?;
            handles.push(WorkerHandle { commands, counters, thread: Mutex::new(Some(thread)) });
        }
        let certificates = https.as_ref().map(|https| Arc::clone(&https.certificates));
        Ok(Self { handles, http, https: https.map(|https| https.address), certificates, requests })
    }

    /// Makes every worker use the configuration, and returns when all of them do.
    pub(crate) async fn activate(&self, active: Arc<Active>) {
        // Certificates come first: a client of a new host must get its certificate.
        if let Some(certificates) = &self.certificates {
            certificates.set(&active.certificates);
        }
        let mut done = Vec::with_capacity(self.handles.len());
        for handle in &self.handles {
            let (sender, receiver) = oneshot::channel();
            if handle.commands.send(Command::Activate(Arc::clone(&active), sender)).is_ok() {
                done.push(receiver);
            }
        }
        for receiver in done {
            // A worker that ended has nothing to activate.
            let _ = receiver.await;
        }
    }

    /// Requests refused because their client address had too many in flight.
    pub(crate) fn refused_per_client(&self) -> u64 {
        self.requests.refused()
    }

    /// Idle client connections closed to make room for others.
    pub(crate) fn closed_for_room(&self) -> u64 {
        self.handles.iter().map(|handle| handle.counters.closed_for_room.load(Relaxed)).sum()
    }

    /// Open client connections.
    pub(crate) fn connections(&self) -> u64 {
        self.handles.iter().map(|handle| handle.counters.connections.load(Relaxed)).sum()
    }

    /// Requests answered since the start.
    pub(crate) fn requests(&self) -> u64 {
        self.handles.iter().map(|handle| handle.counters.requests.load(Relaxed)).sum()
    }

    /// Responses that were cut, by [`Cut::ALL`].
    pub(crate) fn cut(&self, cut: Cut) -> u64 {
        let of = |handle: &WorkerHandle| {
            handle.counters.cut.get(cut as usize).map_or(0, |count| count.load(Relaxed))
        };
        self.handles.iter().map(of).sum()
    }

    /// Tunnels and streams that have ended since the start.
    pub(crate) fn streams(&self) -> u64 {
        self.handles.iter().map(|handle| handle.counters.streams.load(Relaxed)).sum()
    }

    /// TLS handshakes with clients that failed.
    pub(crate) fn failed_handshakes(&self) -> u64 {
        self.handles.iter().map(|handle| handle.counters.failed_handshakes.load(Relaxed)).sum()
    }

    /// Completed TLS handshakes with clients, and how many of them resumed a session.
    pub(crate) fn handshakes(&self) -> (u64, u64) {
        let sum = |which: fn(&WorkerCounters) -> &AtomicU64| {
            self.handles.iter().map(|handle| which(&handle.counters).load(Relaxed)).sum()
        };
        (sum(|counters| &counters.handshakes), sum(|counters| &counters.resumed))
    }

    /// TLS handshakes without a certificate for the requested name.
    pub(crate) fn without_certificate(&self) -> u64 {
        self.certificates.as_ref().map_or(0, |certificates| certificates.missing())
    }

    /// Number of workers.
    pub(crate) fn count(&self) -> usize {
        self.handles.len()
    }

    /// Stops accepting, lets running requests finish within the deadline, then ends the threads. Their last counts
    /// have been handed over when this returns.
    pub(crate) async fn drain(&self, within: Duration) {
        let mut done = Vec::with_capacity(self.handles.len());
        for handle in &self.handles {
            let (sender, receiver) = oneshot::channel();
            if handle.commands.send(Command::Drain(sender)).is_ok() {
                done.push(receiver);
            }
        }
        let all = async {
            for receiver in done {
                let _ = receiver.await;
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!(
                connections = self.connections(),
                "drain deadline passed, closing open connections"
            );
        }
        // At their end workers hand over their last counts, also of requests that were cut.
        for handle in &self.handles {
            // A worker that has ended receives no commands.
            let _ = handle.commands.send(Command::Stop);
        }
        let threads: Vec<_> = self.handles.iter().filter_map(WorkerHandle::take_thread).collect();
        let join =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        if tokio::time::timeout(STOP, join).await.is_err() {
            tracing::warn!("a worker did not end in time");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for handle in &mut self.handles {
            // Without its sender a worker's inbox ends, and with it the worker.
            handle.commands = mpsc::unbounded_channel().0;
        }
        for thread in self.handles.iter().filter_map(WorkerHandle::take_thread) {
            // A panic of a worker was already reported.
            let _ = thread.join();
        }
    }
}

fn run(
    sockets: Vec<ListenerSocket>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
    counters: Arc<WorkerCounters>,
    client_connections: Arc<ClientConnections>,
    client_requests: ClientRequests,
    recorder: Recorder,
) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async move {
        let worker = Worker::new(counters, client_connections, client_requests, recorder);
        let mut waiting = sockets;
        let mut rejecting = tokio::task::JoinSet::new();
        for socket in &waiting {
            let (socket, in_clear) = (socket.socket.try_clone()?, socket.tls.is_none());
            rejecting.spawn_local(listener::waiting::reject_until_configured(
                socket,
                in_clear,
                Rc::clone(&worker),
            ));
        }
        let mut drained: Option<oneshot::Sender<()>> = None;
        let mut sweeps = tokio::time::interval(GRAIN);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = 0u64;
        loop {
            tokio::select! {
                biased;
                command = inbox.recv() => match command {
                    Some(Command::Activate(active, done)) => {
                        worker.activate(active);
                        // The kernel queues connections from the start; they are accepted once there is a
                        // configuration.
                        rejecting.abort_all();
                        for socket in waiting.drain(..) {
                            tokio::task::spawn_local(listener::accept(socket, Rc::clone(&worker)));
                        }
                        let _ = done.send(());
                    }
                    Some(Command::Drain(done)) => {
                        rejecting.abort_all();
                        waiting.clear();
                        worker.draining.set(true);
                        worker.drain.send_replace(true);
                        drained = Some(done);
                    }
                    Some(Command::Stop) | None => break,
                },
                _ = sweeps.tick() => {
                    if worker.draining.get() {
                        worker.timers.expire_idle();
                    }
                    worker.timers.sweep();
                    worker.update_date();
                    count += 1;
                    if count.is_multiple_of(20) {
                        worker.close_stale();
                    }
                    if drained.is_some() && worker.connections.get() == 0 {
                        worker.recorder.flush();
                        if let Some(done) = drained.take() {
                            let _ = done.send(());
                        }
                    }
                }
            }
        }
        worker.recorder.flush();
        Ok(())
    })
}
