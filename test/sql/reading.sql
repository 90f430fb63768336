-- Reading: statistics, metadata, health, the dry run, history.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

-- Before anything is managed, everything is empty, and nothing fails
SELECT * FROM get_partition_statistics();
SELECT * FROM partition_metadata;
SELECT * FROM sagaz_ha.plan_partition_maintenance();
SELECT table_name, check_name, status FROM sagaz_ha.partition_health();
SELECT * FROM sagaz_ha.partition_history;
SELECT sagaz_ha.clock() AT TIME ZONE 'UTC' AS clock;

-- What the plan says is what the pass does, at any time
CREATE TABLE a (at timestamptz NOT NULL, todo boolean) PARTITION BY RANGE (at);
CREATE TABLE b (at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE c (at timestamp NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('a', '1 day', 3, retention => '2 days', unfinished_when => 'todo');
SELECT sagaz_ha.manage_partitions('b', '1 week', 2, retention => '2 weeks', retention_action => 'detach');
SELECT sagaz_ha.manage_partitions('c', '6 hours', 2, retention => '1 day', time_zone => 'America/New_York');
CREATE FUNCTION plan_is_pass(at timestamptz) RETURNS TABLE (actions bigint, same boolean, history boolean) LANGUAGE plpgsql AS $$
DECLARE
  plan text[]; pass text[]; seen bigint; before bigint;
BEGIN
  SELECT coalesce(max(id), 0) INTO before FROM sagaz_ha.partition_history;
  SELECT array_agg(p::text ORDER BY p::text) INTO plan FROM sagaz_ha.plan_partition_maintenance(at) AS p;
  IF EXISTS (SELECT FROM sagaz_ha.partition_history WHERE id > before) THEN
    RAISE EXCEPTION 'the dry run wrote history';
  END IF;
  PERFORM set_config('sagaz_ha.clock', at::text, false);
  SELECT array_agg(p::text ORDER BY p::text), count(*) INTO pass, seen FROM maintain_all_partitions() AS p;
  RETURN QUERY SELECT seen, plan IS NOT DISTINCT FROM pass,
    seen = (SELECT count(*) FROM sagaz_ha.partition_history WHERE id > before AND recorded_at = at)
         + (SELECT count(*) FROM unnest(pass) AS r WHERE r LIKE '(KEEP,%'
             AND EXISTS (SELECT FROM sagaz_ha.partition_history WHERE id <= before AND action = 'KEEP'));
END $$;
SELECT * FROM plan_is_pass('2025-01-15 10:00:00+00');
SELECT * FROM plan_is_pass('2025-01-15 10:00:00+00');
INSERT INTO a VALUES ('2025-01-15 10:00:00+00', true), ('2025-01-16 10:00:00+00', NULL);
SELECT * FROM plan_is_pass('2025-01-18 00:00:00+00');
SELECT * FROM plan_is_pass('2025-01-19 00:00:00+00');
SELECT * FROM plan_is_pass('2025-03-09 12:00:00+00');
SELECT * FROM plan_is_pass('2026-01-01 00:00:00+00');
-- the dry run at another time than now
SELECT action, count(*) FROM sagaz_ha.plan_partition_maintenance('2027-01-01 00:00:00+00') GROUP BY 1 ORDER BY 1;
SELECT action, count(*) FROM sagaz_ha.plan_partition_maintenance() GROUP BY 1;
DROP TABLE a, b, c;
TRUNCATE sagaz_ha.partition_history;

SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
-- The picture: a sign for each partition, now below now
CREATE FUNCTION timeline(width integer) RETURNS TABLE (picture text, covered_until timestamp) LANGUAGE sql AS
  $$ SELECT format('%s|%s|', rpad(t.table_name, 5), t.timeline), t.covered_until AT TIME ZONE 'UTC' FROM sagaz_ha.partition_timeline(width) AS t $$;
SELECT * FROM timeline(50);
CREATE TABLE empty (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('empty', '1 day', 1);
SELECT * FROM timeline(50);
CREATE TABLE a (at timestamptz NOT NULL, todo boolean) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('a', '1 day', 9, retention => '4 days', unfinished_when => 'todo');
CREATE TABLE long (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE rest PARTITION OF long DEFAULT;
SELECT sagaz_ha.manage_partitions('long', '1 day', 40);
SELECT count(*) FROM maintain_all_partitions();
INSERT INTO a VALUES ('2025-01-15 10:00:00+00', true);
SET sagaz_ha.clock = '2025-01-20 10:00:00+00';
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('a') WHERE action = 'KEEP';
SET sagaz_ha.clock = '2025-01-23 10:00:00+00';
SELECT sagaz_ha.hold_partition('a_y2025m01d17', 'to be looked at');
UPDATE pg_inherits SET inhdetachpending = true WHERE inhrelid = 'a_y2025m01d20'::regclass;
-- kept, held, expired, past, draining, past, now, ahead; what is missing has no place
SELECT * FROM timeline(50);
-- where several share a place, the sign that asks for attention is seen
SELECT * FROM timeline(10);
SELECT max(length(picture)) - 7 <= 20 AS fits FROM timeline(20);
-- what is being converted: rows of a default partition, and a table that isn't partitioned yet
CREATE TABLE plain (at timestamptz NOT NULL);
INSERT INTO sagaz_ha.conversion (relation, parent, kind, phase, table_name, key, lower_bound, upper_bound,
    weaken_unique, publish_via_partition_root, since, phase_since, finish_by)
  VALUES ('rest', 'long', 'rows', 'moving', 'rest', 'at', 'MINVALUE', 'MAXVALUE', false, false, sagaz_ha.clock(), sagaz_ha.clock(), NULL),
         ('plain', NULL, 'table', 'validating', 'plain', 'at', 'MINVALUE', '2025-02-01', false, false, sagaz_ha.clock(),
          sagaz_ha.clock(), '2025-01-31 00:00:00+00');
SELECT * FROM timeline(50);
DELETE FROM sagaz_ha.conversion;
SELECT test.fails('SELECT sagaz_ha.partition_timeline(9)');
SELECT test.fails('SELECT sagaz_ha.partition_timeline(1001)');
SELECT test.fails('SELECT sagaz_ha.partition_timeline(NULL)');
ALTER TABLE a DETACH PARTITION a_y2025m01d20 FINALIZE;
DROP TABLE a, a_y2025m01d20, empty, long, plain;

-- Statistics and metadata: numbers without counting
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
CREATE TABLE log (at timestamptz NOT NULL, todo boolean, line text) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('log', '1 day', 3, retention => '2 days', unfinished_when => 'todo');
SELECT count(*) FROM maintain_all_partitions();
INSERT INTO log SELECT '2025-01-15 10:00:00+00', false, repeat('x', 1000) FROM generate_series(1, 2000);
INSERT INTO log SELECT '2025-01-16 10:00:00+00', true, 'x' FROM generate_series(1, 30);
ANALYZE log;
SELECT table_name, partition_count, oldest_partition, newest_partition, total_size_mb > 2 AS has_size,
       estimated_rows, kept, covered_until AT TIME ZONE 'UTC' AS covered_until FROM get_partition_statistics();
SELECT partition_name, state, total_bytes > 2000000 AS is_big, estimated_rows, partition::text, parent::text
  FROM partition_metadata ORDER BY partition_start;
-- the sum of the parts, to the byte
SELECT total_size_mb = round((SELECT sum(pg_total_relation_size(partition)) FROM partition_metadata) / 1048576.0, 2) AS adds_up
  FROM get_partition_statistics();
-- with every kind of file: indexes, TOAST, maps, unlogged, rewritten
CREATE TABLE files (at timestamptz NOT NULL, line text, PRIMARY KEY (at)) PARTITION BY RANGE (at);
CREATE INDEX ON files (line);
SELECT sagaz_ha.manage_partitions('files', '1 day', 3);
SELECT count(*) FROM sagaz_ha.maintain_partitions('files');
ALTER TABLE files_y2025m01d15 ALTER line SET STORAGE EXTERNAL;
ALTER TABLE files_y2025m01d17 SET UNLOGGED;
INSERT INTO files SELECT timestamptz '2025-01-15 01:00:00+00' + n * interval '1 minute', repeat('x', 2500) FROM generate_series(1, 3000) AS n;
DELETE FROM files WHERE at < '2025-01-16 00:00:00+00' AND extract(minute FROM at) = 0;
VACUUM (INDEX_CLEANUP ON) files;
SELECT partition_name, total_bytes > 500000 AS full, total_bytes - pg_total_relation_size(partition) AS off
  FROM partition_metadata WHERE table_name = 'files' ORDER BY partition_start;
TRUNCATE files_y2025m01d16;
VACUUM FULL files_y2025m01d15;
SELECT count(*) FILTER (WHERE total_bytes <> pg_total_relation_size(partition)) AS off FROM partition_metadata WHERE table_name = 'files';
DROP TABLE files;
-- rows that nobody has counted yet: an estimate that isn't below zero
SELECT sagaz_ha.create_partition('log', '2025-01-25 00:00:00+00');
SELECT estimated_rows >= 0 AS no_minus_one FROM partition_metadata WHERE partition_name = 'log_y2025m01d25';
DROP TABLE log_y2025m01d25;
-- states of time
SET sagaz_ha.clock = '2025-01-18 10:00:00+00';
SELECT partition_name, state, created_at AT TIME ZONE 'UTC' AS created_at FROM partition_metadata ORDER BY partition_start;
SET sagaz_ha.clock = '2025-01-19 10:00:00+00';
SELECT action, partition_name FROM maintain_all_partitions() ORDER BY 1, 2;
SELECT partition_name, state FROM partition_metadata ORDER BY partition_start;

-- Health: each check, ok and not
CREATE FUNCTION health(checks text[]) RETURNS TABLE (check_name text, status text, value text, details text) LANGUAGE sql AS
  $$ SELECT h.check_name, h.status, h.value, h.details FROM sagaz_ha.partition_health() AS h WHERE h.check_name = ANY (checks) $$;
SELECT * FROM health('{kept_partitions,errors}');
UPDATE log SET todo = false;
SELECT count(*) FROM maintain_all_partitions();
SELECT table_name, check_name, status, value, details FROM sagaz_ha.partition_health();
-- coverage shrinks with time, from ok over warning to critical
SELECT covered_until AT TIME ZONE 'UTC' AS covered_until, premade_until AT TIME ZONE 'UTC' AS premade_until FROM sagaz_ha.coverage();
SET sagaz_ha.clock = '2025-01-21 11:00:00+00';
SELECT status, value FROM health('{coverage}');
SET sagaz_ha.clock = '2025-01-21 13:00:00+00';
SELECT status, value FROM health('{coverage}');
SET sagaz_ha.clock = '2025-01-22 05:00:00+00';
SELECT status, value FROM health('{coverage}');
SET sagaz_ha.clock = '2025-01-22 07:00:00+00';
SELECT status, value FROM health('{coverage}');
SET sagaz_ha.clock = '2025-01-23 00:00:00+00';
SELECT * FROM health('{coverage}');
SELECT covered_until FROM get_partition_statistics();
SET sagaz_ha.clock = '2025-01-19 10:00:00+00';
-- holes end coverage where they begin
ALTER TABLE log DETACH PARTITION log_y2025m01d21;
SELECT * FROM health('{coverage,holes}');
ALTER TABLE log ATTACH PARTITION log_y2025m01d21 FOR VALUES FROM ('2025-01-21 00:00:00+00') TO ('2025-01-22 00:00:00+00');
-- a table that can't be maintained, and why
ALTER TABLE log DROP COLUMN todo;
SELECT * FROM health('{maintainable}');
-- creating goes on; what can't be asked is not dropped
SET sagaz_ha.clock = '2025-01-21 10:00:00+00';
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT * FROM health('{errors}');
SELECT sagaz_ha.manage_partitions('log', '1 day', 3, retention => '2 days');
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT * FROM health('{maintainable,errors}');
-- a policy that is there by force: health says so, the pass too, and goes on
UPDATE sagaz_ha.partition_policy SET time_zone = 'Europe/Atlantis';
CREATE TABLE healthy (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('healthy', '1 day', 1);
SELECT * FROM maintain_all_partitions();
SELECT * FROM sagaz_ha.plan_partition_maintenance();
SELECT table_name, partition_count, covered_until AT TIME ZONE 'UTC' AS covered_until FROM get_partition_statistics();
SELECT table_name, check_name, status, details FROM sagaz_ha.partition_health() WHERE status <> 'ok';
SELECT test.fails($$SELECT sagaz_ha.create_partition('log', '2025-03-01 00:00:00+00')$$);
DROP TABLE healthy;
UPDATE sagaz_ha.partition_policy SET time_zone = 'UTC';
-- an error that is over is over, though no pass had anything to record about it
SELECT * FROM health('{maintainable,errors}');
CREATE TABLE log_y2025m01d25 ();
SET sagaz_ha.clock = '2025-01-22 10:00:00+00';
SELECT action, partition_name FROM maintain_all_partitions() WHERE action = 'ERROR';
SELECT status, value FROM health('{errors}');
CREATE TABLE by_hand PARTITION OF log FOR VALUES FROM ('2025-01-25 00:00:00+00') TO ('2025-01-26 00:00:00+00');
SELECT * FROM maintain_all_partitions() WHERE action <> 'DROP';
SELECT status, value FROM health('{errors}');
SET sagaz_ha.clock = '2025-01-21 10:00:00+00';
-- a pending detach
CREATE TABLE pending (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('pending', '1 day', 1);
SELECT count(*) FROM sagaz_ha.maintain_partitions('pending');
UPDATE pg_inherits SET inhdetachpending = true WHERE inhrelid = 'pending_y2025m01d22'::regclass;
SELECT table_name, check_name, status, value, details FROM sagaz_ha.partition_health()
 WHERE check_name IN ('pending_detach', 'coverage') AND table_name = 'pending';
SELECT partition_name, state FROM partition_metadata WHERE table_name = 'pending' ORDER BY partition_start;
-- the pass makes nothing in its place
SELECT count(*) FILTER (WHERE action = 'CREATE') AS made FROM sagaz_ha.maintain_partitions('pending');
ALTER TABLE pending DETACH PARTITION pending_y2025m01d22 FINALIZE;
SELECT status FROM health('{pending_detach}');
DROP TABLE pending_y2025m01d22;
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('pending');

-- History: changes as they happen; what lasts when it begins or changes
DROP TABLE log, pending;
TRUNCATE sagaz_ha.partition_history;
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
CREATE TABLE h (at timestamptz NOT NULL, todo boolean) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('h', '1 day', 1, retention => '1 day', unfinished_when => 'todo');
CREATE TABLE h_y2025m01d16 ();
SELECT count(*) FROM maintain_all_partitions();
SELECT count(*) FROM maintain_all_partitions();
INSERT INTO h VALUES ('2025-01-15 10:00:00+00', true);
SET sagaz_ha.clock = '2025-01-17 00:00:00+00';
SELECT count(*) FROM maintain_all_partitions();
SELECT count(*) FROM maintain_all_partitions();
DROP TABLE h_y2025m01d16;
DELETE FROM h;
SELECT count(*) FROM maintain_all_partitions();
SELECT recorded_at AT TIME ZONE 'UTC' AS recorded_at, action, table_name, parent = 'h'::regclass AS parent_is_right,
       partition IS NOT NULL AS has_partition, partition_name, details
  FROM sagaz_ha.partition_history ORDER BY id;
-- a pass with nothing new writes nothing at all
CREATE TABLE h2 (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE h2_all PARTITION OF h2 FOR VALUES FROM (MINVALUE) TO ('2025-02-01 00:00:00+00');
SELECT sagaz_ha.manage_partitions('h2', '1 day', 1);
BEGIN;
SELECT count(*) FROM maintain_all_partitions();
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
-- rolled back, it never was
BEGIN;
SET LOCAL sagaz_ha.clock = '2025-01-18 00:00:00+00';
SELECT count(*) FROM maintain_all_partitions();
ROLLBACK;
SELECT count(*) FROM sagaz_ha.partition_history WHERE recorded_at = '2025-01-18 00:00:00+00';

\i :teardown
