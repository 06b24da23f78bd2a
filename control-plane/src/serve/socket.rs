//! The local socket: nodes on this machine that run as the same user (or as root) connect without a token. The kernel says
//! who is at the other end, so no other local user gets anything, whatever the file's mode is.

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

/// A path longer than this fits into no address of a Unix socket.
const MOST_PATH: usize = 107;

/// The local socket while it is open; its file is removed with it.
pub(crate) struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalSocket {
    /// Opens the socket. A file that an earlier process left is replaced.
    ///
    /// # Errors
    /// The path is too long, is something else than a socket, or is in use by another process.
    pub(crate) async fn bind(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path)?;
        let length = path.as_os_str().len();
        anyhow::ensure!(
            length <= MOST_PATH,
            "the path has {length} bytes, {MOST_PATH} are the most of a Unix socket"
        );
        match std::fs::symlink_metadata(&path) {
            Ok(there) => {
                anyhow::ensure!(there.file_type().is_socket(), "there is a file that is no socket");
                anyhow::ensure!(is_left(&path).await, "another process listens there");
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).context("a socket of an earlier process cannot be removed");
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

    /// The value of `--control-plane` by which nodes reach it.
    pub(crate) fn url(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// Hands over the connections of nodes that may use it, for ever.
    pub(super) async fn accept(self, send: mpsc::Sender<Result<Accepted, io::Error>>) {
        let own = rustix::process::geteuid().as_raw();
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted on the local socket");
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
                    tracing::warn!(uid, own, "connection to the local socket refused: another user's process")
                }
                Err(error) => {
                    tracing::warn!(%error, "connection to the local socket refused: the peer is not known")
                }
            }
        }
    }
}

/// Whether no process listens at a path, now or in a moment: one that ends may not have closed it yet.
async fn is_left(path: &Path) -> bool {
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
        // A later process replaces it anyway.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes.sock");
        let why = async |path: &Path| format!("{:#}", LocalSocket::bind(path).await.err().unwrap());
        // What a process leaves that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = LocalSocket::bind(&path).await.unwrap();
        assert_eq!(socket.url(), format!("unix:{}", path.display()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(why(&path).await.contains("another process listens there"));
        drop(socket);
        assert!(!path.exists());
        std::fs::write(&path, "data").unwrap();
        assert!(why(&path).await.contains("no socket"));
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
        assert!(why(&folder.path().join("n".repeat(120))).await.contains("107 are the most"));
    }
}
