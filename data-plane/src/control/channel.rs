//! How the control plane is reached.

use std::time::Duration;

use anyhow::Context as _;
use tonic::transport::Channel;

use crate::{
    config::{Config, endpoint},
    enroll::Membership,
};

/// A channel that connects when it is first used, and again whenever it has to, each time as the member that the node is by
/// then.
///
/// # Errors
/// The URL is invalid.
pub(crate) fn channel(config: &Config, membership: &Membership) -> anyhow::Result<Channel> {
    let url = &config.control_plane;
    let endpoint = endpoint(url).with_context(|| {
        format!("--control-plane {url:?} is not https://HOST:PORT, unix:PATH or http://HOST:PORT")
    })?;
    let membership = membership.clone();
    let connect = tower::service_fn(move |uri: http::Uri| {
        let membership = membership.clone();
        async move {
            let authority =
                uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
            membership.connect(&authority).await.map(hyper_util::rt::TokioIo::new)
        }
    });
    Ok(endpoint
        .connect_timeout(Duration::from_secs(3))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connect))
}
