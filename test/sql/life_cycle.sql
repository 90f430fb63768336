-- Life cycle within a database: drop, rename, move, drop and create the extension.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE SCHEMA app;
CREATE TABLE app.u (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE app.v (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('t', '1 day', 1), sagaz_ha.manage_partitions('app.u', '1 day', 1),
       sagaz_ha.manage_partitions('app.v', '1 day', 1);
SELECT count(*) FROM maintain_all_partitions();

-- RENAME and SET SCHEMA need nothing; new partitions follow
ALTER TABLE t RENAME TO "New Name";
ALTER TABLE "New Name" SET SCHEMA app;
ALTER TABLE app.u SET SCHEMA public;
ALTER SCHEMA app RENAME TO application;
ALTER TABLE application.v RENAME COLUMN at TO "at all";
SET sagaz_ha.clock = '2025-01-16 10:00:00+00';
SELECT action, table_name, partition_name FROM maintain_all_partitions();
SELECT parent FROM sagaz_ha.partition_policy ORDER BY parent::text;

-- DROP TABLE removes the policy, however the table goes
DROP TABLE u;
SELECT parent FROM sagaz_ha.partition_policy ORDER BY parent::text;
SET client_min_messages = warning;
DROP SCHEMA application CASCADE;
RESET client_min_messages;
SELECT count(*) FROM sagaz_ha.partition_policy;
-- even by a user who may not write the policy table
SET client_min_messages = error;
DROP ROLE IF EXISTS regress_dropper;
RESET client_min_messages;
CREATE ROLE regress_dropper;
CREATE TABLE mine (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('mine', '1 day', 1);
ALTER TABLE mine OWNER TO regress_dropper;
SET ROLE regress_dropper;
DROP TABLE mine;
RESET ROLE;
SELECT count(*) FROM sagaz_ha.partition_policy;
-- dropped and made again in one transaction: another table, without policy
BEGIN;
CREATE TABLE again (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('again', '1 day', 1);
DROP TABLE again;
CREATE TABLE again (at timestamptz NOT NULL) PARTITION BY RANGE (at);
COMMIT;
SELECT count(*) FROM sagaz_ha.partition_policy;
-- rolled back, the policy stays
SELECT sagaz_ha.manage_partitions('again', '1 day', 1);
BEGIN;
DROP TABLE again;
ROLLBACK;
SELECT parent FROM sagaz_ha.partition_policy;
-- one that got away (with event triggers off) disturbs nobody, and goes with
-- the next pass
ALTER EVENT TRIGGER sagaz_ha_forget_dropped_tables DISABLE;
DROP TABLE again;
ALTER EVENT TRIGGER sagaz_ha_forget_dropped_tables ENABLE;
SELECT count(*) FROM sagaz_ha.partition_policy;
SELECT * FROM get_partition_statistics();
SELECT * FROM sagaz_ha.plan_partition_maintenance();
SELECT table_name, check_name FROM sagaz_ha.partition_health();
CREATE TABLE other (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('other', '1 day', 1);
SELECT action, table_name FROM maintain_all_partitions();
SELECT parent FROM sagaz_ha.partition_policy;
DROP TABLE other;

-- DROP EXTENSION leaves tables and rows; nothing of ours is left
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
SELECT count(*) FROM maintain_all_partitions();
INSERT INTO saga_outbox (topic, payload, created_at) VALUES ('t', '{}', '2025-01-15 10:00:00+00');
DROP EXTENSION sagaz_ha;
SELECT count(*) FROM saga_outbox;
SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND NOT relispartition ORDER BY 1;
SELECT count(*) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE c.relkind = 'r';
SELECT count(*) FROM pg_proc WHERE probin LIKE '%sagaz_ha%';
SELECT count(*) FROM pg_namespace WHERE nspname = 'sagaz_ha';
SELECT count(*) FROM pg_event_trigger;
INSERT INTO saga_outbox (topic, payload, created_at) VALUES ('t', '{}', '2025-01-16 10:00:00+00');

-- CREATE EXTENSION again adopts them: the same as if it had never been gone
CREATE EXTENSION sagaz_ha;
SELECT count(*) FROM sagaz_ha.partition_policy;
SELECT * FROM maintain_all_partitions();
SELECT table_name, partition_count FROM get_partition_statistics();
SELECT count(*) FROM saga_outbox;

-- DROP EXTENSION CASCADE, IF EXISTS, twice
DROP EXTENSION sagaz_ha CASCADE;
DROP EXTENSION IF EXISTS sagaz_ha;
SELECT count(*) FROM saga_outbox;
DROP TABLE saga_executions, saga_outbox, saga_audit_log, saga_steps, consumer_inbox;

-- In another schema: what the specification names goes there
CREATE SCHEMA "Elsewhere";
CREATE EXTENSION sagaz_ha SCHEMA "Elsewhere";
\set VERBOSITY terse
SELECT * FROM maintain_all_partitions();
\set VERBOSITY default
SELECT action, table_name, partition_name FROM "Elsewhere".maintain_all_partitions() ORDER BY partition_name LIMIT 2;
SELECT count(*) FROM "Elsewhere".saga_outbox;
SELECT table_name, partition_count, newest_partition FROM "Elsewhere".get_partition_statistics();
SELECT "Elsewhere".create_saga_outbox_partition('2025-03-01');
SELECT "Elsewhere".cleanup_consumer_inbox();
SELECT table_name, check_name, status FROM sagaz_ha.partition_health() WHERE status <> 'ok';
SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace;
-- it can't move: the functions' bodies name the schema
SELECT test.fails('ALTER EXTENSION sagaz_ha SET SCHEMA public');
-- and it can't be twice
SELECT test.fails('CREATE EXTENSION sagaz_ha SCHEMA public');
DROP EXTENSION sagaz_ha;

-- Without the extension, the library has nothing to say
SELECT test.fails('SELECT sagaz_ha.create_saga_tables()');
-- a schema of that name is in the way: an error, nothing half made
CREATE SCHEMA sagaz_ha;
SELECT test.fails('CREATE EXTENSION sagaz_ha');
SELECT count(*) FROM pg_proc WHERE probin LIKE '%sagaz_ha%';
DROP SCHEMA sagaz_ha;
CREATE EXTENSION sagaz_ha VERSION '1.0';
SELECT extversion FROM pg_extension WHERE extname = 'sagaz_ha';
SELECT test.fails($$ALTER EXTENSION sagaz_ha UPDATE TO '9.9'$$);
ALTER EXTENSION sagaz_ha UPDATE;

DROP OWNED BY regress_dropper;
DROP ROLE regress_dropper;

\i :teardown
