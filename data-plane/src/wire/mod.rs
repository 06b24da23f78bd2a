//! Connections as bytes: streams in the clear and over TLS, buffers, timers, limits of descriptors and of speed.
//! Nothing here knows a route, a pool or a request.

pub(crate) mod buffer;
pub(crate) mod descriptors;
pub(crate) mod keep_alive;
pub(crate) mod pace;
mod socket;
pub(crate) mod stream;
pub(crate) mod timer;
pub(crate) mod tls;
pub(crate) mod tunnel;
pub(crate) mod watch;
