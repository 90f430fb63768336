-- The same table as a hypertable with a chunk for each day. Chunks are made by
-- inserts, so there is nothing to make ahead.
CREATE EXTENSION timescaledb;
CREATE SCHEMA bench;
CREATE TABLE hypertable (LIKE saga_outbox INCLUDING ALL);
DROP TABLE saga_outbox;
ALTER TABLE hypertable RENAME TO saga_outbox;
SELECT create_hypertable('saga_outbox', 'created_at', chunk_time_interval => interval '1 day');
