//! Statistics without a control plane: a separate database, and a clock set by the test.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use control_plane::{
    api,
    stats::{Query, Retention, Stats},
    store::Store,
};
use hdrhistogram::{
    Histogram,
    serialization::{Serializer as _, V2Serializer},
};
use jiff::Timestamp;
use weir_proto::{FORMAT, v1};

/// A separate database, and a clock set by the test.
pub struct World {
    pub folder: tempfile::TempDir,
    pub store: Store,
    pub stats: Stats,
    now_ms: Arc<AtomicI64>,
    retention: Retention,
}

pub fn ms(time: &str) -> i64 {
    time.parse::<Timestamp>().unwrap().as_millisecond()
}

async fn open(folder: &tempfile::TempDir) -> Store {
    Store::open(&format!("sqlite:{}", folder.path().join("weir.db").display())).await.unwrap()
}

fn start(store: &Store, now_ms: &Arc<AtomicI64>, retention: Retention) -> Stats {
    let now_ms = now_ms.clone();
    Stats::start_at(store.clone(), Arc::new(move || now_ms.load(Ordering::Relaxed)), retention)
}

impl World {
    pub async fn new(now: &str) -> Self {
        Self::keeping(now, Retention::default()).await
    }

    pub async fn keeping(now: &str, retention: Retention) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let now_ms = Arc::new(AtomicI64::new(ms(now)));
        let stats = start(&store, &now_ms, retention);
        Self { folder, store, stats, now_ms, retention }
    }

    /// Stops, and restarts from the file.
    pub async fn restarted(self) -> Self {
        self.stats.stop().await;
        self.store.close().await;
        let store = open(&self.folder).await;
        let stats = start(&store, &self.now_ms, self.retention);
        Self { store, stats, ..self }
    }

    pub fn at(&self, now: &str) {
        self.now_ms.store(ms(now), Ordering::Relaxed);
    }

    pub async fn requests(&self) -> u64 {
        self.stats.summary(&Query::default()).await.unwrap().measures.requests
    }
}

pub fn row(time: &str, status: u32, latencies_us: &[u64]) -> v1::TrafficRow {
    let mut histogram = Histogram::<u64>::new(2).unwrap();
    for latency in latencies_us {
        histogram.record(*latency).unwrap();
    }
    let mut latency = Vec::new();
    V2Serializer::new().serialize(&histogram, &mut latency).unwrap();
    v1::TrafficRow {
        minute: u64::try_from(ms(time) / 60_000).unwrap(),
        route: "default".into(),
        pool: "default".into(),
        backend: "b1".into(),
        status,
        requests: latencies_us.len() as u64,
        bytes_in: 1,
        bytes_out: 10,
        retries: 0,
        latency,
        latency_max_us: latencies_us.iter().copied().max().unwrap_or(0),
        ..v1::TrafficRow::default()
    }
}

pub fn batch(sequence: u64, sent_at: &str, rows: Vec<v1::TrafficRow>) -> v1::ReportRequest {
    v1::ReportRequest {
        format: FORMAT,
        node_id: "node-1".into(),
        boot_id: "boot-1".into(),
        sequence,
        rows,
        sent_at_ms: u64::try_from(ms(sent_at)).unwrap(),
        dropped_rows: 0,
        ..v1::ReportRequest::default()
    }
}

pub const NOON: &str = "2026-11-21T12:00:00Z";

/// A batch of another node.
pub fn of_node(node: &str, batch: v1::ReportRequest) -> v1::ReportRequest {
    v1::ReportRequest { node_id: node.into(), ..batch }
}

/// The REST response: status, content type and text.
pub async fn get(stats: &Stats, path: &str) -> (u16, String, String) {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    let answer = api::rest::reports::router(stats.clone()).oneshot(request).await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}
