-- Nothing depends on the session: TimeZone, DateStyle, search_path and the like.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

CREATE FUNCTION scenario() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text := '';
  at text;
  r record;
BEGIN
  CREATE SCHEMA s;
  CREATE TABLE s.tz (at timestamptz NOT NULL, todo boolean) PARTITION BY RANGE (at);
  CREATE TABLE s.ts (at timestamp NOT NULL) PARTITION BY RANGE (at);
  CREATE TABLE s.d (at date NOT NULL) PARTITION BY RANGE (at);
  PERFORM sagaz_ha.manage_partitions('s.tz', '1 month', 2, retention => '2 months', unfinished_when => $u$todo OR at = '2025-01-02 03:04:05+06'::timestamptz$u$);
  PERFORM sagaz_ha.manage_partitions('s.ts', '6 hours', 2, retention => '1 day', time_zone => 'Asia/Kolkata');
  PERFORM sagaz_ha.manage_partitions('s.d', '1 day', 2, retention => '1 day', retention_action => 'detach', time_zone => 'Europe/Berlin');
  FOREACH at IN ARRAY '{2025-01-15 23:30:00+00,2025-03-30 00:30:00+00,2025-10-26 00:30:00+00}'::text[] LOOP
    PERFORM pg_catalog.set_config('sagaz_ha.clock', at, true);
    FOR r IN SELECT * FROM public.maintain_all_partitions() LOOP
      result := result || r::text || E'\n';
    END LOOP;
  END LOOP;
  FOR r IN SELECT c.relname, test.bounds(c.oid) FROM pg_catalog.pg_class AS c WHERE c.relispartition ORDER BY 1 LOOP
    result := result || r::text || E'\n';
  END LOOP;
  FOR r IN SELECT h.check_name, h.status, h.value, h.details FROM sagaz_ha.partition_health() AS h LOOP
    result := result || r::text || E'\n';
  END LOOP;
  FOR r IN SELECT d.description FROM pg_catalog.pg_description AS d WHERE d.description LIKE '%by sagaz_ha' ORDER BY 1 LOOP
    result := result || r::text || E'\n';
  END LOOP;
  FOR r IN SELECT p.unfinished_when FROM sagaz_ha.partition_policy AS p LOOP
    result := result || pg_catalog.regexp_replace(r::text, '''.*''', '') || E'\n';
  END LOOP;
  RAISE EXCEPTION USING MESSAGE = result;
EXCEPTION WHEN raise_exception THEN
  -- all is undone, but the result
  RETURN SQLERRM;
END $$;
CREATE FUNCTION test.bounds(partition oid) RETURNS text LANGUAGE sql SET timezone = 'UTC' SET datestyle = 'ISO' AS
  'SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = partition';
CREATE TABLE results (n serial, setting text, result text);

CREATE FUNCTION try(setting text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE setting;
  INSERT INTO public.results (setting, result) VALUES (setting, public.scenario());
END $$;
-- each in a transaction of its own, which ends the setting
BEGIN; SELECT try(''); COMMIT;
BEGIN; SELECT try('SET LOCAL timezone = ''UTC'''); COMMIT;
BEGIN; SELECT try('SET LOCAL timezone = ''Pacific/Kiritimati'''); COMMIT;
BEGIN; SELECT try('SET LOCAL timezone = ''Pacific/Pago_Pago'''); COMMIT;
BEGIN; SELECT try('SET LOCAL timezone = ''Asia/Kolkata'''); COMMIT;
BEGIN; SELECT try('SET LOCAL datestyle = ''German'''); COMMIT;
BEGIN; SELECT try('SET LOCAL datestyle = ''SQL, DMY'''); COMMIT;
BEGIN; SELECT try('SET LOCAL datestyle = ''Postgres, YMD'''); COMMIT;
BEGIN; SELECT try('SET LOCAL intervalstyle = ''sql_standard'''); COMMIT;
BEGIN; SELECT try('SET LOCAL intervalstyle = ''iso_8601'''); COMMIT;
BEGIN; SELECT try('SET LOCAL search_path = '''''); COMMIT;
-- always on since 19
BEGIN; SELECT try(CASE WHEN current_setting('server_version_num')::int < 190000
  THEN 'SET LOCAL standard_conforming_strings = off; SET LOCAL escape_string_warning = off'
  ELSE '' END); COMMIT;
BEGIN; SELECT try('SET LOCAL backslash_quote = off'); COMMIT;
BEGIN; SELECT try('SET LOCAL enable_partition_pruning = off; SET LOCAL constraint_exclusion = off'); COMMIT;
BEGIN; SELECT try('SET LOCAL transform_null_equals = on'); COMMIT;
BEGIN; SELECT try('SET LOCAL default_table_access_method = heap; SET LOCAL default_toast_compression = pglz'); COMMIT;
BEGIN; SELECT try('SET LOCAL row_security = off'); COMMIT;
BEGIN; SELECT try('SET LOCAL check_function_bodies = off'); COMMIT;
BEGIN; SELECT try('SET LOCAL lock_timeout = 1; SET LOCAL statement_timeout = ''10min'''); COMMIT;
BEGIN; SELECT try('SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off'); COMMIT;
BEGIN; SELECT try('SET LOCAL session_replication_role = replica'); COMMIT;
BEGIN; SELECT try('SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL max_parallel_workers_per_gather = 0'); COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT try('SET LOCAL timezone = ''Asia/Tokyo'''); COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT try('SET LOCAL timezone = ''Asia/Tokyo'''); COMMIT;

SELECT count(*) AS scenarios, count(DISTINCT result) AS results FROM results;
SELECT r.setting, l.line
  FROM results AS r, LATERAL (SELECT regexp_split_to_table(r.result, E'\n') AS line
                              EXCEPT SELECT regexp_split_to_table(o.result, E'\n') FROM results AS o WHERE o.n = 1) AS l
 ORDER BY r.n, l.line COLLATE "C" LIMIT 5;
SELECT result FROM results ORDER BY n LIMIT 1;

-- unfinished_when: what a literal says is settled when the policy is made, and
-- what depends on a time zone depends on the policy's
CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SET datestyle = 'SQL, DMY';
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day', unfinished_when => $$at >= '01/02/2025'::date$$);
SELECT unfinished_when FROM sagaz_ha.partition_policy;
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day', unfinished_when => $$at::date = '2025-01-16'$$);
SELECT count(*) FROM sagaz_ha.maintain_partitions('t');
INSERT INTO t VALUES ('2025-01-15 23:30:00+00');
SET timezone = 'Asia/Tokyo';
SET sagaz_ha.clock = '2025-01-17 10:00:00+00';
SELECT action, partition_name, details FROM sagaz_ha.plan_partition_maintenance() WHERE action <> 'CREATE';
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day', unfinished_when => $$at::date = '2025-01-16'$$, time_zone => 'Asia/Tokyo');
SET timezone = 'UTC';
SELECT action, partition_name, details FROM sagaz_ha.plan_partition_maintenance() WHERE action <> 'CREATE';
DROP TABLE t;
RESET timezone;
RESET datestyle;

-- The session's own settings are back as they were
SET search_path = test, public;
SET lock_timeout = '12345ms';
SELECT count(*) > 0 AS made FROM public.maintain_all_partitions();
SELECT current_setting('search_path'), current_setting('lock_timeout'), current_setting('row_security'),
       current_setting('client_min_messages'), current_setting('datestyle'), current_setting('default_tablespace'), current_user = session_user AS user_is_back;

\i :teardown
