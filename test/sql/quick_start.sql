-- The specification's quick start, with the clock at 2025-01-15.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

-- the first call makes the tables and their partitions
SELECT * FROM maintain_all_partitions();

-- the second one has nothing to do, and says nothing
SELECT * FROM maintain_all_partitions();
SELECT * FROM sagaz_ha.plan_partition_maintenance();

-- rows find their partitions; now() is not our clock, so the time is given
INSERT INTO saga_executions (saga_name, status, created_at)
  VALUES ('test-saga', 'SUCCESS', '2025-01-15 10:00:00+00'),
         ('test-saga', 'RUNNING', '2025-04-30 23:59:59.999999+00')
  RETURNING tableoid::regclass;
INSERT INTO saga_outbox (topic, payload, status, created_at)
  VALUES ('test.topic', '{"foo": "bar"}'::jsonb, 'PENDING', '2025-01-15 10:00:00+00')
  RETURNING tableoid::regclass, position;
INSERT INTO saga_executions (saga_name, status, created_at)
  VALUES ('too late', 'SUCCESS', '2025-05-01 00:00:00+00');

-- a condition on created_at prunes
EXPLAIN (COSTS OFF)
  SELECT * FROM saga_executions WHERE created_at >= '2025-04-02 00:00:00+00';

-- the numbers: sizes differ between versions and block sizes
SELECT table_name, partition_count, oldest_partition, newest_partition,
       total_size_mb > 0 AS has_size, estimated_rows >= 0 AS has_estimate, kept,
       covered_until AT TIME ZONE 'UTC' AS covered_until
  FROM get_partition_statistics();
SELECT table_name, partition_name,
       partition_start AT TIME ZONE 'UTC' AS partition_start,
       partition_end AT TIME ZONE 'UTC' AS partition_end,
       created_at = '2025-01-15 10:00:00+00' AS made_at_the_clock,
       state, total_bytes > 0 AS has_size, estimated_rows >= 0 AS has_estimate
  FROM partition_metadata
 WHERE table_name <> 'saga_audit_log'
 ORDER BY partition_start DESC, table_name;

-- one partition by hand: an existing one, and a later one
SELECT create_saga_executions_partition('2025-01-15');
SELECT create_saga_executions_partition('2025-07-31');
SELECT create_saga_outbox_partition('2025-01-15');
SELECT create_saga_outbox_partition('2024-12-31');
SELECT create_saga_audit_log_partition('2025-06-01');
SELECT partition_name, partition_start AT TIME ZONE 'UTC' AS partition_start
  FROM partition_metadata
 WHERE partition_name IN ('saga_executions_y2025m07', 'saga_outbox_y2024m12d31', 'saga_audit_log_y2025m06')
 ORDER BY 1;
-- again: no error, the same name, no second partition
SELECT create_saga_executions_partition('2025-07-01');
SELECT count(*) FROM partition_metadata WHERE table_name = 'saga_executions';

-- what is missing between partitions is filled by the next pass, but not what
-- lies later than the policy looks ahead
SELECT * FROM maintain_all_partitions();

-- the inbox: rows older than so many days, by the clock
INSERT INTO consumer_inbox (consumer_name, event_id, consumed_at) VALUES
  ('a', '00000000-0000-0000-0000-000000000001', '2024-10-17 09:59:59+00'),
  ('b', '00000000-0000-0000-0000-000000000001', '2024-10-17 10:00:00+00'),
  ('a', '00000000-0000-0000-0000-000000000002', '2025-01-15 09:00:00+00');
SELECT cleanup_consumer_inbox(90);
SELECT cleanup_consumer_inbox();
SELECT cleanup_consumer_inbox(0);
SELECT cleanup_consumer_inbox(0);

-- without the test clock, time is now()
RESET sagaz_ha.clock;
SELECT sagaz_ha.clock() = now() AS clock_is_now;
BEGIN;
SELECT count(*) > 0 AS makes_partitions FROM maintain_all_partitions() WHERE action = 'CREATE';
INSERT INTO saga_executions (saga_name, status) VALUES ('test-saga', 'SUCCESS');
INSERT INTO saga_outbox (topic, payload, status) VALUES ('test.topic', '{"foo": "bar"}'::jsonb, 'PENDING');
SELECT create_saga_executions_partition(current_date) ~ '^saga_executions_y\d{4}m\d\d$' AS name_is_right;
SELECT bool_and(covered_until > now()) AS covered FROM get_partition_statistics();
ROLLBACK;

\i :teardown
