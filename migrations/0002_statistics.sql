-- Traffic statistics. Minutes since the Unix epoch are `minute` and `start`, milliseconds are `_ms`.

-- Batches that were acknowledged and are not yet folded into `traffic`. Bodies are encoded ReportRequests.
CREATE TABLE batches_log (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    node        TEXT    NOT NULL,
    boot        TEXT    NOT NULL,
    sequence    INTEGER NOT NULL,
    batch       BLOB    NOT NULL,
    received_ms INTEGER NOT NULL
) STRICT;

-- Which sequences of a boot are stored, as runs without a gap: one row per boot when nothing is missing. A run
-- also says for which time the node is accounted for: from the making of its first batch to that of its last.
CREATE TABLE batches_seen (
    node       TEXT    NOT NULL,
    boot       TEXT    NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    from_ms    INTEGER NOT NULL,
    through_ms INTEGER NOT NULL,
    PRIMARY KEY (node, boot, first)
) STRICT, WITHOUT ROWID;

-- Stretches in which a node said that it had to drop counts, or whose late batches can no longer be told from
-- repeated ones.
CREATE TABLE batches_lost (
    node       TEXT    NOT NULL,
    from_ms    INTEGER NOT NULL,
    through_ms INTEGER NOT NULL,
    PRIMARY KEY (node, from_ms, through_ms)
) STRICT, WITHOUT ROWID;

-- The counts. Every request stands once in each grain: 1 (minute), 60 (hour) and 1440 (day, UTC) minutes.
CREATE TABLE traffic (
    grain          INTEGER NOT NULL,
    start          INTEGER NOT NULL,
    route          TEXT    NOT NULL,
    pool           TEXT    NOT NULL,
    backend        TEXT    NOT NULL,
    status         INTEGER NOT NULL,
    requests       INTEGER NOT NULL,
    bytes_in       INTEGER NOT NULL,
    bytes_out      INTEGER NOT NULL,
    retries        INTEGER NOT NULL,
    latency        BLOB    NOT NULL,
    latency_max_us INTEGER NOT NULL,
    PRIMARY KEY (grain, start, route, pool, backend, status)
) STRICT, WITHOUT ROWID;
