-- Certificates as the nodes get them: without their keys.
CREATE TABLE certificates (
    name TEXT PRIMARY KEY,
    spec TEXT NOT NULL
) STRICT;

-- What nobody may read who has this file alone: each sealed with a key that is kept elsewhere. `name` says which of
-- its kind, and since when it holds is `since_ms`.
CREATE TABLE secrets (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed BLOB NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
