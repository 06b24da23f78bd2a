//! Membership in the fleet: the node joins with a token, gets a certificate for its own key, presents it on each
//! connection to the control plane, and renews it in time. Over `http://` and `unix:` there is no certificate.

mod credentials;
mod revocable;
mod token;
mod trust;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::{Notify, watch},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use weir_proto::{
    SERVER_NAME,
    v1::{JoinRequest, JoinResponse, RenewRequest, enrollment_client::EnrollmentClient},
};

use self::{
    credentials::{Credentials, NodeKey, now_ms},
    revocable::Revocable,
    token::{Fingerprint, Source},
    trust::{Shown, client_config},
};
use crate::config::{Config, endpoint, socket};

/// The shortest and longest wait before joining is tried again.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Pause before a certificate is written again after a failure.
const KEEP_AGAIN: Duration = Duration::from_secs(1);

/// Timeout of a call to join, including its connection.
const CALL: Duration = Duration::from_secs(10);

/// A connection to the control plane, in cleartext or over TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// The node's identity towards the control plane. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Membership(Arc<MembershipState>);

struct MembershipState {
    /// `None`: cleartext, or the local socket.
    tls: Option<Joining>,
    /// The control plane's local socket.
    socket: Option<PathBuf>,
}

struct Joining {
    source: Source,
    state_dir: Option<PathBuf>,
    /// TLS settings of connections, or the reason why they are not available yet.
    ready: watch::Sender<Result<Arc<ClientConfig>, String>>,
    /// Notified when the control plane does not know the certificate.
    doubt: Notify,
    /// Ends the connections that were made with an earlier certificate.
    connections: Mutex<CancellationToken>,
    /// The last reason with which the control plane rejected the node.
    refused: Mutex<String>,
}

/// The control plane rejects this process.
struct Refused {
    why: String,
    /// The same certificate will be rejected again; another one may be accepted.
    is_unknown: bool,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { why, is_unknown: false }
    }
}

impl Membership {
    /// Membership according to the flags.
    ///
    /// # Errors
    /// The flags allow no way to join.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        if !config.control_plane.starts_with("https://") {
            let socket = socket(&config.control_plane).map(PathBuf::from);
            return Ok(Self(Arc::new(MembershipState { tls: None, socket })));
        }
        let source = match (&config.node_token, &config.token_file) {
            (Some(text), _) => Source::Text(text.clone()),
            (None, Some(path)) => Source::File(path.clone()),
            (None, None) => Source::None,
        };
        // A file may be written later, but an invalid token of the flags stays invalid.
        if let Source::Text(_) = source {
            source.read().map_err(anyhow::Error::msg)?;
        }
        if matches!(source, Source::None) && config.state_dir.is_none() {
            anyhow::bail!(
                "--control-plane {}: {}",
                config.control_plane,
                source.read().err().unwrap_or_default()
            );
        }
        let ready = watch::Sender::new(Err("not joined yet".to_owned()));
        let joining = Joining {
            source,
            state_dir: config.state_dir.clone(),
            ready,
            doubt: Notify::new(),
            connections: Mutex::default(),
            refused: Mutex::default(),
        };
        Ok(Self(Arc::new(MembershipState { tls: Some(joining), socket: None })))
    }

    /// Opens a connection to the control plane.
    pub(crate) async fn connect(&self, authority: &str) -> Result<Box<dyn Stream>, BoxError> {
        if let Some(path) = &self.0.socket {
            return local(path).await;
        }
        let Some(joining) = &self.0.tls else {
            return Ok(Box::new(TcpStream::connect(authority).await?));
        };
        let mut ready = joining.ready.subscribe();
        // A caller has a deadline, and gets the reason when it expires.
        let joined = async { ready.wait_for(Result::is_ok).await.map(drop) };
        // After the deadline, too, the current state has the settings or the reason.
        let _ = tokio::time::timeout(CONNECT_WAIT, joined).await;
        let config = joining.ready.borrow().clone()?;
        let ended = joining.connections.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let inner = secured(authority, config).await?;
        Ok(Box::new(Revocable { inner, ended: Box::pin(ended.cancelled_owned()) }))
    }

    /// The control plane rejected a call: if it does not know the certificate, the node joins again.
    pub(crate) fn doubt(&self, status: &Status) {
        let Some(joining) = &self.0.tls else { return };
        match status.code() {
            Code::Unauthenticated => joining.doubt.notify_one(),
            Code::PermissionDenied => {
                let mut refused = joining.refused.lock().unwrap_or_else(PoisonError::into_inner);
                if *refused != status.message() {
                    status.message().clone_into(&mut refused);
                    tracing::error!(
                        reason = status.message(),
                        "the control plane no longer accepts this node"
                    );
                }
            }
            _ => {}
        }
    }

    /// Joins, and renews the certificate in time, forever.
    pub(crate) async fn keep(self, control_plane: String, node_id: String, boot_id: String) {
        let Some(joining) = &self.0.tls else { return };
        let folder = joining.state_dir.as_deref();
        let mut credentials = folder.and_then(|folder| Credentials::kept(folder, &node_id));
        // A token of another fleet means that the node moves there.
        if let Ok(token) = joining.source.read() {
            credentials = credentials.filter(|kept| kept.fleet == token.fleet);
        }
        if let Some(kept) = &credentials {
            tracing::info!(node = node_id, "certificate of an earlier run found");
            joining.use_credentials(kept);
        }
        let (mut wait, mut logged) = (WAIT.0, String::new());
        // The certificate in use is not in the folder yet.
        let mut is_unkept = false;
        loop {
            if let Some(good) = credentials.as_ref().filter(|kept| kept.are_valid()) {
                let due = good.renew_in();
                if !due.is_zero() {
                    tokio::select! {
                        () = tokio::time::sleep(due) => {}
                        () = joining.doubt.notified() => {}
                        () = tokio::time::sleep(KEEP_AGAIN), if is_unkept => {
                            is_unkept = folder.is_some_and(|folder| good.keep(folder).is_err());
                            if !is_unkept {
                                tracing::info!("the node's certificate is written to --state-dir");
                            }
                            continue;
                        }
                    }
                }
            }
            match joining.next(credentials.as_ref(), &control_plane, (&node_id, &boot_id)).await {
                Ok(next) => {
                    joining.use_credentials(&next);
                    // A renewed certificate is for the same member; a new member needs new connections.
                    if !credentials.as_ref().is_some_and(Credentials::are_valid) {
                        joining.end_connections();
                    }
                    is_unkept = false;
                    if let Some(folder) = folder
                        && let Err(error) = next.keep(folder)
                    {
                        is_unkept = true;
                        tracing::error!(folder = %folder.display(), %error, "the node's certificate cannot be written to --state-dir, trying again");
                    }
                    tracing::info!(node = node_id, "certificate received from the control plane");
                    credentials = Some(next);
                    (wait, logged) = (WAIT.0, String::new());
                    // The certificate was replaced; the streams need a moment to reconnect.
                    tokio::time::sleep(WAIT.0).await;
                }
                Err(Refused { why, is_unknown }) => {
                    if is_unknown {
                        // The node joins again if it has a token.
                        credentials = None;
                        folder.iter().for_each(|folder| Credentials::forget(folder));
                    }
                    if credentials.as_ref().is_none_or(|kept| !kept.are_valid()) {
                        joining.ready.send_modify(|ready| *ready = Err(why.clone()));
                    }
                    // Logged once for each reason.
                    if logged != why {
                        tracing::warn!(reason = why, "joining the fleet failed, trying again");
                        logged = why;
                    }
                    tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
                    wait = (wait * 2).min(WAIT.1);
                }
            }
        }
    }
}

/// How long a connection waits for the certificate that it needs.
const CONNECT_WAIT: Duration = Duration::from_millis(2500);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects to the local socket, if it belongs to the same user or to root: another user could have put a socket there.
async fn local(path: &Path) -> Result<Box<dyn Stream>, BoxError> {
    let stream = UnixStream::connect(path).await.map_err(|error| format!("{}: {error}", path.display()))?;
    let (own, peer) = (rustix::process::geteuid().as_raw(), stream.peer_cred()?.uid());
    if peer != own && peer != 0 {
        return Err(format!(
            "{} belongs to a process of user {peer}, this one runs as user {own}: use https:// and a join token",
            path.display()
        )
        .into());
    }
    Ok(Box::new(stream))
}

async fn secured(authority: &str, config: Arc<ClientConfig>) -> Result<Box<dyn Stream>, BoxError> {
    let stream = TcpStream::connect(authority).await?;
    // Reports are small, and their acknowledgements are waited for.
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME)?;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if weir_tls::speaks_no_tls(&error) => Err(format!(
            "{authority} does not speak TLS: is it the nodes' port of a control plane (--nodes)?"
        )
        .into()),
        Err(error) => Err(error.into()),
    }
}

impl Joining {
    fn end_connections(&self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *connections).cancel();
    }

    fn use_credentials(&self, credentials: &Credentials) {
        let config = client_config(credentials.fleet, Some(&credentials.shown));
        let config =
            config.map(Arc::new).map_err(|error| format!("the node's certificate cannot be used: {error}"));
        self.ready.send_modify(|ready| *ready = config);
    }

    /// Gets the next certificate, with the current one or with the token.
    async fn next(
        &self,
        credentials: Option<&Credentials>,
        control_plane: &str,
        (node_id, boot_id): (&str, &str),
    ) -> Result<Credentials, Refused> {
        let key = NodeKey::new()?;
        let (fleet, answer) = match credentials.filter(|kept| kept.are_valid()) {
            Some(kept) => {
                let mut client = client(control_plane, kept.fleet, Some(&kept.shown))?;
                let request = RenewRequest { public_key: key.public.clone() };
                (kept.fleet, tokio::time::timeout(CALL, client.renew(request)).await)
            }
            None => {
                let token = self.source.read()?;
                let mut client = client(control_plane, token.fleet, None)?;
                let request = JoinRequest {
                    token: token.text,
                    node_id: node_id.to_owned(),
                    public_key: key.public.clone(),
                    boot_id: boot_id.to_owned(),
                };
                (token.fleet, tokio::time::timeout(CALL, client.join(request)).await)
            }
        };
        let answer = answer.map_err(|_| "the control plane does not answer".to_owned())?;
        let JoinResponse { certificate, expires_in_ms, .. } = answer
            .map_err(|status| Refused {
                why: reason(&status),
                is_unknown: status.code() == Code::Unauthenticated,
            })?
            .into_inner();
        let issued_ms = now_ms();
        Ok(Credentials {
            shown: Shown { certificate, key: key.private },
            fleet,
            node_id: node_id.to_owned(),
            issued_ms,
            expires_ms: issued_ms.saturating_add(expires_in_ms),
        })
    }
}

/// A client for one call, with its own connection.
fn client(
    control_plane: &str,
    fleet: Fingerprint,
    shown: Option<&Shown>,
) -> Result<EnrollmentClient<Channel>, String> {
    let config = client_config(fleet, shown).map_err(|error| error.to_string())?;
    let config = Arc::new(config);
    let endpoint = endpoint(control_plane).ok_or("--control-plane is no address")?;
    let connect = tower::service_fn(move |uri: http::Uri| {
        let config = Arc::clone(&config);
        async move {
            let authority =
                uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
            secured(&authority, config).await.map(hyper_util::rt::TokioIo::new)
        }
    });
    Ok(EnrollmentClient::new(endpoint.connect_with_connector_lazy(connect)))
}

/// The text of an error: tonic hides the cause in the error's source, which mostly repeats the message.
pub(crate) fn reason(status: &Status) -> String {
    use std::error::Error as _;
    let mut reason = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        source = error.source();
    }
    reason
}
