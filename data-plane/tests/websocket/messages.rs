//! Every kind of message arrives unchanged: the bytes on both sides of the node are equal, and the messages are those
//! of a direct connection.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{
        CloseFrame,
        frame::{
            Frame,
            coding::{CloseCode, Data, OpCode},
        },
    },
};
use weir_snapshot::config::Protocol;

use crate::{
    ends::{Echo, Socket, Speaks, connect, connect_directly},
    support::{
        wire::{Kind, Wire, config},
        within,
    },
};

/// 16 MB of varying bytes.
fn large() -> Bytes {
    (0..4_u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<u8>>().into()
}

fn fragment(code: Data, text: &str, last: bool) -> Message {
    Message::Frame(Frame::message(text.to_owned(), OpCode::Data(code), last))
}

/// Sends all kinds of messages and receives all of them back.
async fn talk(socket: &mut Socket, large: &Bytes, code: u16) -> Vec<Message> {
    let said = [
        vec![Message::text("")],
        vec![Message::text("grüße, \u{1f30a}")],
        vec![Message::binary(vec![0, 255, 13, 10])],
        vec![
            fragment(Data::Text, "one, ", false),
            Message::Ping("between".into()),
            fragment(Data::Continue, "", false),
            fragment(Data::Continue, "two", true),
        ],
        vec![
            Message::binary("x".repeat(125)),
            Message::binary("x".repeat(126)),
            Message::binary("x".repeat(65_536)),
        ],
        vec![Message::Ping(Bytes::from(vec![7; 125]))],
        vec![Message::Pong("unasked".into())],
        vec![Message::Binary(large.clone())],
        vec![Message::text("last")],
    ];
    let mut heard = Vec::new();
    {
        let (mut sink, mut stream) = (&mut *socket).split();
        let sending = async {
            for message in said.into_iter().flatten() {
                sink.send(message).await.unwrap();
            }
        };
        let hearing = async {
            loop {
                let message = stream.next().await.expect("more").unwrap();
                let last = message == Message::text("last");
                heard.push(message);
                if last {
                    break;
                }
            }
        };
        tokio::join!(sending, hearing);
    }
    let close = CloseFrame { code: CloseCode::from(code), reason: "enough".into() };
    socket.close(Some(close.clone())).await.unwrap();
    let answer = socket.next().await.expect("a close").unwrap();
    assert_eq!(answer, Message::Close(Some(close)));
    heard.push(answer);
    assert!(socket.next().await.is_none_or(|end| end.is_err()));
    heard
}

async fn talks_as_without_a_proxy(kinds: &[Kind], speaks: Speaks) {
    let mut echo = Echo::start(speaks).await;
    let mut config = config(&[echo.url()]);
    if speaks == Speaks::Http2 {
        config.pools[0].protocol = Protocol::Http2;
    }
    let wire = Wire::start(config).await;
    if speaks == Speaks::Http2 {
        // The limits of a connection to a backend are known once it has been used.
        assert_eq!(wire.node.get("/").await.status, 200);
    }
    let large = large();
    let mut direct = Echo::start(Speaks::Http1).await;
    let (mut socket, _) = connect_directly(direct.address).await;
    let heard_directly = within(talk(&mut socket, &large, 4001)).await;
    let seen_directly = within(direct.seen.recv()).await.unwrap();
    for kind in kinds {
        let (mut socket, at_client) = within(connect(&wire, *kind)).await;
        let heard = within(talk(&mut socket, &large, 4001)).await;
        drop(socket);
        let seen = within(echo.seen.recv()).await.unwrap();
        assert!(heard == heard_directly, "{kind:?}: other messages came back");
        assert!(seen.messages == seen_directly.messages, "{kind:?}: other messages arrived");
        let (at_client, at_backend) = (at_client.lock().unwrap(), seen.record.lock().unwrap());
        assert!(at_client.written == at_backend.read, "{kind:?}: other bytes arrived");
        assert!(at_client.read == at_backend.written, "{kind:?}: other bytes came back");
    }
}

#[tokio::test]
async fn messages_pass_http1_byte_for_byte() {
    talks_as_without_a_proxy(&Kind::HTTP1, Speaks::Http1).await;
}

#[tokio::test]
async fn messages_pass_http2_streams_byte_for_byte() {
    talks_as_without_a_proxy(&Kind::HTTP2, Speaks::Http1).await;
}

#[tokio::test]
async fn messages_pass_to_backends_of_http2_byte_for_byte() {
    talks_as_without_a_proxy(&Kind::ALL, Speaks::Http2).await;
}

#[tokio::test]
async fn every_close_code_passes() {
    let mut echo = Echo::start(Speaks::Http1).await;
    let wire = Wire::start(config(&[echo.url()])).await;
    for kind in Kind::ALL {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4999] {
            let (mut socket, _) = within(connect(&wire, kind)).await;
            let close = CloseFrame { code: CloseCode::from(code), reason: "\u{e9}".repeat(61).into() };
            socket.close(Some(close.clone())).await.unwrap();
            assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::Close(Some(close.clone())));
            drop(socket);
            assert_eq!(within(echo.seen.recv()).await.unwrap().messages, [Message::Close(Some(close))]);
        }
    }
}

#[tokio::test]
async fn a_websocket_may_be_the_first_on_a_connection_to_a_backend_of_http2() {
    let echo = Echo::start(Speaks::Http2).await;
    let mut config = config(&[echo.url()]);
    config.pools[0].protocol = Protocol::Http2;
    let wire = Wire::start(config).await;
    let (mut socket, _) = within(connect(&wire, Kind::Http1)).await;
    socket.send(Message::text("first")).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::text("first"));
}
