-- How answers ended, and how long tunnels and streams lasted. Rows of earlier versions have none of either, so their
-- latencies are those of all their requests.

-- Requests whose answer was cut before its end, by side, as a JSON object; empty where there are none.
ALTER TABLE traffic ADD COLUMN cut TEXT NOT NULL DEFAULT '';
ALTER TABLE sums ADD COLUMN cut TEXT NOT NULL DEFAULT '';
-- Durations of tunnels and streams, a histogram as `latency`; empty where there are none.
ALTER TABLE traffic ADD COLUMN streams BLOB NOT NULL DEFAULT x'';
ALTER TABLE sums ADD COLUMN streams BLOB NOT NULL DEFAULT x'';
ALTER TABLE traffic ADD COLUMN stream_max_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sums ADD COLUMN stream_max_us INTEGER NOT NULL DEFAULT 0;
