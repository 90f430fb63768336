-- Metrics of partitions: what alerts go by, whatever a table is called.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
CREATE VIEW numbers AS
  SELECT replace(name, 'sagaz_ha_', '') AS name, labels ->> 'table' AS "table", value
    FROM sagaz_ha.metrics() WHERE labels ? 'table' AND name ~ 'partition' AND NOT labels ? 'check';

-- A table without partitions: that inserts fail now is a number, not a gap
CREATE TABLE t (at timestamptz NOT NULL, line text) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('t', '1 day', 3);
SELECT name, value FROM numbers ORDER BY 1;

-- Covered until the end of the 18th
SELECT count(*) FROM maintain_all_partitions();
INSERT INTO t SELECT '2025-01-15 10:00:00+00', repeat('x', 100) FROM generate_series(1, 2000);
SELECT name, value FROM numbers WHERE name LIKE '%seconds' ORDER BY 1;
SELECT value = (SELECT sum(pg_total_relation_size(partition)) FROM sagaz_ha.partitions()) AS exact
  FROM numbers WHERE name = 'sagaz_partition_size_bytes';
SELECT bool_and(total_bytes IS NULL) AS without, count(*) FROM sagaz_ha.partitions(sizes => false);
SELECT value FROM sagaz_ha.metrics() WHERE name = 'sagaz_ha_partitions_kept';
DROP TABLE t;

-- A catch-all is no coverage. By a name with everything that has to be escaped
CREATE TABLE "a ""b\
c" (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE rest PARTITION OF "a ""b\
c" FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
SELECT sagaz_ha.manage_partitions('"a ""b\
c"', '1 month', 3);
SELECT name, value FROM numbers WHERE name LIKE '%seconds' ORDER BY 1;
SELECT line FROM regexp_split_to_table(sagaz_ha.prometheus_metrics(), E'\n') AS line
 WHERE line ~ '^sagaz(_ha)?_partition_(count|covered_seconds)';

-- Each source is read once per call, so that one answer doesn't contradict itself
SET track_functions = 'all';
CREATE FUNCTION test.readings(query text) RETURNS TABLE (source name, times bigint) LANGUAGE plpgsql AS $$
DECLARE
  before jsonb;
BEGIN
  SELECT jsonb_object_agg(funcname, calls) INTO before FROM pg_stat_xact_user_functions;
  EXECUTE query;
  RETURN QUERY
    SELECT s.funcname, s.calls - coalesce((before ->> s.funcname)::bigint, 0)
      FROM pg_stat_xact_user_functions AS s
     WHERE s.funcname IN ('_thresholds', '_node_state', '_wal_state', '_receiver_state', '_sender_state', '_wal_speed')
       AND s.calls > coalesce((before ->> s.funcname)::bigint, 0)
     ORDER BY s.funcname;
END $$;
SELECT * FROM test.readings('SELECT * FROM sagaz_ha.replication_health()');
SELECT * FROM test.readings('SELECT * FROM sagaz_ha.metrics()');
SELECT * FROM test.readings('SELECT sagaz_ha.prometheus_metrics()');
SELECT * FROM test.readings('SELECT * FROM sagaz_ha.nagios_check()');
SELECT * FROM test.readings('SELECT * FROM sagaz_ha.replication_slot_risk()');
SELECT * FROM test.readings('SELECT * FROM sagaz_ha.promotion_readiness()');

-- A reason's severity is a column: what its message says is for people
SELECT sagaz_ha._status(r.reasons), sagaz_ha._reason_lines(r.reasons)
  FROM (VALUES (ARRAY[]::sagaz_ha._reason[]),
               (ARRAY[ROW('unknown', 'critical: quoted'), ROW('warning', 'state is 5%')]::sagaz_ha._reason[]),
               (ARRAY[ROW('warning', 'a'), ROW('critical', 'b'), ROW('unknown', 'c')]::sagaz_ha._reason[])) AS r (reasons);
SELECT test.fails($$SELECT sagaz_ha._status(ARRAY[ROW('bad', 'x')]::sagaz_ha._reason[])$$);

\i :teardown
