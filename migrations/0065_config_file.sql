-- The configuration file (`--config`) as it was last applied, so that a start applies what the file changed and nothing else.
CREATE TABLE config_file (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    path TEXT NOT NULL,
    -- SHA-256 of `content`.
    hash BLOB NOT NULL,
    -- The file with the content of the files that it names, as JSON, without private keys.
    content TEXT NOT NULL,
    applied_ms INTEGER NOT NULL,
    -- The revision that was current afterwards.
    revision INTEGER NOT NULL
) STRICT;
