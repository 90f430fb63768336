-- Partitions that differ from their table, and what becomes of them; partitions
-- that are partitioned; bounds that were written in another time zone.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

SET timezone = 'UTC';
SET datestyle = 'ISO';
SET sagaz_ha.clock = '2026-03-10 12:00:00+00';
SET client_min_messages = error;
DROP ROLE IF EXISTS regress_owner, regress_reader, regress_other;
RESET client_min_messages;
CREATE ROLE regress_owner;
CREATE ROLE regress_reader;
CREATE ROLE regress_other;
GRANT CREATE ON SCHEMA public TO regress_owner;

CREATE FUNCTION test.drift(of_table text) RETURNS TABLE (partition_name text, action text, details text)
LANGUAGE sql AS $$
  SELECT p.partition_name, p.action, p.details FROM sagaz_ha.problem AS p
   WHERE p.found_by = 'drift' AND p.table_name = of_table ORDER BY p.partition_name COLLATE "C";
$$;
CREATE VIEW test.health AS
  SELECT table_name, check_name, status, value FROM sagaz_ha.partition_health()
   WHERE check_name IN ('drift', 'bounds') AND table_name IS NOT NULL ORDER BY 1, 2;

SET ROLE regress_owner;
CREATE TABLE members (id integer PRIMARY KEY, tenant integer, who name);
CREATE TABLE t (id integer, at timestamptz NOT NULL, a text DEFAULT 'x', tenant integer, n integer CHECK (n > 0),
  member integer REFERENCES members, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX by_a ON t (lower(a), n DESC) INCLUDE (tenant) WHERE a <> ' USING ';
CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
CREATE TRIGGER "The trigger" BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION pass();
GRANT SELECT ON t TO regress_reader;
RESET ROLE;
SELECT sagaz_ha.manage_partitions('t', '1 day', 2, storage_parameters => '{fillfactor=70,toast.autovacuum_enabled=off}');
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('t');

-- What a partition has beyond its table is no difference
SET ROLE regress_owner;
CREATE INDEX ON t_y2026m03d10 (tenant);
ALTER TABLE t_y2026m03d10 ADD CHECK (tenant < 100);
ALTER TABLE t_y2026m03d10 ADD UNIQUE (member);
ALTER TABLE t_y2026m03d10 SET (autovacuum_enabled = off);
CREATE TRIGGER own BEFORE INSERT ON t_y2026m03d10 FOR EACH ROW EXECUTE FUNCTION pass();
RESET ROLE;
SELECT * FROM sagaz_ha.maintain_partitions('t');
SELECT * FROM test.drift('t');
SELECT * FROM test.health;
SELECT * FROM sagaz_ha.repair_partitions('t');

-- Everything that can differ
SET ROLE regress_owner;
CREATE UNIQUE INDEX by_n ON ONLY t (id, at, n);
ALTER TABLE ONLY t ADD CONSTRAINT t_unique UNIQUE (at, n) DEFERRABLE;
CREATE UNIQUE INDEX already_there ON t_y2026m03d11 (id, at, n);
ALTER TABLE t_y2026m03d10 ALTER a SET DEFAULT 'z';
ALTER TABLE t_y2026m03d10 ALTER n SET NOT NULL;
ALTER TABLE t_y2026m03d10 DISABLE TRIGGER "The trigger";
GRANT UPDATE (a) ON t_y2026m03d11 TO regress_reader;
REVOKE SELECT ON t_y2026m03d11 FROM regress_reader;
ALTER TABLE t_y2026m03d11 REPLICA IDENTITY FULL;
ALTER TABLE t_y2026m03d11 RESET (fillfactor);
-- a mixture: these are open, and new ones won't be
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
ALTER TABLE t FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON t FOR SELECT TO regress_reader
  USING (EXISTS (SELECT FROM members WHERE members.tenant = t.tenant AND who = current_user));
CREATE POLICY write ON t AS RESTRICTIVE FOR INSERT WITH CHECK (n < 1000);
RESET ROLE;
ALTER TABLE t_y2026m03d12 OWNER TO regress_other;
SELECT * FROM sagaz_ha.maintain_partitions('t');
SELECT * FROM test.drift('t');
SELECT * FROM test.health;
-- a new one is as the table is
SELECT sagaz_ha.create_partition('t', '2026-03-13');
SELECT partition::regclass, kind FROM sagaz_ha._drift('t') WHERE partition = 't_y2026m03d13'::regclass;
SELECT polname, polcmd, polpermissive, polroles::regrole[], pg_get_expr(polqual, polrelid) AS qual, pg_get_expr(polwithcheck, polrelid) AS with_check
  FROM pg_policy WHERE polrelid = 't_y2026m03d13'::regclass ORDER BY 1;

SELECT * FROM sagaz_ha.repair_partitions('t');
SELECT * FROM test.drift('t');
SELECT * FROM test.health;
SELECT indexrelid::regclass AS invalid FROM pg_index WHERE NOT indisvalid;
SELECT * FROM sagaz_ha.repair_partitions('t');
SELECT conname, condeferrable FROM pg_constraint WHERE conrelid = 't_y2026m03d10'::regclass AND contype IN ('p', 'u') ORDER BY 1;
INSERT INTO t (id, at, n) VALUES (1, '2026-03-10', 1), (1, '2026-03-10', 1) ON CONFLICT (id, at) DO NOTHING;
-- who else has given a privilege makes no difference, and what was given on goes with it
SET ROLE regress_owner;
GRANT SELECT, UPDATE (a) ON t TO regress_other WITH GRANT OPTION;
GRANT SELECT ON t_y2026m03d11 TO regress_reader WITH GRANT OPTION;
RESET ROLE;
SET ROLE regress_other;
GRANT SELECT, UPDATE (a) ON t TO regress_reader;
RESET ROLE;
SET ROLE regress_reader;
GRANT SELECT ON t_y2026m03d11 TO regress_other;
RESET ROLE;
SELECT action, partition_name, details FROM sagaz_ha.repair_partitions('t');
SELECT * FROM test.drift('t');
SELECT has_table_privilege('regress_reader', 't_y2026m03d11', 'SELECT WITH GRANT OPTION') AS reader_may_grant,
       has_table_privilege('regress_other', 't_y2026m03d11', 'SELECT WITH GRANT OPTION') AS other_may_grant;
-- a foreign table can have no row security
CREATE FOREIGN DATA WRAPPER regress_none;
CREATE SERVER nowhere FOREIGN DATA WRAPPER regress_none;
CREATE TABLE f (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE FOREIGN TABLE f_1 PARTITION OF f FOR VALUES FROM ('2026-03-10') TO ('2026-03-11') SERVER nowhere;
ALTER TABLE f ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON f USING (false);
SELECT sagaz_ha.manage_partitions('f', '1 day', 1);
SELECT * FROM sagaz_ha.repair_partitions('f');
SELECT * FROM test.health WHERE table_name = 'f' AND check_name = 'drift';
DROP TABLE f;
DROP FOREIGN DATA WRAPPER regress_none CASCADE;
-- somebody else can't
GRANT EXECUTE ON FUNCTION sagaz_ha.repair_partitions(regclass) TO regress_other;
SET ROLE regress_other;
SELECT test.fails('SELECT * FROM sagaz_ha.repair_partitions(''t'')');
RESET ROLE;
SELECT test.fails('SELECT * FROM sagaz_ha.repair_partitions(''members'')');

-- Partitions that are partitioned
CREATE TABLE s (at timestamptz NOT NULL, tenant integer NOT NULL, body text, PRIMARY KEY (tenant, at)) PARTITION BY RANGE (at);
CREATE TABLE s_old PARTITION OF s FOR VALUES FROM ('2026-03-09') TO ('2026-03-10') PARTITION BY LIST (tenant);
CREATE TABLE s_old_a PARTITION OF s_old FOR VALUES IN (1, 2);
CREATE TABLE s_old_r PARTITION OF s_old FOR VALUES IN (3, 4) PARTITION BY RANGE (tenant);
CREATE TABLE s_old_r3 PARTITION OF s_old_r FOR VALUES FROM (3) TO (4);
CREATE TABLE other_name PARTITION OF s_old_r FOR VALUES FROM (4) TO (MAXVALUE);
CREATE TABLE s_old_rest PARTITION OF s_old DEFAULT PARTITION BY HASH (tenant);
CREATE TABLE s_old_rest_0 PARTITION OF s_old_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE s_old_rest_1 PARTITION OF s_old_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO s SELECT '2026-03-09 10:00+00', i, repeat('x', 100) FROM generate_series(1, 1000) AS i;
ANALYZE s;
SELECT sagaz_ha.manage_partitions('s', '1 day', 1, storage_parameters => '{fillfactor=70}');
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('s');
SELECT relid, pg_get_expr(relpartbound, oid) AS bound, reloptions FROM pg_partition_tree('s') JOIN pg_class ON oid = relid
 WHERE relid::text ~ '^s_y2026m03d11' ORDER BY relid::text COLLATE "C";
SELECT partition_name, total_bytes > 100000 AS large, estimated_rows FROM partition_metadata WHERE table_name = 's';
SELECT estimated_rows, total_size_mb > 0 AS has_size FROM get_partition_statistics() WHERE table_name = 's';
INSERT INTO s SELECT '2026-03-10 10:00+00', i FROM generate_series(1, 100) AS i;
-- those of older partitions are compared, too
SELECT partition_name, details FROM test.drift('s');
SELECT count(*) FROM sagaz_ha.repair_partitions('s');
SELECT * FROM test.drift('s');
SELECT sagaz_ha.manage_partitions('s', '1 day', 2, plain => true);
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('s');
SELECT relkind FROM pg_class WHERE relname = 's_y2026m03d12';
-- by the table's own key: in steps as wide
CREATE TABLE u (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE u_1 PARTITION OF u FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY RANGE (at);
SELECT format('CREATE TABLE u_1_%s PARTITION OF u_1 FOR VALUES FROM (%L) TO (%L)', n, date '2026-02-01' + 7 * n, date '2026-02-08' + 7 * n)
  FROM generate_series(0, 3) AS n \gexec
SELECT sagaz_ha.manage_partitions('u', '1 month', 1);
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('u');
SELECT relid, pg_get_expr(relpartbound, oid) AS bound FROM pg_partition_tree('u') JOIN pg_class ON oid = relid
 WHERE relid::text ~ '^u_y2026m03' ORDER BY relid::text COLLATE "C";
-- so does one whose kind had to be told, with names that are too long
CREATE TABLE a_table_with_a_name_that_leaves_no_room_for_those_of_parts (id bigint NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE v PARTITION OF a_table_with_a_name_that_leaves_no_room_for_those_of_parts
  FOR VALUES FROM (1773100800) TO (1773187200) PARTITION BY RANGE (id);
CREATE TABLE v_0 PARTITION OF v FOR VALUES FROM (1773100800) TO (1773144000);
CREATE TABLE v_1 PARTITION OF v FOR VALUES FROM (1773144000) TO (1773187200);
SELECT sagaz_ha.manage_partitions('a_table_with_a_name_that_leaves_no_room_for_those_of_parts', '1 day', 2, key_encoding => 'unix seconds');
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('a_table_with_a_name_that_leaves_no_room_for_those_of_parts');
SELECT relid, pg_get_expr(relpartbound, oid) AS bound
  FROM pg_partition_tree('a_table_with_a_name_that_leaves_no_room_for_those_of_parts') JOIN pg_class ON oid = relid
 WHERE relname ~ '^a_' AND level = 2 ORDER BY pg_get_expr(relpartbound, oid) COLLATE "C";
CREATE TABLE l (at date NOT NULL, tenant text) PARTITION BY RANGE (at);
CREATE TABLE l_1 PARTITION OF l FOR VALUES FROM ('2026-03-09') TO ('2026-03-10') PARTITION BY LIST (tenant);
CREATE TABLE l_1_tenant_whose_name_is_as_long_as_a_name_can_be_ending_in_a PARTITION OF l_1 FOR VALUES IN ('a');
CREATE TABLE l_1_tenant_whose_name_is_as_long_as_a_name_can_be_ending_in_b PARTITION OF l_1 FOR VALUES IN ('b');
SELECT sagaz_ha.manage_partitions('l', '1 day', 1);
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('l');
SELECT relid, pg_get_expr(relpartbound, oid) AS bound FROM pg_partition_tree('l') JOIN pg_class ON oid = relid
 WHERE relid::text ~ '^l_y2026' AND level = 2 ORDER BY pg_get_expr(relpartbound, oid) COLLATE "C";
DROP TABLE l, a_table_with_a_name_that_leaves_no_room_for_those_of_parts;

-- Bounds of another time zone
SET timezone = 'Europe/Berlin';
CREATE TABLE b (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE b_1 PARTITION OF b FOR VALUES FROM ('2026-03-10') TO ('2026-03-11');
SET timezone = 'UTC';
SELECT sagaz_ha.manage_partitions('b', '1 day', 1);
SELECT action, partition_name FROM sagaz_ha.maintain_partitions('b');
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE table_name = 'b' AND check_name = 'bounds';
SELECT * FROM sagaz_ha.repair_partitions('b');
SET sagaz_ha.clock = '2026-03-12 12:00:00+00';
SELECT action, partition_name, details FROM sagaz_ha.maintain_partitions('b');
SELECT * FROM test.health WHERE table_name = 'b';
-- in values of the key
CREATE TABLE k (id bigint NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE k_1 PARTITION OF k FOR VALUES FROM (1773183600) TO (1773270000);
SELECT sagaz_ha.manage_partitions('k', '1 day', 1, key_encoding => 'unix seconds');
SELECT status, value, details FROM sagaz_ha.partition_health() WHERE table_name = 'k' AND check_name = 'bounds';
SELECT details FROM sagaz_ha.repair_partitions('k');
SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'k'::regclass) ORDER BY 1;
DROP TABLE k;
-- weeks from Sunday and months from the 15th are a choice
CREATE TABLE w (at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE w_1 PARTITION OF w FOR VALUES FROM ('2026-03-08') TO ('2026-03-15');
SELECT sagaz_ha.manage_partitions('w', '7 days');
CREATE TABLE m (at timestamp NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE m_1 PARTITION OF m FOR VALUES FROM ('2026-02-15') TO ('2026-03-15');
SELECT sagaz_ha.manage_partitions('m', '1 month');
SELECT * FROM test.health WHERE table_name IN ('m', 'w') AND check_name = 'bounds';

DROP TABLE t, members, s, u, b, w, m;
DROP OWNED BY regress_owner, regress_reader, regress_other;
DROP ROLE regress_owner, regress_reader, regress_other;

\i :teardown
