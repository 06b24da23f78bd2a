//! Local socket: nodes on this machine that run as the same user (or as root) connect without a token. The kernel
//! reports the peer's user id, so no other local user is admitted, whatever the file's mode.

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use super::nodes::Accepted;

/// Maximum length of a Unix socket's path, in bytes.
const MAX_PATH: usize = 107;

/// The open local socket. Its file is removed when it is dropped.
pub(crate) struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalSocket {
    /// Opens the socket. A file left by an earlier process is replaced.
    ///
    /// # Errors
    /// The path is too long, is not a socket, or is in use by another process.
    pub(crate) async fn bind(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path)?;
        let length = path.as_os_str().len();
        anyhow::ensure!(
            length <= MAX_PATH,
            "the path has {length} bytes; the limit for a Unix socket is {MAX_PATH}"
        );
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) => {
                anyhow::ensure!(
                    metadata.file_type().is_socket(),
                    "a file exists at this path and is not a socket"
                );
                anyhow::ensure!(is_abandoned(&path).await, "another process listens on it");
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).context("cannot remove the socket of an earlier process");
                    }
                    _ => {}
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// The value of `--control-plane` with which nodes reach it.
    pub(crate) fn url(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// Accepts connections of nodes that may use it, forever.
    pub(super) async fn accept(self, send: mpsc::Sender<Result<Accepted, io::Error>>) {
        let own = rustix::process::geteuid().as_raw();
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections on the local socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            match stream.peer_cred().map(|peer| peer.uid()) {
                Ok(uid) if uid == own || uid == 0 => {
                    if send.send(Ok(Accepted::local(stream))).await.is_err() {
                        return;
                    }
                }
                Ok(uid) => {
                    tracing::warn!(
                        uid,
                        own,
                        "rejected a connection to the local socket: the process belongs to another user"
                    )
                }
                Err(error) => {
                    tracing::warn!(%error, "rejected a connection to the local socket: the peer is unknown")
                }
            }
        }
    }
}

/// Whether no process listens on a path, now or after a short wait: a process that is exiting may not have closed it
/// yet.
async fn is_abandoned(path: &Path) -> bool {
    for _ in 0..10 {
        if UnixStream::connect(path).await.is_err() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        // The next process replaces the file if this fails.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_an_abandoned_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes.sock");
        let why = async |path: &Path| format!("{:#}", LocalSocket::bind(path).await.err().unwrap());
        // As left behind by a process that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = LocalSocket::bind(&path).await.unwrap();
        assert_eq!(socket.url(), format!("unix:{}", path.display()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(why(&path).await.contains("another process listens on it"));
        drop(socket);
        assert!(!path.exists());
        std::fs::write(&path, "data").unwrap();
        assert!(why(&path).await.contains("not a socket"));
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
        assert!(
            why(&folder.path().join("n".repeat(120))).await.contains("the limit for a Unix socket is 107")
        );
    }
}
