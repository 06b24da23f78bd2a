//! One attempt at one backend, over a reused or a new connection.
//!
//! Reads and writes happen in the request's own future; for HTTP/1 nothing is spawned, boxed or locked.

pub(crate) mod http1;
pub(crate) mod http2;
mod response;
mod upgrade;
mod upload;

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use weir_http::{Limits, RequestHead, ResponseHead};
use weir_snapshot::{RouteOverrides, backend_address, config::Protocol};

pub(crate) use self::{
    response::{Progress, Response, ResponseBody},
    upload::Upload,
};
use crate::{
    connections::Connections,
    failure::Failure,
    pool::{
        ActivePool,
        backend::{InFlight, Member},
    },
    wire::{
        descriptors::{self, BackendDescriptor},
        stream::Stream,
        timer::Timer,
        tls::BackendTls,
        watch::Watch,
    },
    worker::Worker,
};

/// Most interim responses (1xx) to one request.
const MAX_INTERIM: u32 = 100;

/// Inputs of one attempt, besides the request.
pub(crate) struct Attempt<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) timer: &'a Timer,
    pub(crate) pool: &'a ActivePool,
    pub(crate) member: &'a Member,
    /// The route's timeouts, which override the pool's.
    pub(crate) bounds: &'a RouteOverrides,
    /// This worker's connections to the backend.
    pub(crate) connections: &'a Rc<Connections>,
    pub(crate) is_head: bool,
    /// The request, if it offers an upgrade; only then may the response be a 101.
    pub(crate) offers: Option<&'a RequestHead>,
}

impl Attempt<'_> {
    /// Sends the request and waits for the head of the response; `write_head` writes the request's head as HTTP/1.1.
    ///
    /// # Errors
    /// There was no response, or none that can be forwarded.
    pub(crate) async fn run(
        self,
        in_flight: InFlight,
        upload: &mut Upload,
        write_head: impl Fn(&mut Vec<u8>),
        watch: impl Watch,
    ) -> Result<Box<Response>, Failure> {
        match self.pool.protocol {
            Protocol::Http1 => http1::send(self, in_flight, upload, write_head, watch).await,
            // Boxed, so that it does not enlarge the future of every HTTP/1 request.
            Protocol::Http2 => Box::pin(http2::send(self, in_flight, upload, write_head, watch)).await,
        }
    }

    async fn connect(&self, watch: &mut impl Watch) -> Result<(Stream, std::net::SocketAddr), Failure> {
        let state = &self.member.state;
        let addresses = state.addresses();
        let deadline = Instant::now() + self.pool.timeouts.connect;
        let mut last = None;
        for (tried, address) in addresses.starting_at_current().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let within = backend_address::time_per_address(left, addresses.all().len() - tried);
            match self.connect_to(address, within, watch).await {
                Ok(stream) => return Ok((stream, address)),
                Err(failure @ (Failure::Connect(_) | Failure::Handshake(_))) => {
                    addresses.failed(address);
                    last = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        let none = || Failure::Connect(std::io::Error::other(state.without_address()));
        Err(last.unwrap_or_else(none))
    }

    async fn connect_to(
        &self,
        address: std::net::SocketAddr,
        within: Duration,
        watch: &mut impl Watch,
    ) -> Result<Stream, Failure> {
        let descriptor = self.descriptor()?;
        let stream = Stream::connect(address, descriptor, self.timer, within, |cx| watch.poll(cx)).await?;
        if !self.pool.keep_alive.tcp.is_zero() {
            stream.keep_alive(self.pool.keep_alive.tcp);
        }
        let Some(secured) = &self.member.secured else { return Ok(stream) };
        // Boxed, so that it does not enlarge the future for cleartext connections.
        let shaken = Box::pin(self.handshake(stream, secured, watch)).await;
        if let Err(failure @ Failure::Handshake(_)) = &shaken
            && self.member.state.may_log_problem()
        {
            let state = &self.member.state;
            tracing::warn!(backend = %state.id, url = %state.url, %address, %failure, "TLS handshake with a backend failed");
        }
        shaken
    }

    /// A descriptor for one more connection. Unused connections are closed if needed.
    fn descriptor(&self) -> Result<BackendDescriptor, Failure> {
        let found = descriptors::backend().or_else(|| {
            self.worker.close_idle();
            descriptors::backend()
        });
        found.ok_or_else(|| Failure::Connect(descriptors::exhausted()))
    }

    async fn handshake(
        &self,
        stream: Stream,
        secured: &BackendTls,
        watch: &mut impl Watch,
    ) -> Result<Stream, Failure> {
        let buffers = Rc::clone(&self.worker.buffers);
        let stream = stream.connect_tls(secured, buffers, self.timer, |cx| watch.poll(cx)).await?;
        if self.pool.protocol == Protocol::Http2 && !stream.is_http2() {
            let error = std::io::Error::other(
                "the backend does not offer HTTP/2 (ALPN), which protocol: http2 asks for",
            );
            return Err(Failure::Handshake(error));
        }
        Ok(stream)
    }

    fn response_timeout(&self) -> Duration {
        let response = self.bounds.response.unwrap_or(self.pool.timeouts.response);
        self.pool.resilience.retry.per_attempt.map_or(response, |limit| limit.min(response))
    }

    /// Longest pause of the response's body; zero: no limit.
    fn response_body_timeout(&self, head: &ResponseHead, is_event_stream: bool) -> Duration {
        match self.bounds.response_body {
            Some(given) => given,
            // Streams of events and messages may pause for any time.
            None if is_event_stream || head.is_grpc() => Duration::ZERO,
            None => self.pool.timeouts.response_body,
        }
    }

    /// Limits of a response's head.
    fn head_limits(&self) -> Limits {
        let limits = &self.pool.resilience.limits;
        Limits {
            max_head: limits.max_response_head,
            max_fields: limits.max_response_headers,
            ..Limits::default()
        }
    }
}
