//! What probes of `https://` backends are made with: the same as the nodes' requests.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use weir_snapshot::{BackendUrl, HealthProbe, Pool, UpstreamTls, config::Protocol};
use weir_tls::Keys;

/// A pool's client, or why there can be none.
#[derive(Debug, Clone, Default)]
pub(super) struct Secured(Option<Result<Arc<ClientConfig>, String>>);

/// It follows from what else a target has.
impl PartialEq for Secured {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Secured {}

impl Secured {
    pub(super) fn new(pool: &Pool, keys: &dyn Keys) -> Self {
        let alpn: &[u8] = match (&pool.health_check.probe, pool.protocol) {
            (Some(HealthProbe::Grpc { .. }), _) => b"h2",
            (Some(HealthProbe::Tcp), Protocol::Http2) => b"h2",
            _ => b"http/1.1",
        };
        let made = weir_tls::client_config(&pool.tls, keys, alpn);
        Self(Some(made.map(Arc::new).map_err(|(field, why)| format!("tls.{field}: {why}"))))
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn connect(
        &self,
        tls: &UpstreamTls,
        url: &BackendUrl,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let config = match &self.0 {
            Some(Ok(config)) => Arc::clone(config),
            Some(Err(why)) => return Err(why.clone()),
            None => return Err("TLS is not set up".into()),
        };
        let name = weir_tls::server_name(tls, url)?;
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        shaken.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "TLS: closed within the handshake".into(),
            _ => format!("TLS: {error}"),
        })
    }
}
