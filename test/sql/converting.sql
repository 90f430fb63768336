-- What is in the way of partitioning a plain table in place: named, with a hint, and
-- nothing is done. There is no worker here.
\set ECHO none
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION sagaz_ha;
SET sagaz_ha.clock = '2025-06-15 12:00:00+00';
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
CREATE SCHEMA app;
SET search_path = app, public;
\pset format unaligned
\pset tuples_only true
CREATE FUNCTION obstacles(t regclass, key name, weaken boolean DEFAULT true) RETURNS SETOF text LANGUAGE sql AS
  $$ SELECT meaning FROM sagaz_ha.plan_partition_table(t, key, '1 day', weaken_unique => weaken) WHERE step = 'obstacle' $$;
\set ECHO queries

-- nothing is in the way
CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL);
INSERT INTO t VALUES (1, '2025-06-15 11:00:00+00');
SELECT step, lock, regexp_replace(statement, 'OWNER TO .*', 'OWNER TO ...') FROM sagaz_ha.plan_partition_table('t', 'at', '1 day', retention => '30 days', weaken_unique => true)
 WHERE statement IS NOT NULL;
SELECT sagaz_ha.partition_table('t', 'at', '1 day', weaken_unique => true);

-- the bound: after now and a day, and after the greatest key as rows are written ahead
SELECT substring(statement FROM 'TO \(.*') FROM sagaz_ha.plan_partition_table('t', 'at', '1 month', weaken_unique => true) WHERE statement LIKE '%ATTACH%';
INSERT INTO t VALUES (2, '2025-06-20 11:00:00+00');
SELECT substring(statement FROM 'TO \(.*') FROM sagaz_ha.plan_partition_table('t', 'at', '1 day', weaken_unique => true) WHERE statement LIKE '%ATTACH%';

-- rows
INSERT INTO t VALUES (3, '2999-01-01'), (4, 'infinity');
SELECT * FROM obstacles('t', 'at');
SELECT sagaz_ha.partition_table('t', 'at', '1 day', weaken_unique => true);
SELECT sagaz_ha.partition_table('t', 'at', '1 day');
DELETE FROM t WHERE id > 1;
ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER at DROP NOT NULL;
INSERT INTO t VALUES (5, NULL), (6, NULL);
SELECT * FROM obstacles('t', 'at');

-- the key
SELECT * FROM obstacles('t', 'nothing');
SELECT * FROM obstacles('t', 'id');
SELECT count(*) FROM sagaz_ha.plan_partition_table('t', 'id', '1 day');
DELETE FROM t;

-- unique constraints
ALTER TABLE t ADD CONSTRAINT by_id UNIQUE (id), ADD CONSTRAINT with_at UNIQUE (id, at);
CREATE UNIQUE INDEX part ON t (id) WHERE id > 5;
SELECT * FROM obstacles('t', 'at', false);
SELECT * FROM obstacles('t', 'at', true);

-- a key that carries its time: what has to be told, and what doesn't say a time
CREATE TABLE k (u uuid, n bigint, s text COLLATE "C");
CREATE FUNCTION told(key name, encoding text DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS
  $$ SELECT CASE step WHEN 'obstacle' THEN meaning ELSE substring(statement FROM '(?:TO \(|, key_encoding).*') END FROM sagaz_ha.plan_partition_table('k', key, '1 day', key_encoding => encoding)
      WHERE step = 'obstacle' OR statement ~ 'ATTACH|key_encoding' $$;
SELECT * FROM told('n');
SELECT * FROM told('n', 'seconds');
SELECT * FROM told('u', 'unix seconds');
SELECT * FROM told('u');
SELECT * FROM told('u', 'ulid');
SELECT * FROM told('s');
SELECT * FROM told('n', 'unix milliseconds');
SELECT * FROM told('n', 'snowflake discord');
INSERT INTO k VALUES (sagaz_ha.uuidv7_at('2025-06-20 11:00:00+00'), sagaz_ha.unix_seconds_at('2025-06-20 11:00:00+00'), sagaz_ha.ulid_at('2025-06-20 11:00:00+00'));
SELECT * FROM told('u');
SELECT * FROM told('s');
SELECT * FROM told('n', 'unix seconds');
INSERT INTO k VALUES ('f81d4fae-7dec-4d6a-8000-00a0c91e6bf6', 1750000000000, '7ZZZZZZZZZ0000000000000000'), (NULL, NULL, NULL);
SELECT * FROM told('u');
SELECT * FROM told('s');
SELECT * FROM told('n', 'unix seconds');
CREATE INDEX ON k (u);
CREATE INDEX ON k (s);
CREATE INDEX ON k (n);
SELECT * FROM told('u');
SELECT * FROM told('s');
SELECT * FROM told('n', 'unix seconds');
DROP TABLE k;

-- what hangs on it
CREATE TABLE r (id int CONSTRAINT other REFERENCES t (id), at timestamptz, CONSTRAINT good FOREIGN KEY (id, at) REFERENCES t (id, at));
SELECT * FROM obstacles('t', 'at');
DROP TABLE r;
ALTER TABLE t ADD CONSTRAINT self FOREIGN KEY (id, at) REFERENCES t (id, at);
SELECT * FROM obstacles('t', 'at');
ALTER TABLE t DROP CONSTRAINT self;
CREATE FUNCTION takes(t) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION makes() RETURNS SETOF t LANGUAGE sql AS 'SELECT NULL::int, NULL::timestamptz';
CREATE TABLE holds (one t, many t[]);
SELECT * FROM obstacles('t', 'at') ORDER BY 1;
DROP FUNCTION takes, makes;
DROP TABLE holds;
CREATE TABLE r (id int, at timestamptz);
ALTER TABLE r ADD CONSTRAINT unchecked FOREIGN KEY (id, at) REFERENCES t (id, at) NOT VALID;
CREATE TABLE g (id int PRIMARY KEY, at timestamptz, name text);
CREATE VIEW grouped AS SELECT id, name FROM g GROUP BY id;
SELECT * FROM obstacles('t', 'at');
SELECT * FROM obstacles('g', 'at');
DROP VIEW grouped;
DROP TABLE r, g;
CREATE TABLE child () INHERITS (t);
SELECT * FROM obstacles('t', 'at');
SELECT * FROM obstacles('child', 'at');
DROP TABLE child;
CREATE FUNCTION trg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER many AFTER INSERT ON t REFERENCING NEW TABLE AS new FOR EACH ROW EXECUTE FUNCTION trg();
SELECT * FROM obstacles('t', 'at');
DROP TRIGGER many ON t;
ALTER TABLE t ADD CONSTRAINT mine CHECK (id > 0) NO INHERIT, ADD CONSTRAINT later CHECK (id < 100) NOT VALID;
SELECT * FROM obstacles('t', 'at');
ALTER TABLE t DROP CONSTRAINT mine, DROP CONSTRAINT later;
ALTER TABLE t ADD CONSTRAINT apart EXCLUDE USING btree (id WITH =);
SELECT regexp_replace(o, ' (before PostgreSQL 17|unless it compares at with =)', '') FROM obstacles('t', 'at') AS o;
ALTER TABLE t DROP CONSTRAINT apart;
CREATE TABLE t_sagaz_ha (i int);
SELECT * FROM obstacles('t', 'at');
DROP TABLE t_sagaz_ha;
ALTER EXTENSION sagaz_ha ADD TABLE t;
SELECT * FROM obstacles('t', 'at');
ALTER EXTENSION sagaz_ha DROP TABLE t;
SET client_min_messages = error;
CREATE PUBLICATION all_of_it FOR ALL TABLES WITH (publish_via_partition_root = true);
SELECT * FROM obstacles('t', 'at');
DROP PUBLICATION all_of_it;
SET client_min_messages = warning;

-- other tables
CREATE TABLE p (id int, at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2025-01-01') TO ('2025-06-01');
SELECT * FROM obstacles('p', 'at');
SELECT * FROM obstacles('p1', 'at');
SELECT * FROM obstacles('p', 'id');
CREATE TEMPORARY TABLE temp (id int, at timestamptz NOT NULL);
SELECT * FROM obstacles('temp', 'at');

-- a last partition without an end is a default partition under another name
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM ('2025-06-01') TO (MAXVALUE);
SELECT sagaz_ha.manage_partitions('p', '1 month');
SELECT status, details FROM sagaz_ha.partition_health() WHERE check_name = 'default_partition';
SELECT step, statement FROM sagaz_ha.plan_partition_table('p', 'at', '1 month') WHERE statement IS NOT NULL;
-- by hand, of a table that is protected
INSERT INTO p VALUES (1, '2025-06-10');
SELECT sagaz_ha.manage_partitions('p', '1 month', protect => true);
SELECT statement FROM sagaz_ha.plan_partition_table('p', 'at', '1 month') WHERE statement IS NOT NULL AND step <> 'finishing'
\gexec
SELECT pg_get_expr(relpartbound, oid), (SELECT count(*) FROM p) FROM pg_class WHERE relname = 'p2';

-- who doesn't own it
CREATE ROLE somebody;
GRANT USAGE ON SCHEMA app TO somebody;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sagaz_ha TO somebody;
SET ROLE somebody;
SELECT sagaz_ha.plan_partition_table('t', 'at', '1 day');
SELECT sagaz_ha.cancel_partition_table('t');
SELECT sagaz_ha.unpartition_table('p');
SELECT sagaz_ha._clone_index('app.with_at', 'app.t', 'x');
RESET ROLE;
SELECT sagaz_ha.cancel_partition_table('t');
SELECT sagaz_ha.unpartition_table('p');
SELECT sagaz_ha.partition_table(NULL, 'at', '1 day');
SELECT sagaz_ha.partition_table('t', NULL, '1 day');

-- a copy of a database in which one was begun: health is critical, and it can be taken back
SET client_min_messages = error;
SELECT statement FROM sagaz_ha.plan_partition_table('t', 'at', '1 day', weaken_unique => true) WHERE step IN ('building', 'checking') AND statement IS NOT NULL AND statement NOT LIKE '%OWNER TO%'
\gexec
SELECT table_name, status FROM sagaz_ha.partition_health() WHERE check_name = 'conversion';
SELECT sagaz_ha.cancel_partition_table('t');
SELECT table_name, status FROM sagaz_ha.partition_health() WHERE check_name = 'conversion';
SELECT to_regclass('t_sagaz_ha'), conname FROM pg_constraint WHERE conrelid = 't'::regclass AND contype <> 'n' ORDER BY 2;
\set ECHO none
DROP OWNED BY somebody;
DROP ROLE somebody;
