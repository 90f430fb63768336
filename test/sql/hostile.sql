-- A table's owner who wants to run something as the superuser that does maintenance.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

SET client_min_messages = error;
DROP ROLE IF EXISTS regress_mallory;
RESET client_min_messages;
SELECT current_user AS superuser \gset
CREATE ROLE regress_mallory LOGIN;
GRANT CREATE ON SCHEMA public TO regress_mallory;
CREATE SCHEMA evil AUTHORIZATION regress_mallory;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sagaz_ha TO regress_mallory;
CREATE TABLE test.victims (secret text);
INSERT INTO test.victims VALUES ('secret');

-- Sessions, and not SET ROLE: what runs as mallory within a superuser's session
-- can RESET ROLE. Whatever of mallory's runs leaves a trace in a sequence (which no rollback
-- and no read-only query can hide), one per identity it ran as. Run as
-- anybody but mallory, it takes its chance.
CREATE SEQUENCE ran_as_mallory;
CREATE SEQUENCE ran_as_somebody_else;
GRANT USAGE, UPDATE, SELECT ON ran_as_mallory, ran_as_somebody_else TO PUBLIC;
\c - regress_mallory
CREATE FUNCTION evil.act() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_user = 'regress_mallory' THEN
    PERFORM pg_catalog.nextval('public.ran_as_mallory');
  ELSE
    PERFORM pg_catalog.nextval('public.ran_as_somebody_else');
    BEGIN
      EXECUTE 'ALTER ROLE regress_mallory SUPERUSER';
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END IF;
  -- out of the sandbox, if there is a way: each of these is forbidden inside
  BEGIN
    EXECUTE 'RESET ROLE';
    PERFORM pg_catalog.nextval('public.ran_as_somebody_else');
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
  BEGIN
    EXECUTE 'SET SESSION AUTHORIZATION DEFAULT';
    PERFORM pg_catalog.nextval('public.ran_as_somebody_else');
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
  BEGIN
    -- a deferred trigger or a temporary function would run later, as the caller
    EXECUTE 'CREATE TEMPORARY TABLE trap (n integer)';
    PERFORM pg_catalog.nextval('public.ran_as_somebody_else');
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
  BEGIN
    EXECUTE 'DECLARE trap CURSOR WITH HOLD FOR SELECT 1';
    PERFORM pg_catalog.nextval('public.ran_as_somebody_else');
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
END $$;
-- stable and immutable as the checks want them: a lie that PostgreSQL believes
CREATE FUNCTION evil.look(anyelement) RETURNS boolean LANGUAGE plpgsql STABLE AS
  'BEGIN PERFORM evil.act(); RETURN false; END';
CREATE FUNCTION evil.fold(anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM evil.act(); RETURN true; END';
CREATE FUNCTION evil.number(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM evil.act(); RETURN $1; END';
CREATE FUNCTION evil.trigger() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM evil.act(); RETURN NEW; END';
\c - :superuser
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
CREATE FUNCTION test.verdict() RETURNS text LANGUAGE sql AS $$
  SELECT CASE WHEN (SELECT is_called FROM ran_as_mallory) THEN 'ran as mallory' ELSE 'did not run' END
      || CASE WHEN (SELECT is_called FROM ran_as_somebody_else) THEN ', RAN AS SOMEBODY ELSE' ELSE '' END
      || CASE WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_mallory') THEN ', BECAME SUPERUSER' ELSE '' END
      || CASE WHEN (SELECT count(*) FROM test.victims) <> 1 THEN ', DID HARM' ELSE '' END
    FROM (SELECT setval('ran_as_mallory', 1, false) WHERE false) AS nothing RIGHT JOIN (VALUES (1)) AS one ON true
$$;
CREATE FUNCTION test.forget() RETURNS void LANGUAGE sql AS $$
  SELECT setval('ran_as_mallory', 1, false), setval('ran_as_somebody_else', 1, false);
$$;
-- the trap works: called by a superuser plainly, it would have run as one
BEGIN;
SELECT evil.act();
SELECT test.verdict();
ROLLBACK;
SELECT test.forget();
SELECT test.verdict();

-- unfinished_when: runs as its owner, whoever runs the pass
\c - regress_mallory
CREATE TABLE evil.t (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day', unfinished_when => 'evil.look(n)');
\c - :superuser
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
SELECT test.verdict();
SELECT count(*) FROM maintain_all_partitions();
\c - regress_mallory
INSERT INTO evil.t VALUES ('2025-01-15 10:00:00+00', 1);
\c - :superuser
SELECT test.forget();
SET sagaz_ha.clock = '2025-01-17 10:00:00+00';
SELECT action, partition_name, details FROM sagaz_ha.plan_partition_maintenance() WHERE action <> 'CREATE';
SELECT test.verdict();
SELECT test.forget();
SELECT count(*) FROM sagaz_ha.partition_health();
SELECT test.verdict();
SELECT test.forget();
SELECT action, partition_name, details FROM maintain_all_partitions() WHERE action <> 'CREATE';
SELECT test.verdict();
SELECT test.forget();
-- an immutable function of constants is evaluated when planned, or when checked
\c - regress_mallory
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day', unfinished_when => 'NOT evil.fold(1)');
\c - :superuser
SELECT test.forget();
SET sagaz_ha.clock = '2025-01-18 10:00:00+00';
SELECT count(*) FROM sagaz_ha.partition_health();
SELECT count(*) FROM sagaz_ha.plan_partition_maintenance();
SELECT action, partition_name, details FROM maintain_all_partitions() WHERE action <> 'CREATE';
SELECT test.verdict();
SELECT test.forget();
-- registered by a superuser on mallory's table, the function doesn't run as one
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day', unfinished_when => 'NOT evil.fold(2)');
SELECT test.verdict();
DROP TABLE evil.t;
SELECT test.forget();
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';

-- Defaults, CHECKs (those that fold, too), generated columns, index
-- expressions and predicates, triggers, statistics, row security, foreign keys,
-- and operators and functions in a schema that hides pg_catalog's
\c - regress_mallory
CREATE TABLE evil.targets (n integer PRIMARY KEY);
CREATE TABLE evil.t (
  at timestamptz NOT NULL DEFAULT CASE WHEN evil.fold(1) THEN now() END CHECK (evil.fold(at)),
  n integer DEFAULT evil.number(1) CHECK (evil.fold(1)) REFERENCES evil.targets,
  g integer GENERATED ALWAYS AS (evil.number(n)) STORED,
  CHECK (evil.fold(2) AND evil.number(3) = 3)
) PARTITION BY RANGE (at);
CREATE INDEX ON evil.t (evil.number(n)) WHERE evil.fold(n);
CREATE UNIQUE INDEX ON evil.t (at, evil.number(n));
CREATE INDEX ON evil.t (at) WHERE evil.fold(1);
CREATE STATISTICS evil.stat ON (evil.number(n)), n FROM evil.t;
CREATE TRIGGER before_row BEFORE INSERT OR UPDATE OR DELETE ON evil.t FOR EACH ROW EXECUTE FUNCTION evil.trigger();
CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON evil.t FOR EACH ROW EXECUTE FUNCTION evil.trigger();
CREATE TRIGGER statement AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON evil.t FOR EACH STATEMENT EXECUTE FUNCTION evil.trigger();
ALTER TABLE evil.t ENABLE ROW LEVEL SECURITY;
CREATE POLICY evil ON evil.t USING (evil.fold(n));
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day', unfinished_when => 'n > 5',
                                  storage_parameters => '{fillfactor=50}');
\c - :superuser
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
SELECT test.forget();
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT test.verdict();
SELECT test.forget();
SELECT sagaz_ha.create_partition('evil.t', '2025-01-17 10:00:00+00');
SELECT test.verdict();
\c - regress_mallory
INSERT INTO evil.targets VALUES (1), (6);
INSERT INTO evil.t (at, n) VALUES ('2025-01-15 10:00:00+00', 1), ('2025-01-16 10:00:00+00', 6);
\c - :superuser
SELECT test.forget();
SET sagaz_ha.clock = '2025-01-18 10:00:00+00';
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT count(*) FROM get_partition_statistics();
SELECT count(*) FROM partition_metadata;
SELECT test.verdict();
DROP TABLE evil.t;
SELECT test.forget();
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';

-- A default partition is looked into, and scanned when partitions are attached
\c - regress_mallory
CREATE TABLE evil.t (at timestamptz NOT NULL, n integer CHECK (evil.fold(1))) PARTITION BY RANGE (at);
CREATE TABLE evil.rest PARTITION OF evil.t DEFAULT;
CREATE INDEX ON evil.rest (evil.number(n));
ALTER TABLE evil.rest ADD CHECK (evil.fold(2));
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day');
INSERT INTO evil.t VALUES ('2024-01-15 10:00:00+00', 1);
ALTER TABLE evil.rest ENABLE ROW LEVEL SECURITY;
CREATE POLICY evil ON evil.rest USING (evil.fold(n));
\c - :superuser
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
SELECT test.forget();
SELECT check_name, status FROM sagaz_ha.partition_health() WHERE check_name = 'default_partition';
SELECT action, partition_name, details FROM maintain_all_partitions();
SET sagaz_ha.clock = '2025-01-18 10:00:00+00';
SELECT action, count(*) FROM maintain_all_partitions() GROUP BY 1 ORDER BY 1;
SELECT test.verdict();
SELECT test.forget();
DROP TABLE evil.t;
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';

-- search_path: functions and operators of mallory's before pg_catalog's, in
-- the superuser's own session
\c - regress_mallory
CREATE FUNCTION evil.quote_ident(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM evil.act(); RETURN $1; END';
CREATE FUNCTION evil.count() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN PERFORM evil.act(); RETURN 0; END';
CREATE FUNCTION evil.round(numeric, integer) RETURNS numeric LANGUAGE plpgsql AS 'BEGIN PERFORM evil.act(); RETURN 0; END';
CREATE FUNCTION evil.pg_is_in_recovery() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM evil.act(); RETURN false; END';
CREATE FUNCTION evil.coalesce_text(text, text) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM evil.act(); RETURN true; END';
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.coalesce_text);
CREATE FUNCTION evil.oid_text(oid, oid) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM evil.act(); RETURN true; END';
CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.oid_text);
CREATE FUNCTION evil.less(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM evil.act(); RETURN true; END';
CREATE OPERATOR evil.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.less);
CREATE OPERATOR evil.>= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.less);
CREATE VIEW evil.pg_class AS SELECT c.*, evil.fold(1) AS trap FROM pg_catalog.pg_class AS c;
CREATE VIEW evil.pg_locks AS SELECT c.*, evil.fold(1) AS trap FROM pg_catalog.pg_locks AS c;
CREATE TABLE evil.t (at timestamptz NOT NULL, status text) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day', unfinished_when => $$status = 'open'$$);
\c - :superuser
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
SELECT test.forget();
SET search_path = evil, pg_catalog, public;
SELECT pg_catalog.count(*) FROM public.maintain_all_partitions();
INSERT INTO evil.t VALUES ('2025-01-15 10:00:00+00', 'open');
SET sagaz_ha.clock = '2025-01-18 10:00:00+00';
SELECT action, partition_name, details FROM public.maintain_all_partitions();
SELECT pg_catalog.count(*) FROM sagaz_ha.plan_partition_maintenance();
SELECT pg_catalog.count(*) FROM public.get_partition_statistics();
SELECT pg_catalog.count(*) FROM public.partition_metadata;
SELECT pg_catalog.count(*) FROM sagaz_ha.partition_health();
SELECT sagaz_ha.create_partition('evil.t', '2025-03-01 00:00:00+00');
SELECT sagaz_ha.create_saga_tables();
SELECT public.cleanup_consumer_inbox(10);
SELECT sagaz_ha.stop_managing_partitions('evil.t');
RESET search_path;
SELECT test.verdict();
-- with mallory's schema first when the policy was made, the operator is
-- mallory's, and so is the one who runs it
\c - regress_mallory
SET search_path = evil, pg_catalog;
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day', unfinished_when => $$status = 'open'$$);
\c - :superuser
SET sagaz_ha.clock = '2025-01-18 10:00:00+00';
SELECT unfinished_when FROM sagaz_ha.partition_policy WHERE parent = 'evil.t'::regclass;
SELECT sagaz_ha.stop_managing_partitions('evil.t');
DROP TABLE evil.t;
SELECT test.forget();

-- An event trigger is a superuser's to make, and so its own business; but the
-- triggers on the extension's own tables and foreign keys to them are not
-- mallory's to make
\c - regress_mallory
SELECT regexp_replace(test.fails('CREATE TRIGGER x AFTER INSERT ON sagaz_ha.partition_history EXECUTE FUNCTION evil.trigger()'), E'\n.*', '');
SELECT regexp_replace(test.fails('CREATE EVENT TRIGGER x ON sql_drop EXECUTE FUNCTION evil.trigger()'), E'\n.*', '');
SELECT regexp_replace(test.fails('CREATE TABLE sagaz_ha.x ()'), E'\n.*', '');
\c - :superuser
SET sagaz_ha.clock = '2025-01-18 10:00:00+00';

-- Row security that hides unfinished rows from their owner: an error, no drop
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
\c - regress_mallory
CREATE TABLE evil.t (at timestamptz NOT NULL, todo boolean) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day', unfinished_when => 'todo');
\c - :superuser
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
SELECT count(*) FROM sagaz_ha.maintain_partitions('evil.t');
\c - regress_mallory
INSERT INTO evil.t VALUES ('2025-01-15 10:00:00+00', true);
ALTER TABLE evil.t_y2025m01d15 ENABLE ROW LEVEL SECURITY;
ALTER TABLE evil.t_y2025m01d15 FORCE ROW LEVEL SECURITY;
SELECT count(*) FROM evil.t_y2025m01d15;
\c - :superuser
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
SET sagaz_ha.clock = '2025-01-17 10:00:00+00';
SELECT action, partition_name, details FROM maintain_all_partitions() WHERE action <> 'CREATE' AND table_name = 'evil.t';
ALTER TABLE evil.t_y2025m01d15 NO FORCE ROW LEVEL SECURITY;
SELECT action, partition_name, details FROM maintain_all_partitions() WHERE table_name = 'evil.t';

-- Partitions of somebody else's: mallory's pass doesn't read or drop them
CREATE TABLE test.private (at timestamptz NOT NULL, todo boolean);
INSERT INTO test.private VALUES ('2025-01-10 00:00:00+00', false);
ALTER TABLE evil.t ATTACH PARTITION test.private FOR VALUES FROM ('2025-01-10 00:00:00+00') TO ('2025-01-11 00:00:00+00');
SELECT action, partition_name, replace(details, current_user, '(superuser)') AS details FROM maintain_all_partitions() WHERE table_name = 'evil.t';
SELECT count(*) FROM test.private;
-- nor when nothing says what unfinished means
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day');
SELECT action, partition_name, replace(details, current_user, '(superuser)') AS details FROM maintain_all_partitions() WHERE table_name = 'evil.t';
SELECT count(*) FROM test.private;
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day', retention_action => 'detach');
SELECT action, partition_name, replace(details, current_user, '(superuser)') AS details FROM maintain_all_partitions() WHERE table_name = 'evil.t';
-- and an archive schema is the owner's to create in, not the maintainer's
CREATE SCHEMA vault;
GRANT CREATE ON SCHEMA vault TO regress_mallory;
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day', retention_action => 'archive', archive_schema => 'vault');
REVOKE CREATE ON SCHEMA vault FROM regress_mallory;
SELECT sagaz_ha.manage_partitions('evil.t', '1 day', 1, retention => '1 day', retention_action => 'archive', archive_schema => 'vault');
SET sagaz_ha.clock = '2025-01-18 10:00:00+00';
SELECT action, partition_name, replace(details, current_user, '(superuser)') AS details FROM maintain_all_partitions() WHERE table_name = 'evil.t' AND action <> 'CREATE';

SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_mallory';
SET client_min_messages = warning;
DROP TABLE evil.t;
DROP SCHEMA evil CASCADE;
DROP OWNED BY regress_mallory CASCADE;
DROP ROLE regress_mallory;

\i :teardown
