-- Which process may use a node's id, and whose counts are left out of reports.

-- The node ids that a join token is for, as a JSON list; null: any.
ALTER TABLE node_tokens ADD COLUMN node_ids TEXT;

-- Node ids under which an operator let a second process in. `expires_ms`: until when one more may join; null: none may.
-- `shared`: one has joined, and several processes may be connected under the id until the node is revoked.
CREATE TABLE node_permits (
    node_id    TEXT PRIMARY KEY,
    expires_ms INTEGER,
    shared     INTEGER NOT NULL DEFAULT 0,
    granted_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Nodes whose counts are left out of reports.
CREATE TABLE excluded_nodes (
    node_id     TEXT PRIMARY KEY,
    excluded_ms INTEGER NOT NULL,
    excluded_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Whether a kept revision knew a name is asked for each name in a report that the current one does not know.
CREATE INDEX changes_by_name ON changes (kind, name);
