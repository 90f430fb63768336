-- The specification's tables: columns, checks, keys, indexes, policies.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/setup.sql'
\set teardown :srcdir '/include/teardown.sql'
\i :setup

SELECT sagaz_ha.create_saga_tables();
SELECT relname, relkind, pg_get_partkeydef(c.oid) AS partition_key
  FROM pg_class AS c
 WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace ORDER BY relname;
SELECT relname, attname, format_type(atttypid, atttypmod) AS type, attnotnull AS not_null,
       attidentity AS identity, pg_get_expr(adbin, adrelid) AS "default"
  FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid
  LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
 WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND attnum > 0
 ORDER BY relname, attnum;
SELECT conrelid::regclass AS table_name, conname, pg_get_constraintdef(oid) AS definition
  FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'c', 'u', 'f')
 ORDER BY conrelid::regclass::text, conname;
SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY tablename, indexname;

SELECT parent, partition_interval, premake, retention, retention_action, unfinished_when,
       time_zone, tablespace, storage_parameters, auto_analyze, auto_freeze
  FROM sagaz_ha.partition_policy ORDER BY parent::text;

-- they are no members of the extension
SELECT count(*) FROM pg_depend
 WHERE deptype = 'e' AND classid = 'pg_class'::regclass
   AND objid IN ('saga_executions'::regclass, 'saga_outbox'::regclass, 'saga_audit_log'::regclass,
                 'saga_steps'::regclass, 'consumer_inbox'::regclass);

-- idempotent: nothing made twice, and what a user changed stays
SELECT sagaz_ha.manage_partitions('saga_outbox', '1 day', premake => 14, retention => '60 days');
DROP TABLE consumer_inbox;
SELECT sagaz_ha.create_saga_tables();
SELECT parent, premake, retention FROM sagaz_ha.partition_policy ORDER BY parent::text;
SELECT to_regclass('consumer_inbox') IS NOT NULL AS made_again;

-- two consumers of one event are no duplicates; one consumer twice is
INSERT INTO consumer_inbox (consumer_name, event_id) VALUES ('billing', '00000000-0000-0000-0000-0000000000e1');
INSERT INTO consumer_inbox (consumer_name, event_id) VALUES ('shipping', '00000000-0000-0000-0000-0000000000e1');
INSERT INTO consumer_inbox (consumer_name, event_id) VALUES ('billing', '00000000-0000-0000-0000-0000000000e1');
INSERT INTO consumer_inbox (consumer_name, event_id) VALUES ('billing', '00000000-0000-0000-0000-0000000000e1') ON CONFLICT DO NOTHING;

-- an unknown status is refused
\set VERBOSITY terse
SELECT count(*) FROM sagaz_ha.maintain_partitions('saga_executions');
SELECT count(*) FROM sagaz_ha.maintain_partitions('saga_outbox');
INSERT INTO saga_executions (saga_name, status, created_at) VALUES ('s', 'DONE', sagaz_ha.clock());
INSERT INTO saga_outbox (topic, payload, status, created_at) VALUES ('t', '{}', 'Pending', sagaz_ha.clock());
INSERT INTO saga_outbox (payload, created_at) VALUES ('{}', sagaz_ha.clock());
INSERT INTO saga_steps (saga_id, step_name, status) VALUES (gen_random_uuid(), 's', '');
INSERT INTO saga_executions (saga_name, status, created_at)
  SELECT 's', s, sagaz_ha.clock() FROM unnest('{PENDING,RUNNING,SUCCESS,FAILED,COMPENSATING,COMPENSATED,CANCELLED}'::text[]) AS u,
         LATERAL (VALUES (u), (lower(u))) AS v (s);
-- an event is the client's, or of a topic; its statuses are upper or lower case
INSERT INTO saga_outbox (event_type, topic, payload, status, created_at)
  SELECT e, t, '{}', s, sagaz_ha.clock()
    FROM unnest('{PENDING,CLAIMED,SENT,PUBLISHED,FAILED,DEAD_LETTER}'::text[]) AS u,
         LATERAL (VALUES (u, 'e', NULL), (lower(u), NULL, 't')) AS v (s, e, t);
SELECT status FROM saga_outbox
 WHERE status IN ('PENDING', 'pending') OR status IN ('CLAIMED', 'claimed') OR status IN ('FAILED', 'failed') ORDER BY 1;
-- steps are read back in their order, and each once
INSERT INTO saga_steps (saga_id, step_name, status) VALUES ('s', 'reserve', 'completed'), ('s', 'charge', 'failed'), ('s', 'book', 'pending');
SELECT step_name FROM saga_steps WHERE saga_id = 's' ORDER BY id;
INSERT INTO saga_steps (saga_id, step_name, status) VALUES ('s', 'book', 'completed')
  ON CONFLICT (saga_id, step_name) DO UPDATE SET status = excluded.status RETURNING status;

-- a table of that name that exists is adopted as it is, when it can be
DROP TABLE saga_executions, saga_outbox, saga_audit_log, saga_steps, consumer_inbox;
SELECT count(*) FROM sagaz_ha.partition_policy;
CREATE TABLE saga_executions (id bigint, saga_name text, status text, created_at timestamptz NOT NULL)
  PARTITION BY RANGE (created_at);
CREATE TABLE saga_executions_before PARTITION OF saga_executions
  FOR VALUES FROM ('2024-12-01 00:00:00+00') TO ('2025-01-01 00:00:00+00');
CREATE TABLE saga_outbox (id bigint, status text, created_at timestamptz);
SELECT action, table_name, partition_name FROM maintain_all_partitions();
-- a plain one is left alone; every pass says how to convert it, and so does health
SELECT action, table_name, details FROM maintain_all_partitions();
SELECT table_name, check_name, status, details FROM sagaz_ha.partition_health() WHERE check_name = 'plain_table';
SELECT parent FROM sagaz_ha.partition_policy ORDER BY parent::text;
\d saga_outbox
SELECT test.fails('SELECT sagaz_ha.create_saga_tables()');

\i :teardown
