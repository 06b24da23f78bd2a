-- Requests that Weir refused itself are called refused everywhere.

ALTER TABLE traffic RENAME COLUMN rejected TO refused;
ALTER TABLE sums RENAME COLUMN rejected TO refused;
