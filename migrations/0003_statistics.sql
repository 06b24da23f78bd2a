-- Statistics with the method and the time that backends took; sums by one label, which most reports read; how far
-- back the finer grains reach; nodes that left on purpose.

CREATE TABLE traffic_new (
    grain           INTEGER NOT NULL,
    start           INTEGER NOT NULL,
    route           TEXT    NOT NULL,
    pool            TEXT    NOT NULL,
    backend         TEXT    NOT NULL,
    method          TEXT    NOT NULL,
    status          INTEGER NOT NULL,
    requests        INTEGER NOT NULL,
    bytes_in        INTEGER NOT NULL,
    bytes_out       INTEGER NOT NULL,
    retries         INTEGER NOT NULL,
    latency         BLOB    NOT NULL,
    latency_max_us  INTEGER NOT NULL,
    -- From sending to the backend to the head of its answer; of requests that reached one.
    upstream        BLOB    NOT NULL,
    upstream_max_us INTEGER NOT NULL,
    PRIMARY KEY (grain, start, route, pool, backend, method, status)
) STRICT, WITHOUT ROWID;

INSERT INTO traffic_new
SELECT grain, start, route, pool, backend, '', status, requests, bytes_in, bytes_out, retries, latency, latency_max_us,
    x'', 0
FROM traffic;

DROP TABLE traffic;
ALTER TABLE traffic_new RENAME TO traffic;

-- Everything of a period that shares one label. The dimension 'all' has the name '' and every request; 'route', 'pool',
-- 'backend', 'method' and 'status' sum the rows of `traffic`; 'host' is counted only here.
CREATE TABLE sums (
    grain           INTEGER NOT NULL,
    dimension       TEXT    NOT NULL,
    start           INTEGER NOT NULL,
    name            TEXT    NOT NULL,
    -- Requests by status, as a JSON object.
    status          TEXT    NOT NULL,
    requests        INTEGER NOT NULL,
    bytes_in        INTEGER NOT NULL,
    bytes_out       INTEGER NOT NULL,
    retries         INTEGER NOT NULL,
    latency         BLOB    NOT NULL,
    latency_max_us  INTEGER NOT NULL,
    upstream        BLOB    NOT NULL,
    upstream_max_us INTEGER NOT NULL,
    PRIMARY KEY (grain, dimension, start, name)
) STRICT, WITHOUT ROWID;

-- A year of hours of one route, without touching those of the others. Minutes are read all names at a time: an index
-- of theirs would be written at a new place for each name, each minute.
CREATE INDEX sums_by_name ON sums (grain, dimension, name, start) WHERE grain > 1;

ALTER TABLE batches_seen ADD COLUMN left INTEGER NOT NULL DEFAULT 0;
-- Rows that came too late to be counted.
ALTER TABLE batches_lost ADD COLUMN late_rows INTEGER NOT NULL DEFAULT 0;

-- 1: `sums` has everything that `traffic` has. Minutes and hours before these (minutes since the epoch) are gone.
INSERT INTO meta (key, value) VALUES ('sums_made', 0), ('minutes_from', 0), ('hours_from', 0);
