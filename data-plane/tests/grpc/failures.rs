//! Failures: deadlines, calls that either side gives up, and lost backends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{net::TcpListener, sync::Notify};
use tonic::Code;

use crate::{
    ends::{Backend, Client, config_of, request, within_time},
    support::{
        wire::{Kind, Wire},
        within,
    },
};

#[tokio::test]
async fn a_deadline_reaches_the_backend_and_ends_the_call_on_both_sides() {
    let mut backend = Backend::start().await;
    let wire = Wire::start(backend.config()).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        let asked = within_time(request("x", &[]), Duration::from_secs(3600));
        let answer = within(client.unary("Unary", asked)).await.unwrap();
        let told = answer.metadata().get("x-echo-grpc-timeout").unwrap().to_str().unwrap().to_owned();
        let (number, unit) = told.split_at(told.len() - 1);
        let seconds = match unit {
            "S" => 1,
            "m" => 1_000,
            "u" => 1_000_000,
            _ => panic!("{told}"),
        };
        assert_eq!(number.parse::<u64>().unwrap() / seconds, 3600, "{told}");

        let asked = within_time(request("x", &[]), Duration::from_millis(300));
        let status = within(client.unary("Hang", asked)).await.unwrap_err();
        assert!(matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded), "{status:?}");
        assert!(backend.began().await.get("grpc-timeout").is_some());
        backend.given_up().await;
    }
}

#[tokio::test]
async fn a_client_that_gives_up_a_call_ends_the_backends_work() {
    let mut backend = Backend::start().await;
    let wire = Wire::start(backend.config()).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        // Before the response head.
        {
            let mut call = Box::pin(client.unary("Hang", request("x", &[])));
            tokio::select! {
                answer = &mut call => panic!("{answer:?}"),
                _ = backend.began() => {}
            }
        }
        backend.given_up().await;
        // Within the response.
        let mut answer = within(client.server_streaming("HangWithin", request("first", &[]))).await.unwrap();
        backend.began().await;
        assert_eq!(within(answer.message()).await.unwrap().unwrap(), "first");
        drop(answer);
        backend.given_up().await;
        // The connection can still be used.
        assert_eq!(within(client.unary("Unary", request("next", &[]))).await.unwrap().get_ref(), "next");
    }
}

#[tokio::test]
async fn a_client_that_is_gone_ends_the_backends_work() {
    let mut backend = Backend::start().await;
    let wire = Wire::start(backend.config()).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        let answer = within(client.server_streaming("HangWithin", request("first", &[]))).await.unwrap();
        backend.began().await;
        drop((answer, client));
        backend.given_up().await;
    }
}

/// A backend that answers each call with a head and a message, and resets the stream when notified.
async fn resetting_within(reason: h2::Reason) -> (SocketAddr, Arc<Notify>) {
    let told = Arc::new(Notify::new());
    let reset = Arc::clone(&told);
    let answer = move |mut respond: h2::server::SendResponse<Bytes>| {
        let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(&[0, 0, 0, 0, 1, b'x']), false).unwrap();
        let reset = Arc::clone(&reset);
        tokio::spawn(async move {
            reset.notified().await;
            body.send_reset(reason);
        });
    };
    (backend(answer).await, told)
}

/// A backend with this answer to each call.
async fn backend(answer: impl Fn(h2::server::SendResponse<Bytes>) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, respond))) = connection.accept().await {
                    answer(respond);
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_backend_that_gives_up_a_call_ends_it_for_the_client() {
    for (reason, code) in
        [(h2::Reason::CANCEL, Code::Cancelled), (h2::Reason::INTERNAL_ERROR, Code::Internal)]
    {
        let (address, reset) = resetting_within(reason).await;
        let wire = Wire::start(config_of(address)).await;
        for kind in Kind::HTTP2 {
            let client = Client::connect(&wire, kind).await;
            let mut answer = within(client.server_streaming("Any", request("x", &[]))).await.unwrap();
            assert_eq!(within(answer.message()).await.unwrap().unwrap(), "x");
            reset.notify_one();
            let status = within(answer.message()).await.unwrap_err();
            // The code of a failed call may differ, but it must not look successful.
            println!("{kind:?}, {reason:?}: {:?}, directly {code:?}", status.code());
            assert_ne!(status.code(), Code::Ok);
        }
    }
}

#[tokio::test]
async fn a_reset_without_an_answer_is_a_failure_that_is_told() {
    let address = backend(|mut respond| respond.send_reset(h2::Reason::INTERNAL_ERROR)).await;
    let wire = Wire::start(config_of(address)).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        let status = within(client.unary("Any", request("x", &[]))).await.unwrap_err();
        assert!(matches!(status.code(), Code::Unavailable | Code::Internal | Code::Unknown), "{status:?}");
    }
}

#[tokio::test]
async fn a_lost_backend_never_ends_a_call_well() {
    for kind in Kind::HTTP2 {
        let mut backend = Backend::start().await;
        let wire = Wire::start(backend.config()).await;
        let client = Client::connect(&wire, kind).await;
        let mut answer = within(client.server_streaming("HangWithin", request("first", &[]))).await.unwrap();
        backend.began().await;
        assert_eq!(within(answer.message()).await.unwrap().unwrap(), "first");
        drop(backend);
        let status = within(answer.message()).await.unwrap_err();
        assert_ne!(status.code(), Code::Ok);
        // There is no backend for the next call.
        let status = within(client.unary("Unary", request("x", &[]))).await.unwrap_err();
        assert_ne!(status.code(), Code::Ok);
    }
}

#[tokio::test]
async fn an_error_of_the_node_is_a_status_of_grpc() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let wire = Wire::start(config_of(nobody)).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        let status = within(client.unary("Unary", request("x", &[]))).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{kind:?}: {status:?}");
    }
}

#[tokio::test]
async fn a_drain_lets_calls_end_in_order() {
    for kind in Kind::HTTP2 {
        let backend = Backend::start().await;
        let mut wire = Wire::start(backend.config()).await;
        let client = Client::connect(&wire, kind).await;
        let (say, mut hear) = within(client.both("Each")).await.unwrap();
        wire.node.terminate();
        wire.node.ask_until("/readyz", |answer| answer.body.contains("draining")).await;
        for n in 0..20 {
            say.send(format!("{n}").into()).unwrap();
            assert_eq!(within(hear.message()).await.unwrap().unwrap(), format!("{n}"));
        }
        drop(say);
        assert!(within(hear.message()).await.unwrap().is_none());
        drop((hear, client));
        assert!(wire.node.ended().await.success());
    }
}
