-- Tables that have partitions already, of any name, width and bound.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

CREATE TABLE t (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);

-- New bounds go on from the last one, whatever its width and alignment
CREATE TABLE "Odd One" PARTITION OF t FOR VALUES FROM ('2025-01-01 00:00:00+00') TO ('2025-01-14 15:30:00+00');
SELECT sagaz_ha.manage_partitions('t', '1 day', 2);
SELECT * FROM sagaz_ha.plan_partition_maintenance();
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT * FROM maintain_all_partitions();
SELECT partition_name, partition_start AT TIME ZONE 'UTC' AS partition_start, state FROM partition_metadata ORDER BY partition_start;

-- Holes are filled, wherever they are; the last piece is as long as it can be
DROP TABLE "t_y2025m01d14h15m30";
ALTER TABLE t DETACH PARTITION "t_y2025m01d15h15m30";
DROP TABLE "t_y2025m01d15h15m30";
SELECT table_name, check_name, status, value, details FROM sagaz_ha.partition_health() WHERE check_name IN ('holes', 'coverage');
CREATE TABLE in_between PARTITION OF t FOR VALUES FROM ('2025-01-15 00:00:00+00') TO ('2025-01-16 00:00:00+00');
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT * FROM maintain_all_partitions();
SELECT table_name, check_name, status, value, details FROM sagaz_ha.partition_health() WHERE check_name IN ('holes', 'coverage');

-- A partition in the far future covers nothing of what is needed before it,
-- and makes no thousand partitions
CREATE TABLE junk PARTITION OF t FOR VALUES FROM ('9999-01-01 00:00:00+00') TO ('9999-02-01 00:00:00+00');
SELECT * FROM maintain_all_partitions();
SET sagaz_ha.clock = '2025-01-17 10:00:00+00';
SELECT action, partition_name FROM maintain_all_partitions();
SELECT covered_until AT TIME ZONE 'UTC' AS covered_until FROM get_partition_statistics();
SELECT check_name, status, details FROM sagaz_ha.partition_health() WHERE check_name IN ('holes', 'coverage');
DROP TABLE t;

-- One in the far past neither
CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE old PARTITION OF t FOR VALUES FROM ('2024-12-01 00:00:00+00') TO ('2024-12-02 00:00:00+00');
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '2 days');
SELECT action, partition_name FROM sagaz_ha.plan_partition_maintenance();
SELECT action, partition_name FROM maintain_all_partitions();
DROP TABLE t;
-- but without retention, every day since is wanted, up to a limit
CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE old PARTITION OF t FOR VALUES FROM ('1970-01-01 00:00:00+00') TO ('1970-01-02 00:00:00+00');
SELECT sagaz_ha.manage_partitions('t', '1 day', 1);
SELECT action, partition_name, details FROM maintain_all_partitions();
DROP TABLE t;

-- MINVALUE and MAXVALUE
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE before PARTITION OF t FOR VALUES FROM (MINVALUE) TO ('2025-01-15 00:00:00+00');
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day');
SELECT action, partition_name FROM maintain_all_partitions();
CREATE TABLE after PARTITION OF t FOR VALUES FROM ('2025-01-17 00:00:00+00') TO (MAXVALUE);
SET sagaz_ha.clock = '2025-02-15 10:00:00+00';
SELECT partition_name, partition_start, partition_end = 'infinity' AS endless, state FROM partition_metadata ORDER BY partition_start;
-- the first one is over, the last one never is, and nothing can come after it
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT covered_until FROM get_partition_statistics();
SELECT check_name, status, value, details FROM sagaz_ha.partition_health() WHERE check_name IN ('holes', 'coverage');
SELECT test.fails($$SELECT sagaz_ha.create_partition('t', '2025-03-01 00:00:00+00')$$);
DROP TABLE t;
CREATE TABLE t (at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE all_of_it PARTITION OF t FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day');
SELECT * FROM maintain_all_partitions();
-- it takes everything, and covers nothing
SELECT covered_until FROM get_partition_statistics();
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'coverage';
-- far enough ahead, it is harmless
ALTER TABLE t DETACH PARTITION all_of_it;
CREATE TABLE ahead PARTITION OF t FOR VALUES FROM ('2025-02-17') TO (MAXVALUE);
SELECT count(*) FROM maintain_all_partitions();
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'coverage';
SET sagaz_ha.clock = '2025-02-16 18:00:00+00';
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'coverage';
DROP TABLE t, all_of_it;
-- so does an empty default partition
CREATE TABLE t (at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE rest PARTITION OF t DEFAULT;
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day');
SELECT covered_until FROM get_partition_statistics();
SELECT check_name, status, value, details FROM sagaz_ha.partition_health() WHERE check_name IN ('coverage', 'default_partition');
DROP TABLE t;
-- infinity as a bound is one, too
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
CREATE TABLE t (at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE since PARTITION OF t FOR VALUES FROM ('-infinity') TO ('2025-01-15');
CREATE TABLE forever PARTITION OF t FOR VALUES FROM ('2025-01-16') TO ('infinity');
SELECT sagaz_ha.manage_partitions('t', '1 day', 1);
SELECT * FROM maintain_all_partitions();
DROP TABLE t;

-- A foreign overlap: an error that names both, and nothing made
CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE "A Week" PARTITION OF t FOR VALUES FROM ('2025-01-13 00:00:00+00') TO ('2025-01-20 00:00:00+00');
SELECT sagaz_ha.manage_partitions('t', '1 day', 1);
SELECT test.fails($$SELECT sagaz_ha.create_partition('t', '2025-01-15 00:00:00+00')$$);
SELECT sagaz_ha.manage_partitions('t', '1 month', 1);
SELECT test.fails($$SELECT sagaz_ha.create_partition('t', '2025-01-01 00:00:00+00')$$);
SELECT * FROM test.partitions('t');
-- a pass has no quarrel with it: it goes on from where the week ends
SELECT action, partition_name, details FROM maintain_all_partitions();
DROP TABLE t;

-- A default partition that the table has already
CREATE TABLE t (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);
CREATE TABLE rest PARTITION OF t DEFAULT;
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day');
SELECT check_name, status, value, details FROM sagaz_ha.partition_health() WHERE check_name IN ('default_partition', 'coverage');
SELECT action, partition_name FROM maintain_all_partitions();
SELECT partition_name, partition_start, partition_end, state FROM partition_metadata WHERE state = 'default';
SELECT oldest_partition, newest_partition, partition_count FROM get_partition_statistics();
INSERT INTO t VALUES ('2025-01-17 10:00:00+00', 1) RETURNING tableoid::regclass;
SELECT check_name, status, value, details FROM sagaz_ha.partition_health() WHERE check_name IN ('default_partition', 'coverage');
SET sagaz_ha.clock = '2025-01-16 10:00:00+00';
-- rows in the way: an error, nothing lost
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT tableoid::regclass, n FROM t;
WITH moved AS (DELETE FROM rest RETURNING *) SELECT count(*) FROM moved;
SELECT action, partition_name, details FROM maintain_all_partitions();
-- an expired one beside a default partition
SET sagaz_ha.clock = '2025-01-17 10:00:00+00';
SELECT action, partition_name, details FROM maintain_all_partitions();
DROP TABLE t;

-- A sub-partitioned partition is one partition
CREATE TABLE t (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);
CREATE TABLE nested PARTITION OF t FOR VALUES FROM ('2025-01-15 00:00:00+00') TO ('2025-01-16 00:00:00+00') PARTITION BY HASH (n);
CREATE TABLE nested_0 PARTITION OF nested FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE nested_1 PARTITION OF nested FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day', unfinished_when => 'n < 0');
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
SELECT action, partition_name FROM maintain_all_partitions();
INSERT INTO t SELECT '2025-01-15 10:00:00+00', i FROM generate_series(-3, 10) AS i;
SELECT partition_count FROM get_partition_statistics();
SET sagaz_ha.clock = '2025-01-17 10:00:00+00';
SELECT action, partition_name, details FROM maintain_all_partitions();
DELETE FROM t WHERE n < 0;
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT to_regclass('nested_0');
DROP TABLE t;

-- A parent that is a partition itself
CREATE TABLE top (at timestamptz NOT NULL, region text) PARTITION BY LIST (region);
CREATE TABLE top_eu PARTITION OF top FOR VALUES IN ('eu') PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('top_eu', '1 day', 1, retention => '1 day');
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
SELECT action, partition_name FROM maintain_all_partitions();
INSERT INTO top VALUES ('2025-01-15 10:00:00+00', 'eu') RETURNING tableoid::regclass;
SET sagaz_ha.clock = '2025-01-17 10:00:00+00';
SELECT action, partition_name FROM maintain_all_partitions();
DROP TABLE top;

-- A foreign table as a partition isn't dropped without its rows being looked at
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE TABLE t (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);
CREATE FOREIGN TABLE afar PARTITION OF t FOR VALUES FROM ('2025-01-10 00:00:00+00') TO ('2025-01-16 00:00:00+00') SERVER nowhere;
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day', unfinished_when => 'n < 0');
SELECT action, partition_name, details FROM maintain_all_partitions();
-- without the question, dropping the foreign table is all there is to do
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day');
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT to_regclass('afar');
CREATE FOREIGN TABLE afar PARTITION OF t FOR VALUES FROM ('2025-01-10 00:00:00+00') TO ('2025-01-16 00:00:00+00') SERVER nowhere;
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day', retention_action => 'archive', archive_schema => 'test');
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT to_regclass('test.afar'), obj_description(to_regclass('test.afar')) IS NOT NULL AS has_comment;
SELECT sagaz_ha.reattach_partition('test.afar');
SELECT obj_description(to_regclass('afar')), pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'afar';
DROP TABLE t;

-- A partition with partitions comes back as well
CREATE TABLE t (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);
CREATE TABLE deep PARTITION OF t FOR VALUES FROM ('2025-01-10 00:00:00+00') TO ('2025-01-16 00:00:00+00') PARTITION BY LIST (n);
CREATE TABLE deeper PARTITION OF deep FOR VALUES IN (1);
INSERT INTO t VALUES ('2025-01-12 00:00:00+00', 1);
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day', retention_action => 'detach');
SELECT action, partition_name, details FROM maintain_all_partitions() WHERE action <> 'CREATE';
SELECT sagaz_ha.reattach_partition('deep');
SELECT tableoid::regclass, * FROM t;
DROP TABLE t;

-- The same partition made by somebody else is no error
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE by_hand PARTITION OF t FOR VALUES FROM ('2025-01-17 00:00:00+00') TO ('2025-01-18 00:00:00+00');
SELECT sagaz_ha.manage_partitions('t', '1 day', 1);
SELECT sagaz_ha.create_partition('t', '2025-01-17 10:00:00+00');
SELECT action, partition_name FROM maintain_all_partitions();

\i :teardown
