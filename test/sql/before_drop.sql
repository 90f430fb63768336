-- A function that has to agree before a partition goes: which ones are taken, and
-- what a pass by hand does, which has no worker.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup
\pset format unaligned
\pset tuples_only on
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';

SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_asking, regress_stranger;
CREATE ROLE regress_asking;
CREATE ROLE regress_stranger;
RESET client_min_messages;
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO regress_asking;
GRANT CREATE ON SCHEMA public TO regress_asking;
CREATE TABLE t (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);
CREATE TABLE t_old PARTITION OF t FOR VALUES FROM ('2024-12-01 00:00+00') TO ('2024-12-02 00:00+00');
ALTER TABLE t OWNER TO regress_asking;
ALTER TABLE t_old OWNER TO regress_asking;
CREATE FUNCTION manage(name text) RETURNS text LANGUAGE sql AS
  $$ SELECT test.fails(format('SELECT sagaz_ha.manage_partitions(''t'', ''1 day'', 1, ''3 days'', before_drop => %L::regprocedure)', name)) $$;

CREATE FUNCTION app."My archive"(regclass) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION app.text(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION app.two(regclass, integer DEFAULT 1) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION app.number(regclass) RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.rows(regclass) RETURNS SETOF boolean LANGUAGE sql AS 'SELECT true';
CREATE PROCEDURE app.proc(regclass) LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION app.strangers(regclass) RETURNS boolean LANGUAGE sql AS 'SELECT true';
ALTER FUNCTION app.strangers(regclass) OWNER TO regress_stranger;
CREATE FUNCTION app.secret(regclass) RETURNS boolean LANGUAGE sql AS 'SELECT true';
REVOKE EXECUTE ON FUNCTION app.secret(regclass) FROM PUBLIC;

-- what isn't taken
SELECT manage('app.nothing(regclass)');
SELECT manage('4294967295');
SELECT manage('app.text(text)');
SELECT manage('app.two(regclass,integer)');
SELECT manage('app.number(regclass)');
SELECT manage('app.rows(regclass)');
SELECT manage('app.proc(regclass)');
SELECT manage('app.strangers(regclass)');
SELECT manage('app.secret(regclass)');
SELECT count(*) FROM sagaz_ha.partition_policy;

-- what is
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, '3 days', before_drop => 'app."My archive"(regclass)'::regprocedure);
SELECT before_drop FROM sagaz_ha.partition_policy;
SELECT * FROM sagaz_ha.plan_partition_maintenance();
SELECT * FROM sagaz_ha.maintain_partitions('t');
SELECT check_name, status, value, details FROM sagaz_ha.partition_health()
 WHERE check_name IN ('before_drop', 'maintainable', 'publications', 'retirement') ORDER BY check_name;

-- who only looks may not even see the function's schema
SET ROLE pg_monitor;
SELECT status, details FROM sagaz_ha.partition_health() WHERE check_name = 'maintainable';
RESET ROLE;

-- one that isn't there any more
ALTER FUNCTION app."My archive"(regclass) OWNER TO regress_stranger;
SELECT * FROM sagaz_ha.maintain_partitions('t');
DROP FUNCTION app."My archive"(regclass);
SELECT * FROM sagaz_ha.maintain_partitions('t');
SELECT * FROM sagaz_ha.plan_partition_maintenance();
SELECT status, details FROM sagaz_ha.partition_health() WHERE check_name = 'maintainable';
SELECT count(*) FROM pg_inherits WHERE inhparent = 't'::regclass;

-- a detached partition leaves the publications that named it
SET client_min_messages = error; -- wal_level
CREATE PUBLICATION named FOR TABLE t, t_old;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE PUBLICATION in_schema FOR TABLES IN SCHEMA public;
RESET client_min_messages;
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, '3 days', 'detach');
SELECT * FROM sagaz_ha.maintain_partitions('t');
SELECT p.pubname, r.prrelid::regclass FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid ORDER BY 1, 2;
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'publications';
DROP PUBLICATION named, everything, in_schema;
SELECT sagaz_ha.reattach_partition('t_old');
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'publications';

-- no values of rows
CREATE TABLE default_of_t PARTITION OF t DEFAULT;
ALTER TABLE default_of_t OWNER TO regress_asking;
ALTER TABLE t_old ADD CHECK (n IS NULL);
CREATE FUNCTION app.spills(n integer) RETURNS boolean LANGUAGE plpgsql STABLE AS
  $$ BEGIN RAISE check_violation USING MESSAGE = 'it fails', DETAIL = 'Failing row contains (secret).'; END $$;
INSERT INTO t VALUES ('2024-12-01 10:00+00');
SELECT sagaz_ha.release_partition('t_old');
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, '3 days', unfinished_when => 'app.spills(n)');
SELECT * FROM sagaz_ha.maintain_partitions('t');
SELECT details FROM sagaz_ha.partition_history WHERE action = 'ERROR' ORDER BY id DESC LIMIT 1;

\i :teardown
DROP ROLE regress_asking, regress_stranger;
