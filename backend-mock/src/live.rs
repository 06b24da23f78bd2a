//! Long-lived responses: a WebSocket that echoes, and a stream of events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{
        Query, State, WebSocketUpgrade,
        rejection::QueryRejection,
        ws::{Message, WebSocket},
    },
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use serde::Deserialize;

use crate::{Shop, problem, server::Stopping};

pub(crate) async fn websocket(State(shop): State<Arc<Shop>>, upgrade: WebSocketUpgrade) -> Response {
    let stopping = shop.stopping.clone();
    upgrade.on_upgrade(move |socket| echo(socket, stopping))
}

async fn echo(mut socket: WebSocket, mut stopping: Stopping) {
    loop {
        let received = tokio::select! {
            received = socket.recv() => received,
            () = stopping.stopped() => {
                let _ = socket.send(Message::Close(None)).await;
                return;
            }
        };
        let answer = match received {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => message,
            // The library answers pings and closes by itself.
            Some(Ok(_)) => continue,
            Some(Err(_)) | None => return,
        };
        if socket.send(answer).await.is_err() {
            return;
        }
    }
}

/// `n` events (0: endless), `ms` milliseconds apart.
#[derive(Deserialize)]
pub(crate) struct Events {
    #[serde(default = "ten")]
    n: u64,
    #[serde(default)]
    ms: u64,
}

fn ten() -> u64 {
    10
}

pub(crate) async fn events(
    State(shop): State<Arc<Shop>>,
    query: Result<Query<Events>, QueryRejection>,
) -> Response {
    let Events { n, ms } = match query {
        Ok(Query(events)) => events,
        Err(rejection) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &rejection.body_text()),
    };
    let events = stream::unfold((0, shop.stopping.clone()), move |(i, mut stopping)| async move {
        if n != 0 && i >= n {
            return None;
        }
        if i > 0 && ms > 0 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(ms)) => {}
                () = stopping.stopped() => return None,
            }
        }
        let event = Event::default().id(i.to_string()).data(format!("event {i}"));
        Some((Ok::<_, Infallible>(event), (i + 1, stopping)))
    });
    Sse::new(events).into_response()
}
