-- The configuration as it is now, and how it came to be so.
--
-- Each resource is one row; `spec` is its content, byte for byte what the nodes get and what the content hash
-- covers. What foreign keys need is generated from it, so that the two cannot disagree.

-- "Weir" in the file's header.
PRAGMA application_id = 1466263922;

CREATE TABLE settings (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    spec TEXT NOT NULL
) STRICT;

CREATE TABLE pools (
    name TEXT PRIMARY KEY,
    spec TEXT NOT NULL
) STRICT;

CREATE TABLE backends (
    id TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    pool TEXT GENERATED ALWAYS AS (json_extract(spec, '$.pool')) STORED
        NOT NULL REFERENCES pools (name) DEFERRABLE INITIALLY DEFERRED,
    url TEXT GENERATED ALWAYS AS (json_extract(spec, '$.url')) STORED NOT NULL,
    UNIQUE (pool, url)
) STRICT;

CREATE TABLE routes (
    name TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    pool TEXT GENERATED ALWAYS AS (json_extract(spec, '$.spec.pool')) STORED
        REFERENCES pools (name) DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE INDEX routes_pool ON routes (pool);

-- One row per change of the whole; the newest is what is current.
CREATE TABLE revisions (
    revision INTEGER PRIMARY KEY,
    time_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    source TEXT NOT NULL
) STRICT;

-- What a revision changed: each resource before (null: it is new) and after (null: it is gone).
CREATE TABLE changes (
    revision INTEGER NOT NULL REFERENCES revisions (revision),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    before TEXT,
    after TEXT,
    PRIMARY KEY (revision, kind, name)
) STRICT, WITHOUT ROWID;

-- Every node that was ever seen.
CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    address TEXT NOT NULL,
    first_seen_ms INTEGER NOT NULL,
    last_seen_ms INTEGER NOT NULL
) STRICT;

-- Counters that must never go back: a backend's id is never given twice.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;

INSERT INTO meta (key, value) VALUES ('next_backend_id', 1);
