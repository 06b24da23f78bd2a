//! Errors of the database, in terms of what an operator can do about them.

use sqlx::migrate::MigrateError;

use super::writer::Moved;

/// The database cannot be used, or a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name is not a valid SQLite database URL.
    #[error("invalid database name {0:?} (expected sqlite:PATH): {1}")]
    Name(String, String),
    /// The file cannot be opened.
    #[error("cannot open database {0:?}: {1}")]
    Open(String, String),
    /// The schema is not what this program expects.
    #[error("database {0:?} cannot be used: {1}")]
    Unusable(String, String),
    /// A stored value cannot be decoded.
    #[error("the database contains an invalid {0}: {1}")]
    Broken(&'static str, String),
    /// A statement failed because of the disk, the file or another program.
    #[error("the database failed: {cause}")]
    Unavailable {
        /// The external cause.
        cause: Cause,
        /// The error with its details, for the log.
        #[source]
        source: sqlx::Error,
    },
    /// A statement failed for another reason.
    #[error("the database failed: {0}")]
    Sql(#[source] sqlx::Error),
}

/// A failure outside of Weir. The change was not made, and the next one may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// No space is left.
    #[error("the disk is full")]
    Full,
    /// Reading or writing failed.
    #[error("the disk reported an I/O error")]
    Io,
    /// The file or the file system cannot be written.
    #[error("the file or its folder is read-only")]
    ReadOnly,
    /// Another program held the lock for longer than the timeout.
    #[error("another program keeps the database locked")]
    Locked,
    /// The file is missing or cannot be opened.
    #[error("the file cannot be opened; does its folder exist, and may this user write there?")]
    Missing,
    /// The file was deleted or replaced while the control plane was running.
    #[error(
        "its file was deleted or replaced while the control plane was running; restart the control plane to use the \
         file that is there now"
    )]
    Moved,
    /// The content of the file is damaged.
    #[error("the file is damaged")]
    Damaged,
}

impl Cause {
    /// Returns the external cause of an error, if there is one.
    pub(super) fn of(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::Database(error) => {
                // The low byte is the primary result code: https://sqlite.org/rescode.html
                let code: i32 = error.code()?.parse().ok()?;
                // SQLite reports this code, and not a full disk, when the index of its write-ahead log cannot grow.
                const IOERR_SHMSIZE: i32 = 4874;
                if code == IOERR_SHMSIZE {
                    return Some(Self::Full);
                }
                match code & 0xff {
                    5 | 6 => Some(Self::Locked),
                    8 => Some(Self::ReadOnly),
                    10 => Some(Self::Io),
                    11 => Some(Self::Damaged),
                    13 => Some(Self::Full),
                    14 => Some(Self::Missing),
                    _ => None,
                }
            }
            sqlx::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<Moved>()) => {
                Some(Self::Moved)
            }
            sqlx::Error::Io(_) => Some(Self::Io),
            sqlx::Error::PoolTimedOut => Some(Self::Locked),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(source: sqlx::Error) -> Self {
        match Cause::of(&source) {
            Some(cause) => Self::Unavailable { cause, source },
            None => Self::Sql(source),
        }
    }
}

/// Describes an error at start in one line.
pub(super) fn explain(error: &sqlx::Error) -> String {
    match error.as_database_error().and_then(|error| error.code()).as_deref() {
        Some("26") => "the file is not a SQLite database".into(),
        _ => Cause::of(error).map_or_else(|| error.to_string(), |cause| cause.to_string()),
    }
}

pub(super) fn explain_migration(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(version) => format!(
            "it was written by a newer version of Weir (its migration {version} is unknown to version {})",
            env!("CARGO_PKG_VERSION")
        ),
        MigrateError::VersionMismatch(version) => {
            format!("its migration {version} differs from the one in this program")
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => explain(error),
        error => error.to_string(),
    }
}
