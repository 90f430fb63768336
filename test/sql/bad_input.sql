-- Bad input: a clear error with SQLSTATE and hint, and nothing changed.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup
\pset format unaligned
\pset tuples_only on

CREATE TABLE good (at timestamptz NOT NULL, status text, n integer) PARTITION BY RANGE (at);
CREATE TABLE good_ts (at timestamp NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE good_date (at date NOT NULL) PARTITION BY RANGE (at);
CREATE FUNCTION manage(arguments text) RETURNS text LANGUAGE sql AS
  $$ SELECT test.fails('SELECT sagaz_ha.manage_partitions(' || arguments || ')') $$;

-- Tables that can't be managed
--
CREATE TABLE plain (at timestamptz NOT NULL);
SELECT manage($$'plain', '1 day'$$);
CREATE TABLE by_list (at timestamptz NOT NULL) PARTITION BY LIST (at);
SELECT manage($$'by_list', '1 day'$$);
CREATE TABLE by_hash (at timestamptz NOT NULL) PARTITION BY HASH (at);
SELECT manage($$'by_hash', '1 day'$$);
CREATE TABLE by_expression (at timestamp NOT NULL) PARTITION BY RANGE (date_trunc('day', at));
SELECT manage($$'by_expression', '1 day'$$);
CREATE TABLE by_two (at timestamptz NOT NULL, n integer) PARTITION BY RANGE (at, n);
SELECT manage($$'by_two', '1 day'$$);
CREATE TABLE by_integer (n integer NOT NULL) PARTITION BY RANGE (n);
SELECT manage($$'by_integer', '1 day'$$);
CREATE TABLE by_numeric (n numeric NOT NULL) PARTITION BY RANGE (n);
SELECT manage($$'by_numeric', '1 day'$$);
CREATE DOMAIN moment AS timestamptz;
CREATE TABLE by_domain (at moment NOT NULL) PARTITION BY RANGE (at);
SELECT manage($$'by_domain', '1 day'$$);
CREATE OPERATOR CLASS backwards FOR TYPE timestamptz USING btree AS
  OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <,
  FUNCTION 1 timestamptz_cmp(timestamptz, timestamptz);
CREATE TABLE by_opclass (at timestamptz NOT NULL) PARTITION BY RANGE (at backwards);
SELECT manage($$'by_opclass', '1 day'$$);
CREATE TEMPORARY TABLE passing (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT manage($$'passing', '1 day'$$);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE afar (at timestamptz) SERVER nowhere;
SELECT manage($$'afar', '1 day'$$);
CREATE VIEW looks AS SELECT * FROM good;
SELECT manage($$'looks', '1 day'$$);
CREATE MATERIALIZED VIEW looked AS SELECT * FROM good;
SELECT manage($$'looked', '1 day'$$);
CREATE TEMP TABLE brief (LIKE good);
SELECT sagaz_ha._replace_query('looked', 'SELECT * FROM brief');
DROP TABLE brief;
CREATE INDEX good_at ON good (at);
SELECT manage($$'good_at', '1 day'$$);
CREATE SEQUENCE counter;
SELECT manage($$'counter', '1 day'$$);
CREATE TYPE composite AS (at timestamptz);
SELECT manage($$'composite', '1 day'$$);
SELECT manage($$'missing', '1 day'$$);
SELECT manage($$1, '1 day'$$);
SELECT manage($$0, '1 day'$$);
SELECT manage($$'pg_class', '1 day'$$);
SELECT manage($$'sagaz_ha.partition_history', '1 day'$$);

-- NULLs
--
SELECT manage($$NULL, '1 day'$$);
SELECT manage($$'good', NULL$$);
SELECT manage($$'good', '1 day', premake => NULL$$);
SELECT manage($$'good', '1 day', retention_action => NULL$$);
SELECT manage($$'good', '1 day', time_zone => NULL$$);
SELECT manage($$'good', '1 day', auto_analyze => NULL$$);
SELECT manage($$'good', '1 day', auto_freeze => NULL$$);
SELECT manage($$'good', '1 day', storage_parameters => '{NULL}'$$);
SELECT test.fails($$SELECT sagaz_ha.stop_managing_partitions(NULL)$$);
SELECT test.fails($$SELECT sagaz_ha.maintain_partitions(NULL)$$);
SELECT test.fails($$SELECT sagaz_ha.plan_partition_maintenance(NULL)$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition(NULL, now())$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition('good', NULL)$$);
SELECT test.fails($$SELECT create_saga_executions_partition(NULL)$$);
SELECT test.fails($$SELECT cleanup_consumer_inbox(NULL)$$);

-- Intervals
--
SELECT manage($$'good', '0'$$);
SELECT manage($$'good', '-1 day'$$);
SELECT manage($$'good', '-1 month'$$);
SELECT manage($$'good', '1 month 3 days'$$);
SELECT manage($$'good', '1 month -3 days'$$);
SELECT manage($$'good', '1 day 1 hour'$$);
SELECT manage($$'good', '1 month 1 hour'$$);
SELECT manage($$'good', '30 seconds'$$);
SELECT manage($$'good', '90 seconds'$$);
SELECT manage($$'good', '1 microsecond'$$);
SELECT manage($$'good', '178000000 years'$$);
SELECT manage($$'good', '1001 years'$$);
SELECT manage($$'good', '400000 days'$$);
SELECT manage($$'good', '9000000 hours'$$);
SELECT manage($$'good', 'soon'$$);
SELECT manage($$'good_date', '6 hours'$$);

-- Premake and retention
--
SELECT manage($$'good', '1 day', 0$$);
SELECT manage($$'good', '1 day', -1$$);
SELECT manage($$'good', '1 day', 1001$$);
SELECT manage($$'good', '1 day', 2147483647$$);
SELECT manage($$'good', '1 month', retention => '20 days'$$);
SELECT manage($$'good', '1 day', retention => '23 hours'$$);
SELECT manage($$'good', '1 day', retention => '0'$$);
SELECT manage($$'good', '1 day', retention => '-30 days'$$);
SELECT manage($$'good', '1 day', retention => '1 month -5 days'$$);
SELECT manage($$'good', '1 day', retention => '30 days', retention_action => 'truncate'$$);
SELECT manage($$'good', '1 day', retention => '30 days', retention_action => 'DROP'$$);
SELECT manage($$'good', '1 day', retention => '30 days', retention_action => ''$$);
SELECT manage($$'good', '1 day', retention => '30 days', retention_action => 'archive'$$);
SELECT manage($$'good', '1 day', retention => '30 days', archive_schema => 'test'$$);
SELECT manage($$'good', '1 day', retention => '30 days', retention_action => 'archive', archive_schema => 'nowhere'$$);
SELECT manage($$'good', '1 day', retention => '30 days', retention_action => 'archive', archive_schema => 1$$);

-- Time zones
--
SELECT manage($$'good', '1 day', time_zone => 'Europe/Atlantis'$$);
SELECT manage($$'good', '1 day', time_zone => ''$$);
SELECT manage($$'good', '1 day', time_zone => '../../etc/passwd'$$);
SELECT manage($$'good', '1 day', time_zone => repeat('x', 300)$$);
SELECT manage($$'good', '1 day', time_zone => 'right/UTC'$$);

-- unfinished_when
--
SELECT manage($$'good', '1 day', unfinished_when => 'status'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'n'$$);
SELECT manage($$'good', '1 day', unfinished_when => '1'$$);
SELECT manage($$'good', '1 day', unfinished_when => ''$$);
SELECT manage($$'good', '1 day', unfinished_when => '   '$$);
SELECT manage($$'good', '1 day', unfinished_when => '-- nothing'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'status ='$$);
SELECT manage($$'good', '1 day', unfinished_when => 'state = 1'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'other.status = ''x'''$$);
SELECT manage($$'good', '1 day', unfinished_when => 'n = ''x'''$$);
SELECT manage($$'good', '1 day', unfinished_when => 'EXISTS (SELECT FROM good)'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'n IN (SELECT 1)'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'n = ANY (ARRAY(SELECT 1))'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'random() > 0.5'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'nextval(''counter'') > 0'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'clock_timestamp() > at'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'count(*) > 0'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'row_number() OVER () > 1'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'generate_series(1, n) > 1'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'true; DROP TABLE good'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'true) FROM good WHERE (true'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'true), (false'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'true) AS x, (false'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'true) UNION SELECT (false'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'true) LIMIT (1'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'true) INTO t WHERE (true'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'true /* open'$$);
SELECT manage($$'good', '1 day', unfinished_when => '$1'$$);
SELECT manage($$'good', '1 day', unfinished_when => 'good'$$);
-- since 19 with what else there is of that name
SELECT regexp_replace(manage($$'good', '1 day', unfinished_when => 'no_function(n)'$$), '\n  DETAIL: [^\n]*', '');

-- Storage
--
SELECT manage($$'good', '1 day', storage_parameters => '{fillfactor}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{=70}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{""}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{fillfactor=}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{fillfactor=lots}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{fillfactor=5}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{filfactor=70}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{toast.fillfactor=70}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{heap.fillfactor=70}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{fillfactor=70,fillfactor=80}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{toast.autovacuum_enabled=maybe}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{"fillfactor=70) TABLESPACE pg_global --"}'$$);
SELECT manage($$'good', '1 day', storage_parameters => '{{fillfactor=70,autovacuum_enabled=off},{a=b,c=d}}'$$);
SELECT manage($$'good', '1 day', tablespace => 'nowhere'$$);
SELECT manage($$'good', '1 day', tablespace => 'pg_global'$$);
SELECT manage($$'good', '1 day', tablespace => ''$$);

-- Tables without a policy, or not there yet
--
SELECT test.fails($$SELECT sagaz_ha.stop_managing_partitions('good')$$);
SELECT test.fails($$SELECT sagaz_ha.maintain_partitions('good')$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition('good', now())$$);
SELECT test.fails($$SELECT sagaz_ha.stop_managing_partitions(1)$$);
SELECT test.fails($$SELECT sagaz_ha.maintain_partitions(1)$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition(1, now())$$);
SELECT test.fails($$SELECT create_saga_executions_partition('2025-01-01')$$);
SELECT test.fails($$SELECT create_saga_outbox_partition('2025-01-01')$$);
SELECT test.fails($$SELECT create_saga_audit_log_partition('2025-01-01')$$);
SELECT test.fails($$SELECT cleanup_consumer_inbox(90)$$);

-- None of this changed anything
--
SELECT count(*) FROM sagaz_ha.partition_policy;
SELECT count(*) FROM sagaz_ha.partition_history;
SELECT count(*) FROM pg_inherits;

-- Times out of reach, for tables with a policy
--
SELECT sagaz_ha.create_saga_tables();
SELECT sagaz_ha.manage_partitions('good', '1 day');
SELECT sagaz_ha.manage_partitions('good_ts', '1 year');
SELECT sagaz_ha.manage_partitions('good_date', '1 month');
SELECT test.fails($$SELECT sagaz_ha.plan_partition_maintenance('infinity')$$);
SELECT test.fails($$SELECT sagaz_ha.plan_partition_maintenance('-infinity')$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition('good', 'infinity')$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition('good', '-infinity')$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition('good_date', '-infinity')$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition('good', '294276-12-31 23:59:59+00')$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition('good_ts', '294276-06-30 00:00:00+00')$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition('good_ts', '4714-11-24 00:00:00+00 BC')$$);
SELECT test.fails($$SELECT sagaz_ha.create_partition('good_date', '294276-12-31 00:00:00+00')$$);
SELECT test.fails($$SELECT create_saga_executions_partition('infinity')$$);
SELECT test.fails($$SELECT create_saga_executions_partition('-infinity')$$);
SELECT test.fails($$SELECT create_saga_outbox_partition('infinity')$$);
SELECT test.fails($$SELECT create_saga_executions_partition('294277-01-01')$$);
SELECT test.fails($$SELECT create_saga_executions_partition('294276-12-31')$$);
SELECT test.fails($$SELECT create_saga_executions_partition('5874897-12-31')$$);
SELECT test.fails($$SELECT create_saga_executions_partition('4714-11-24 BC')$$);
SELECT test.fails($$SELECT create_saga_executions_partition('2025-02-30')$$);
SELECT test.fails($$SELECT cleanup_consumer_inbox(-1)$$);
SELECT test.fails($$SELECT cleanup_consumer_inbox(-2147483648)$$);
SELECT test.fails($$SELECT cleanup_consumer_inbox(2147483647)$$);
SELECT test.fails($$SELECT sagaz_ha.forget_dropped_tables()$$);
SELECT test.fails($$SET sagaz_ha.clock = 'tomorrow week'$$);
SELECT test.fails($$SET sagaz_ha.clock = 'infinity'$$);
SELECT test.fails($$SET sagaz_ha.naptime = 1$$);
SELECT test.fails($$SET sagaz_ha.no_such_setting = 1$$);
SELECT count(*) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE c.relkind = 'r';

-- A pass at the end of time, or before its beginning, is an ERROR row per
-- table and stops there
SET sagaz_ha.clock = '294276-12-31 23:00:00+00';
SELECT * FROM sagaz_ha.plan_partition_maintenance();
SELECT * FROM maintain_all_partitions();
SET sagaz_ha.clock = '4713-01-01 00:00:00+00 BC';
SELECT action, table_name, partition_name, details FROM maintain_all_partitions() WHERE table_name IN ('good', 'good_date') ORDER BY 2, 3;

\i :teardown
