-- Who may be a node.

-- The fleet's own small certificate authority: made once, its key sealed.
CREATE TABLE fleet_ca (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    certificate BLOB NOT NULL,
    sealed_key BLOB NOT NULL
) STRICT;

-- What a node joins with. Only the hash is kept.
CREATE TABLE node_tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash BLOB NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_ms INTEGER,
    uses_left INTEGER,
    used INTEGER NOT NULL DEFAULT 0,
    revoked_ms INTEGER
) STRICT;

-- The certificates that nodes have, by the SHA-256 of each.
CREATE TABLE node_certificates (
    fingerprint BLOB PRIMARY KEY,
    node_id TEXT NOT NULL,
    issued_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Nodes that get nothing any more, whatever they show.
CREATE TABLE revoked_nodes (
    node_id TEXT PRIMARY KEY,
    revoked_ms INTEGER NOT NULL,
    revoked_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;
