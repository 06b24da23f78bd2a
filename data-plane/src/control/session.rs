//! Keeps a stream to the control plane open: when one ends, the next begins.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::mpsc;
use tonic::{Code, transport::Channel};
use weir_proto::{
    FORMAT,
    v1::{
        self, SubscribeRequest, nodes_client::NodesClient, subscribe_request::Message as Outgoing,
        subscribe_response::Message as Incoming,
    },
};

use super::{State, apply::take, load::load};
use crate::stats::Events;

/// The shortest and longest wait before the control plane is tried again.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A stream that lasted this long counts as successful.
const GOOD: Duration = Duration::from_secs(2);

/// Minimum time between two load reports.
const LOAD_EVERY: Duration = Duration::from_secs(1);

/// Maximum time between two load reports, in seconds.
const LOAD_AT_LEAST: u64 = 10;

/// Keeps the control stream open forever.
pub(crate) async fn run(state: Arc<State>, channel: Channel, mut events: Events) {
    let mut wait = WAIT.0;
    let mut is_logged = false;
    // The last reason of a rejection.
    let mut refusal = String::new();
    loop {
        let begun = tokio::time::Instant::now();
        let result = subscribe(&state, channel.clone(), &mut events).await;
        // The watchers are on the other side of the stream.
        state.tap.watch(Vec::new());
        state.tap.lost(events.clear());
        // A stream that ends at once is no better than none.
        let was_connected = state.connected.swap(false, Relaxed);
        if was_connected && begun.elapsed() >= GOOD {
            wait = WAIT.0;
            is_logged = false;
        }
        // Failures are logged once and not at each try. A rejection says what to do, so each new one is logged.
        let error = result.err();
        let reason = error.as_ref().map_or_else(|| "stream ended".to_owned(), ToString::to_string);
        if error.is_some_and(|error| error.is::<Refusal>()) {
            if refusal != reason {
                tracing::warn!(reason, "the control plane rejected this node, trying again");
                refusal = reason;
            }
            is_logged = true;
        } else if !is_logged {
            is_logged = true;
            match was_connected {
                // Why the control plane closed it, the next attempt learns.
                true => tracing::warn!(reason, "connection to the control plane lost, connecting again"),
                false => tracing::warn!(reason, "control plane not reachable, trying again"),
            }
        }
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
        wait = (wait * 2).min(WAIT.1);
    }
}

async fn subscribe(state: &Arc<State>, channel: Channel, events: &mut Events) -> anyhow::Result<()> {
    let tap = &state.tap;
    let (outgoing, requests) = mpsc::channel(64);
    let running = state.running();
    outgoing
        .send(request(Outgoing::Hello(v1::Hello {
            node_id: state.identity.node_id.clone(),
            boot_id: state.identity.boot_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: state.identity.address.clone(),
            workers: u32::try_from(state.workers.count()).unwrap_or(u32::MAX),
            labels: state.identity.labels.clone(),
            format: FORMAT,
            active_revision: running.as_ref().map_or(0, |running| running.revision),
            active_hash: running.as_ref().map_or_else(String::new, |running| running.hash.to_string()),
        })))
        .await?;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut client = NodesClient::new(channel).max_decoding_message_size(256 << 20);
    let mut stream = client.subscribe(requests).await.map_err(|status| refused(state, &status))?.into_inner();
    state.connected.store(true, Relaxed);
    tracing::info!(node = state.identity.node_id, "control plane connected");

    let mut last = v1::Load::default();
    let mut ticks = tokio::time::interval(LOAD_EVERY);
    let mut quiet = LOAD_AT_LEAST;
    loop {
        tokio::select! {
            message = stream.message() => {
                let Some(message) = message.map_err(|status| refused(state, &status))? else { return Ok(()) };
                match message.message {
                    Some(Incoming::Tail(v1::Tail { filters })) => tap.watch(filters),
                    message => if let Some(answer) = take(state, message).await {
                        outgoing.send(request(answer)).await?;
                    }
                }
            }
            seen = events.next() => {
                let (dropped, count) = (tap.unreported(), seen.len() as u64);
                // Tail events may be lost, so that nothing else waits for them.
                match outgoing.try_send(request(Outgoing::Tail(v1::TailEvents { events: seen, dropped }))) {
                    Ok(()) => tap.mark_reported(dropped),
                    Err(_) => tap.lost(count),
                }
            }
            _ = ticks.tick() => {
                // Reports events that were dropped since the last message.
                let dropped = tap.unreported();
                let report = v1::TailEvents { events: Vec::new(), dropped };
                if dropped > 0 && outgoing.try_send(request(Outgoing::Tail(report))).is_ok() {
                    tap.mark_reported(dropped);
                }
                let load = load(state);
                quiet += 1;
                if load != last || quiet >= LOAD_AT_LEAST {
                    let clock_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                    let clock_ms = u64::try_from(clock_ms).unwrap_or_default();
                    outgoing.send(request(Outgoing::Load(v1::Load { clock_ms, ..load.clone() }))).await?;
                    last = load;
                    quiet = 0;
                }
            }
        }
    }
}

/// The control plane may no longer know this node's certificate.
fn refused(state: &State, status: &tonic::Status) -> anyhow::Error {
    state.membership.doubt(status);
    let reason = crate::enroll::reason(status);
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::AlreadyExists | Code::FailedPrecondition => {
            Refusal(reason).into()
        }
        _ => anyhow::anyhow!(reason),
    }
}

/// The control plane answered and rejected this node.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn request(message: Outgoing) -> SubscribeRequest {
    SubscribeRequest { message: Some(message) }
}
