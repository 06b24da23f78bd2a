//! The database's files belong to one user: they hold password hashes, sealed keys and who did what.

use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::UNIX_EPOCH,
};

use super::writer::beside;

/// Read and written by the owner alone.
pub(super) const MODE: u32 = 0o600;

/// Creates the database's file for its owner alone where there is none; SQLite gives `-wal` and `-shm` the same mode.
/// Files of earlier versions, which other users could read, are closed to them.
pub(super) fn make_private(database: &Path) -> io::Result<()> {
    // Before SQLite opens the file: closing another descriptor of it would release SQLite's locks.
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
                Ok(()) => tracing::info!(file = %path.display(), "closed to other users (mode 0600)"),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "other users can read this file (chmod 600)");
                }
            }
        }
    }
    Ok(())
}

/// What tells a file from a copy of it: its inode and when it was created (0 where the file system does not know).
pub(super) fn identity(database: &Path) -> io::Result<[i64; 2]> {
    let metadata = fs::metadata(database)?;
    let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let born_us = born.and_then(|born| i64::try_from(born.as_micros()).ok()).unwrap_or_default();
    Ok([metadata.ino().cast_signed(), born_us])
}
