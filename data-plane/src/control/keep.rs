//! `--state-dir`: the active configuration is kept in a file, so that a node can start and serve while the control
//! plane is away.
//!
//! The file holds the messages that a control plane would send to a new node. They are read, checked and hashed like
//! messages from the stream. The file may contain secrets, so only the owner can read it. It is written under another
//! name and renamed, so that it is always complete; its first line is a checksum. A file that cannot be used is logged
//! and left alone, and the node waits for the control plane.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use weir_proto::{
    FORMAT,
    v1::{self, subscribe_response::Message as Incoming},
};
use weir_snapshot::{Kind, resource::Key};

use super::{Running, State, apply, key::take_key};

/// The file's name in the folder.
const FILE: &str = "node-state";

/// Start of the first line, followed by the version of the format and the hash of the content.
const MAGIC: &str = "weir-node-state";

/// The version of its format.
const VERSION: &str = "1";

/// Creates the folder if needed, and checks that it can be written to.
///
/// # Errors
/// The folder cannot be created or written to.
pub(crate) fn prepare(folder: &Path) -> anyhow::Result<()> {
    let refused = || format!("--state-dir {} cannot be used", folder.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(refused)?;
    let probe = folder.join(".probe");
    File::create(&probe).and_then(|_| fs::remove_file(&probe)).with_context(refused)
}

/// Activates the kept state, if there is a usable one.
pub(crate) async fn restore(state: &Arc<State>, folder: &Path) {
    let path = folder.join(FILE);
    let messages = match read(&path) {
        Ok(Some(messages)) => messages,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(file = %path.display(), error = format!("{error:#}"), "kept state ignored");
            return;
        }
    };
    for message in messages {
        match message {
            Incoming::Key(message) => take_key(state, &message.key).await,
            Incoming::Snapshot(snapshot) => {
                let revision = snapshot.revision;
                match apply::restore(state, &snapshot).await {
                    Ok(()) => {
                        tracing::info!(
                            revision,
                            "running the kept state until the control plane sends a newer one"
                        )
                    }
                    Err(problems) => {
                        tracing::warn!(file = %path.display(), %problems, "kept state ignored");
                    }
                }
            }
            _ => {}
        }
    }
}

pub(super) fn encode(running: &Running, key: Option<Vec<u8>>) -> Vec<u8> {
    let resource = |(key, spec): (&Key, &String)| {
        let kind = match key.kind {
            Kind::Settings => v1::ResourceKind::Settings,
            Kind::Pool => v1::ResourceKind::Pool,
            Kind::Backend => v1::ResourceKind::Backend,
            Kind::Route => v1::ResourceKind::Route,
            Kind::Certificate => v1::ResourceKind::Certificate,
        };
        let key = Some(v1::ResourceKey { kind: kind.into(), name: key.name.clone() });
        v1::Resource { key, spec: spec.as_bytes().to_vec() }
    };
    let snapshot = v1::Snapshot {
        format: FORMAT,
        revision: running.revision,
        resources: running.resources.iter().map(resource).collect(),
        hash: running.hash.to_string(),
    };
    let key = key.map(|key| Incoming::Key(v1::FleetKey { key }));
    let mut body = Vec::new();
    for message in key.into_iter().chain([Incoming::Snapshot(snapshot)]) {
        let message = v1::SubscribeResponse { message: Some(message) };
        body.extend(message.encode_length_delimited_to_vec());
    }
    body
}

/// The first line of a file with this content.
pub(super) fn head(body: &[u8]) -> String {
    let digest: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{MAGIC} {VERSION} {digest}\n")
}

/// Whether the folder has a state.
pub(super) fn is_there(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Replaces the state; the new one is on the disk when this returns.
pub(super) fn write(folder: &Path, body: &[u8]) -> std::io::Result<()> {
    // The folder may have been removed since the start.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = folder.join(format!("{FILE}.new"));
    replace(folder, &new, body).inspect_err(|_| {
        // A partly written state occupies space that the next try needs.
        let _ = fs::remove_file(&new);
    })
}

fn replace(folder: &Path, new: &Path, body: &[u8]) -> std::io::Result<()> {
    let path = folder.join(FILE);
    // The file of an interrupted write may have other permissions.
    match fs::remove_file(new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(head(body).as_bytes())?;
    file.write_all(body)?;
    file.sync_all()?;
    fs::rename(new, &path)?;
    File::open(folder)?.sync_all()
}

/// Reads the file; `None` if it does not exist.
fn read(path: &Path) -> anyhow::Result<Option<Vec<Incoming>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = bytes.iter().position(|byte| *byte == b'\n').context("it has no first line")?;
    let (line, body) = bytes.split_at(end + 1);
    let line = std::str::from_utf8(line).context("its first line is not text")?;
    let mut words = line.split_whitespace();
    anyhow::ensure!(words.next() == Some(MAGIC), "it is not a node's state");
    let version = words.next().unwrap_or_default();
    anyhow::ensure!(
        version == VERSION,
        "its format {version:?} is not known to this node (it knows {VERSION})"
    );
    anyhow::ensure!(line == head(body), "it is not what was written: its hash is another");
    let (mut body, mut messages) = (body, Vec::new());
    while !body.is_empty() {
        let message = v1::SubscribeResponse::decode_length_delimited(&mut body)?;
        messages.extend(message.message);
    }
    Ok(Some(messages))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use weir_snapshot::{
        Config,
        resource::{ContentHash, to_resources},
    };

    use super::*;

    fn body() -> Vec<u8> {
        let resources = to_resources(&Config::default());
        let hash = ContentHash::of(&resources);
        encode(&Running { revision: 7, resources, hash }, Some(vec![1; 32]))
    }

    #[test]
    fn what_is_kept_is_what_was_told_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("node-state.new"), "cut off").unwrap();
        write(folder.path(), &body()).unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let messages = read(&path).unwrap().unwrap();
        let [Incoming::Key(key), Incoming::Snapshot(snapshot)] = &messages[..] else {
            panic!("{messages:?}")
        };
        assert_eq!((key.key.len(), snapshot.revision), (32, 7));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_damaged_or_is_newer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert!(read(&path).unwrap().is_none());
        write(folder.path(), &body()).unwrap();
        let good = fs::read(&path).unwrap();
        let says = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read(&path).unwrap_err().to_string()
        };
        for at in [good.len() - 1, good.len() / 2, 30] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(says(&bad).contains("hash"), "byte {at}");
        }
        assert!(says(&good[..good.len() - 3]).contains("hash"));
        assert!(says(b"").contains("first line"));
        assert!(says(b"something else\n").contains("not a node's state"));
        assert!(says(b"weir-node-state 2 00\n").contains("format \"2\""));
    }
}
