-- What the whole fleet shares and nobody else may know. Made once.
CREATE TABLE fleet_keys (
    name TEXT PRIMARY KEY,
    key BLOB NOT NULL
) STRICT;
