//! How the control plane is reached.

use std::time::Duration;

use anyhow::Context as _;
use tonic::transport::{Channel, Endpoint};

use crate::Config;

/// A channel that connects when it is first used, and again whenever it has to.
///
/// # Errors
/// The URL is none.
pub(crate) fn channel(config: &Config) -> anyhow::Result<Channel> {
    let url = &config.control_plane;
    let endpoint = Endpoint::from_shared(url.clone())
        .ok()
        .filter(|endpoint| endpoint.uri().scheme_str() == Some("http") && endpoint.uri().port().is_some())
        .with_context(|| format!("--control-plane {url:?} is not http://HOST:PORT"))?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(3))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect_lazy())
}
