-- Requests that Weir refused itself, by why, as a JSON object; empty where there are none, so that most rows cost a byte.

ALTER TABLE traffic ADD COLUMN rejected TEXT NOT NULL DEFAULT '';
ALTER TABLE sums ADD COLUMN rejected TEXT NOT NULL DEFAULT '';
