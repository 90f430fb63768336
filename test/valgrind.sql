-- One retirement by the worker, and everything that reads: for valgrind.
\set ON_ERROR_STOP on
SET timezone = 'UTC';
CREATE EXTENSION sagaz_ha;
SELECT count(*) > 0 FROM maintain_all_partitions();
CREATE TABLE t (at timestamptz NOT NULL, done boolean NOT NULL DEFAULT true) PARTITION BY RANGE (at);
SELECT format('CREATE TABLE %I PARTITION OF t FOR VALUES FROM (%L) TO (%L)', 't' || n, d, d + interval '1 day')
  FROM generate_series(1, 8) AS n, LATERAL (SELECT date_trunc('day', sagaz_ha.clock()) - n * interval '1 day' AS d) AS days \gexec
INSERT INTO t SELECT at, false FROM (SELECT date_trunc('day', sagaz_ha.clock()) - interval '6 days' AS at) AS x;
SELECT sagaz_ha.manage_partitions('t', '1 day', 2, '3 days', unfinished_when => 'NOT done');
DO $$
DECLARE
  seen integer;
BEGIN
  FOR i IN 1 .. 600 LOOP
    SELECT count(*) FILTER (WHERE action = 'DROP') INTO seen FROM sagaz_ha.partition_history WHERE table_name = 't';
    EXIT WHEN seen = 4;
    COMMIT;
    PERFORM pg_sleep(0.5);
  END LOOP;
  IF seen <> 4 THEN
    RAISE 'the worker dropped % partitions instead of 4', seen;
  END IF;
END $$;
SELECT count(*) FROM sagaz_ha.partition_health(), sagaz_ha.maintenance_status();
SELECT count(*) FROM get_partition_statistics();
SELECT count(*) FROM sagaz_ha.plan_partition_maintenance();
SELECT count(*) FROM sagaz_ha.replication_health();
SELECT length(sagaz_ha.prometheus_metrics()) > 0;
