-- Rights: who may do what.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

SET client_min_messages = error;
DROP ROLE IF EXISTS regress_nobody, regress_owner, regress_other, regress_member, regress_monitor;
RESET client_min_messages;
CREATE ROLE regress_nobody;
CREATE ROLE regress_owner;
CREATE ROLE regress_other;
CREATE ROLE regress_member IN ROLE regress_owner;
CREATE ROLE regress_monitor IN ROLE pg_monitor;
GRANT CREATE ON SCHEMA public TO regress_owner, regress_other;
CREATE TABLE t (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at);
ALTER TABLE t OWNER TO regress_owner;
CREATE TABLE o (at timestamptz NOT NULL) PARTITION BY RANGE (at);
ALTER TABLE o OWNER TO regress_other;
CREATE TABLE s (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.create_saga_tables();

-- Nobody may change or read anything without being granted it
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION test.all_fail() RETURNS SETOF text LANGUAGE sql AS $$
  SELECT split_part(s, '(', 1) || ': ' || regexp_replace(test.fails(s), E'\n.*', '', 'g')
    FROM unnest(ARRAY[
      'SELECT sagaz_ha.create_saga_tables()',
      'SELECT sagaz_ha.manage_partitions(''t'', ''1 day'')',
      'SELECT sagaz_ha.stop_managing_partitions(''t'')',
      'SELECT sagaz_ha.maintain_partitions(''t'')',
      'SELECT maintain_all_partitions()',
      'SELECT sagaz_ha.create_partition(''t'', ''2025-01-01 00:00:00+00'')',
      'SELECT create_saga_executions_partition(''2025-01-01'')',
      'SELECT create_saga_outbox_partition(''2025-01-01'')',
      'SELECT create_saga_audit_log_partition(''2025-01-01'')',
      'SELECT cleanup_consumer_inbox(1)',
      'SELECT sagaz_ha.plan_partition_maintenance()',
      'SELECT sagaz_ha.partitions()',
      'SELECT sagaz_ha.coverage()',
      'SELECT get_partition_statistics()',
      'SELECT sagaz_ha.partition_timeline()',
      'SELECT sagaz_ha.partition_health()',
      'SELECT * FROM partition_metadata',
      'SELECT * FROM sagaz_ha.partition_policy',
      'SELECT * FROM sagaz_ha.partition_history',
      'DELETE FROM sagaz_ha.partition_policy',
      'INSERT INTO sagaz_ha.partition_policy DEFAULT VALUES',
      'SET sagaz_ha.clock = ''2000-01-01 00:00:00+00''',
      'ALTER EVENT TRIGGER sagaz_ha_forget_dropped_tables DISABLE']) AS s
$$;
SET ROLE regress_nobody;
SELECT test.all_fail();
-- the owner of a table, too
SET ROLE regress_owner;
SELECT test.all_fail();
-- pg_monitor reads, and changes nothing
SET ROLE regress_monitor;
SELECT test.all_fail();
RESET ROLE;

-- Granted the functions, one may maintain what one owns, or a role owns that
-- one is in; nothing else
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sagaz_ha TO regress_owner, regress_nobody;
GRANT EXECUTE ON FUNCTION maintain_all_partitions(), create_saga_outbox_partition(date), cleanup_consumer_inbox(integer)
  TO regress_owner, regress_nobody;
SET ROLE regress_nobody;
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('t', '1 day')$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition('saga_outbox', '2025-01-01 00:00:00+00')$$);
SELECT test.fails($$SELECT sagaz_ha.maintain_partitions('saga_outbox')$$);
SELECT test.fails($$SELECT sagaz_ha.stop_managing_partitions('saga_outbox')$$);
SELECT test.fails($$SELECT create_saga_outbox_partition('2025-01-01')$$);
SELECT test.fails($$SELECT cleanup_consumer_inbox(1)$$);
-- all tables: those of others are ERROR rows, and stay as they are
SELECT action, table_name, details FROM maintain_all_partitions();
RESET ROLE;
SELECT count(*) FROM partition_metadata;
\pset format aligned
\pset tuples_only off
SET ROLE regress_owner;
SELECT sagaz_ha.manage_partitions('t', '1 day', 1, retention => '1 day', unfinished_when => 'n > 0');
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('t');
SELECT sagaz_ha.create_partition('t', '2025-01-20 10:00:00+00');
SELECT test.fails($$SELECT sagaz_ha.manage_partitions('o', '1 day')$$);
RESET ROLE;
GRANT USAGE ON SCHEMA sagaz_ha TO regress_member;
SET ROLE regress_member;
SELECT sagaz_ha.create_partition('t', '2025-01-21 10:00:00+00');
RESET ROLE;
SELECT tablename, tableowner FROM pg_tables WHERE tablename LIKE 't\_y%' ORDER BY 1;

-- The owner's tables in a schema that the owner may not create in: an error
-- with the way out, and health says it before
SELECT sagaz_ha.manage_partitions('o', '1 day', 1);
REVOKE CREATE ON SCHEMA public FROM regress_other;
SELECT details FROM sagaz_ha.partition_health() WHERE table_name = 'o' AND check_name = 'maintainable';
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('o');
GRANT CREATE ON SCHEMA public TO regress_other;
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('o');

-- A tablespace that the owner may not use: an error of that table
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE regress_sagaz_ha_forbidden LOCATION '';
SELECT sagaz_ha.manage_partitions('o', '1 day', 2, tablespace => 'regress_sagaz_ha_forbidden');
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('o');
DROP TABLESPACE regress_sagaz_ha_forbidden;
SELECT sagaz_ha.stop_managing_partitions('o');

-- A table that changes hands: new partitions are the new owner's, and dropping
-- is done as the new owner. The old partitions change hands with it, or not
ALTER TABLE t OWNER TO regress_other;
SELECT DISTINCT tableowner FROM pg_tables WHERE tablename LIKE 't\_y%';
SELECT sagaz_ha.create_partition('t', '2025-01-22 10:00:00+00');
SELECT tableowner FROM pg_tables WHERE tablename = 't_y2025m01d22';
SET ROLE regress_owner;
SELECT test.fails($$SELECT sagaz_ha.maintain_partitions('t')$$);
RESET ROLE;
SET sagaz_ha.clock = '2025-01-17 10:00:00+00';
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('t');

-- Who reads sees numbers of every table, but no rows
SET ROLE regress_monitor;
SELECT count(*) > 0 AS reads FROM get_partition_statistics();
SELECT count(*) > 0 AS reads FROM partition_metadata;
SELECT count(*) > 0 AS reads FROM sagaz_ha.partition_health();
SELECT count(*) > 0 AS reads FROM sagaz_ha.partition_history;
SELECT count(*) > 0 AS reads FROM sagaz_ha.plan_partition_maintenance();
SELECT count(*) > 0 AS reads FROM sagaz_ha.partition_policy;
SELECT test.fails('SELECT * FROM t');
RESET ROLE;

-- The clock is a superuser's, also before the library is loaded
\c -
SET SESSION AUTHORIZATION regress_owner;
SET sagaz_ha.clock = '2000-01-01 00:00:00+00';
SET client_min_messages = error;
SELECT sagaz_ha.clock() = now() AS clock_is_now;
SHOW sagaz_ha.clock;
RESET client_min_messages;
RESET SESSION AUTHORIZATION;

-- The extension is its creator's to drop
SET ROLE regress_owner;
SELECT test.fails('DROP EXTENSION sagaz_ha');
RESET ROLE;

DROP TABLE t, o, s;
DROP OWNED BY regress_nobody, regress_owner, regress_other, regress_member, regress_monitor;
DROP ROLE regress_nobody, regress_owner, regress_other, regress_member, regress_monitor;

\i :teardown
