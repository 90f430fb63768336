-- Expired partitions: dropped, detached, archived, or kept for unfinished rows.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

SELECT count(*) FROM maintain_all_partitions();
INSERT INTO saga_outbox (topic, payload, status, created_at)
  SELECT 't', '{}', s, at
    FROM (VALUES ('PUBLISHED', '2025-01-15 12:00:00+00'::timestamptz),
                 ('PENDING',   '2025-01-16 12:00:00+00'),
                 ('PENDING',   '2025-01-16 13:00:00+00'),
                 ('PUBLISHED', '2025-01-16 13:00:00+00'),
                 ('FAILED',    '2025-01-17 12:00:00+00'),
                 ('PUBLISHED', '2025-01-18 12:00:00+00')) AS v (s, at);
INSERT INTO saga_executions (saga_name, status, created_at)
  SELECT s, s, '2025-01-15 12:00:00+00'
    FROM unnest('{PENDING,RUNNING,COMPENSATING,SUCCESS,FAILED,COMPENSATED,CANCELLED}'::text[]) AS s;

-- Expired means: the upper bound is at or before now minus retention.
SET sagaz_ha.clock = '2025-02-14 23:59:59.999999+00';
SELECT action, partition_name, details FROM maintain_all_partitions() WHERE action <> 'CREATE';
SET sagaz_ha.clock = '2025-02-15 00:00:00+00';
SELECT action, partition_name, details FROM maintain_all_partitions() WHERE action <> 'CREATE';
SELECT count(*) FROM saga_outbox WHERE created_at < '2025-01-16 00:00:00+00';

-- Unfinished rows keep a partition, and say how many they are. Every pass
-- looks again; the history says it once.
SET sagaz_ha.clock = '2025-02-17 10:00:00+00';
SELECT action, partition_name, details FROM sagaz_ha.plan_partition_maintenance() WHERE action <> 'CREATE';
SELECT action, partition_name, details FROM maintain_all_partitions() WHERE action <> 'CREATE';
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT action, partition_name, details FROM sagaz_ha.partition_history WHERE action = 'KEEP' ORDER BY id;
SELECT partition_name, state FROM partition_metadata WHERE state IN ('kept', 'expired');
SELECT table_name, kept FROM get_partition_statistics() ORDER BY 1;

-- One of two gets finished: still kept. The other one: dropped.
UPDATE saga_outbox SET status = 'PUBLISHED' WHERE created_at = '2025-01-16 12:00:00+00';
SELECT action, partition_name, details FROM maintain_all_partitions();
UPDATE saga_outbox SET status = 'PUBLISHED' WHERE created_at = '2025-01-16 13:00:00+00';
SELECT action, partition_name, details FROM maintain_all_partitions();

-- FAILED isn't finished: somebody has to look at it. Deleting is an answer too.
SET sagaz_ha.clock = '2025-02-18 10:00:00+00';
SELECT action, partition_name, details FROM maintain_all_partitions() WHERE action <> 'CREATE';
DELETE FROM saga_outbox WHERE status = 'FAILED';
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT partition_name, action, details FROM sagaz_ha.partition_history
 WHERE partition_name = 'saga_outbox_y2025m01d17' ORDER BY id;

-- Sagas: PENDING, RUNNING and COMPENSATING are unfinished, all else is over.
SET sagaz_ha.clock = '2026-02-01 00:00:00+00';
SELECT action, partition_name, details FROM maintain_all_partitions()
 WHERE action <> 'CREATE' AND table_name = 'saga_executions';
DELETE FROM saga_executions WHERE status = 'PENDING';
SELECT action, partition_name, details FROM maintain_all_partitions();
DELETE FROM saga_executions WHERE status = 'RUNNING';
SELECT action, partition_name, details FROM maintain_all_partitions();
UPDATE saga_executions SET status = 'COMPENSATED' WHERE status = 'COMPENSATING';
SELECT action, partition_name, details FROM maintain_all_partitions();

-- The audit log has nothing that could be unfinished.
SELECT partition_name FROM sagaz_ha.partition_history
 WHERE action = 'DROP' AND table_name = 'saga_audit_log' ORDER BY id;

-- Whether rows are unfinished is looked up in an index, with the policy's own
-- condition as it is stored.
SET sagaz_ha.clock = '2026-02-01 10:00:00+00';
SELECT count(*) > 0 AS made FROM maintain_all_partitions();
INSERT INTO saga_outbox (topic, payload, status, created_at)
  SELECT 't', '{}', CASE WHEN i % 5000 = 0 THEN 'PENDING' WHEN i % 5001 = 0 THEN 'FAILED' ELSE 'PUBLISHED' END,
         '2026-02-01 12:00:00+00'
    FROM generate_series(1, 20000) AS i;
VACUUM ANALYZE saga_outbox;
CREATE FUNCTION uses_index(parent regclass, partition regclass) RETURNS TABLE (line text) LANGUAGE plpgsql AS $$
BEGIN
  FOR line IN EXECUTE format('EXPLAIN (COSTS OFF) SELECT count(*) FROM %s WHERE %s', partition,
                             (SELECT unfinished_when FROM sagaz_ha.partition_policy AS p
                               WHERE p.parent = uses_index.parent)) LOOP
    RETURN NEXT;
  END LOOP;
END $$;
SELECT regexp_replace(line, '::text', '', 'g') AS line FROM uses_index('saga_outbox', 'saga_outbox_y2026m02d01');
-- which is what a pass counts
BEGIN;
SET LOCAL sagaz_ha.clock = '2026-04-01 00:00:00+00';
SELECT action, partition_name, details FROM sagaz_ha.plan_partition_maintenance()
 WHERE partition_name = 'saga_outbox_y2026m02d01';
ROLLBACK;

-- Detach: the table stays, with its rows and a comment that says what it was.
CREATE TABLE log (at timestamptz NOT NULL, line text) PARTITION BY RANGE (at);
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
SELECT sagaz_ha.manage_partitions('log', '1 day', 1, retention => '1 day', retention_action => 'detach');
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('log');
INSERT INTO log VALUES ('2025-01-15 10:00:00+00', 'hello');
SET sagaz_ha.clock = '2025-01-17 00:00:00+00';
SELECT action, partition_name, details FROM sagaz_ha.plan_partition_maintenance() WHERE table_name = 'log';
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('log');
SELECT line FROM log_y2025m01d15;
SELECT count(*) FROM log;
SELECT obj_description('log_y2025m01d15'::regclass);
SELECT conname, pg_get_constraintdef(oid) IS NOT NULL AS present FROM pg_constraint
 WHERE conrelid = 'log_y2025m01d15'::regclass AND contype = 'c' ORDER BY 1;

-- Archive: it moves to another schema.
CREATE SCHEMA "Old & gone";
SELECT sagaz_ha.manage_partitions('log', '1 day', 1, retention => '1 day', retention_action => 'archive',
                                  archive_schema => '"Old & gone"');
SET sagaz_ha.clock = '2025-01-18 00:00:00+00';
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('log');
SELECT relnamespace::regnamespace, relispartition FROM pg_class WHERE relname = 'log_y2025m01d16';
-- names that are taken there, of the table and of an index: others, with the bounds
CREATE TABLE "Old & gone".log_y2025m01d17 ();
CREATE TABLE "Old & gone".log_y2025m01d17_20250117_20250118 ();
CREATE INDEX log_at ON log (at);
CREATE SEQUENCE "Old & gone".log_y2025m01d17_at_idx;
SET sagaz_ha.clock = '2025-01-19 00:00:00+00';
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('log');
SELECT partition FROM test.partitions('log');
SELECT relname, relkind FROM pg_class WHERE relnamespace = '"Old & gone"'::regnamespace AND relname LIKE 'log\_y2025m01d17%' ORDER BY relname;
-- a schema in which the owner may not create: the partition stays, whose the table is
SET sagaz_ha.clock = '2025-01-20 00:00:00+00';
SET client_min_messages = warning;
CREATE ROLE regress_archivist;
ALTER TABLE log OWNER TO regress_archivist;
ALTER TABLE log_y2025m01d18 OWNER TO regress_archivist;
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('log') WHERE action <> 'CREATE' AND action <> 'ERROR';
SELECT action, partition_name, details FROM sagaz_ha.plan_partition_maintenance() WHERE table_name = 'log' AND action <> 'CREATE';
SELECT sagaz_ha.manage_partitions('log', '1 day', 1, retention => '1 day', retention_action => 'archive', archive_schema => '"Old & gone"');
ALTER TABLE log OWNER TO CURRENT_USER;
ALTER TABLE log_y2025m01d18 OWNER TO CURRENT_USER;
DROP ROLE regress_archivist;
-- nor into a schema of the server
SELECT sagaz_ha.manage_partitions('log', '1 day', 1, retention => '1 day', retention_action => 'archive', archive_schema => 'pg_catalog');
SELECT sagaz_ha.manage_partitions('log', '1 day', 1, retention => '1 day', retention_action => 'archive', archive_schema => 'pg_toast');
SELECT sagaz_ha.manage_partitions('log', '1 day', 1, retention => '1 day', retention_action => 'archive', archive_schema => 'information_schema');
-- a schema that is gone: an error, and the partition stays
DROP SCHEMA "Old & gone" CASCADE;
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('log') WHERE action <> 'CREATE';
SELECT check_name, status, details FROM sagaz_ha.partition_health() WHERE table_name = 'log' AND status <> 'ok';
SELECT partition FROM test.partitions('log');

-- Unfinished rows keep partitions from being detached, too.
SELECT sagaz_ha.manage_partitions('log', '1 day', 1, retention => '1 day', retention_action => 'detach',
                                  unfinished_when => $$line LIKE 'todo%'$$);
INSERT INTO log VALUES ('2025-01-18 10:00:00+00', 'todo: this');
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('log');

-- A NULL is not unfinished: the condition has to be true.
UPDATE log SET line = NULL;
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('log');

-- NULL retention keeps for ever; a new retention takes effect at once.
SELECT sagaz_ha.manage_partitions('log', '1 day', 1);
SET sagaz_ha.clock = '2025-01-22 00:00:00+00';
SELECT action, count(*) FROM sagaz_ha.maintain_partitions('log') GROUP BY 1;
SELECT sagaz_ha.manage_partitions('log', '1 day', 1, retention => '2 days');
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('log');

-- After a long pause, only what isn't expired is made, and what was is gone.
SET sagaz_ha.clock = '2025-03-01 12:00:00+00';
SELECT action, partition_name FROM sagaz_ha.plan_partition_maintenance() WHERE table_name = 'log';
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('log');
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('log');

\i :teardown
