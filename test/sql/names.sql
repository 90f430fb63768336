-- Names: quoted, long, colliding, taken.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

-- Quoted names: mixed case, quotes, spaces, keywords, and letters of any kind
CREATE SCHEMA "My ""Schema""";
CREATE TABLE "My ""Schema"""."Order" ("Created At" timestamptz NOT NULL, "select" text) PARTITION BY RANGE ("Created At");
CREATE TABLE "it's ""quoted"" \ %s %I ; --" ("a""b" date NOT NULL) PARTITION BY RANGE ("a""b");
CREATE TABLE "Größe Ünïcödé 日本" (at timestamp NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE "select" ("from" timestamptz NOT NULL) PARTITION BY RANGE ("from");
SELECT sagaz_ha.manage_partitions('"My ""Schema"""."Order"', '1 month', 1, retention => '1 month',
                                  unfinished_when => $$"select" = 'it''s "todo"'$$);
SELECT sagaz_ha.manage_partitions($$"it's ""quoted"" \ %s %I ; --"$$, '1 day', 1, retention => '1 day');
SELECT sagaz_ha.manage_partitions('"Größe Ünïcödé 日本"', '1 year', 1, retention => '1 year');
SELECT sagaz_ha.manage_partitions('"select"', '1 day', 1, retention => '1 day');
SELECT * FROM maintain_all_partitions();
SELECT * FROM maintain_all_partitions();
INSERT INTO "My ""Schema"""."Order" VALUES ('2025-01-15 10:00:00+00', 'it''s "todo"');
INSERT INTO "it's ""quoted"" \ %s %I ; --" VALUES ('2025-01-15');
SELECT sagaz_ha.create_partition($$"it's ""quoted"" \ %s %I ; --"$$, '2025-01-17 00:00:00+00');
SELECT table_name, partition_count, oldest_partition, newest_partition FROM get_partition_statistics();
SELECT table_name, check_name, status FROM sagaz_ha.partition_health() WHERE status <> 'ok';
SET sagaz_ha.clock = '2027-01-15 10:00:00+00';
SELECT action, table_name, partition_name FROM sagaz_ha.plan_partition_maintenance() WHERE action <> 'CREATE';
SELECT action, table_name, partition_name FROM maintain_all_partitions() WHERE action <> 'CREATE';

-- Detach and archive quote, too
SET sagaz_ha.clock = '2027-02-15 10:00:00+00';
SELECT sagaz_ha.manage_partitions('"select"', '1 day', 1, retention => '1 day', retention_action => 'detach');
SELECT sagaz_ha.manage_partitions($$"it's ""quoted"" \ %s %I ; --"$$, '1 day', 1, retention => '1 day',
                                  retention_action => 'archive', archive_schema => '"My ""Schema"""');
SELECT action, table_name, partition_name FROM maintain_all_partitions()
 WHERE action NOT IN ('CREATE', 'KEEP') ORDER BY partition_name COLLATE "C" LIMIT 2;
SELECT sagaz_ha.stop_managing_partitions(parent) FROM sagaz_ha.partition_policy;

-- 63 bytes: the suffix stays whole, a hash tells long names apart
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
CREATE TABLE a_name_of_sixty_three_bytes_that_begins_like_another_one_does_1 (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE a_name_of_sixty_three_bytes_that_begins_like_another_one_does_2 (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('a_name_of_sixty_three_bytes_that_begins_like_another_one_does_1', '1 day', 1);
SELECT sagaz_ha.manage_partitions('a_name_of_sixty_three_bytes_that_begins_like_another_one_does_2', '1 day', 1);
SELECT action, partition_name, octet_length(partition_name) FROM maintain_all_partitions();
SELECT * FROM maintain_all_partitions();
-- where the name ends without a cut, and one byte later
CREATE TABLE a_name_of_fifty_one_bytes_that_just_fits_with_its_d (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE a_name_of_fifty_two_bytes_that_just_fits_no_more_now (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('a_name_of_fifty_one_bytes_that_just_fits_with_its_d', '1 day', 1);
SELECT sagaz_ha.manage_partitions('a_name_of_fifty_two_bytes_that_just_fits_no_more_now', '1 day', 1);
SELECT action, partition_name, octet_length(partition_name) FROM maintain_all_partitions();
-- a character of several bytes isn't cut in two
CREATE TABLE "日本語日本語日本語日本語日本語日本語日本語" (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('"日本語日本語日本語日本語日本語日本語日本語"', '1 hour', 1);
SELECT action, partition_name, octet_length(partition_name) FROM maintain_all_partitions();
-- indexes of long names are the server's to name
CREATE INDEX ON a_name_of_sixty_three_bytes_that_begins_like_another_one_does_1 (at);
CREATE INDEX ON a_name_of_sixty_three_bytes_that_begins_like_another_one_does_2 (at);
SET sagaz_ha.clock = '2025-01-16 10:00:00+00';
SELECT action, count(*) FROM maintain_all_partitions() GROUP BY 1;
SELECT sagaz_ha.stop_managing_partitions(parent) FROM sagaz_ha.partition_policy;

-- A name that something else has already: an error that says so, and the rest
-- goes on
SET sagaz_ha.clock = '2025-01-15 10:00:00+00';
CREATE TABLE t (at timestamptz NOT NULL) PARTITION BY RANGE (at);
SELECT sagaz_ha.manage_partitions('t', '1 day', 3);
CREATE TABLE t_y2025m01d15 ();
CREATE VIEW t_y2025m01d16 AS SELECT 1;
CREATE SEQUENCE t_y2025m01d17;
SELECT action, partition_name, details FROM maintain_all_partitions();
SELECT test.fails($$SELECT sagaz_ha.create_partition('t', '2025-01-15 00:00:00+00')$$);
-- and again once it is free
DROP TABLE t_y2025m01d15;
DROP VIEW t_y2025m01d16;
ALTER SEQUENCE t_y2025m01d17 RENAME TO t_sequence;
SELECT action, partition_name FROM maintain_all_partitions();
-- a type has the name of a table, too
CREATE DOMAIN t_y2025m01d20 AS integer;
SELECT test.fails($$SELECT sagaz_ha.create_partition('t', '2025-01-20 00:00:00+00')$$);
-- the same name in another schema is no matter
CREATE TABLE test.t_y2025m01d19 ();
SET search_path = test, public;
SET sagaz_ha.clock = '2025-01-16 10:00:00+00';
SELECT action, table_name, partition_name FROM maintain_all_partitions();
RESET search_path;

\i :teardown
