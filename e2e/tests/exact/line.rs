//! An unreliable connection between nodes and control plane: it loses, repeats and delays batches and their
//! acknowledgements.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use tokio::net::TcpListener;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};
use weir_proto::v1::{
    ReportRequest, ReportResponse, SubscribeRequest, SubscribeResponse,
    nodes_client::NodesClient,
    nodes_server::{Nodes, NodesServer},
};

/// Statistics of the connection.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Batches that never arrived.
    pub lost: u32,
    /// Acknowledgements that never arrived.
    pub unanswered: u32,
    /// Batches that arrived twice at the same time.
    pub repeated: u32,
    /// Batches that were overtaken by others.
    pub late: u32,
}

struct Inner {
    to: Channel,
    rng: Mutex<Rng>,
    said: Mutex<Said>,
    /// Node, boot and sequence of each acknowledged batch.
    arrived: Mutex<BTreeSet<(String, String, u64)>>,
    /// Nodes, with the sequence from which on no batch of their first boot passes.
    cut: Mutex<BTreeMap<String, u64>>,
}

/// An unreliable connection on its own port.
#[derive(Clone)]
pub struct Line {
    inner: Arc<Inner>,
    port: u16,
}

impl Line {
    /// Starts a connection to a control plane's address for nodes.
    pub async fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = Endpoint::from_shared(format!("http://{to}")).unwrap().connect_lazy();
        let line = Self {
            inner: Arc::new(Inner {
                to,
                rng: Mutex::new(Rng::with_seed(11)),
                said: Mutex::default(),
                arrived: Mutex::default(),
                cut: Mutex::default(),
            }),
            port,
        };
        let service = NodesServer::new(line.clone());
        let serving =
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        line
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn said(&self) -> Said {
        self.inner.said.lock().unwrap().clone()
    }

    pub fn arrived(&self) -> BTreeSet<(String, String, u64)> {
        self.inner.arrived.lock().unwrap().clone()
    }

    /// Drops all batches of a node's first boot from this sequence on: the node dies before they are sent.
    pub fn cut(&self, node: &str, from: u64) {
        self.inner.cut.lock().unwrap().insert(node.to_owned(), from);
    }

    async fn forward(&self, batch: ReportRequest) -> Result<ReportResponse, Status> {
        let is = (batch.node_id.clone(), batch.boot_id.clone(), batch.sequence);
        let answer = NodesClient::new(self.inner.to.clone()).report(batch).await?;
        self.inner.arrived.lock().unwrap().insert(is);
        Ok(answer.into_inner())
    }

    fn note(&self, what: impl Fn(&mut Said) -> &mut u32) {
        *what(&mut self.inner.said.lock().unwrap()) += 1;
    }
}

#[tonic::async_trait]
impl Nodes for Line {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        _request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("simulated nodes do not subscribe"))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let batch = request.into_inner();
        let gone = self.inner.cut.lock().unwrap().get(&batch.node_id).copied();
        if batch.boot_id == "first" && gone.is_some_and(|gone| batch.sequence >= gone) {
            return Err(Status::unavailable("the node is dead"));
        }
        let (fate, wait) = {
            let mut rng = self.inner.rng.lock().unwrap();
            (rng.u32(..100), rng.u64(5..60))
        };
        let answer = match fate {
            0..20 => {
                self.note(|said| &mut said.lost);
                return Err(Status::unavailable("lost"));
            }
            20..40 => {
                self.forward(batch).await?;
                self.note(|said| &mut said.unanswered);
                return Err(Status::unavailable("the response is lost"));
            }
            40..60 => {
                self.note(|said| &mut said.repeated);
                let (one, two) = tokio::join!(self.forward(batch.clone()), self.forward(batch));
                one.or(two)?
            }
            60..80 => {
                self.note(|said| &mut said.late);
                // The delay of the connection.
                tokio::time::sleep(Duration::from_millis(wait)).await;
                self.forward(batch).await?
            }
            _ => self.forward(batch).await?,
        };
        Ok(Response::new(answer))
    }
}
