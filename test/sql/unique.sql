-- Uniqueness across partitions.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup
\pset format unaligned
\pset tuples_only on
SET timezone = 'UTC';

SET client_min_messages = error;
DROP ROLE IF EXISTS regress_writer, regress_reader;
RESET client_min_messages;
CREATE ROLE regress_writer;
CREATE ROLE regress_reader;

CREATE TABLE e (event_id bigint, consumer text, at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE FUNCTION test.day(n integer) RETURNS timestamptz LANGUAGE sql IMMUTABLE
  AS $$ SELECT '2025-01-01 00:00:00+00'::timestamptz + n * interval '1 day' $$;
GRANT USAGE ON SCHEMA test TO PUBLIC;
SELECT format('CREATE TABLE e_%s PARTITION OF e FOR VALUES FROM (%L) TO (%L)', n, test.day(n), test.day(n + 1))
  FROM generate_series(1, 4) AS n \gexec
INSERT INTO e SELECT n, 'c', test.day(1 + n % 4) FROM generate_series(1, 8) AS n;

-- What can't be
SELECT test.fails($$SELECT sagaz_ha.add_unique('e', '{}')$$);
SELECT test.fails($$SELECT sagaz_ha.add_unique('e', '{nope}')$$);
SELECT test.fails($$SELECT sagaz_ha.add_unique('e', '{event_id,event_id}')$$);
SELECT test.fails($$SELECT sagaz_ha.add_unique('e', '{event_id,NULL}')$$);
SELECT test.fails($$SELECT sagaz_ha.add_unique('e', NULL)$$);
SELECT test.fails($$SELECT sagaz_ha.add_unique('e_1', '{event_id}')$$);
SELECT test.fails($$SELECT sagaz_ha.add_unique('e', '{event_id}', on_duplicate => 'ignore')$$);
SELECT test.fails($$SELECT sagaz_ha.add_unique('e', '{event_id}', within => '0')$$);
SELECT test.fails($$SELECT sagaz_ha.check_unique()$$);

-- Duplicates that are there are listed, and nothing is added
INSERT INTO e VALUES (5, 'c', test.day(1)), (6, 'c', test.day(1));
SELECT test.fails($$SELECT sagaz_ha.add_unique('e', '{event_id}')$$);
SELECT count(*) FROM sagaz_ha.unique_key;
DELETE FROM e WHERE at = test.day(1) AND event_id IN (5, 6);

-- In force
SELECT sagaz_ha.add_unique('e', '{event_id}');
SELECT sagaz_ha.add_unique('e', '{event_id}');
SELECT parent, name, columns, within, on_duplicate, phase FROM sagaz_ha.unique_key;
SELECT count(*) FROM pg_index WHERE indisunique AND indrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'e'::regclass);
SELECT test.fails($$SELECT sagaz_ha.add_unique('e', '{event_id}', within => '3 days')$$);
SELECT test.fails($$INSERT INTO e VALUES (5, 'c', test.day(1))$$);
SELECT test.fails($$INSERT INTO e_1 VALUES (5, 'c', test.day(1))$$);
SELECT test.fails($$UPDATE e SET event_id = 6 WHERE event_id = 5$$);
-- many rows at once, and values that only change places
SELECT test.fails($$INSERT INTO e SELECT 100 + n / 2, 'c', test.day(1 + n % 4) FROM generate_series(1, 8) AS n$$);
UPDATE e SET event_id = 100 + event_id;
UPDATE e SET event_id = CASE event_id WHEN 101 THEN 102 ELSE 101 END WHERE event_id IN (101, 102);
-- a row may move, and its value be used again in the same transaction
UPDATE e SET at = at - interval '1 day' WHERE event_id = 103;
SELECT tableoid::regclass FROM e WHERE event_id = 103;
BEGIN;
DELETE FROM e WHERE event_id = 103;
INSERT INTO e VALUES (103, 'c', test.day(1));
COMMIT;
-- nulls are distinct
INSERT INTO e VALUES (NULL, 'c', test.day(1)), (NULL, 'c', test.day(2));
-- a trigger that changes the key without being asked to
CREATE FUNCTION test.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.event_id := 104; RETURN NEW; END $$;
CREATE TRIGGER meddle BEFORE UPDATE ON e FOR EACH ROW EXECUTE FUNCTION test.meddle();
SELECT test.fails($$UPDATE e SET consumer = 'd' WHERE event_id = 105$$);
DROP TRIGGER meddle ON e;
-- a trigger that moves a row, or writes it again, before it is checked
CREATE FUNCTION test.move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  UPDATE e SET at = at + CASE NEW.consumer WHEN 'move' THEN interval '1 day' ELSE '0' END, consumer = 'moved'
   WHERE event_id = NEW.event_id AND at = NEW.at AND NEW.consumer IN ('move', 'touch');
  RETURN NULL;
END $$;
CREATE TRIGGER a_move AFTER INSERT ON e FOR EACH ROW EXECUTE FUNCTION test.move();
INSERT INTO e VALUES (150, 'move', test.day(2));
SELECT tableoid::regclass FROM e WHERE event_id = 150;
SELECT test.fails($$INSERT INTO e VALUES (150, 'touch', test.day(1))$$);
DROP TRIGGER a_move ON e;
DELETE FROM e WHERE event_id = 150;
-- replicas' sessions, and a column by another name
SET session_replication_role = replica;
SELECT test.fails($$INSERT INTO e VALUES (104, 'c', test.day(2))$$);
RESET session_replication_role;
ALTER TABLE e RENAME COLUMN event_id TO id;
SELECT test.fails($$INSERT INTO e VALUES (104, 'c', test.day(2))$$);
ALTER TABLE e RENAME COLUMN id TO event_id;
SELECT test.fails($$ALTER TABLE e DROP COLUMN event_id$$) LIKE '2BP01%' AS "a column of the key can't go by mistake";

-- Partitions that come
CREATE TABLE e_5 PARTITION OF e FOR VALUES FROM (test.day(5)) TO (test.day(6));
CREATE TABLE e_6 (at timestamptz NOT NULL, dropped integer, consumer text, event_id bigint);
ALTER TABLE e_6 DROP COLUMN dropped;
INSERT INTO e_6 VALUES (test.day(6), 'c', 104);
SELECT test.fails(format('ALTER TABLE e ATTACH PARTITION e_6 FOR VALUES FROM (%L) TO (%L)', test.day(6), test.day(7)));
UPDATE e_6 SET event_id = 200;
INSERT INTO e_6 VALUES (test.day(6), 'c', 200);
SELECT test.fails(format('ALTER TABLE e ATTACH PARTITION e_6 FOR VALUES FROM (%L) TO (%L)', test.day(6), test.day(7)));
DELETE FROM e_6 WHERE ctid = (SELECT max(ctid) FROM e_6);
ALTER TABLE e ATTACH PARTITION e_6 FOR VALUES FROM (test.day(6)) TO (test.day(7));
-- its columns stand elsewhere
SELECT test.fails($$INSERT INTO e VALUES (200, 'c', test.day(1))$$);
SELECT test.fails($$INSERT INTO e VALUES (104, 'c', test.day(6))$$);
-- partitions of partitions
CREATE TABLE e_7 PARTITION OF e FOR VALUES FROM (test.day(7)) TO (test.day(9)) PARTITION BY RANGE (at);
CREATE TABLE e_7a PARTITION OF e_7 FOR VALUES FROM (test.day(7)) TO (test.day(8));
CREATE TABLE e_7b PARTITION OF e_7 FOR VALUES FROM (test.day(8)) TO (test.day(9));
INSERT INTO e VALUES (300, 'c', test.day(7));
SELECT test.fails($$INSERT INTO e VALUES (300, 'c', test.day(8))$$);
SELECT test.fails($$INSERT INTO e VALUES (300, 'c', test.day(1))$$);
-- maintenance makes the index as well
SELECT sagaz_ha.manage_partitions('e', '1 day', 1);
SET sagaz_ha.clock = '2025-01-10 10:00:00+00';
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('e');
SELECT test.fails($$INSERT INTO e VALUES (300, 'c', test.day(9))$$);
-- a partition that has lost its index is looked at row by row
DROP INDEX e_1_event_id_idx;
SELECT test.fails($$INSERT INTO e VALUES (103, 'c', test.day(2))$$);
SELECT test.fails($$INSERT INTO e VALUES (103, 'c', test.day(1))$$);
-- a partition that goes takes its values with it
ALTER TABLE e DETACH PARTITION e_1;
INSERT INTO e VALUES (103, 'c', test.day(2));
SELECT test.fails(format('ALTER TABLE e ATTACH PARTITION e_1 FOR VALUES FROM (%L) TO (%L)', test.day(1), test.day(2)));
DROP TABLE e_1;

-- The value is told only to those who may read it
GRANT INSERT ON e TO regress_writer;
GRANT INSERT, SELECT (event_id, at) ON e TO regress_reader;
GRANT EXECUTE ON FUNCTION test.fails(text), test.day(integer) TO PUBLIC;
SET ROLE regress_writer;
SELECT test.fails($$INSERT INTO e VALUES (200, 'c', test.day(2))$$);
SET ROLE regress_reader;
SELECT test.fails($$INSERT INTO e VALUES (200, 'c', test.day(2))$$);
RESET ROLE;

-- Health, and what is lost or off is put in force again
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'unique';
DROP INDEX e_2_event_id_idx;
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'unique';
CREATE UNIQUE INDEX ON e_2 (event_id);
ALTER TABLE e_2 DISABLE TRIGGER e_event_id_unique;
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'unique';
INSERT INTO e VALUES (200, 'c', test.day(2));
SELECT test.fails($$SELECT sagaz_ha.add_unique('e', '{event_id}')$$);
DELETE FROM e WHERE event_id = 200 AND at = test.day(2);
SELECT sagaz_ha.add_unique('e', '{event_id}');
SELECT test.fails($$INSERT INTO e VALUES (200, 'c', test.day(2))$$);
DROP TRIGGER e_event_id_unique ON e;
SELECT status, details FROM sagaz_ha.partition_health() WHERE check_name = 'unique';
SELECT sagaz_ha.add_unique('e', '{event_id}');
SELECT test.fails($$INSERT INTO e VALUES (200, 'c', test.day(2))$$);
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'unique';

-- ON CONFLICT can't name it
SELECT test.fails($$INSERT INTO e VALUES (104, 'c', test.day(2)) ON CONFLICT (event_id) DO NOTHING$$);

-- Gone again; the indexes stay
SELECT sagaz_ha.drop_unique('e', '{event_id}');
SELECT sagaz_ha.drop_unique('e', '{event_id}');
INSERT INTO e VALUES (200, 'c', test.day(2));
SELECT count(*) FROM pg_index WHERE indrelid = 'e_2'::regclass;
DELETE FROM e WHERE event_id = 200;

-- Within: what older partitions have doesn't count
SELECT sagaz_ha.add_unique('e', '{event_id,consumer}', within => '5 days');
SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index
  WHERE indnatts = 1 AND indrelid IN (SELECT relid FROM pg_partition_tree('e')) ORDER BY 1 \gexec
TRUNCATE e;
INSERT INTO e VALUES (1, 'c', test.day(2)), (1, 'c', test.day(3)), (2, 'c', test.day(5));
INSERT INTO e VALUES (1, 'c', test.day(8));
INSERT INTO e VALUES (2, 'd', test.day(8));
SELECT test.fails($$INSERT INTO e VALUES (2, 'c', test.day(8))$$);
SELECT sagaz_ha.drop_unique('e', '{consumer,event_id}');

-- Skip: a row that is there is dropped, but none that moves
SELECT sagaz_ha.add_unique('e', '{event_id,consumer}', within => '5 days', on_duplicate => 'skip');
\set QUIET off
INSERT INTO e VALUES (2, 'c', test.day(8));
INSERT INTO e VALUES (3, 'c', test.day(8)), (3, 'c', test.day(8)), (3, 'c', test.day(9));
\set QUIET on
UPDATE e SET at = at - interval '1 day' WHERE event_id = 3;
INSERT INTO e VALUES (4, 'c', test.day(9));
SELECT test.fails($$UPDATE e SET at = at - interval '1 day', event_id = 2, consumer = 'c' WHERE event_id = 3$$);
SELECT tableoid::regclass, event_id FROM e WHERE event_id = 3;
ALTER TABLE e_3 DISABLE TRIGGER e_event_id_consumer_unique_skip;
ALTER TABLE e RENAME consumer TO reader;
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE check_name = 'unique';
ALTER TABLE e RENAME reader TO consumer;

-- A trigger made by hand is no reason for a crash
CREATE TABLE by_hand (a int, b text, c json, at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE by_hand_1 PARTITION OF by_hand FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE by_hand_2 PARTITION OF by_hand FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE UNIQUE INDEX ON by_hand_1 (b);
CREATE TRIGGER x AFTER INSERT ON by_hand FOR EACH ROW WHEN (new.b IS NOT NULL) EXECUTE FUNCTION sagaz_ha.check_unique();
INSERT INTO by_hand VALUES (5, 'a', '{}', '2026-01-05'), (6, 'b', '{}', '2026-02-05');
SELECT test.fails($$INSERT INTO by_hand VALUES (7, 'a', '{}', '2026-02-05')$$);
CREATE OR REPLACE TRIGGER x AFTER INSERT ON by_hand FOR EACH ROW WHEN (new.a IS NOT NULL) EXECUTE FUNCTION sagaz_ha.check_unique();
CREATE TABLE by_hand_3 PARTITION OF by_hand FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
INSERT INTO by_hand VALUES (7, 'a', '{}', '2026-03-05');
SELECT test.fails($$INSERT INTO by_hand VALUES (5, 'c', '{}', '2026-03-05')$$);
CREATE OR REPLACE TRIGGER x AFTER INSERT ON by_hand FOR EACH ROW WHEN (new.c IS NOT NULL) EXECUTE FUNCTION sagaz_ha.check_unique();
SELECT test.fails($$INSERT INTO by_hand VALUES (8, 'd', '{}', '2026-03-05')$$);
CREATE OR REPLACE TRIGGER x AFTER INSERT ON by_hand FOR EACH ROW WHEN (new.tableoid IS NOT NULL) EXECUTE FUNCTION sagaz_ha.check_unique();
SELECT test.fails($$INSERT INTO by_hand VALUES (8, 'd', '{}', '2026-03-05')$$);
DROP TABLE by_hand;

-- A table of Citus is refused by name
SET allow_system_table_mods = on;
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass);
INSERT INTO pg_catalog.pg_dist_partition VALUES ('e');
SELECT test.fails($$SELECT sagaz_ha.add_unique('e', '{at,event_id}')$$);
DROP TABLE pg_catalog.pg_dist_partition;

-- The triggers go with the extension, the indexes stay
DROP EXTENSION sagaz_ha;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'e_2'::regclass;
SELECT count(*) FROM pg_index WHERE indrelid = 'e_2'::regclass;
DROP OWNED BY regress_writer, regress_reader;
DROP ROLE regress_writer, regress_reader;
\i :teardown
