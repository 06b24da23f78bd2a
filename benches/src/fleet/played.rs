//! A simulated node: one TCP connection, one HTTP/2 stream, and minimal memory.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use tokio::net::TcpStream;
use weir_proto::{
    FORMAT,
    v1::{self, subscribe_request::Message as Say, subscribe_response::Message as Told},
};
use weir_snapshot::resource::{ContentHash, Key, Kind, Resources};

/// Messages up to this size are read as a whole. Of longer ones, which are snapshots, only both ends are needed.
const SMALL: usize = 64 << 10;

/// Prefix of a gRPC message: compression flag and length.
const PREFIX: usize = 5;

/// Length of an HTTP/2 frame header.
const FRAME: usize = 9;

/// Results that all simulated nodes write to without a lock.
#[derive(Debug)]
pub struct Seen {
    begun: Instant,
    /// By node: the last revision that it acknowledged, and when, in microseconds.
    acknowledged: Vec<(AtomicU64, AtomicU64)>,
    /// By node: how often its stream was opened and received the health, which is the last message at the start of a
    /// stream.
    pub joined: Vec<AtomicU64>,
    /// Bytes received, including frame headers.
    pub bytes: AtomicU64,
    /// Health changes received.
    pub flaps: AtomicU64,
    /// Whole snapshots received.
    pub wholes: AtomicU64,
    /// Contents that were assembled and hashed.
    pub hashed: AtomicU64,
    /// Contents whose hash did not match.
    pub wrong: AtomicU64,
}

impl Seen {
    /// Creates the results for this number of nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            acknowledged: (0..nodes).map(|_| Default::default()).collect(),
            joined: (0..nodes).map(|_| AtomicU64::new(0)).collect(),
            bytes: AtomicU64::new(0),
            flaps: AtomicU64::new(0),
            wholes: AtomicU64::new(0),
            hashed: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
        })
    }

    /// Waits until every node has acknowledged the revision; returns how long that took for each node.
    ///
    /// # Errors
    /// The deadline passed.
    pub async fn all_run(&self, revision: u64, since: Instant, within: Duration) -> anyhow::Result<Vec<f64>> {
        let deadline = Instant::now() + within;
        loop {
            if self.acknowledged.iter().all(|(runs, _)| runs.load(Relaxed) >= revision) {
                let since_us = since.saturating_duration_since(self.begun).as_micros() as f64;
                let took = |(_, at): &(AtomicU64, AtomicU64)| (at.load(Relaxed) as f64 - since_us) / 1000.0;
                return Ok(self.acknowledged.iter().map(took).collect());
            }
            let behind = self.acknowledged.iter().filter(|(runs, _)| runs.load(Relaxed) < revision).count();
            anyhow::ensure!(
                Instant::now() < deadline,
                "{behind} nodes have not acknowledged revision {revision}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until every node has joined this often.
    ///
    /// # Errors
    /// The deadline passed.
    pub async fn all_joined(&self, times: u64, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        while self.joined.iter().any(|joined| joined.load(Relaxed) < times) {
            anyhow::ensure!(Instant::now() < deadline, "not all nodes have joined");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

/// One node.
pub struct Played {
    index: usize,
    control_plane: SocketAddr,
    seen: Arc<Seen>,
    /// The current revision and its hash, as far as known.
    active: (u64, String),
    /// All resources, in nodes that check hashes.
    resources: Option<Resources>,
}

impl Played {
    /// Creates a node without a revision. If `checks` is true, it assembles and hashes everything it receives.
    #[must_use]
    pub fn new(index: usize, control_plane: SocketAddr, seen: Arc<Seen>, checks: bool) -> Self {
        let (active, resources) = ((0, String::new()), checks.then(Resources::new));
        Self { index, control_plane, seen, active, resources }
    }

    /// Keeps a stream open forever. All nodes reconnect at the same time, while real ones use a random delay: this is
    /// the worst case.
    pub async fn run(mut self) {
        loop {
            // Reconnect, whatever the reason.
            let _ = self.stream().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stream(&mut self) -> anyhow::Result<()> {
        let connection = TcpStream::connect(self.control_plane).await?;
        connection.set_nodelay(true)?;
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 20)
            .handshake::<_, Bytes>(connection)
            .await?;
        let driver = tokio::spawn(connection);
        let talked = self.talk(client).await;
        driver.abort();
        talked
    }

    async fn talk(&mut self, client: h2::client::SendRequest<Bytes>) -> anyhow::Result<()> {
        let mut client = client.ready().await?;
        let request = http::Request::post(format!("http://{}/weir.v1.Nodes/Subscribe", self.control_plane))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (answer, mut say) = client.send_request(request, false)?;
        let hello = v1::Hello {
            node_id: format!("node-{}", self.index),
            boot_id: format!("boot-{}", self.index),
            version: env!("CARGO_PKG_VERSION").into(),
            address: "127.0.0.1:80".into(),
            workers: 2,
            format: FORMAT,
            active_revision: self.active.0,
            active_hash: self.active.1.clone(),
            ..v1::Hello::default()
        };
        say.send_data(frame(Say::Hello(hello)), false)?;
        let mut body = answer.await?.into_body();
        let mut message = Incoming::default();
        while let Some(data) = body.data().await {
            let mut data = data?;
            body.flow_control().release_capacity(data.len())?;
            self.seen.bytes.fetch_add((data.len() + FRAME) as u64, Relaxed);
            while !data.is_empty() {
                let Some(whole) = message.take(&mut data, self.resources.is_some()) else { continue };
                if let Some(answer) = self.told(&whole)? {
                    say.send_data(frame(answer), false)?;
                }
            }
        }
        anyhow::bail!("the stream ended")
    }

    fn told(&mut self, message: &Whole) -> anyhow::Result<Option<Say>> {
        let (revision, hash) = match message {
            Whole::Ends(revision, hash) => {
                self.seen.wholes.fetch_add(1, Relaxed);
                (*revision, hash.clone())
            }
            Whole::Bytes(bytes) => match v1::SubscribeResponse::decode(bytes.as_ref())?.message {
                Some(Told::Snapshot(snapshot)) => {
                    self.seen.wholes.fetch_add(1, Relaxed);
                    if let Some(resources) = &mut self.resources {
                        *resources =
                            snapshot.resources.into_iter().map(resource).collect::<Result<_, _>>()?;
                    }
                    (snapshot.revision, snapshot.hash)
                }
                Some(Told::Delta(delta)) => {
                    if let Some(resources) = &mut self.resources {
                        for gone in delta.removed {
                            resources.remove(&key(gone)?);
                        }
                        for changed in delta.changed {
                            resources.extend([resource(changed)?]);
                        }
                    }
                    (delta.revision, delta.hash)
                }
                Some(Told::Health(health)) => {
                    if health.complete {
                        self.seen.joined[self.index].fetch_add(1, Relaxed);
                    } else {
                        self.seen.flaps.fetch_add(health.backends.len() as u64, Relaxed);
                    }
                    return Ok(None);
                }
                _ => return Ok(None),
            },
        };
        if let Some(resources) = &self.resources {
            self.seen.hashed.fetch_add(1, Relaxed);
            let is_right = ContentHash::of(resources).to_string() == hash;
            self.seen.wrong.fetch_add(u64::from(!is_right), Relaxed);
        }
        let (runs, at) = &self.seen.acknowledged[self.index];
        at.store(u64::try_from(self.seen.begun.elapsed().as_micros())?, Relaxed);
        runs.store(revision, Relaxed);
        self.active = (revision, hash.clone());
        Ok(Some(Say::Ack(v1::Ack { revision, hash })))
    }
}

/// A received message.
enum Whole {
    Bytes(Bytes),
    /// Revision and hash of a long message, which is a snapshot.
    Ends(u64, String),
}

/// A partially received message.
#[derive(Default)]
struct Incoming {
    head: BytesMut,
    body: BytesMut,
    left: usize,
    /// The last bytes of a long message, of which only the beginning is kept.
    tail: Vec<u8>,
}

/// Length of a hash in a message: 32 digits.
const HASH: usize = 32;

impl Incoming {
    /// Consumes received bytes; returns the message once it is complete.
    fn take(&mut self, data: &mut Bytes, keeps_all: bool) -> Option<Whole> {
        if self.head.len() < PREFIX {
            let part = data.split_to(data.len().min(PREFIX - self.head.len()));
            self.head.extend_from_slice(&part);
            if self.head.len() < PREFIX {
                return None;
            }
            self.left = (&self.head[1..]).get_u32() as usize;
        }
        let part = data.split_to(data.len().min(self.left));
        self.left -= part.len();
        let is_short = self.tail.is_empty() && self.body.len() + part.len() + self.left <= SMALL;
        if keeps_all || is_short {
            self.body.extend_from_slice(&part);
        } else {
            let begin = part.len().min(SMALL.saturating_sub(self.body.len()).min(64));
            if self.body.len() < 64 {
                self.body.extend_from_slice(&part[..begin]);
            }
            self.tail.extend_from_slice(&part[part.len().saturating_sub(HASH)..]);
            let over = self.tail.len().saturating_sub(HASH);
            self.tail.drain(..over);
        }
        if self.left > 0 {
            return None;
        }
        self.head.clear();
        let body = std::mem::take(&mut self.body).freeze();
        if self.tail.is_empty() {
            return Some(Whole::Bytes(body));
        }
        let hash = String::from_utf8_lossy(&std::mem::take(&mut self.tail)).into_owned();
        Some(Whole::Ends(revision(&body), hash))
    }
}

/// The revision of a snapshot with this beginning: a tag, a length, the tag and number of the format, and then the
/// revision.
fn revision(mut begin: &[u8]) -> u64 {
    let mut number = || prost::encoding::decode_varint(&mut begin).unwrap_or_default();
    let [_, _, _, _, _, revision] = std::array::from_fn(|_| number());
    revision
}

fn frame(message: Say) -> Bytes {
    let message = v1::SubscribeRequest { message: Some(message) };
    let mut bytes = BytesMut::with_capacity(PREFIX + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    // The buffer has enough room.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

fn key(key: v1::ResourceKey) -> anyhow::Result<Key> {
    let kind = match key.kind() {
        v1::ResourceKind::Settings => Kind::Settings,
        v1::ResourceKind::Pool => Kind::Pool,
        v1::ResourceKind::Backend => Kind::Backend,
        v1::ResourceKind::Route => Kind::Route,
        other => anyhow::bail!("{other:?} is not supported by simulated nodes"),
    };
    Ok(Key { kind, name: key.name })
}

fn resource(resource: v1::Resource) -> anyhow::Result<(Key, String)> {
    Ok((key(resource.key.context("a resource without a key")?)?, String::from_utf8(resource.spec)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(resources: usize) -> Bytes {
        let resource = v1::Resource { key: None, spec: vec![b'x'; 1000] };
        let message = v1::SubscribeResponse {
            message: Some(Told::Snapshot(v1::Snapshot {
                format: FORMAT,
                revision: 70_000,
                resources: vec![resource; resources],
                hash: "0123456789abcdef0123456789abcdef".into(),
            })),
        };
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut bytes).unwrap();
        bytes.freeze()
    }

    #[test]
    fn both_ends_of_a_long_message_are_read_for_any_chunk_size() {
        for piece in [1, 7, 40, 16_384] {
            let mut all = snapshot(100);
            all = [all.clone(), all].concat().into();
            let (mut incoming, mut found) = (Incoming::default(), 0);
            while !all.is_empty() {
                let mut data = all.split_to(all.len().min(piece));
                while !data.is_empty() {
                    if let Some(Whole::Ends(revision, hash)) = incoming.take(&mut data, false) {
                        assert_eq!((revision, hash.as_str()), (70_000, "0123456789abcdef0123456789abcdef"));
                        found += 1;
                    }
                }
            }
            assert_eq!(found, 2, "pieces of {piece}");
        }
    }

    #[test]
    fn a_short_message_is_kept() {
        let mut data = snapshot(1);
        assert!(matches!(Incoming::default().take(&mut data, false), Some(Whole::Bytes(_))));
    }
}
