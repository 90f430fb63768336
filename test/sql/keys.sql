-- Every kind of key does what a timestamptz does.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

-- The least key of a time, as text; and one of the same time with other low bits
CREATE FUNCTION test.key(type text, encoding text, at timestamptz, low boolean DEFAULT false) RETURNS text
LANGUAGE sql STABLE SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
  SELECT CASE
    WHEN type = 'timestamptz' THEN at::text
    WHEN type = 'timestamp' THEN (at AT TIME ZONE 'America/New_York')::text
    WHEN type = 'date' THEN (at AT TIME ZONE 'America/New_York')::date::text
    WHEN type = 'uuid' THEN
      overlay(sagaz_ha.uuidv7_at(at)::text placing CASE WHEN low THEN '7abc-9def-0123456789ab' ELSE '' END
              from 15 for CASE WHEN low THEN 22 ELSE 0 END)
    WHEN type ~ 'text|char' THEN
      overlay(sagaz_ha.ulid_at(at) placing CASE WHEN low THEN 'V4RRFFQ69G5FAVXY' ELSE '' END
              from 11 for CASE WHEN low THEN 16 ELSE 0 END)
    WHEN encoding = 'unix seconds' THEN sagaz_ha.unix_seconds_at(at)::text
    WHEN encoding = 'unix milliseconds' THEN sagaz_ha.unix_milliseconds_at(at)::text
    WHEN encoding = 'unix microseconds' THEN sagaz_ha.unix_microseconds_at(at)::text
    ELSE (sagaz_ha.snowflake_at(at, encoding) + CASE WHEN low THEN 5 ELSE 0 END)::text
  END
$$;
-- The least difference that a kind tells apart
CREATE FUNCTION test.unit(type text, encoding text) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN type = 'date' THEN interval '1 day'
              WHEN encoding = 'unix seconds' THEN interval '1 second'
              ELSE interval '1 millisecond' END
$$;
CREATE FUNCTION test.actions() RETURNS SETOF text LANGUAGE sql AS $$
  SELECT concat_ws(' ', action, partition_name) FROM maintain_all_partitions()
$$;
CREATE FUNCTION test.parts() RETURNS SETOF text LANGUAGE sql STABLE SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
  SELECT concat_ws(' ', partition_name, state, partition_start, partition_end)
    FROM partition_metadata ORDER BY partition_start
$$;
CREATE FUNCTION test.put(type text, encoding text, at timestamptz, low boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN
  EXECUTE format('INSERT INTO t VALUES (%L) ON CONFLICT DO NOTHING', test.key(type, encoding, at, low));
  EXECUTE format('SELECT tableoid::regclass FROM t WHERE id = %L', test.key(type, encoding, at, low)) INTO r;
  RETURN r;
EXCEPTION WHEN check_violation THEN
  RETURN 'no partition';
END $$;

-- Plan, creation, routing, holes, create_partition(), health, retention, reattaching
CREATE FUNCTION test.life(type text, encoding text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  -- midnight in New York, before a day of 23 hours
  day timestamptz := '2025-03-08 05:00:00+00';
  next timestamptz := '2025-03-09 05:00:00+00';
BEGIN
  PERFORM set_config('sagaz_ha.clock', '2025-03-08 15:00:00+00', false);
  EXECUTE format('CREATE TABLE t (id %s PRIMARY KEY, done boolean NOT NULL DEFAULT true) PARTITION BY RANGE (id)', type);
  PERFORM sagaz_ha.manage_partitions('t', '1 day', 3, '2 days', 'detach', 'NOT done', 'America/New_York',
                                     key_encoding => encoding);
  RETURN NEXT 'plan';
  RETURN QUERY SELECT concat_ws(' ', action, partition_name) FROM sagaz_ha.plan_partition_maintenance();
  RETURN NEXT 'pass';
  RETURN QUERY SELECT test.actions();
  RETURN QUERY SELECT 'again ' || test.actions();
  RETURN QUERY SELECT test.parts();
  RETURN NEXT 'rows';
  RETURN NEXT test.put(type, encoding, day);
  RETURN NEXT test.put(type, encoding, next - test.unit(type, encoding), type <> 'date');
  RETURN NEXT test.put(type, encoding, next);
  RETURN NEXT test.put(type, encoding, day - test.unit(type, encoding), type <> 'date');
  RETURN NEXT 'hole';
  DROP TABLE t_y2025m03d10;
  RETURN QUERY SELECT concat_ws(' ', check_name, status, value) FROM sagaz_ha.partition_health()
                WHERE check_name IN ('holes', 'coverage', 'keys', 'maintainable') AND table_name = 't'
                  AND check_name <> 'keys' ORDER BY 1;
  RETURN QUERY SELECT test.actions();
  RETURN NEXT 'by hand';
  RETURN NEXT sagaz_ha.create_partition('t', '2025-03-01 12:00:00+00');
  RETURN NEXT sagaz_ha.create_partition('t', '2025-03-12 12:00:00+00');
  RETURN QUERY SELECT test.actions();
  RETURN NEXT 'retention';
  UPDATE t SET done = false WHERE tableoid = 't_y2025m03d09'::regclass;
  PERFORM set_config('sagaz_ha.clock', '2025-03-12 15:00:00+00', false);
  RETURN QUERY SELECT test.actions();
  UPDATE t SET done = true;
  RETURN QUERY SELECT test.actions();
  RETURN NEXT 'reattached';
  PERFORM sagaz_ha.reattach_partition('t_y2025m03d08');
  RETURN NEXT (SELECT count(*) FROM t_y2025m03d08) || ' rows';
  RETURN QUERY SELECT test.actions();
  RETURN QUERY SELECT test.parts();
  DROP TABLE t, t_y2025m03d01, t_y2025m03d06, t_y2025m03d07, t_y2025m03d09;
END $$;

-- Partitions of others: low bits, and at each boundary a hole of the least
-- difference, or only of low bits
CREATE FUNCTION test.adopted(type text, encoding text) RETURNS SETOF text
LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
  day timestamptz := '2025-03-08 05:00:00+00';
  unit interval := test.unit(type, encoding);
BEGIN
  PERFORM set_config('sagaz_ha.clock', '2025-03-08 15:00:00+00', false);
  EXECUTE format('CREATE TABLE t (id %s NOT NULL, done boolean NOT NULL DEFAULT true) PARTITION BY RANGE (id)', type);
  EXECUTE format('CREATE TABLE a PARTITION OF t FOR VALUES FROM (%L) TO (%L)',
    test.key(type, encoding, day, true), test.key(type, encoding, day + '1 day' - unit, true));
  EXECUTE format('CREATE TABLE b PARTITION OF t FOR VALUES FROM (%L) TO (%L)',
    test.key(type, encoding, day + '1 day'), test.key(type, encoding, day + '1 day 23 hours'));
  EXECUTE format('CREATE TABLE c PARTITION OF t FOR VALUES FROM (%L) TO (%L)',
    test.key(type, encoding, day + '1 day 23 hours', true), test.key(type, encoding, day + '2 days 23 hours', true));
  PERFORM sagaz_ha.manage_partitions('t', '1 day', 3, time_zone => 'America/New_York', key_encoding => encoding);
  RETURN NEXT 'holes ' || (SELECT holes FROM sagaz_ha.coverage());
  RETURN NEXT test.put(type, encoding, day + '1 day' - unit, true);
  RETURN QUERY SELECT test.actions();
  RETURN QUERY SELECT 'again ' || test.actions();
  RETURN NEXT 'holes ' || (SELECT holes FROM sagaz_ha.coverage());
  RETURN NEXT test.put(type, encoding, day + '1 day' - unit, true);
  RETURN NEXT test.put(type, encoding, day + '2 days 23 hours');
  RETURN NEXT test.put(type, encoding, day + '2 days 23 hours', true);
  RETURN QUERY SELECT test.parts();
  DROP TABLE t;
END $$;

CREATE TABLE test.kinds (n serial, type text, encoding text);
INSERT INTO test.kinds (type, encoding) VALUES
  ('timestamptz', NULL), ('timestamp', NULL), ('date', NULL), ('uuid', NULL), ('uuid', 'uuidv7'), ('uuid', 'ulid'),
  ('text', NULL), ('varchar(26) COLLATE "C"', NULL), ('char(26)', 'ulid'),
  ('bigint', 'unix seconds'), ('bigint', 'unix milliseconds'), ('bigint', 'unix microseconds'),
  ('bigint', 'snowflake'), ('bigint', 'snowflake discord'), ('bigint', 'snowflake 1500000000000 10');
SET client_min_messages = error;

SELECT * FROM test.life('timestamptz', NULL);
CREATE TABLE test.expected AS SELECT * FROM test.life('timestamptz', NULL) WITH ORDINALITY AS l(line, n);
SELECT k.type, k.encoding, l.*
  FROM test.kinds AS k
  CROSS JOIN LATERAL (
    SELECT n, l.line AS differs, e.line AS expected
      FROM test.life(k.type, k.encoding) WITH ORDINALITY AS l(line, n)
      FULL JOIN test.expected AS e USING (n)
     WHERE e.line IS DISTINCT FROM l.line) AS l
 ORDER BY k.n, l.n;

SELECT string_agg(kind, ', ' ORDER BY n) AS kinds, line
  FROM (SELECT k.n, concat_ws(' ', k.type, k.encoding) AS kind,
               (SELECT string_agg(line, E'\n') FROM test.adopted(k.type, k.encoding) AS line) AS lines
          FROM test.kinds AS k WHERE k.type <> 'date' OFFSET 0) AS a,
       string_to_table(lines, E'\n') WITH ORDINALITY AS l(line, o)
 GROUP BY lines, o, line
 ORDER BY min(n), lines, o;
RESET client_min_messages;

-- A row in the way: in a default partition, for the time of the hole
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
CREATE TABLE t (id uuid NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE a PARTITION OF t FOR VALUES FROM ('01946742-8400-7000-8000-000000000001') TO ('01946c68-dfff-7abc-8000-000000000002');
CREATE TABLE b PARTITION OF t FOR VALUES FROM ('01946c68-e000-7123-8000-000000000003') TO ('0194718f-3c00-7abc-8123-00000000aaaa');
CREATE TABLE other PARTITION OF t DEFAULT;
INSERT INTO t VALUES ('01946c68-dfff-7fff-8000-000000000002'), ('01946c68-dfff-7aaa-8000-000000000002');
SELECT sagaz_ha.manage_partitions('t', '1 day', 1);
SELECT action, partition_name, details FROM sagaz_ha.plan_partition_maintenance();
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT check_name, status, value, details FROM sagaz_ha.partition_health() WHERE check_name IN ('holes', 'default_partition', 'errors');
DELETE FROM other;
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT * FROM test.partitions('t');
SELECT conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'a'::regclass AND contype = 'c';
INSERT INTO t VALUES ('01946c68-dfff-7fff-8000-000000000002') RETURNING tableoid::regclass;
-- a partition with a CHECK of its bounds is widened with the CHECK
ALTER TABLE t DETACH PARTITION b;
CREATE TABLE b2 PARTITION OF t FOR VALUES FROM ('01946c68-e000-7123-8000-000000000004') TO ('0194718f-3c00-7abc-8123-00000000aaaa');
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'a'::regclass AND contype = 'c';
INSERT INTO t VALUES ('01946c68-e000-7123-8000-000000000003') RETURNING tableoid::regclass;
DROP TABLE t, b;

-- What has to be told, and can't be
CREATE TABLE n (id bigint PRIMARY KEY) PARTITION BY RANGE (id);
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('n', '1 day')$$);
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('n', '1 day', key_encoding => 'seconds')$$);
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('n', '1 day', key_encoding => 'snowflake 1 33')$$);
SELECT sagaz_ha.manage_partitions('n', '1 day', 1, key_encoding => 'snowflake discord');
SELECT parent, key_encoding FROM sagaz_ha.partition_policy;
SELECT test.fails($$SELECT sagaz_ha.create_partition('n', '2100-01-01 00:00:00+00')$$);
DROP TABLE n;
CREATE TABLE t (id uuid PRIMARY KEY, at timestamptz) PARTITION BY RANGE (id);
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('t', '1 day', key_encoding => 'unix seconds')$$);
SELECT sagaz_ha.manage_partitions('t', '1 month', 1);
SELECT sagaz_ha.create_partition('t', '10889-06-01 00:00:00+00');
SELECT test.fails($$SELECT sagaz_ha.create_partition('t', '10889-08-02 12:00:00+00')$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition('t', '1969-12-31 12:00:00+00')$$);
DROP TABLE t;
CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('t', '1 day', key_encoding => 'unix seconds')$$);
DROP TABLE t;

-- A collation has to sort ULIDs as their bytes
CREATE COLLATION test.digits (provider = icu, locale = 'en-u-kn');
CREATE TABLE t (id text COLLATE "da-x-icu" NOT NULL) PARTITION BY RANGE (id);
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('t', '1 day')$$);
DROP TABLE t;
CREATE TABLE t (id text COLLATE test.digits NOT NULL) PARTITION BY RANGE (id COLLATE "C");
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('t', '1 day')$$);
DROP TABLE t;
CREATE TABLE t (id text COLLATE "en-x-icu" NOT NULL) PARTITION BY RANGE (id);
SELECT sagaz_ha.manage_partitions('t', '1 day', 1);
SELECT action, partition_name, details FROM maintain_all_partitions();
INSERT INTO t VALUES (sagaz_ha.ulid_at('2025-01-15 23:59:59.999+00')), (sagaz_ha.ulid_at('2025-01-16 00:00:00+00')) RETURNING tableoid::regclass;
-- what isn't a ULID is seen
INSERT INTO t VALUES (lower(sagaz_ha.ulid_at('2025-01-16 23:00:00+00')));
SELECT check_name, status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'keys';
DROP TABLE t;

-- UUIDs of other versions: a warning, and health
CREATE TABLE t (id uuid PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE rest PARTITION OF t FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
INSERT INTO t VALUES ('01946742-8400-7000-8000-000000000001'), ('9b2f4e61-7c1d-4f0a-8d0e-3b6f5a1c2d3e'),
  ('01946742-8400-7000-c000-000000000001');
SELECT sagaz_ha.manage_partitions('t', '1 day');
SELECT check_name, status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'keys';
SELECT sagaz_ha.manage_partitions('t', '1 day', key_encoding => 'ulid');
SELECT check_name, status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'keys';
DELETE FROM t WHERE id <> '01946742-8400-7000-8000-000000000001';
SELECT sagaz_ha.manage_partitions('t', '1 day');
SELECT check_name, status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'keys';
-- the guard of the documentation
ALTER TABLE t ADD CHECK (substr(id::text, 15, 1) = '7' AND substr(id::text, 20, 1) IN ('8', '9', 'a', 'b'));
SELECT test.fails($$INSERT INTO t VALUES ('9b2f4e61-7c1d-4f0a-8d0e-3b6f5a1c2d3e')$$);
DROP TABLE t;

-- Queries by time
CREATE TABLE t (id uuid PRIMARY KEY, payload text) PARTITION BY RANGE (id);
SELECT sagaz_ha.manage_partitions('t', '1 day', 2);
SELECT action, partition_name FROM maintain_all_partitions();
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM t
 WHERE id >= sagaz_ha.uuidv7_at('2025-01-16 08:00:00+00') AND id < sagaz_ha.uuidv7_at('2025-01-16 09:00:00+00');
DROP TABLE t;
SELECT sagaz_ha.uuidv7_at('2022-02-22 19:22:22+00'), sagaz_ha.ulid_at('2016-07-30 22:36:16.385+00');
SELECT sagaz_ha.unix_seconds_at(t), sagaz_ha.unix_milliseconds_at(t), sagaz_ha.unix_microseconds_at(t)
  FROM (VALUES (timestamptz '2025-01-15 10:00:00.000001+00')) AS v(t);
SELECT sagaz_ha.snowflake_at(t), sagaz_ha.snowflake_at(t, 'snowflake discord'), sagaz_ha.snowflake_at(t, 'snowflake 0 0')
  FROM (VALUES (timestamptz '2025-01-15 10:00:00+00')) AS v(t);
SELECT test.fails($$SELECT sagaz_ha.uuidv7_at('10889-08-03 00:00:00+00')$$);
SELECT test.fails($$SELECT sagaz_ha.uuidv7_at('-infinity')$$);
SELECT test.fails($$SELECT sagaz_ha.ulid_at('1969-12-31 00:00:00+00')$$);
SELECT test.fails($$SELECT sagaz_ha.snowflake_at('2025-01-15 00:00:00+00', 'unix seconds')$$);

-- Minutes
CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE FUNCTION test.minutes(width interval, premake integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM sagaz_ha.manage_partitions('t', width, premake, width);
  RETURN QUERY SELECT test.actions();
  RETURN QUERY SELECT 'again ' || test.actions();
  PERFORM test.drop_all();
END $$;
CREATE FUNCTION test.drop_all() RETURNS void LANGUAGE plpgsql AS $$
DECLARE p regclass;
BEGIN
  FOR p IN SELECT partition FROM test.partitions('t') LOOP
    EXECUTE format('DROP TABLE %s', p);
  END LOOP;
END $$;
SELECT test.minutes('1 minute', 2);
SELECT test.minutes('5 minutes', 2);
SELECT test.minutes('15 minutes', 2);
SELECT test.minutes('90 minutes', 2);
SELECT sagaz_ha.manage_partitions('t', '1 minute', 1440);
SELECT count(*), min(partition_name), max(partition_name) FROM sagaz_ha.plan_partition_maintenance();
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('t', '30 seconds')$$);
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('t', '90 seconds')$$);
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('t', '1 minute', 5001)$$);
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('t', '60 minutes', 1001)$$);
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('t', '5 minutes', retention => '4 minutes')$$);
DROP TABLE t;
\i :teardown
