//! Any gRPC method by its path, without its types: an empty message, and how the call ended.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tonic::Code;

use super::{ControlPlane, within};

/// Every method of the services whose names begin so, as `/package.Service/Method`.
pub fn methods(prefix: &str) -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(weir_proto::v1::DESCRIPTOR_SET).unwrap();
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            if name.starts_with(prefix) {
                methods.extend(service.method.iter().map(|method| format!("/{name}/{}", method.name())));
            }
        }
    }
    assert!(!methods.is_empty(), "{prefix}");
    methods
}

/// Calls a method with an empty message; of a stream only the beginning is awaited.
pub async fn call(control_plane: &ControlPlane, token: Option<&str>, method: &str) -> Code {
    answer(control_plane, token, method, &[]).await.0
}

/// Calls a method with a message; how it ended, and what was answered.
pub async fn answer(
    control_plane: &ControlPlane,
    token: Option<&str>,
    method: &str,
    message: &[u8],
) -> (Code, Vec<u8>) {
    within("an answer", async {
        let stream = TcpStream::connect(control_plane.admin()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::post(format!("http://{}{method}", control_plane.admin()))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let message = Bytes::from([&[0][..], &length, message].concat());
        let request = request.body(Full::new(message)).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200, "{method}");
        let mut status = response.headers().get("grpc-status").cloned();
        let mut answered = Vec::new();
        if status.is_none() && !method.ends_with("/Tail") {
            let whole = response.into_body().collect().await.unwrap();
            status = whole.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
            answered = whole.to_bytes().to_vec();
        }
        (status.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes())), answered)
    })
    .await
}
