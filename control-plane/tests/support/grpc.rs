//! Calls any gRPC method by its path without its types; returns how the call ended.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tonic::{Code, Status};

use super::{ControlPlane, within};

/// The descriptors of the services and their messages.
pub fn descriptors() -> prost_types::FileDescriptorSet {
    prost_types::FileDescriptorSet::decode(weir_proto::v1::DESCRIPTOR_SET).unwrap()
}

/// The fields of the request (or the response) of a method `/package.Service/Method`, with their numbers.
pub fn fields(method: &str, of_request: bool) -> Vec<(String, u32)> {
    let files = descriptors().file;
    let (service, rpc) = method.trim_start_matches('/').split_once('/').unwrap();
    let services = files.iter().flat_map(|file| {
        file.service.iter().map(move |service| (format!("{}.{}", file.package(), service.name()), service))
    });
    let (_, service) = services.into_iter().find(|(name, _)| name == service).unwrap();
    let rpc = service.method.iter().find(|one| one.name() == rpc).unwrap();
    let name = if of_request { rpc.input_type() } else { rpc.output_type() };
    let mut messages = files.iter().flat_map(|file| {
        file.message_type
            .iter()
            .map(move |message| (format!(".{}.{}", file.package(), message.name()), message))
    });
    let (_, message) = messages.find(|(full, _)| full == name).unwrap();
    message
        .field
        .iter()
        .map(|field| (field.name().to_owned(), u32::try_from(field.number()).unwrap()))
        .collect()
}

/// The number of a field of the method's request.
pub fn number(method: &str, field: &str) -> u32 {
    let found = fields(method, true).into_iter().find(|(name, _)| name == field);
    found.unwrap_or_else(|| panic!("{method}: its request has no field {field}")).1
}

/// Every method of the services with this prefix, as `/package.Service/Method`.
pub fn methods(prefix: &str) -> Vec<String> {
    let mut methods = Vec::new();
    for file in &descriptors().file {
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

/// Calls a method with an empty message; for a stream only the start is awaited.
pub async fn call(control_plane: &ControlPlane, token: Option<&str>, method: &str) -> Code {
    answer(control_plane, token, method, &[]).await.0
}

/// Calls a method with a message; returns the code and the response.
pub async fn answer(
    control_plane: &ControlPlane,
    token: Option<&str>,
    method: &str,
    message: &[u8],
) -> (Code, Vec<u8>) {
    let (status, answered) = status(control_plane, token, method, message).await;
    (status.code(), answered)
}

/// Calls a method with a message; returns the whole status and the response.
pub async fn status(
    control_plane: &ControlPlane,
    token: Option<&str>,
    method: &str,
    message: &[u8],
) -> (Status, Vec<u8>) {
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
        let mut status = Status::from_header_map(response.headers());
        let mut answered = Vec::new();
        if status.is_none() && !method.ends_with("/Tail") {
            let whole = response.into_body().collect().await.unwrap();
            status = whole.trailers().and_then(Status::from_header_map);
            answered = whole.to_bytes().to_vec();
        }
        (status.unwrap_or_else(|| Status::ok("")), answered)
    })
    .await
}
