//! Permissions of the database's files. They contain password hashes, sealed keys and the audit log, so only one user
//! may read them.

use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::UNIX_EPOCH,
};

use super::writer::beside;

/// Readable and writable by the owner only.
pub(super) const MODE: u32 = 0o600;

/// Creates the database file with mode 0600 if it is missing; SQLite gives `-wal` and `-shm` the same mode. Existing
/// files that other users can read, as earlier versions created them, get mode 0600 too.
pub(super) fn make_private(database: &Path) -> io::Result<()> {
    // This runs before SQLite opens the file, because closing any other descriptor of it would release SQLite's locks.
    match OpenOptions::new().write(true).create_new(true).mode(MODE).open(database) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let path = beside(database, suffix);
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_file() && metadata.mode() & 0o077 != 0 {
            match fs::set_permissions(&path, Permissions::from_mode(MODE)) {
                Ok(()) => {
                    tracing::info!(file = %path.display(), "removed other users' access to this file (mode 0600)")
                }
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "other users can read this file (chmod 600)");
                }
            }
        }
    }
    Ok(())
}

/// Distinguishes a file from a copy of it: its inode and its creation time (0 where the file system does not store it).
pub(super) fn identity(database: &Path) -> io::Result<[i64; 2]> {
    let metadata = fs::metadata(database)?;
    let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let born_us = born.and_then(|born| i64::try_from(born.as_micros()).ok()).unwrap_or_default();
    Ok([metadata.ino().cast_signed(), born_us])
}
