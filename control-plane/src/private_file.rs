//! Files that only their owner may read.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Returns the content of a file that is about to be replaced by a token: empty, or a token with this prefix.
///
/// # Errors
/// The file cannot be read, or contains something other than a token.
pub(crate) fn token_to_replace(path: &Path, prefix: &str) -> io::Result<String> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_else(|_| "\0".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let token = text.trim();
    if token.is_empty() || token.starts_with(prefix) && !token.contains(char::is_whitespace) {
        return Ok(token.to_owned());
    }
    Err(io::Error::other(format!(
        "it contains something other than a token ({prefix}...) and is not overwritten; choose another file, or remove this one"
    )))
}

/// Writes a file with mode 0600 atomically: it is created next to its destination and then renamed.
pub(crate) fn write(path: &Path, content: &str) -> io::Result<()> {
    let mut name = path.file_name().ok_or_else(|| io::Error::other("the path has no file name"))?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    // A file left by an earlier attempt may have another owner or mode.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    let moved = written.and_then(|()| fs::rename(&temporary, path));
    if moved.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    moved
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn other_content_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert_eq!(token_to_replace(&path, "weir_").unwrap(), "");
        for (text, token) in [("", Some("")), ("\n", Some("")), ("weir_1\n", Some("weir_1"))] {
            fs::write(&path, text).unwrap();
            assert_eq!(token_to_replace(&path, "weir_").ok().as_deref(), token, "{text:?}");
        }
        for text in
            [&b"important"[..], b"weirjoin_1", b"weir_1\nweir_2", b"weir_1 # mine", b"weir_\xff", b"\0"]
        {
            fs::write(&path, text).unwrap();
            assert!(token_to_replace(&path, "weir_").is_err(), "{text:?}");
        }
        assert!(token_to_replace(folder.path(), "weir_").is_err());
    }

    #[test]
    fn the_file_is_private_even_if_it_replaces_a_readable_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "old").unwrap();
        write(&path, "new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("missing/token"), "x").is_err());
    }
}
