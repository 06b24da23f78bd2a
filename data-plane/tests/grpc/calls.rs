//! Calls of all four kinds: metadata, trailers, and messages larger than the flow-control windows.

use bytes::Bytes;
use futures_util::future::join_all;
use tonic::{Code, metadata::MetadataValue};

use crate::{
    ends::{Backend, Client, request},
    support::{
        wire::{Kind, Wire},
        within,
    },
};

#[tokio::test]
async fn a_call_and_its_metadata_pass() {
    let backend = Backend::start().await;
    let wire = Wire::start(backend.config()).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        let mut asked = request("hello", &[("x-text", "some text")]);
        asked.metadata_mut().insert_bin("x-data-bin", MetadataValue::from_bytes(&[0, 255, 13, 10]));
        let answer = within(client.unary("Unary", asked)).await.unwrap();
        assert_eq!(answer.get_ref(), "hello");
        let metadata = answer.metadata();
        assert_eq!(metadata.get("x-echo-x-text").unwrap(), "some text");
        assert_eq!(metadata.get("x-echo-te").unwrap(), "trailers");
        assert_eq!(metadata.get("x-echo-content-type").unwrap(), "application/grpc");
        assert!(metadata.get("x-echo-user-agent").unwrap().to_str().unwrap().starts_with("tonic/"));
        assert_eq!(&metadata.get_bin("x-echo-data-bin").unwrap().to_bytes().unwrap()[..], [0, 255, 13, 10]);
        assert_eq!(metadata.get("grpc-status").unwrap(), "0");
    }
}

#[tokio::test]
async fn every_status_passes_where_there_are_only_trailers() {
    let backend = Backend::start().await;
    let wire = Wire::start(backend.config()).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        for code in 1..=16 {
            let failure = within(client.unary("Unary", request("x", &[("x-fail", &code.to_string())]))).await;
            let status = failure.unwrap_err();
            assert_eq!(status.code(), Code::from(code), "{kind:?}");
            assert_eq!(status.message(), "grüße: 100 %\n");
            assert_eq!(status.details(), [1, 0, 2]);
            assert_eq!(status.metadata().get("x-why").unwrap(), "as asked");
            assert_eq!(
                &status.metadata().get_bin("x-why-bin").unwrap().to_bytes().unwrap()[..],
                [0, 255, 10]
            );
        }
        let status = within(client.unary("Nothing", request("x", &[]))).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
    }
}

#[tokio::test]
async fn many_messages_come_and_their_status_after_them() {
    let backend = Backend::start().await;
    let wire = Wire::start(backend.config()).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        for fail in [None, Some(Code::Aborted)] {
            let code = fail.map_or(0, |code| code as i32).to_string();
            let fields: Vec<_> = [("x-size", "100"), ("x-fail", code.as_str())]
                .into_iter()
                .take(1 + usize::from(fail.is_some()))
                .collect();
            let mut answer = within(client.server_streaming("Many", request("1000", &fields))).await.unwrap();
            for n in 0..1000_u32 {
                assert_eq!(within(answer.message()).await.unwrap().unwrap(), vec![n as u8; 100]);
            }
            match fail {
                None => {
                    assert!(within(answer.message()).await.unwrap().is_none());
                    let trailers = within(answer.trailers()).await.unwrap();
                    assert!(trailers.is_some());
                }
                Some(code) => assert_eq!(within(answer.message()).await.unwrap_err().code(), code),
            }
        }
    }
}

#[tokio::test]
async fn many_messages_are_taken() {
    let backend = Backend::start().await;
    let wire = Wire::start(backend.config()).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        let messages = tokio_stream::iter((0..2000).map(|n| Bytes::from(vec![1; n])));
        let answer = within(client.client_streaming("Sum", messages)).await.unwrap();
        assert_eq!(*answer.get_ref(), format!("2000 {}", 1999 * 2000 / 2));
    }
}

#[tokio::test]
async fn both_sides_speak_in_turn() {
    let backend = Backend::start().await;
    let wire = Wire::start(backend.config()).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        let (say, mut hear) = within(client.both("Each")).await.unwrap();
        for n in 0..200 {
            say.send(format!("{kind:?} {n}").into()).unwrap();
            // The next message is sent only when this one has come back: any buffering blocks the test.
            assert_eq!(within(hear.message()).await.unwrap().unwrap(), format!("{kind:?} {n}"));
        }
        drop(say);
        assert!(within(hear.message()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn messages_of_four_megabytes_pass_both_ways() {
    let backend = Backend::start().await;
    let wire = Wire::start(backend.config()).await;
    let large: Bytes = (0..1_u32 << 20)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect::<Vec<u8>>()
        .into();
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        let answer = within(client.unary("Unary", request(large.clone(), &[]))).await.unwrap();
        assert!(*answer.get_ref() == large, "{kind:?}: another message came back");
        let (say, mut hear) = within(client.both("Each")).await.unwrap();
        for _ in 0..3 {
            say.send(large.clone()).unwrap();
        }
        for _ in 0..3 {
            assert!(
                within(hear.message()).await.unwrap().unwrap() == large,
                "{kind:?}: another message came back"
            );
        }
    }
}

#[tokio::test]
async fn a_call_that_nobody_reads_holds_no_other_up() {
    let backend = Backend::start().await;
    let wire = Wire::start(backend.config()).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        let asked = request("64", &[("x-size", "1000000")]);
        let mut unread = within(client.server_streaming("Many", asked)).await.unwrap();
        for n in 0..50 {
            let answer = within(client.unary("Unary", request(format!("{n}"), &[]))).await.unwrap();
            assert_eq!(*answer.get_ref(), format!("{n}"));
        }
        for n in 0..64_u8 {
            assert!(within(unread.message()).await.unwrap().unwrap() == vec![n; 1_000_000]);
        }
        assert!(within(unread.message()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn two_hundred_calls_run_at_once() {
    let backend = Backend::start().await;
    let wire = Wire::start(backend.config()).await;
    for kind in Kind::HTTP2 {
        let client = Client::connect(&wire, kind).await;
        let calls = (0..200).map(|n| {
            let client = &client;
            async move {
                let (say, mut hear) = client.both("Each").await.unwrap();
                for round in 0..5 {
                    let text = format!("{n} {round}");
                    say.send(text.clone().into()).unwrap();
                    assert_eq!(hear.message().await.unwrap().unwrap(), text);
                }
            }
        });
        within(join_all(calls)).await;
    }
}
