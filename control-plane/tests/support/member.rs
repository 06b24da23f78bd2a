//! Nodes that join with a token, and calls to the nodes' port with their certificates.

#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use serde_json::Value;
use tokio::net::TcpStream;
use tonic::Code;
use weir_proto::{FORMAT, SERVER_NAME, v1};

use crate::support::{
    ControlPlane,
    node::{Node, hello},
    within,
};

/// The credentials of a joined node.
#[derive(Clone)]
pub struct Member {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    pub authority: Vec<u8>,
}

/// How a call is sent.
#[derive(Clone, Copy)]
pub enum By<'a> {
    Plain,
    /// Over TLS, without verifying the server.
    Anonymous,
    Node(&'a Member),
}

/// Accepts any server certificate: these tests are about the server's checks.
#[derive(Debug)]
pub struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

pub fn tls(member: Option<&Member>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let mut config = match member {
        None => {
            let anybody = Arc::new(AnyServer(provider));
            builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
        }
        Some(Member { certificate, key, authority }) => {
            // The authority returned to the node must be the one that signed the port's certificate.
            let mut roots = RootCertStore::empty();
            roots.add(authority.clone().into()).unwrap();
            let key = PrivateKeyDer::Pkcs8(key.clone().into());
            builder
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![certificate.clone().into()], key)
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Calls a method; returns the status and the response. `Err`: no connection.
pub async fn call(
    control_plane: &ControlPlane,
    by: By<'_>,
    method: &str,
    message: &impl Message,
) -> Result<(Code, String, Bytes), String> {
    trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
    impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Io for T {}
    let exchange = async {
        let stream = TcpStream::connect(control_plane.nodes()).await.unwrap();
        let member = match by {
            By::Node(member) => Some(member),
            By::Plain | By::Anonymous => None,
        };
        let stream: Box<dyn Io> = if matches!(by, By::Plain) {
            Box::new(stream)
        } else {
            let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(member)));
            let name = ServerName::try_from(SERVER_NAME).unwrap();
            Box::new(connector.connect(name, stream).await.map_err(|error| error.to_string())?)
        };
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut body = vec![0];
        body.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut body).unwrap();
        let request = http::Request::post(format!("http://nodes{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = sender.send_request(request).await.map_err(|error| format!("{error:?}"))?;
        let (head, body) = response.into_parts();
        let collected = body.collect().await.map_err(|error| format!("{error:?}"))?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let header = |name: &str| head.headers.get(name).or(trailers.get(name)).cloned();
        let code = header("grpc-status").map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
        let decode = |text: &http::HeaderValue| {
            percent_encoding::percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned()
        };
        let message = header("grpc-message").as_ref().map(decode).unwrap_or_default();
        let bytes = collected.to_bytes();
        Ok((code, message, bytes.slice(bytes.len().min(5)..)))
    };
    within("an answer", exchange).await
}

pub async fn code(control_plane: &ControlPlane, by: By<'_>, method: &str, message: &impl Message) -> Code {
    call(control_plane, by, method, message).await.unwrap().0
}

pub async fn node_token(control_plane: &ControlPlane, body: Value) -> (String, i64) {
    let made = control_plane.call("POST", "/node-tokens", &body.to_string()).await.expect(201);
    (made["token"].as_str().unwrap().to_owned(), made["id"].as_i64().unwrap())
}

pub async fn join(control_plane: &ControlPlane, token: &str, node: &str) -> Result<Member, (Code, String)> {
    join_as(control_plane, token, node, "boot").await
}

pub async fn join_as(
    control_plane: &ControlPlane,
    token: &str,
    node: &str,
    boot: &str,
) -> Result<Member, (Code, String)> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let request = v1::JoinRequest {
        token: token.into(),
        node_id: node.into(),
        public_key: key.public_key_raw().to_vec(),
        boot_id: boot.into(),
    };
    let (code, why, bytes) =
        call(control_plane, By::Anonymous, "/weir.v1.Enrollment/Join", &request).await.unwrap();
    if code != Code::Ok {
        return Err((code, why));
    }
    let v1::JoinResponse { certificate, authority, expires_in_ms } = v1::JoinResponse::decode(bytes).unwrap();
    assert!(expires_in_ms > 6 * 24 * 3600 * 1000 && expires_in_ms <= 7 * 24 * 3600 * 1000, "{expires_in_ms}");
    Ok(Member { certificate, key: key.serialize_der(), authority })
}

pub fn report(node: &str) -> v1::ReportRequest {
    v1::ReportRequest {
        format: FORMAT,
        node_id: node.into(),
        boot_id: "boot".into(),
        sequence: 1,
        sent_at_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap(),
        ..v1::ReportRequest::default()
    }
}

pub const REPORT: &str = "/weir.v1.Nodes/Report";

pub async fn guarded() -> ControlPlane {
    ControlPlane::start_with(|config| config.nodes_tls = true).await
}

pub async fn refusals(control_plane: &ControlPlane) -> Vec<String> {
    let list = control_plane.get("/audit?limit=1000").await;
    let refused = list["items"].as_array().unwrap().iter().filter(|one| one["outcome"] == "refused");
    refused
        .map(|one| {
            format!(
                "{} {} {}",
                one["actor"].as_str().unwrap(),
                one["action"].as_str().unwrap(),
                one["detail"].as_str().unwrap()
            )
        })
        .collect()
}

/// A node's channel over TLS with a client certificate.
pub async fn member_channel(control_plane: &ControlPlane, member: &Member) -> tonic::transport::Channel {
    let (address, config) = (control_plane.nodes(), Arc::new(tls(Some(member))));
    let connect = tower::service_fn(move |_: http::Uri| {
        let config = Arc::clone(&config);
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from(SERVER_NAME).unwrap();
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = tonic::transport::Channel::builder(http::Uri::from_static("http://nodes:1"));
    endpoint.connect_with_connector(connect).await.unwrap()
}

pub async fn connect_as(control_plane: &ControlPlane, member: &Member, id: &str, boot: &str) -> Node {
    let client = v1::nodes_client::NodesClient::new(member_channel(control_plane, member).await);
    Node::connect_by(client, v1::Hello { boot_id: boot.into(), ..hello(id) }).await
}
