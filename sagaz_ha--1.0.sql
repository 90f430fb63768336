-- sagaz_ha 1.0
\echo Use "CREATE EXTENSION sagaz_ha" to load this file. \quit

-- What the specification names lives in the extension's own schema; all else
-- lives here, where it collides with nothing.
--
-- What is not qualified below must mean pg_catalog: the extension's own schema
-- may be one that others can create objects in, and functions made BEGIN ATOMIC
-- are bound to what is found now.
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE SCHEMA sagaz_ha;
COMMENT ON SCHEMA sagaz_ha IS 'partition maintenance and replication health';
GRANT USAGE ON SCHEMA sagaz_ha TO PUBLIC;

--
-- What the catalogs don't have: policies, intentions, problems, and a log
--

CREATE TABLE sagaz_ha.partition_policy (
  parent regclass PRIMARY KEY,
  partition_interval interval NOT NULL,
  premake integer NOT NULL,
  retention interval,
  retention_action text NOT NULL CHECK (retention_action IN ('drop', 'detach', 'archive')),
  -- no regnamespace: pg_upgrade refuses columns of that type
  archive_schema name,
  unfinished_when text,
  time_zone text NOT NULL,
  tablespace name,
  storage_parameters text[],
  auto_analyze boolean NOT NULL,
  auto_freeze boolean NOT NULL,
  plain boolean NOT NULL DEFAULT false,
  protect boolean NOT NULL DEFAULT false,
  drops_held_since timestamptz,
  restored_at timestamptz,
  -- no regprocedure: pg_upgrade refuses columns of that type
  before_drop text,
  key_encoding text
);
COMMENT ON TABLE sagaz_ha.partition_policy IS
  'how each managed table wants to be maintained; written by manage_partitions()';
COMMENT ON COLUMN sagaz_ha.partition_policy.parent IS 'the partitioned table';
COMMENT ON COLUMN sagaz_ha.partition_policy.partition_interval IS 'width of a new partition';
COMMENT ON COLUMN sagaz_ha.partition_policy.premake IS
  'how many partitions to have ready beyond the current one';
COMMENT ON COLUMN sagaz_ha.partition_policy.retention IS
  'a partition expires when its upper bound is this old; null keeps partitions for ever';
COMMENT ON COLUMN sagaz_ha.partition_policy.retention_action IS
  'what happens to an expired partition: drop, detach, or archive';
COMMENT ON COLUMN sagaz_ha.partition_policy.archive_schema IS
  'where retention_action archive moves detached partitions to';
COMMENT ON COLUMN sagaz_ha.partition_policy.unfinished_when IS
  'boolean expression; a partition with a row for which it is true is never retired';
COMMENT ON COLUMN sagaz_ha.partition_policy.time_zone IS
  'time zone in which days, months and years begin';
COMMENT ON COLUMN sagaz_ha.partition_policy.tablespace IS
  'tablespace of new partitions; null means the parent''s';
COMMENT ON COLUMN sagaz_ha.partition_policy.storage_parameters IS
  'storage parameters of new partitions, each "name=value"';
COMMENT ON COLUMN sagaz_ha.partition_policy.auto_analyze IS
  'whether the worker keeps the parent''s planner statistics fresh';
COMMENT ON COLUMN sagaz_ha.partition_policy.auto_freeze IS
  'whether the worker freezes a partition once its period is over';
COMMENT ON COLUMN sagaz_ha.partition_policy.plain IS
  'whether a new partition is a plain table even where the newest one is partitioned';
COMMENT ON COLUMN sagaz_ha.partition_policy.protect IS
  'whether DROP, DETACH and TRUNCATE of a partition with rows are refused, but for a pass and superusers';
COMMENT ON COLUMN sagaz_ha.partition_policy.drops_held_since IS
  'since when nothing is retired, because the clock looked wrong or the server was restored; null normally';
COMMENT ON COLUMN sagaz_ha.partition_policy.restored_at IS
  'the last restore of the server that drops were held back for; drops_held_since is the same as long as they are';
COMMENT ON COLUMN sagaz_ha.partition_policy.before_drop IS
  'function that has to return true for a partition before it may go; null: none is asked';
COMMENT ON COLUMN sagaz_ha.partition_policy.key_encoding IS
  'how the partition key carries its time; null if its type says so';
SELECT pg_catalog.pg_extension_config_dump('sagaz_ha.partition_policy', '');

CREATE TABLE sagaz_ha.partition_hold (
  partition regclass PRIMARY KEY,
  reason text NOT NULL,
  since timestamptz NOT NULL,
  held_by name NOT NULL
);
COMMENT ON TABLE sagaz_ha.partition_hold IS
  'partitions that stay however old they are; written by hold_partition() and reattach_partition()';
COMMENT ON COLUMN sagaz_ha.partition_hold.partition IS 'the partition';
COMMENT ON COLUMN sagaz_ha.partition_hold.reason IS 'why it stays';
COMMENT ON COLUMN sagaz_ha.partition_hold.since IS 'since when it is held';
COMMENT ON COLUMN sagaz_ha.partition_hold.held_by IS 'the role that asked for it last';
SELECT pg_catalog.pg_extension_config_dump('sagaz_ha.partition_hold', '');

-- The next aren't dumped: they tell of this database, by OID.

CREATE TABLE sagaz_ha.retirement (
  partition regclass PRIMARY KEY,
  parent regclass NOT NULL,
  phase text NOT NULL CHECK (phase IN ('announced', 'fenced', 'detaching', 'before_drop', 'agreed')),
  since timestamptz NOT NULL,
  detach_is_ours boolean NOT NULL,
  waits_for text,
  calls integer NOT NULL DEFAULT 0,
  called_at timestamptz
);
COMMENT ON TABLE sagaz_ha.retirement IS
  'partitions that the worker is retiring; a row goes when that has ended';
COMMENT ON COLUMN sagaz_ha.retirement.partition IS 'the partition';
COMMENT ON COLUMN sagaz_ha.retirement.parent IS 'the partitioned table';
COMMENT ON COLUMN sagaz_ha.retirement.phase IS
  'announced; fenced: it takes no more writes; detaching: its rows are not visible through the table; before_drop: it is a table by itself, and waits for the policy''s function; agreed: that has returned true';
COMMENT ON COLUMN sagaz_ha.retirement.since IS 'since when it is being retired, or has to wait';
COMMENT ON COLUMN sagaz_ha.retirement.detach_is_ours IS
  'whether the worker has begun the detach; if another session has, the table is kept';
COMMENT ON COLUMN sagaz_ha.retirement.waits_for IS
  'the session or standby that may still see the partition; null: none';
COMMENT ON COLUMN sagaz_ha.retirement.calls IS 'how often the policy''s before_drop function was called';
COMMENT ON COLUMN sagaz_ha.retirement.called_at IS 'when it was called last; null: not yet';

CREATE TABLE sagaz_ha.problem (
  -- a publication FOR ALL TABLES needs a key
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_name text NOT NULL,
  partition_name text,
  parent regclass NOT NULL,
  partition regclass,
  action text NOT NULL CHECK (action IN ('KEEP', 'DEFER', 'ERROR', 'DRIFT')),
  sqlstate text,
  details text NOT NULL,
  since timestamptz NOT NULL,
  times integer NOT NULL,
  next_try timestamptz,
  found_by text NOT NULL CHECK (found_by IN ('pass', 'upkeep', 'drift')),
  version text NOT NULL
);
CREATE UNIQUE INDEX problem_subject
  ON sagaz_ha.problem (table_name, coalesce(partition_name, ''), found_by);
COMMENT ON TABLE sagaz_ha.problem IS
  'what is wrong now; a row goes when a pass finds it solved';
COMMENT ON COLUMN sagaz_ha.problem.id IS 'identifies the row';
COMMENT ON COLUMN sagaz_ha.problem.table_name IS 'name of the partitioned table';
COMMENT ON COLUMN sagaz_ha.problem.partition_name IS
  'name of the partition, which may not exist yet; null for the table as a whole';
COMMENT ON COLUMN sagaz_ha.problem.parent IS 'the partitioned table; 0 if it does not exist yet';
COMMENT ON COLUMN sagaz_ha.problem.partition IS 'the partition; null if there is none yet';
COMMENT ON COLUMN sagaz_ha.problem.action IS
  'KEEP: an expired partition stays; DEFER: a lock or a drain is waited for; ERROR; DRIFT: the partition differs from its table';
COMMENT ON COLUMN sagaz_ha.problem.sqlstate IS 'of the error; null for KEEP, DEFER and DRIFT';
COMMENT ON COLUMN sagaz_ha.problem.details IS
  'why it is kept, what is waited for, what differs, or the error, as of the last report';
COMMENT ON COLUMN sagaz_ha.problem.since IS 'since when';
COMMENT ON COLUMN sagaz_ha.problem.times IS
  'how often an error, or an unavailable lock, has come in a row; 1 for what is only waited for';
COMMENT ON COLUMN sagaz_ha.problem.next_try IS
  'when the worker tries again; null: in the next pass';
COMMENT ON COLUMN sagaz_ha.problem.found_by IS 'pass, upkeep or drift, which removes it';
COMMENT ON COLUMN sagaz_ha.problem.version IS
  'internal: tells whether policy, table or partition have been changed since the last try';

CREATE TABLE sagaz_ha.asleep (
  parent regclass PRIMARY KEY REFERENCES sagaz_ha.partition_policy ON DELETE CASCADE,
  since timestamptz NOT NULL,
  brought_by integer,
  brought_by_since timestamptz,
  seen text,
  seen_at timestamptz
);
COMMENT ON TABLE sagaz_ha.asleep IS
  'tables whose policy came in a restore, until the worker has seen that they are whole';
COMMENT ON COLUMN sagaz_ha.asleep.parent IS 'the partitioned table';
COMMENT ON COLUMN sagaz_ha.asleep.since IS 'when the policy came';
COMMENT ON COLUMN sagaz_ha.asleep.brought_by IS 'process that it came from';
COMMENT ON COLUMN sagaz_ha.asleep.brought_by_since IS 'when that process began';
COMMENT ON COLUMN sagaz_ha.asleep.seen IS 'internal: what the table was when it was first seen whole; null: not yet';
COMMENT ON COLUMN sagaz_ha.asleep.seen_at IS 'when that was';

-- An error that no operator has mended isn't tried again before its time. That
-- one might have is told by the versions of these rows.
CREATE FUNCTION sagaz_ha._problem_version(parent regclass, partition regclass) RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT concat_ws(' ',
    (SELECT p.xmin FROM sagaz_ha.partition_policy AS p WHERE p.parent = _problem_version.parent),
    (SELECT c.xmin FROM pg_class AS c WHERE c.oid = _problem_version.parent),
    (SELECT c.xmin FROM pg_class AS c WHERE c.oid = _problem_version.partition),
    -- the row of pg_class stays as it is when a column is renamed or dropped
    (SELECT md5(string_agg(a.xmin::text, ' ' ORDER BY a.attrelid, a.attnum))
       FROM pg_attribute AS a
      WHERE a.attrelid IN (_problem_version.parent, _problem_version.partition)));
END;
COMMENT ON FUNCTION sagaz_ha._problem_version(regclass, regclass) IS
  'internal: changes with the policy, the table and the partition';

CREATE TABLE sagaz_ha.partition_times (
  partition regclass PRIMARY KEY,
  parent regclass NOT NULL,
  created_at timestamptz,
  frozen_at timestamptz,
  detached_at timestamptz
);
CREATE INDEX partition_times_parent ON sagaz_ha.partition_times (parent);
COMMENT ON TABLE sagaz_ha.partition_times IS
  'when maintenance made, froze or detached a partition that still exists';
COMMENT ON COLUMN sagaz_ha.partition_times.partition IS 'the partition';
COMMENT ON COLUMN sagaz_ha.partition_times.parent IS 'the partitioned table';
COMMENT ON COLUMN sagaz_ha.partition_times.created_at IS 'when maintenance made it; null: another session did';
COMMENT ON COLUMN sagaz_ha.partition_times.frozen_at IS 'when maintenance froze it; null: not yet';
COMMENT ON COLUMN sagaz_ha.partition_times.detached_at IS
  'when maintenance detached it and kept the table; null: not yet';

CREATE TABLE sagaz_ha.partition_history (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  recorded_at timestamptz NOT NULL,
  action text NOT NULL,
  parent oid NOT NULL,
  table_name text NOT NULL,
  partition oid,
  partition_name text,
  details text NOT NULL
);
COMMENT ON TABLE sagaz_ha.partition_history IS
  'log of what maintenance did and found; KEEP, DEFER, ERROR and DRIFT when they begin';
COMMENT ON COLUMN sagaz_ha.partition_history.id IS 'order in which rows were recorded';
COMMENT ON COLUMN sagaz_ha.partition_history.recorded_at IS 'time of the pass''s transaction';
COMMENT ON COLUMN sagaz_ha.partition_history.action IS
  'CREATE, DETACH, DROP, KEEP, DEFER, ANALYZE or ERROR; and FREEZE, ATTACH, CONVERT, DRIFT and REPAIR';
COMMENT ON COLUMN sagaz_ha.partition_history.parent IS 'OID of the partitioned table';
COMMENT ON COLUMN sagaz_ha.partition_history.table_name IS 'name of the partitioned table then';
COMMENT ON COLUMN sagaz_ha.partition_history.partition IS 'OID of the partition, if there was one';
COMMENT ON COLUMN sagaz_ha.partition_history.partition_name IS
  'name of the partition; null for the table as a whole';
COMMENT ON COLUMN sagaz_ha.partition_history.details IS
  'bounds, why it is kept, what is waited for, or the error';

CREATE FUNCTION sagaz_ha.policy_changed() RETURNS trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_policy_changed';
COMMENT ON FUNCTION sagaz_ha.policy_changed() IS
  'trigger function: wake the worker for this database';
CREATE TRIGGER policy_changed AFTER INSERT OR UPDATE OR DELETE ON sagaz_ha.partition_policy
  FOR EACH STATEMENT EXECUTE FUNCTION sagaz_ha.policy_changed();
COMMENT ON TRIGGER policy_changed ON sagaz_ha.partition_policy IS
  'a changed policy is acted on at once, not at the next nap';
CREATE TRIGGER hold_changed AFTER INSERT OR UPDATE OR DELETE ON sagaz_ha.partition_hold
  FOR EACH STATEMENT EXECUTE FUNCTION sagaz_ha.policy_changed();
COMMENT ON TRIGGER hold_changed ON sagaz_ha.partition_hold IS
  'a partition that is released is looked at at once';

-- Everybody may run it: it does nothing but refuse, and the table's owner,
-- who makes the trigger, has to be allowed to.
CREATE FUNCTION sagaz_ha.refuse_late_write() RETURNS trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_refuse_late_write';
COMMENT ON FUNCTION sagaz_ha.refuse_late_write() IS
  'trigger function: refuse writes to a partition that is being retired';

-- The same for TRUNCATE, which fires no event trigger.
CREATE FUNCTION sagaz_ha.refuse_truncate() RETURNS trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_refuse_truncate';
COMMENT ON FUNCTION sagaz_ha.refuse_truncate() IS
  'trigger function: refuse TRUNCATE of a partition that is protected and has rows';

--
-- Time
--

CREATE FUNCTION sagaz_ha.clock() RETURNS timestamptz
LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_clock';
COMMENT ON FUNCTION sagaz_ha.clock() IS
  'the time that maintenance takes for now: now(), unless a superuser set sagaz_ha.clock for a test';

--
-- Which tables, and how
--

CREATE FUNCTION sagaz_ha.create_saga_tables() RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_create_saga_tables';
COMMENT ON FUNCTION sagaz_ha.create_saga_tables() IS
  'make the saga, outbox, audit, steps and inbox tables with their policies, or adopt those that exist';

CREATE FUNCTION sagaz_ha.manage_partitions(
  parent regclass,
  partition_interval interval,
  premake integer DEFAULT 4,
  retention interval DEFAULT NULL,
  retention_action text DEFAULT 'drop',
  unfinished_when text DEFAULT NULL,
  time_zone text DEFAULT 'UTC',
  archive_schema regnamespace DEFAULT NULL,
  tablespace name DEFAULT NULL,
  storage_parameters text[] DEFAULT NULL,
  auto_analyze boolean DEFAULT true,
  auto_freeze boolean DEFAULT true,
  before_drop regprocedure DEFAULT NULL,
  plain boolean DEFAULT false,
  key_encoding text DEFAULT NULL,
  protect boolean DEFAULT false
) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_manage_partitions';
COMMENT ON FUNCTION sagaz_ha.manage_partitions(regclass, interval, integer, interval, text, text, text, regnamespace, name, text[], boolean, boolean, regprocedure, boolean, text, boolean) IS
  'register a table partitioned by range on one column that carries a time, or replace its policy';

CREATE FUNCTION sagaz_ha.stop_managing_partitions(parent regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_stop_managing_partitions';
COMMENT ON FUNCTION sagaz_ha.stop_managing_partitions(regclass) IS
  'forget a table''s policy; the table and its partitions stay as they are';

CREATE FUNCTION sagaz_ha.resume_drops(parent regclass) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_resume_drops';
COMMENT ON FUNCTION sagaz_ha.resume_drops(regclass) IS
  'let a table''s drops go on that were held back because the clock looked wrong or the server was restored; false if none were';

CREATE FUNCTION sagaz_ha._restored_at() RETURNS timestamptz
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_restored_at';
COMMENT ON FUNCTION sagaz_ha._restored_at() IS
  'internal: when this server was last started from a backup, NULL if never';

CREATE FUNCTION sagaz_ha.reattach_partition(partition regclass, parent regclass DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_reattach_partition';
COMMENT ON FUNCTION sagaz_ha.reattach_partition(regclass, regclass) IS
  'bring back a partition that was detached or archived; it then stays, however old it is';

CREATE FUNCTION sagaz_ha.hold_partition(partition regclass, reason text) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_hold_partition';
COMMENT ON FUNCTION sagaz_ha.hold_partition(regclass, text) IS
  'keep a partition however old it is, until release_partition()';

CREATE FUNCTION sagaz_ha.drop_partition(partition regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_drop_partition';
COMMENT ON FUNCTION sagaz_ha.drop_partition(regclass) IS
  'drop a partition with its rows, also a protected one; not one that is held or has unfinished rows';

CREATE FUNCTION sagaz_ha.release_partition(partition regclass) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_release_partition';
COMMENT ON FUNCTION sagaz_ha.release_partition(regclass) IS
  'end a partition''s hold, so that it expires as others do; false if there was none';

--
-- Times as keys, for queries
--

CREATE FUNCTION sagaz_ha.uuidv7_at(at timestamptz) RETURNS uuid
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_uuidv7_at';
COMMENT ON FUNCTION sagaz_ha.uuidv7_at(timestamptz) IS
  'the least UUID of a time: every UUIDv7 made then or later is at or above it';

CREATE FUNCTION sagaz_ha.ulid_at(at timestamptz) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_ulid_at';
COMMENT ON FUNCTION sagaz_ha.ulid_at(timestamptz) IS
  'the least ULID of a time: every ULID made then or later is at or above it';

CREATE FUNCTION sagaz_ha.unix_seconds_at(at timestamptz) RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_unix_seconds_at';
COMMENT ON FUNCTION sagaz_ha.unix_seconds_at(timestamptz) IS
  'seconds from 1970 to a time, rounded up';

CREATE FUNCTION sagaz_ha.unix_milliseconds_at(at timestamptz) RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_unix_milliseconds_at';
COMMENT ON FUNCTION sagaz_ha.unix_milliseconds_at(timestamptz) IS
  'milliseconds from 1970 to a time, rounded up';

CREATE FUNCTION sagaz_ha.unix_microseconds_at(at timestamptz) RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_unix_microseconds_at';
COMMENT ON FUNCTION sagaz_ha.unix_microseconds_at(timestamptz) IS
  'microseconds from 1970 to a time';

CREATE FUNCTION sagaz_ha.snowflake_at(at timestamptz, encoding text DEFAULT 'snowflake') RETURNS bigint
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_snowflake_at';
COMMENT ON FUNCTION sagaz_ha.snowflake_at(timestamptz, text) IS
  'the least Snowflake of a time; encoding as key_encoding of manage_partitions()';

CREATE FUNCTION sagaz_ha._key_samples(
  OUT table_name text, OUT partition_name text, OUT wanted text,
  OUT sampled integer, OUT others integer
) RETURNS SETOF record
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'sagaz_key_samples';
COMMENT ON FUNCTION sagaz_ha._key_samples() IS
  'internal: of tables keyed by UUIDv7 or ULID, how many rows of a sample of the newest partition with rows have another key';

--
-- Maintenance
--

CREATE FUNCTION sagaz_ha.maintain_partitions(
  parent regclass,
  OUT action text, OUT table_name text, OUT partition_name text, OUT details text
) RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_maintain_partitions';
COMMENT ON FUNCTION sagaz_ha.maintain_partitions(regclass) IS
  'make missing partitions of one table and retire expired ones; what was done';

CREATE FUNCTION @extschema@.maintain_all_partitions(
  OUT action text, OUT table_name text, OUT partition_name text, OUT details text
) RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_maintain_all_partitions';
COMMENT ON FUNCTION @extschema@.maintain_all_partitions() IS
  'make missing partitions of all managed tables and retire expired ones; what was done. Makes the saga tables when no table is managed yet';

CREATE FUNCTION sagaz_ha.plan_partition_maintenance(
  at timestamptz DEFAULT sagaz_ha.clock(),
  OUT action text, OUT table_name text, OUT partition_name text, OUT details text
) RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_plan_partition_maintenance';
COMMENT ON FUNCTION sagaz_ha.plan_partition_maintenance(timestamptz) IS
  'what a pass at this time would do; nothing is changed';

CREATE FUNCTION sagaz_ha.create_partition(parent regclass, at timestamptz) RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_create_partition';
COMMENT ON FUNCTION sagaz_ha.create_partition(regclass, timestamptz) IS
  'make the partition for rows of this time, if there is none; its name';

CREATE FUNCTION @extschema@.create_saga_executions_partition(date) RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_create_saga_executions_partition';
COMMENT ON FUNCTION @extschema@.create_saga_executions_partition(date) IS
  'make the partition of saga_executions for this day, if there is none; its name';

CREATE FUNCTION @extschema@.create_saga_outbox_partition(date) RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_create_saga_outbox_partition';
COMMENT ON FUNCTION @extschema@.create_saga_outbox_partition(date) IS
  'make the partition of saga_outbox for this day, if there is none; its name';

CREATE FUNCTION @extschema@.create_saga_audit_log_partition(date) RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_create_saga_audit_log_partition';
COMMENT ON FUNCTION @extschema@.create_saga_audit_log_partition(date) IS
  'make the partition of saga_audit_log for this day, if there is none; its name';

CREATE FUNCTION @extschema@.cleanup_consumer_inbox(retention_days integer DEFAULT 90) RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_cleanup_consumer_inbox';
COMMENT ON FUNCTION @extschema@.cleanup_consumer_inbox(integer) IS
  'delete inbox entries older than this many days; how many were deleted';

-- A dropped table's policy goes with it. pg_dump would otherwise write a row
-- that names no table, or in another database a wrong one.
CREATE FUNCTION sagaz_ha.forget_dropped_tables() RETURNS event_trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_forget_dropped_tables';
COMMENT ON FUNCTION sagaz_ha.forget_dropped_tables() IS
  'event trigger function: remove what is said about tables that were dropped';
CREATE EVENT TRIGGER sagaz_ha_forget_dropped_tables ON sql_drop
  WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP EXTENSION', 'DROP TYPE')
  EXECUTE FUNCTION sagaz_ha.forget_dropped_tables();
COMMENT ON EVENT TRIGGER sagaz_ha_forget_dropped_tables IS
  'removes what is said about tables that were dropped';

CREATE FUNCTION sagaz_ha._plain_saga_tables(OUT table_name text, OUT details text)
RETURNS SETOF record
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'sagaz_plain_saga_tables';
COMMENT ON FUNCTION sagaz_ha._plain_saga_tables() IS
  'internal: plain tables that have the names of the partitioned saga tables, and how to convert them';

-- Before the statement: afterwards nobody can tell whether there were rows. The tags
-- are those of statements that can take a table with them.
CREATE FUNCTION sagaz_ha.protect_partitions() RETURNS event_trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_protect_partitions';
COMMENT ON FUNCTION sagaz_ha.protect_partitions() IS
  'event trigger function: refuse what would lose rows of protected partitions';
CREATE EVENT TRIGGER sagaz_ha_protect_partitions ON ddl_command_start
  WHEN TAG IN ('DROP TABLE', 'ALTER TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP EXTENSION',
               'DROP TYPE', 'DROP DOMAIN', 'DROP COLLATION', 'DROP FUNCTION', 'DROP ROUTINE',
               'DROP LANGUAGE', 'DROP OPERATOR CLASS', 'DROP OPERATOR FAMILY', 'DROP ACCESS METHOD')
  EXECUTE FUNCTION sagaz_ha.protect_partitions();
COMMENT ON EVENT TRIGGER sagaz_ha_protect_partitions IS
  'refuses DROP and DETACH of protected partitions that have rows';

--
-- A plain table becomes partitioned in place
--
-- What has to be run is written here once: the worker and a person with psql run
-- the same statements. All of it is read from the table's own catalogs, with
-- everything quoted by the server, so it can be written again after a crash.
--

-- This isn't dumped: a conversion is of this database. See cancel_partition_table().
CREATE TABLE sagaz_ha.conversion (
  relation regclass PRIMARY KEY,
  parent regclass,
  kind text NOT NULL CHECK (kind IN ('table', 'partition', 'rows')),
  phase text NOT NULL CHECK (phase IN ('checking', 'validating', 'indexing', 'linking', 'attaching',
                                       'analyzing', 'renaming', 'moving', 'finishing', 'failed')),
  table_name name NOT NULL,
  key name NOT NULL,
  lower_bound text NOT NULL,
  upper_bound text NOT NULL,
  weaken_unique boolean NOT NULL,
  publish_via_partition_root boolean NOT NULL,
  since timestamptz NOT NULL,
  phase_since timestamptz NOT NULL,
  finish_by timestamptz,
  policy_before jsonb,
  longest_lock interval,
  tries integer NOT NULL DEFAULT 0,
  next_try timestamptz,
  waits_for text,
  error text
);
COMMENT ON TABLE sagaz_ha.conversion IS
  'tables that are becoming partitioned; a row goes when that has ended';
COMMENT ON COLUMN sagaz_ha.conversion.relation IS 'the table that has the rows';
COMMENT ON COLUMN sagaz_ha.conversion.parent IS 'the partitioned table that it becomes a partition of; null once that was taken back';
COMMENT ON COLUMN sagaz_ha.conversion.kind IS
  'table: a plain table; partition: a default or catch-all partition that gets bounds; rows: those of a default partition are moved out';
COMMENT ON COLUMN sagaz_ha.conversion.phase IS 'the step that is being done';
COMMENT ON COLUMN sagaz_ha.conversion.table_name IS 'the name that clients use, before and afterwards';
COMMENT ON COLUMN sagaz_ha.conversion.key IS 'the column that the table is partitioned by';
COMMENT ON COLUMN sagaz_ha.conversion.lower_bound IS 'where the partition will begin, as a bound in SQL';
COMMENT ON COLUMN sagaz_ha.conversion.upper_bound IS 'where the partition will end, as a bound in SQL';
COMMENT ON COLUMN sagaz_ha.conversion.weaken_unique IS 'whether unique constraints without the key get it; false: they are kept across partitions';
COMMENT ON COLUMN sagaz_ha.conversion.publish_via_partition_root IS
  'whether publications of the table are to publish by the name of the partitioned table';
COMMENT ON COLUMN sagaz_ha.conversion.since IS 'when it was asked for';
COMMENT ON COLUMN sagaz_ha.conversion.phase_since IS 'when the step began';
COMMENT ON COLUMN sagaz_ha.conversion.finish_by IS
  'after this time rows could reach the upper bound, so the worker begins again with a later one; null: none';
COMMENT ON COLUMN sagaz_ha.conversion.policy_before IS
  'the policy that the table had, if it was partitioned before: it comes back when the conversion is taken back; null: none';
COMMENT ON COLUMN sagaz_ha.conversion.longest_lock IS 'the longest time so far that a strong lock was held';
COMMENT ON COLUMN sagaz_ha.conversion.tries IS 'how often the step has been tried in vain';
COMMENT ON COLUMN sagaz_ha.conversion.next_try IS 'when the worker tries again; null: now';
COMMENT ON COLUMN sagaz_ha.conversion.waits_for IS 'session or standby that is waited for; null: none';
COMMENT ON COLUMN sagaz_ha.conversion.error IS 'why the step failed; null: it has not';
CREATE TRIGGER conversion_changed AFTER INSERT ON sagaz_ha.conversion
  FOR EACH STATEMENT EXECUTE FUNCTION sagaz_ha.policy_changed();
COMMENT ON TRIGGER conversion_changed ON sagaz_ha.conversion IS 'the worker begins at once';

CREATE TYPE sagaz_ha._conversion_statement AS (
  phase text, run_as oid, lock text, statement text, meaning text
);
COMMENT ON TYPE sagaz_ha._conversion_statement IS 'internal: a statement of a conversion';

CREATE FUNCTION sagaz_ha._conversion_name(base text, suffix text) RETURNS name
LANGUAGE sql IMMUTABLE STRICT
BEGIN ATOMIC
  -- one that is cut gets a hash of the whole, so that two names don't become one
  SELECT CASE WHEN octet_length(base) + octet_length(suffix) <= 63 THEN base || suffix
    ELSE (SELECT left(base, n) || '_' || left(md5(base), 6) || suffix
            FROM generate_series(length(base), 0, -1) AS n
           WHERE octet_length(left(base, n)) + octet_length(suffix) <= 56 LIMIT 1)
    END::name;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_name(text, text) IS
  'internal: a name with a suffix, cut to the length of a name';

CREATE FUNCTION sagaz_ha._with_key(definition text, key text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  depth integer := 0;
  quoted text;
  c text;
BEGIN
  FOR i IN 1 .. length(definition) LOOP
    c := substr(definition, i, 1);
    IF quoted IS NOT NULL THEN
      IF c = quoted THEN quoted := NULL; END IF;
    ELSIF c IN ('"', '''') THEN
      quoted := c;
    ELSIF c = '(' THEN
      depth := depth + 1;
    ELSIF c = ')' THEN
      depth := depth - 1;
      IF depth = 0 THEN
        RETURN left(definition, i - 1) || ', ' || quote_ident(key) || substr(definition, i);
      END IF;
    END IF;
  END LOOP;
  RAISE EXCEPTION 'no list of columns in "%"', definition;
END
$$;
COMMENT ON FUNCTION sagaz_ha._with_key(text, text) IS
  'internal: the definition of an index or constraint, with one more column in its first list';

CREATE FUNCTION sagaz_ha._without_prefix(definition text, prefix text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT starts_with(definition, prefix) THEN
    RAISE EXCEPTION 'definition "%" doesn''t begin with "%"', definition, prefix;
  END IF;
  RETURN substr(definition, length(prefix) + 1);
END
$$;
COMMENT ON FUNCTION sagaz_ha._without_prefix(text, text) IS
  'internal: a definition without what its object is called and what it is on';

CREATE FUNCTION sagaz_ha._role_name(role oid) RETURNS text
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
  SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END;
END;
COMMENT ON FUNCTION sagaz_ha._role_name(oid) IS 'internal: a role in a statement';

-- The indexes of a table, as they become those of a partitioned table.
CREATE FUNCTION sagaz_ha._conversion_indexes(
  source regclass, key name,
  OUT index oid, OUT name name, OUT constraint_oid oid, OUT contype "char", OUT is_unique boolean,
  OUT has_key boolean, OUT definition text, OUT tablespace text,
  OUT columns name[], OUT not_kept text
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT i.indexrelid, c.relname, k.oid, k.contype, i.indisunique,
         a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1]),
         CASE WHEN k.oid IS NOT NULL THEN pg_get_constraintdef(k.oid)
           ELSE sagaz_ha._without_prefix(pg_get_indexdef(i.indexrelid),
                  format('CREATE %sINDEX %I ON %s%s', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END,
                         c.relname, CASE WHEN c.relkind = 'I' THEN 'ONLY ' ELSE '' END, source)) END,
         CASE WHEN c.reltablespace <> 0 THEN
           (SELECT quote_ident(spcname) FROM pg_tablespace WHERE oid = c.reltablespace) END,
         p.columns,
         -- why add_unique() can't keep it
         CASE WHEN i.indexprs IS NOT NULL OR i.indpred IS NOT NULL THEN 'it has an expression or a condition'
           WHEN i.indnullsnotdistinct THEN 'it takes nulls for equal'
           WHEN k.condeferrable THEN 'it is deferrable'
           WHEN i.indisreplident AND NOT i.indisprimary THEN 'it is the replica identity'
           WHEN NOT p.are_usual THEN 'its operator class or collation isn''t its column''s own' END
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = key
    LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
                                AND k.contype IN ('p', 'u', 'x')
    CROSS JOIN LATERAL (
      SELECT array_agg(b.attname ORDER BY n.i),
             bool_and(o.opcdefault AND o.opcmethod = 403 AND (i.indcollation::oid[])[n.i] = b.attcollation)
        FROM generate_series(0, i.indnkeyatts - 1) AS n (i)
        JOIN pg_attribute AS b ON b.attrelid = i.indrelid AND b.attnum = (i.indkey::smallint[])[n.i]
        JOIN pg_opclass AS o ON o.oid = (i.indclass::oid[])[n.i]) AS p (columns, are_usual)
   WHERE i.indrelid = source AND i.indisvalid
     -- those that this conversion has made itself
     AND NOT EXISTS (SELECT FROM pg_index AS o JOIN pg_class AS oc ON oc.oid = o.indexrelid
                      WHERE o.indrelid = source AND o.indisunique
                        AND NOT a.attnum = ANY ((o.indkey::smallint[])[0:o.indnkeyatts - 1])
                        AND c.relname IN (sagaz_ha._conversion_name(oc.relname, '_with_key'),
                                          sagaz_ha._conversion_name(oc.relname, '_alone')))
   ORDER BY k.contype = 'p' DESC NULLS LAST, c.relname;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_indexes(regclass, name) IS
  'internal: the indexes of a table, as they become those of a partitioned table';

-- A trigger's definition up to the name of its table.
CREATE FUNCTION sagaz_ha._trigger_prefix(trigger oid) RETURNS text
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT format('CREATE %sTRIGGER %I %s %s ON ', CASE WHEN t.tgconstraint <> 0 THEN 'CONSTRAINT ' ELSE '' END,
           t.tgname,
           CASE WHEN t.tgtype & 2 <> 0 THEN 'BEFORE' WHEN t.tgtype & 64 <> 0 THEN 'INSTEAD OF' ELSE 'AFTER' END,
           concat_ws(' OR ',
             CASE WHEN t.tgtype & 4 <> 0 THEN 'INSERT' END,
             CASE WHEN t.tgtype & 8 <> 0 THEN 'DELETE' END,
             CASE WHEN t.tgtype & 16 <> 0 THEN 'UPDATE'
               || coalesce((SELECT ' OF ' || string_agg(quote_ident(a.attname), ', ' ORDER BY o.n)
                              FROM unnest(t.tgattr::smallint[]) WITH ORDINALITY AS o (attnum, n)
                              JOIN pg_attribute AS a ON a.attrelid = t.tgrelid AND a.attnum = o.attnum), '') END,
             CASE WHEN t.tgtype & 32 <> 0 THEN 'TRUNCATE' END))
    FROM pg_trigger AS t WHERE t.oid = trigger;
END;
COMMENT ON FUNCTION sagaz_ha._trigger_prefix(oid) IS
  'internal: the definition of a trigger up to the name of its table';

-- A trigger on another table than its own: its statements.
CREATE FUNCTION sagaz_ha._trigger_copy(trigger oid, target text) RETURNS SETOF text
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT s.statement
    FROM pg_trigger AS t
    CROSS JOIN LATERAL (
      SELECT 1, sagaz_ha._trigger_prefix(t.oid) || target
             || sagaz_ha._without_prefix(pg_get_triggerdef(t.oid),
                                         sagaz_ha._trigger_prefix(t.oid) || t.tgrelid::regclass)
       UNION ALL
      SELECT 2, format('ALTER TABLE %s %s TRIGGER %I', target,
                       CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
                       t.tgname)
       WHERE t.tgenabled <> 'O'
       UNION ALL
      SELECT 3, format('COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, target, d)
        FROM obj_description(t.oid, 'pg_trigger') AS d WHERE d IS NOT NULL) AS s (n, statement)
   WHERE t.oid = trigger
   ORDER BY s.n;
END;
COMMENT ON FUNCTION sagaz_ha._trigger_copy(oid, text) IS
  'internal: the statements that make a table''s trigger on another table';

-- The rights to a relation, column by column, exactly as they are.
CREATE FUNCTION sagaz_ha._copy_privileges(source regclass, target text) RETURNS SETOF text
LANGUAGE sql STABLE STRICT
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT format('REVOKE ALL ON TABLE %s FROM %s', target, string_agg(r.role, ', ' ORDER BY r.role))
    FROM (SELECT sagaz_ha._role_name(c.relowner) FROM pg_class AS c WHERE c.oid = source AND c.relacl IS NOT NULL
           UNION
          SELECT sagaz_ha._role_name(x.grantee)
            FROM pg_class AS c
            JOIN pg_default_acl AS d ON d.defaclrole = c.relowner AND d.defaclobjtype = 'r'
                                    AND d.defaclnamespace IN (0, c.relnamespace)
            CROSS JOIN aclexplode(d.defaclacl) AS x
           WHERE c.oid = source) AS r (role)
  HAVING count(*) > 0
  UNION ALL
  SELECT format('GRANT %s ON TABLE %s TO %s%s', string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type),
                target, sagaz_ha._role_name(x.grantee), CASE WHEN x.is_grantable AND x.grantee <> c.relowner THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_class AS c CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS x
   WHERE c.oid = source AND NOT (c.relacl IS NULL AND x.grantee = c.relowner
                                 AND NOT EXISTS (SELECT FROM pg_default_acl AS d WHERE d.defaclrole = c.relowner))
   GROUP BY x.grantee, x.is_grantable, c.relowner
  UNION ALL
  SELECT format('GRANT %s (%I) ON TABLE %s TO %s%s', x.privilege_type, a.attname, target,
                sagaz_ha._role_name(x.grantee), CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_attribute AS a CROSS JOIN aclexplode(a.attacl) AS x
   WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped;
END;
COMMENT ON FUNCTION sagaz_ha._copy_privileges(regclass, text) IS
  'internal: the statements that give a table the rights of another one';

-- What is in the way of a conversion, each with a hint; of one that has begun, besides
-- what it has made itself.
CREATE FUNCTION sagaz_ha._conversion_obstacles(
  source regclass, key name, weaken_unique boolean, publish_via_partition_root boolean, target regclass,
  OUT problem text, OUT hint text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  version integer := current_setting('server_version_num')::integer;
  t pg_class;
  a pg_attribute;
BEGIN
  SELECT * INTO t FROM pg_class AS c WHERE c.oid = source;
  SELECT * INTO a FROM pg_attribute AS c WHERE c.attrelid = source AND c.attname = key AND c.attnum > 0;

  RETURN QUERY
  SELECT format('table %s belongs to extension %I', source, e.extname)::text,
         'Only the extension can change it.'
    FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
   WHERE d.classid = 'pg_class'::regclass AND d.objid = source AND d.deptype = 'e'
  UNION ALL
  SELECT format('table %s inherits from table %s', source, i.inhparent::regclass),
         format('ALTER TABLE %s NO INHERIT %s;', source, i.inhparent::regclass)
    FROM pg_inherits AS i WHERE i.inhrelid = source AND NOT t.relispartition
  UNION ALL
  SELECT format('table %s is a partition of table %s', source, i.inhparent::regclass),
         format('Convert table %s, or detach table %s first.', i.inhparent::regclass, source)
    FROM pg_inherits AS i WHERE i.inhrelid = source AND t.relispartition AND i.inhparent IS DISTINCT FROM target
  UNION ALL
  SELECT format('table %s inherits from table %s', i.inhrelid::regclass, source),
         format('ALTER TABLE %s NO INHERIT %s;', i.inhrelid::regclass, source)
    FROM pg_inherits AS i WHERE i.inhparent = source
  UNION ALL
  SELECT format('table %s is of type %s', source, t.reloftype::regtype), format('ALTER TABLE %s NOT OF;', source)
   WHERE t.reloftype <> 0
  UNION ALL
  SELECT format('table %s is unlogged, which a partitioned table can''t be', source),
         format('ALTER TABLE %s SET LOGGED;', source)
   WHERE t.relpersistence = 'u' AND version >= 180000
  UNION ALL
  SELECT format('column %I of table %s is generated, which a partition key can''t be', key, source),
         'Name another column as the key.'
   WHERE a.attgenerated <> ''
  UNION ALL
  SELECT format('role %I may not create tables in schema %I', pg_get_userbyid(t.relowner), n.nspname),
         format('GRANT CREATE ON SCHEMA %I TO %I;', n.nspname, pg_get_userbyid(t.relowner))
    FROM pg_namespace AS n
   WHERE n.oid = t.relnamespace AND NOT has_schema_privilege(t.relowner, n.oid, 'CREATE')
  UNION ALL
  SELECT format('the name %s.%I is taken', t.relnamespace::regnamespace, c.relname),
         format('Rename or remove %s.', c.oid::regclass)
    FROM pg_class AS c
   WHERE c.relnamespace = t.relnamespace AND c.oid IS DISTINCT FROM target
     AND c.relname IN (sagaz_ha._conversion_name(t.relname, '_sagaz_ha'), sagaz_ha._conversion_name(t.relname, '_before'))
  UNION ALL
  SELECT format('table %s has a constraint sagaz_ha_bounds already', source),
         format('ALTER TABLE %s DROP CONSTRAINT sagaz_ha_bounds;', source)
    FROM pg_constraint AS k WHERE k.conrelid = source AND k.conname = 'sagaz_ha_bounds' AND target IS NULL

  -- foreign keys
  UNION ALL
  SELECT format('foreign key %I of table %s references table %s %s', k.conname, k.conrelid::regclass, source,
                CASE WHEN k.conrelid = source THEN 'itself'
                  WHEN NOT a.attnum = ANY (k.confkey) THEN 'without column ' || quote_ident(key)
                  ELSE 'from a partitioned table, which needs PostgreSQL 18' END),
         format('Drop foreign key %I: one to a partitioned table has to contain column %I.', k.conname, key)
    FROM pg_constraint AS k
   WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0
     AND (k.conrelid = source OR NOT a.attnum = ANY (k.confkey)
          OR (version < 180000 AND (SELECT c.relkind FROM pg_class AS c WHERE c.oid = k.conrelid) = 'p'))
  UNION ALL
  SELECT format('foreign key %I of table %s to table %s is not validated', k.conname, k.conrelid::regclass, source),
         format('ALTER TABLE %s VALIDATE CONSTRAINT %I; or drop the foreign key.', k.conrelid::regclass, k.conname)
    FROM pg_constraint AS k
   WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND k.conrelid <> source AND NOT k.convalidated
  UNION ALL
  SELECT format('role %I may not reference table %s, as foreign key %I does', pg_get_userbyid(t.relowner), k.confrelid::regclass, k.conname),
         format('GRANT REFERENCES ON %s TO %I;', k.confrelid::regclass, pg_get_userbyid(t.relowner))
    FROM pg_constraint AS k
   WHERE k.conrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND NOT has_any_column_privilege(t.relowner, k.confrelid, 'REFERENCES')
  UNION ALL
  SELECT format('constraint %I of table %s is not validated', k.conname, source),
         format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', source, k.conname)
    FROM pg_constraint AS k
   WHERE k.conrelid = source AND k.contype IN ('c', 'f', 'n') AND NOT k.convalidated
     AND k.confrelid <> source AND k.conname <> 'sagaz_ha_bounds'

  -- constraints and indexes
  UNION ALL
  SELECT format('exclusion constraint %I of table %s can''t be on a partitioned table%s', k.conname, source,
                CASE WHEN version < 170000 THEN ' before PostgreSQL 17'
                  ELSE format(' unless it compares %I with =', key) END),
         format('ALTER TABLE %s DROP CONSTRAINT %I;', source, k.conname)
    FROM pg_constraint AS k
   WHERE k.conrelid = source AND k.contype = 'x'
     AND (version < 170000
          OR NOT EXISTS (SELECT FROM unnest(k.conkey, k.conexclop) AS e (attnum, operator)
                          JOIN pg_operator AS o ON o.oid = e.operator AND o.oprname = '='
                         WHERE e.attnum = a.attnum))
  UNION ALL
  SELECT format('constraint %I of table %s is NO INHERIT', k.conname, source),
         format('Make constraint %I again without NO INHERIT: it has to hold for every partition.', k.conname)
    FROM pg_constraint AS k
   WHERE k.conrelid = source AND k.contype IN ('c', 'n') AND k.connoinherit
  UNION ALL
  SELECT format('index %s of table %s is not valid', i.indexrelid::regclass, source),
         format('REINDEX INDEX CONCURRENTLY %s; or drop the index.', i.indexrelid::regclass)
    FROM pg_index AS i WHERE i.indrelid = source AND NOT i.indisvalid
  UNION ALL
  SELECT format('%s %I of table %s doesn''t contain %I, and can''t be kept across partitions, because %s%s',
                CASE x.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique constraint' ELSE 'unique index' END,
                x.name, source, key, x.not_kept, sagaz_ha._conflicting_statements(source, key)),
         format('Call the function with weaken_unique => true if two rows may differ in column %I alone.', key)
    FROM sagaz_ha._conversion_indexes(source, key) AS x
   WHERE x.is_unique AND NOT x.has_key AND NOT weaken_unique AND x.not_kept IS NOT NULL
  UNION ALL
  SELECT DISTINCT format('%s groups by %s %I of table %s, which has to get %I', pg_describe_object(d.classid, d.objid, 0),
                CASE x.contype WHEN 'p' THEN 'primary key' ELSE 'unique constraint' END, x.name, source, key),
         'Drop this view or function, or write all its columns in its GROUP BY.'
    FROM sagaz_ha._conversion_indexes(source, key) AS x
    JOIN pg_depend AS d ON d.refclassid = 'pg_constraint'::regclass AND d.refobjid = x.constraint_oid AND d.deptype = 'n'
   WHERE x.is_unique AND NOT x.has_key AND d.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass)

  -- triggers, types
  UNION ALL
  SELECT format('trigger %I of table %s has transition tables', g.tgname, source),
         format('Drop trigger %I, or make it again without REFERENCING: a partition can''t have such a trigger.', g.tgname)
    FROM pg_trigger AS g
   WHERE g.tgrelid = source AND NOT g.tgisinternal AND coalesce(g.tgoldtable, g.tgnewtable) IS NOT NULL
  UNION ALL
  SELECT format('%s uses the row type of table %s', pg_describe_object(d.classid, d.objid, d.objsubid), source),
         format('Drop %s, and make it again afterwards.', pg_describe_object(d.classid, d.objid, d.objsubid))
    FROM pg_depend AS d
   WHERE d.refclassid = 'pg_type'::regclass
     AND d.refobjid IN (t.reltype, (SELECT y.typarray FROM pg_type AS y WHERE y.oid = t.reltype))
     AND d.deptype = 'n' AND NOT (d.classid = 'pg_class'::regclass AND d.objid = source)

  -- what follows the name
  UNION ALL
  SELECT format('role %I, who owns %s, may not create in its schema', pg_get_userbyid(o.owner), o.what),
         format('GRANT CREATE ON SCHEMA %I TO %I;', n.nspname, pg_get_userbyid(o.owner))
    FROM sagaz_ha._conversion_followers(source) AS o JOIN pg_namespace AS n ON n.oid = o.namespace
   WHERE NOT has_schema_privilege(o.owner, n.oid, 'CREATE')
  UNION ALL
  SELECT format('publication %I publishes whole schemas or all tables by the name of their partitioned table', p.pubname),
         format('ALTER PUBLICATION %I SET (publish_via_partition_root = false); and call the function with publish_via_partition_root => true.', p.pubname)
    FROM pg_publication AS p
   WHERE p.pubviaroot
     AND (p.puballtables OR EXISTS (SELECT FROM pg_publication_namespace AS n
                                     WHERE n.pnpubid = p.oid AND n.pnnspid = t.relnamespace))
  UNION ALL
  SELECT format('publication %I belongs to role %I, who doesn''t own table %s', p.pubname, pg_get_userbyid(p.pubowner), source),
         format('ALTER PUBLICATION %I OWNER TO %I;', p.pubname, pg_get_userbyid(t.relowner))
    FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid
   WHERE r.prrelid = source AND NOT pg_has_role(p.pubowner, t.relowner, 'USAGE');
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_obstacles(regclass, name, boolean, boolean, regclass) IS
  'internal: what is in the way of a conversion, each with a hint';

-- Statements that name the columns of a unique constraint in ON CONFLICT.
CREATE FUNCTION sagaz_ha._conflicting_statements(source regclass, key name) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  schema name;
  found text;
BEGIN
  SELECT n.nspname INTO schema
    FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements';
  IF schema IS NULL THEN
    RETURN '; a statement with ON CONFLICT on its columns would fail';
  END IF;
  BEGIN
    EXECUTE format('SELECT string_agg(s.q, ''; '') FROM ('
                   'SELECT DISTINCT left(regexp_replace(query, ''\s+'', '' '', ''g''), 200) AS q'
                   '  FROM %I.pg_stat_statements'
                   ' WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())'
                   '   AND query ~* ''\mon\s+conflict\M'' AND query !~* ''\mon\s+conflict\s+do\s+nothing\M'''
                   '   AND position(lower($1) in lower(query)) > 0 LIMIT 10) AS s', schema)
       INTO found USING (SELECT c.relname::text FROM pg_class AS c WHERE c.oid = source);
  EXCEPTION WHEN object_not_in_prerequisite_state OR undefined_table THEN
    found := NULL;
  END;
  RETURN coalesce('; these statements would fail: ' || found, '');
END
$$;
COMMENT ON FUNCTION sagaz_ha._conflicting_statements(regclass, name) IS
  'internal: statements in pg_stat_statements that would fail with a weaker unique constraint';

-- What refers to a table by its OID and has to refer to another one of its name:
-- views, materialized views, rules and policies of other tables, and functions
-- whose body the server has parsed.
CREATE FUNCTION sagaz_ha._conversion_followers(
  source regclass,
  OUT what text, OUT owner oid, OUT namespace oid, OUT relation oid, OUT statement text
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT DISTINCT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' ELSE 'a rule of table ' END
           || c.oid::regclass, c.relowner, c.relnamespace, c.oid,
         CASE WHEN r.rulename <> '_RETURN' THEN
             'CREATE OR REPLACE RULE ' || sagaz_ha._without_prefix(pg_get_ruledef(r.oid), 'CREATE RULE ')
           WHEN c.relkind = 'm' THEN
             format('SELECT sagaz_ha._replace_query(%L, %L)', c.oid::regclass::text, pg_get_viewdef(c.oid))
           ELSE format('CREATE OR REPLACE VIEW %s%s AS %s', c.oid::regclass,
                  coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', ''), pg_get_viewdef(c.oid)) END
    FROM pg_depend AS d
    JOIN pg_rewrite AS r ON r.oid = d.objid
    JOIN pg_class AS c ON c.oid = r.ev_class
   WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid = source AND d.deptype = 'n' AND c.oid <> source
  UNION ALL
  SELECT DISTINCT 'function ' || p.oid::regprocedure, p.proowner, p.pronamespace, NULL::oid, pg_get_functiondef(p.oid)
    FROM pg_depend AS d JOIN pg_proc AS p ON p.oid = d.objid
   WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid = source AND d.deptype = 'n' AND p.prosqlbody IS NOT NULL
  UNION ALL
  SELECT DISTINCT format('policy %I of table %s', o.polname, o.polrelid::regclass), c.relowner, c.relnamespace, c.oid,
         format('ALTER POLICY %I ON %s%s%s', o.polname, o.polrelid::regclass,
                ' USING (' || pg_get_expr(o.polqual, o.polrelid) || ')',
                ' WITH CHECK (' || pg_get_expr(o.polwithcheck, o.polrelid) || ')')
    FROM pg_depend AS d
    JOIN pg_policy AS o ON o.oid = d.objid
    JOIN pg_class AS c ON c.oid = o.polrelid
   WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid = source AND d.deptype = 'n' AND o.polrelid <> source;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_followers(regclass) IS
  'internal: what has to follow a table''s name to another table, and how';

-- What the statements of a step under the short lock take locks on besides: tables
-- that the foreign keys name, and what follows the name. In the order of all.
CREATE FUNCTION sagaz_ha._conversion_companions(source regclass, phase text) RETURNS SETOF oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT o.relation
    FROM (SELECT k.confrelid FROM pg_constraint AS k
           WHERE k.conrelid = source AND k.contype = 'f' AND phase IN ('attaching', 'undoing', 'returning')
           UNION
          SELECT k.conrelid FROM pg_constraint AS k
           WHERE k.confrelid = source AND k.contype = 'f' AND phase IN ('renaming', 'returning')
           UNION
          SELECT f.relation FROM sagaz_ha._conversion_followers(source) AS f
           WHERE f.relation IS NOT NULL AND phase IN ('renaming', 'returning')) AS o (relation)
   WHERE o.relation <> source
   ORDER BY o.relation;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_companions(regclass, text) IS
  'internal: what a step of a conversion locks besides the table, in the order in which all take it';

-- The statements of a short lock begin so. The worker takes the locks itself,
-- at a moment when they delay nobody: a statement that nobody runs is for a
-- person with psql.
CREATE FUNCTION sagaz_ha._conversion_lock(phase text, tables text[])
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT phase, NULL::oid, s.lock, s.statement, s.meaning
    FROM (VALUES
      (NULL, 'BEGIN', NULL),
      ('SHARE UPDATE EXCLUSIVE', format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', array_to_string(tables, ', ONLY ')),
       'ends an autovacuum of the table; no reader or writer notices'),
      (NULL, format('SET LOCAL lock_timeout = %L', coalesce(current_setting('sagaz_ha.conversion_lock_timeout', true), '100ms')),
       'if the next lock takes longer, this transaction fails: run it again'),
      ('ACCESS EXCLUSIVE', format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', array_to_string(tables, ', ONLY ')),
       'readers and writers wait from here to COMMIT')) AS s (lock, statement, meaning);
END;
COMMENT ON FUNCTION sagaz_ha._conversion_lock(text, text[]) IS
  'internal: how the statements of a short lock begin';

-- Making the partitioned table, empty, beside the table.
CREATE FUNCTION sagaz_ha._conversion_building(source regclass, target text, key name)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  t pg_class;
  schema text;
BEGIN
  SELECT * INTO t FROM pg_class AS c WHERE c.oid = source;
  schema := t.relnamespace::regnamespace::text;
  RETURN QUERY
  SELECT 'building', t.relowner, 'ACCESS SHARE on ' || source, s.statement, s.meaning
    FROM (
      SELECT 1, 0::bigint, format('CREATE %sTABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING STORAGE'
                       ' INCLUDING COMPRESSION INCLUDING CONSTRAINTS INCLUDING COMMENTS) PARTITION BY RANGE (%I)%s%s',
                       CASE t.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END, target, source, key,
                       (SELECT format(' USING %I', m.amname) FROM pg_am AS m
                         WHERE m.oid = t.relam AND m.amname <> 'heap'
                           AND current_setting('server_version_num')::integer >= 170000),
                       (SELECT format(' TABLESPACE %I', p.spcname) FROM pg_tablespace AS p WHERE p.oid = t.reltablespace)),
             'the partitioned table, empty, under a name of its own'
      UNION ALL
      SELECT 1, 1, format('ALTER TABLE %s OWNER TO %s', target, sagaz_ha._role_name(t.relowner)), NULL
      UNION ALL
      SELECT 2, q.column_number, format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s.%I'
                       ' INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %sCYCLE)',
                       target, q.column_name, CASE q.identity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
                       schema, sagaz_ha._conversion_name(q.name, '_parent'),
                       p.seqincrement, p.seqmin, p.seqmax, p.seqstart, p.seqcache, CASE WHEN p.seqcycle THEN '' ELSE 'NO ' END),
             NULL
        FROM sagaz_ha._conversion_sequences(source) AS q JOIN pg_sequence AS p ON p.seqrelid = q.sequence
       WHERE q.identity <> ''
      UNION ALL
      SELECT 3, q.column_number, format('GRANT %s ON SEQUENCE %s.%I TO %s', string_agg(x.privilege_type, ', '),
                       schema, sagaz_ha._conversion_name(q.name, '_parent'), sagaz_ha._role_name(x.grantee)), NULL
        FROM sagaz_ha._conversion_sequences(source) AS q
        JOIN pg_class AS c ON c.oid = q.sequence
        CROSS JOIN aclexplode(c.relacl) AS x
       WHERE q.identity <> '' AND x.grantee <> c.relowner
       GROUP BY q.column_number, q.name, x.grantee
      UNION ALL
      SELECT 4, a.attnum, format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', target, a.attname, a.attstattarget), NULL
        FROM pg_attribute AS a
       WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
      UNION ALL
      -- the server may keep options of its own there, which are no user's
      SELECT 5, a.attnum, format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', target, a.attname, string_agg(o, ', ')), NULL
        FROM pg_attribute AS a CROSS JOIN unnest(a.attoptions) AS o
       WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped AND starts_with(o, 'n_distinct')
       GROUP BY a.attnum, a.attname
      UNION ALL
      SELECT 7, row_number() OVER (), format('SELECT sagaz_ha._clone_index(%L, %L, %L)', x.index::regclass, target,
                                             sagaz_ha._conversion_name(x.name, '_parent')),
             CASE WHEN x.constraint_oid IS NULL THEN '' ELSE 'CONSTRAINT ... ' END || x.definition
        FROM sagaz_ha._conversion_indexes(source, key) AS x
       WHERE x.has_key OR NOT x.is_unique
      UNION ALL
      SELECT 8, x.oid::bigint, sagaz_ha._without_suffix(format('CREATE STATISTICS %s.%I', schema, sagaz_ha._conversion_name(x.stxname, '_parent'))
                       || sagaz_ha._without_prefix(pg_get_statisticsobjdef(x.oid),
                            format('CREATE STATISTICS %s.%I', x.stxnamespace::regnamespace, x.stxname)),
                       ' FROM ' || source) || ' FROM ' || target, NULL
        FROM pg_statistic_ext AS x WHERE x.stxrelid = source
      UNION ALL
      SELECT 9, 0, format('ALTER STATISTICS %s.%I OWNER TO %s', schema, sagaz_ha._conversion_name(x.stxname, '_parent'),
                       sagaz_ha._role_name(t.relowner)), NULL
        FROM pg_statistic_ext AS x WHERE x.stxrelid = source
      UNION ALL
      SELECT 9, x.oid::bigint, format('ALTER STATISTICS %s.%I SET STATISTICS %s', schema,
                       sagaz_ha._conversion_name(x.stxname, '_parent'), x.stxstattarget), NULL
        FROM pg_statistic_ext AS x WHERE x.stxrelid = source AND x.stxstattarget >= 0
      UNION ALL
      SELECT 10, d.objsubid, CASE d.classoid
               WHEN 'pg_class'::regclass THEN format('COMMENT ON TABLE %s IS %L', target, d.description)
               WHEN 'pg_constraint'::regclass THEN
                 (SELECT format('COMMENT ON CONSTRAINT %I ON %s IS %L', sagaz_ha._conversion_name(x.name, '_parent'), target, d.description)
                    FROM sagaz_ha._conversion_indexes(source, key) AS x WHERE x.constraint_oid = d.objoid AND x.has_key)
               ELSE (SELECT format('COMMENT ON STATISTICS %s.%I IS %L', schema, sagaz_ha._conversion_name(x.stxname, '_parent'), d.description)
                       FROM pg_statistic_ext AS x WHERE x.oid = d.objoid) END, NULL
        FROM pg_description AS d
       WHERE (d.classoid, d.objoid) IN (SELECT 'pg_class'::regclass::oid, source::oid
                                        UNION ALL
                                        SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint AS k
                                         WHERE k.conrelid = source AND k.contype IN ('p', 'u', 'x')
                                        UNION ALL
                                        SELECT 'pg_statistic_ext'::regclass, x.oid FROM pg_statistic_ext AS x WHERE x.stxrelid = source)
         AND d.objsubid = 0
      UNION ALL
      SELECT 11, d.objoid::bigint, format('COMMENT ON INDEX %s.%I IS %L', schema, sagaz_ha._conversion_name(x.name, '_parent'), d.description), NULL
        FROM sagaz_ha._conversion_indexes(source, key) AS x
        JOIN pg_description AS d ON d.classoid = 'pg_class'::regclass AND d.objoid = x.index AND d.objsubid = 0
       WHERE x.has_key OR NOT x.is_unique
      UNION ALL
      SELECT 12, 0, format('SECURITY LABEL FOR %I ON %s IS %L', l.provider,
                       CASE l.objsubid WHEN 0 THEN 'TABLE ' || target
                         ELSE format('COLUMN %s.%I', target, (SELECT a.attname FROM pg_attribute AS a
                                                               WHERE a.attrelid = source AND a.attnum = l.objsubid)) END, l.label), NULL
        FROM pg_seclabel AS l WHERE l.classoid = 'pg_class'::regclass AND l.objoid = source
      UNION ALL
      SELECT 13, 0, format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target), NULL WHERE t.relrowsecurity
      UNION ALL
      SELECT 14, 0, format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target), NULL WHERE t.relforcerowsecurity
      UNION ALL
      SELECT 15, 0, p, NULL FROM sagaz_ha._copy_privileges(source, target) AS p
      UNION ALL
      SELECT 16, 0, format('ALTER TABLE %s REPLICA IDENTITY %s', target, CASE t.relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END), NULL
       WHERE t.relreplident IN ('f', 'n')
      UNION ALL
      SELECT 16, 0, format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', target, sagaz_ha._conversion_name(x.name, '_parent')), NULL
        FROM sagaz_ha._conversion_indexes(source, key) AS x JOIN pg_index AS i ON i.indexrelid = x.index
       WHERE t.relreplident = 'i' AND i.indisreplident AND x.has_key
      UNION ALL
      SELECT 17, g.oid::bigint * 10 + c.n, c.statement, NULL
        FROM pg_trigger AS g
        CROSS JOIN sagaz_ha._trigger_copy(g.oid, target) WITH ORDINALITY AS c (statement, n)
       WHERE g.tgrelid = source AND NOT g.tgisinternal AND g.tgtype & 1 = 0) AS s (part, n, statement, meaning)
   WHERE s.statement IS NOT NULL
   ORDER BY s.part, s.n;
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_building(regclass, text, name) IS
  'internal: the statements that make the partitioned table beside a table';

CREATE FUNCTION sagaz_ha._without_suffix(definition text, suffix text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF right(definition, length(suffix)) <> suffix THEN
    RAISE EXCEPTION 'definition "%" doesn''t end with "%"', definition, suffix;
  END IF;
  RETURN left(definition, -length(suffix));
END
$$;
COMMENT ON FUNCTION sagaz_ha._without_suffix(text, text) IS
  'internal: a definition without what it is on';

-- TABLESPACE comes before WHERE, which an index's definition ends with.
CREATE FUNCTION sagaz_ha._with_tablespace(definition text, tablespace text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  depth integer := 0;
  quoted text;
  c text;
BEGIN
  IF tablespace IS NULL THEN
    RETURN definition;
  END IF;
  FOR i IN 1 .. length(definition) LOOP
    c := substr(definition, i, 1);
    IF quoted IS NOT NULL THEN
      IF c = quoted THEN quoted := NULL; END IF;
    ELSIF c IN ('"', '''') THEN quoted := c;
    ELSIF c = '(' THEN depth := depth + 1;
    ELSIF c = ')' THEN depth := depth - 1;
    ELSIF depth = 0 AND substr(definition, i, 7) = ' WHERE ' THEN
      RETURN left(definition, i - 1) || ' TABLESPACE ' || tablespace || substr(definition, i);
    END IF;
  END LOOP;
  RETURN definition || ' TABLESPACE ' || tablespace;
END
$$;
COMMENT ON FUNCTION sagaz_ha._with_tablespace(text, text) IS
  'internal: the definition of an index, in a tablespace';

-- The sequences of serial ('') and identity ('a', 'd') columns.
CREATE FUNCTION sagaz_ha._conversion_sequences(
  source regclass,
  OUT sequence oid, OUT name name, OUT column_name name, OUT column_number bigint, OUT identity "char"
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT c.oid, c.relname, a.attname, a.attnum, a.attidentity
    FROM pg_depend AS d
    JOIN pg_class AS c ON c.oid = d.objid AND c.relkind = 'S'
    JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid = source AND d.deptype IN ('a', 'i');
END;
COMMENT ON FUNCTION sagaz_ha._conversion_sequences(regclass) IS
  'internal: the sequences of a table''s serial and identity columns';

-- What has to be said again once another table has the name: these are the texts
-- as they are before.
CREATE FUNCTION sagaz_ha._conversion_named(source regclass, old_name text, publish_via_partition_root boolean DEFAULT false)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  t pg_class;
BEGIN
  SELECT * INTO t FROM pg_class AS c WHERE c.oid = source;
  RETURN QUERY
  SELECT 'renaming', s.run_as, s.lock, s.statement, s.meaning
    FROM (
      SELECT 6, o.oid::bigint, t.relowner, NULL, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', o.polname, source,
                           CASE WHEN o.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                           CASE o.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                           (SELECT string_agg(sagaz_ha._role_name(r), ', ') FROM unnest(o.polroles) AS r),
                           ' USING (' || pg_get_expr(o.polqual, o.polrelid) || ')',
                           ' WITH CHECK (' || pg_get_expr(o.polwithcheck, o.polrelid) || ')'), NULL
        FROM pg_policy AS o WHERE o.polrelid = source
      UNION ALL
      SELECT 7, o.oid::bigint, t.relowner, NULL, format('COMMENT ON POLICY %I ON %s IS %L', o.polname, source, d), NULL
        FROM pg_policy AS o CROSS JOIN obj_description(o.oid, 'pg_policy') AS d WHERE o.polrelid = source AND d IS NOT NULL
      UNION ALL
      SELECT 8, r.oid::bigint * 10 + s.n, t.relowner, NULL, s.statement, NULL
        FROM pg_rewrite AS r
        CROSS JOIN LATERAL (
          SELECT 1, pg_get_ruledef(r.oid)
          UNION ALL
          SELECT 2, format('ALTER TABLE %s %s RULE %I', source, CASE r.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, r.rulename)
           WHERE r.ev_enabled <> 'O'
          UNION ALL
          SELECT 3, format('COMMENT ON RULE %I ON %s IS %L', r.rulename, source, d)
            FROM obj_description(r.oid, 'pg_rewrite') AS d WHERE d IS NOT NULL) AS s (n, statement)
       WHERE r.ev_class = source
      UNION ALL
      SELECT 9, row_number() OVER (), f.owner, 'ACCESS EXCLUSIVE on it', f.statement, f.what || ' follows the name'
        FROM sagaz_ha._conversion_followers(source) AS f
      UNION ALL
      -- publications
      SELECT 10, p.oid::bigint * 10 + s.n, p.pubowner, NULL, s.statement, s.meaning
        FROM pg_publication AS p
        LEFT JOIN pg_publication_rel AS r ON r.prpubid = p.oid AND r.prrelid = source
        CROSS JOIN LATERAL (
          SELECT 1, format('ALTER PUBLICATION %I SET (publish_via_partition_root = true)', p.pubname),
                 'holds for every partitioned table of the publication'
           WHERE publish_via_partition_root AND NOT p.pubviaroot
          UNION ALL
          SELECT 2, format('ALTER PUBLICATION %I ADD TABLE %s%s%s', p.pubname, source,
                           (SELECT ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')'
                              FROM pg_attribute AS a WHERE a.attrelid = source AND a.attnum = ANY (r.prattrs::smallint[])),
                           ' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')'),
                 CASE WHEN NOT p.pubviaroot AND NOT publish_via_partition_root
                   THEN 'a subscriber that has no table of the partition''s name stops: call it with publish_via_partition_root => true' END
           WHERE r.oid IS NOT NULL
          UNION ALL
          SELECT 3, format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, old_name), NULL
           WHERE r.oid IS NOT NULL) AS s (n, statement, meaning)
       WHERE r.oid IS NOT NULL OR p.puballtables
          OR EXISTS (SELECT FROM pg_publication_namespace AS n WHERE n.pnpubid = p.oid AND n.pnnspid = t.relnamespace)
      UNION ALL
      -- foreign keys of other tables
      SELECT 11, k.oid::bigint * 10 + s.n, c.relowner, s.lock || k.conrelid::regclass, s.statement, s.meaning
        FROM pg_constraint AS k
        JOIN pg_class AS c ON c.oid = k.conrelid
        CROSS JOIN LATERAL (
          SELECT 2, 'SHARE ROW EXCLUSIVE on ', format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID', k.conrelid::regclass, k.conname,
                       regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', '')), 'holds for new rows at once'
          UNION ALL
          SELECT 3, NULL, format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, k.conrelid::regclass, d), NULL
            FROM obj_description(k.oid, 'pg_constraint') AS d WHERE d IS NOT NULL) AS s (n, lock, statement, meaning)
       WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND k.conrelid <> source) AS s (part, n, run_as, lock, statement, meaning)
   ORDER BY s.part, s.n;
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_named(regclass, text, boolean) IS
  'internal: the statements that give what is found by a table''s name to the table that has it now';

-- The indexes that the first partition needs besides. A primary key gets the key
-- in any case, because a partition can have but one; its columns alone stay unique
-- by another index, since its own goes with its constraint.
CREATE FUNCTION sagaz_ha._conversion_builds(
  source regclass, key name, weaken_unique boolean, OUT name name, OUT statement text, OUT meaning text
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT b.name, format('CREATE UNIQUE INDEX CONCURRENTLY %I ON %s%s', b.name, source,
                        sagaz_ha._with_tablespace(b.definition, x.tablespace)), b.meaning
    FROM sagaz_ha._conversion_indexes(source, key) AS x
    CROSS JOIN LATERAL (
      SELECT sagaz_ha._without_prefix(pg_get_indexdef(x.index), format('CREATE UNIQUE INDEX %I ON %s', x.name, source))) AS d (definition)
    CROSS JOIN LATERAL (
      SELECT sagaz_ha._conversion_name(x.name, '_with_key'), sagaz_ha._with_key(d.definition, key),
             format('takes the place of %I in the end', x.name)
       WHERE weaken_unique OR x.contype = 'p'
      UNION ALL
      SELECT sagaz_ha._conversion_name(x.name, '_alone'), d.definition, format('keeps the columns of %I unique', x.name)
       WHERE NOT weaken_unique AND x.contype = 'p') AS b (name, definition, meaning)
   WHERE x.is_unique AND NOT x.has_key;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_builds(regclass, name, boolean) IS
  'internal: the statements that make indexes for a conversion, without a lock that is noticed';

-- Everything after the partitioned table was made, step by step.
CREATE FUNCTION sagaz_ha._conversion_steps(
  source regclass, target text, key name, upper_bound text, weaken_unique boolean, publish_via_partition_root boolean
) RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  version integer := current_setting('server_version_num')::integer;
  exclusive text := 'ACCESS EXCLUSIVE on ' || source;
  t pg_class;
  schema text;
  old_name text;
  target_name name;
BEGIN
  SELECT * INTO t FROM pg_class AS c WHERE c.oid = source;
  schema := t.relnamespace::regnamespace::text;
  old_name := schema || '.' || quote_ident(sagaz_ha._conversion_name(t.relname, '_before'));
  target_name := sagaz_ha._conversion_name(t.relname, '_sagaz_ha');

  RETURN QUERY SELECT * FROM sagaz_ha._conversion_check(source, ARRAY[source::text], key, 'MINVALUE', upper_bound);

  RETURN QUERY
  SELECT 'indexing', t.relowner, 'SHARE UPDATE EXCLUSIVE on ' || source, b.statement, b.meaning
    FROM sagaz_ha._conversion_builds(source, key, weaken_unique) AS b;

  RETURN QUERY
  SELECT 'linking', s.run_as, s.lock, s.statement, s.meaning
    FROM (
      SELECT 1 AS part, 0::bigint AS n, NULL::oid AS run_as, NULL AS lock, 'BEGIN' AS statement, NULL AS meaning
      UNION ALL
      SELECT 2, 0, NULL, NULL, format('SET LOCAL lock_timeout = %L', current_setting('sagaz_ha.conversion_lock_timeout', true)), NULL
      UNION ALL
      SELECT 3, k.oid::bigint, t.relowner, 'SHARE ROW EXCLUSIVE on ' || k.confrelid::regclass,
             format('ALTER TABLE %s ADD CONSTRAINT %I %s', target, k.conname, pg_get_constraintdef(k.oid)),
             'the partitioned table is empty, so nothing is read'
        FROM pg_constraint AS k
       WHERE k.conrelid = source AND k.contype = 'f' AND k.conparentid = 0
         -- made before the bound came near, and it began again
         AND NOT EXISTS (SELECT FROM pg_constraint AS o WHERE o.conrelid = to_regclass(target) AND o.conname = k.conname)
      UNION ALL
      SELECT 4, k.oid::bigint, t.relowner, NULL,
             format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, target, d), NULL
        FROM pg_constraint AS k CROSS JOIN obj_description(k.oid, 'pg_constraint') AS d
       WHERE k.conrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND d IS NOT NULL
      UNION ALL
      SELECT 5, 0, NULL, NULL, 'COMMIT', NULL) AS s
   WHERE EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = source AND k.contype = 'f' AND k.conparentid = 0)
   ORDER BY s.part, s.n;

  RETURN QUERY SELECT * FROM sagaz_ha._conversion_lock('attaching', ARRAY[source::text]);
  RETURN QUERY
  SELECT 'attaching', t.relowner, s.lock, s.statement, s.meaning
    FROM (
      SELECT 1 AS part, 0::bigint AS n, NULL AS lock, format('SELECT sagaz_ha._require_quick_attach(%L, %L)', source, target) AS statement,
             'fails if the next statements would read or build anything' AS meaning
      UNION ALL
      SELECT 2, q.column_number * 10 + s.n, exclusive, s.statement, NULL
        FROM sagaz_ha._conversion_sequences(source) AS q
        CROSS JOIN LATERAL (VALUES
          (1, format('SELECT pg_catalog.setval(%L, s.last_value, s.is_called) FROM %s AS s',
                     schema || '.' || quote_ident(sagaz_ha._conversion_name(q.name, '_parent')), q.sequence::regclass)),
          (2, format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', source, q.column_name)),
          (3, format('ALTER SEQUENCE %s.%I RENAME TO %I', schema, sagaz_ha._conversion_name(q.name, '_parent'), q.name))) AS s (n, statement)
       WHERE version >= 170000 AND q.identity <> ''
      UNION ALL
      SELECT 3, g.oid::bigint * 10, exclusive, format('DROP TRIGGER %I ON %s', g.tgname, source), 'the partitioned table gets it, and so gives it to each partition'
        FROM pg_trigger AS g WHERE g.tgrelid = source AND NOT g.tgisinternal AND g.tgtype & 1 = 1
      UNION ALL
      SELECT 3, g.oid::bigint * 10 + c.n, NULL, c.statement, NULL
        FROM pg_trigger AS g CROSS JOIN sagaz_ha._trigger_copy(g.oid, target) WITH ORDINALITY AS c (statement, n)
       WHERE g.tgrelid = source AND NOT g.tgisinternal AND g.tgtype & 1 = 1
      UNION ALL
      SELECT 4, 0, exclusive, format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (MINVALUE) TO (%s)', target, source, upper_bound),
             'the CHECK implies the bounds, so nothing is read') AS s
   ORDER BY s.part, s.n;
  RETURN QUERY SELECT 'attaching', NULL::oid, NULL, 'COMMIT', NULL;

  RETURN QUERY SELECT 'analyzing', t.relowner, 'SHARE UPDATE EXCLUSIVE on ' || target, 'ANALYZE ' || target,
    'without statistics the first queries would read everything';

  RETURN QUERY SELECT * FROM sagaz_ha._conversion_lock('renaming', ARRAY[source::text, target]);
  RETURN QUERY
  SELECT 'renaming', s.run_as, coalesce(s.lock, exclusive), s.statement, s.meaning
    FROM (
      SELECT 0 AS part, 0::bigint AS n, t.relowner AS run_as, NULL AS lock, format('SELECT sagaz_ha._require_attached(%L, %L)', source, target) AS statement,
             'fails if the table is no partition yet' AS meaning
      UNION ALL
      SELECT 0, k.oid::bigint, c.relowner, 'ACCESS EXCLUSIVE on ' || k.conrelid::regclass,
             format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname), 'it is made again, to the partitioned table'
        FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
       WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND k.conrelid <> source
      UNION ALL
      -- TRUNCATE fires those of each partition as well
      SELECT 0, g.oid::bigint, t.relowner, NULL, format('DROP TRIGGER %I ON %s', g.tgname, source), 'the partitioned table has it'
        FROM pg_trigger AS g WHERE g.tgrelid = source AND NOT g.tgisinternal AND g.tgtype & 33 = 32
      UNION ALL
      -- sequences
      SELECT 1, q.column_number * 10 + s.n, t.relowner, NULL, s.statement, NULL
        FROM sagaz_ha._conversion_sequences(source) AS q
        CROSS JOIN LATERAL (VALUES
          (1, format('SELECT pg_catalog.setval(%L, s.last_value, s.is_called) FROM %s AS s',
                     schema || '.' || quote_ident(sagaz_ha._conversion_name(q.name, '_parent')), q.sequence::regclass)),
          (2, format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', source, q.column_name)),
          (3, format('ALTER SEQUENCE %s.%I RENAME TO %I', schema, sagaz_ha._conversion_name(q.name, '_parent'), q.name))) AS s (n, statement)
       WHERE version < 170000 AND q.identity <> ''
      UNION ALL
      SELECT 1, q.column_number * 10, t.relowner, NULL,
             format('ALTER SEQUENCE %s OWNED BY %s.%I', q.sequence::regclass, target, q.column_name), 'or else it would go with the old partition'
        FROM sagaz_ha._conversion_sequences(source) AS q WHERE q.identity = ''
      UNION ALL
      -- indexes whose rows are unique: the name is given to those of the partitioned table
      SELECT 2, x.index::bigint * 10 + s.n, t.relowner, NULL, s.statement, s.meaning
        FROM sagaz_ha._conversion_indexes(source, key) AS x
        LEFT JOIN pg_constraint AS k ON k.oid = x.constraint_oid
        CROSS JOIN LATERAL (
          SELECT CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END AS kind,
                 CASE WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END
                 || CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END AS deferrable) AS p
        CROSS JOIN LATERAL (
          SELECT 1, format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s USING INDEX %I%s', source, x.name,
                           sagaz_ha._conversion_name(x.name, '_before'), p.kind, sagaz_ha._conversion_name(x.name, '_with_key'), p.deferrable),
                 CASE WHEN weaken_unique THEN format('rows that differ in %I only may now have the same key', key) END
           WHERE k.oid IS NOT NULL
          UNION ALL
          SELECT 2, format('ALTER TABLE %s ADD CONSTRAINT %I %s%s', target, x.name, sagaz_ha._with_key(x.definition, key),
                           ' USING INDEX TABLESPACE ' || x.tablespace), NULL
           WHERE k.oid IS NOT NULL
          UNION ALL
          SELECT 3, format('COMMENT ON CONSTRAINT %I ON %s IS %L', x.name, target, d), NULL
            FROM obj_description(k.oid, 'pg_constraint') AS d WHERE d IS NOT NULL
          UNION ALL
          SELECT 1, format('DROP INDEX %s.%I', schema, x.name), format('rows that differ in %I only may now be there', key)
           WHERE k.oid IS NULL
          UNION ALL
          SELECT 2, format('CREATE UNIQUE INDEX %I ON %s%s', x.name, target,
                           sagaz_ha._with_tablespace(sagaz_ha._with_key(x.definition, key), x.tablespace)), NULL
           WHERE k.oid IS NULL
          UNION ALL
          SELECT 3, format('ALTER INDEX %s.%I RENAME TO %I', schema, sagaz_ha._conversion_name(x.name, '_with_key'),
                           sagaz_ha._conversion_name(x.name, '_before')), NULL
           WHERE k.oid IS NULL
          UNION ALL
          SELECT 4, format('COMMENT ON INDEX %s.%I IS %L', schema, x.name, d), NULL
            FROM obj_description(x.index, 'pg_class') AS d WHERE d IS NOT NULL
          UNION ALL
          SELECT 5, format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', o.relation, o.index), NULL
            FROM pg_index AS i
            CROSS JOIN (VALUES (source::text, sagaz_ha._conversion_name(x.name, '_before')), (target, x.name)) AS o (relation, index)
           WHERE i.indexrelid = x.index AND i.indisreplident AND t.relreplident = 'i') AS s (n, statement, meaning)
       WHERE x.is_unique AND NOT x.has_key AND (weaken_unique OR x.contype = 'p')
      UNION ALL
      SELECT 3, x.index::bigint * 10 + s.n, t.relowner, 'SHARE UPDATE EXCLUSIVE on the index', s.statement, NULL
        FROM sagaz_ha._conversion_indexes(source, key) AS x
        CROSS JOIN LATERAL (VALUES
          (1, format('ALTER INDEX %s.%I RENAME TO %I', schema, x.name, sagaz_ha._conversion_name(x.name, '_before'))),
          (2, format('ALTER INDEX %s.%I RENAME TO %I', schema, sagaz_ha._conversion_name(x.name, '_parent'), x.name))) AS s (n, statement)
       WHERE x.has_key OR NOT x.is_unique
      UNION ALL
      SELECT 4, x.oid::bigint * 10 + s.n, s.run_as, NULL, s.statement, NULL
        FROM pg_statistic_ext AS x
        CROSS JOIN LATERAL (VALUES
          (1, x.stxowner, format('ALTER STATISTICS %s.%I RENAME TO %I', x.stxnamespace::regnamespace, x.stxname, sagaz_ha._conversion_name(x.stxname, '_before'))),
          (2, t.relowner, format('ALTER STATISTICS %s.%I RENAME TO %I', schema, sagaz_ha._conversion_name(x.stxname, '_parent'), x.stxname))) AS s (n, run_as, statement)
       WHERE x.stxrelid = source
      UNION ALL
      -- the two renames
      SELECT 5, 1, t.relowner, NULL, format('ALTER TABLE %s RENAME TO %I', source, sagaz_ha._conversion_name(t.relname, '_before')),
             'it is the first partition from now on'
      UNION ALL
      SELECT 5, 2, t.relowner, NULL, format('ALTER TABLE %s RENAME TO %I', target, t.relname), 'prepared statements and pooled sessions go on'
      UNION ALL
      -- by the name that the partitioned table has by now
      SELECT 5, 2 + x.index::bigint, t.relowner, NULL, format('SELECT sagaz_ha._keep_unique(%L, %L)', source, x.columns),
             format('keeps %s unique, across partitions%s', x.name, sagaz_ha._conflicting_statements(source, key))
        FROM sagaz_ha._conversion_indexes(source, key) AS x
       WHERE x.is_unique AND NOT x.has_key AND NOT weaken_unique
      UNION ALL
      SELECT 6, c.n, c.run_as, c.lock, c.statement, c.meaning
        FROM sagaz_ha._conversion_named(source, old_name, publish_via_partition_root) WITH ORDINALITY
          AS c (phase, run_as, lock, statement, meaning, n)) AS s
   ORDER BY s.part, s.n;
  RETURN QUERY SELECT 'renaming', NULL::oid, NULL, 'COMMIT', NULL;

  RETURN QUERY
  SELECT 'finishing', c.relowner, 'SHARE UPDATE EXCLUSIVE on ' || k.conrelid::regclass,
         format('ALTER TABLE %s VALIDATE CONSTRAINT %I', k.conrelid::regclass, k.conname), NULL
    FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
   WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND k.conrelid <> source;
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_steps(regclass, text, name, text, boolean, boolean) IS
  'internal: the statements that turn a table into the first partition of a partitioned table';

-- The CHECK that implies the bounds.
CREATE FUNCTION sagaz_ha._conversion_check(source regclass, tables text[], key name, lower_bound text, upper_bound text)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  owner oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = source);
BEGIN
  RETURN QUERY SELECT * FROM sagaz_ha._conversion_lock('checking', tables);
  RETURN QUERY SELECT 'checking', owner, 'ACCESS EXCLUSIVE on ' || source,
    format('ALTER TABLE ONLY %s ADD CONSTRAINT sagaz_ha_bounds CHECK (%I IS NOT NULL AND %s%I < %s) NOT VALID',
           source, key, CASE WHEN lower_bound <> 'MINVALUE' THEN format('%I >= %s AND ', key, lower_bound) ELSE '' END,
           key, upper_bound),
    'a row without a time, or from this bound on, is refused until the end';
  RETURN QUERY SELECT 'checking', NULL::oid, NULL, 'COMMIT', NULL;
  RETURN QUERY SELECT 'validating', owner, 'SHARE UPDATE EXCLUSIVE on ' || source,
    format('ALTER TABLE ONLY %s VALIDATE CONSTRAINT sagaz_ha_bounds', source), 'reads the table once';
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_check(regclass, text[], name, text, text) IS
  'internal: the statements that make the constraint which implies a partition''s bounds';

-- A default or catch-all partition gets bounds.
CREATE FUNCTION sagaz_ha._rebound_steps(source regclass, parent regclass, key name, lower_bound text, upper_bound text)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  owner oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = parent);
BEGIN
  RETURN QUERY SELECT * FROM sagaz_ha._conversion_check(source, ARRAY[parent::text, source::text], key, lower_bound, upper_bound);
  RETURN QUERY SELECT * FROM sagaz_ha._conversion_lock('attaching', ARRAY[parent::text, source::text]);
  RETURN QUERY SELECT 'attaching', NULL::oid, NULL, 'SET LOCAL sagaz_ha.protect = off', 'what is detached comes back at once';
  RETURN QUERY SELECT 'attaching', owner, NULL, format('SELECT sagaz_ha._require_quick_attach(%L, %L)', source, parent),
    'fails if the next statements would read or build anything';
  RETURN QUERY SELECT 'attaching', owner, 'ACCESS EXCLUSIVE on ' || parent,
    format('ALTER TABLE %s DETACH PARTITION %s', parent, source), NULL;
  RETURN QUERY SELECT 'attaching', owner, 'ACCESS EXCLUSIVE on ' || source,
    format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)', parent, source, lower_bound, upper_bound),
    'the CHECK implies the bounds, so nothing is read';
  RETURN QUERY SELECT 'attaching', NULL::oid, NULL, 'COMMIT', NULL;
  RETURN QUERY SELECT 'analyzing', owner, 'SHARE UPDATE EXCLUSIVE on ' || parent, format('ANALYZE %s', parent), NULL;
END
$$;
COMMENT ON FUNCTION sagaz_ha._rebound_steps(regclass, regclass, name, text, text) IS
  'internal: the statements that give a default or catch-all partition bounds';

-- What has still to be indexed. An index that is invalid was left by a killed worker.
CREATE FUNCTION sagaz_ha._conversion_next_index(
  source regclass, key name, weaken_unique boolean, OUT run_as oid, OUT statement text
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT t.relowner,
         CASE WHEN i.indexrelid IS NOT NULL THEN format('DROP INDEX CONCURRENTLY %s', i.indexrelid::regclass)
           ELSE b.statement END
    FROM sagaz_ha._conversion_builds(source, key, weaken_unique) AS b
    JOIN pg_class AS t ON t.oid = source
    LEFT JOIN pg_class AS c ON c.relnamespace = t.relnamespace AND c.relname = b.name
    LEFT JOIN pg_index AS i ON i.indexrelid = c.oid AND i.indrelid = source
   WHERE NOT coalesce(i.indisvalid, false)
   LIMIT 1;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_next_index(regclass, name, boolean) IS
  'internal: the next statement that makes an index for a conversion';

-- What takes a conversion back. The table may be a partition already.
CREATE FUNCTION sagaz_ha._conversion_undoing(source regclass, target regclass, key name)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  version integer := current_setting('server_version_num')::integer;
  attached boolean := EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = source AND i.inhparent = target);
  owner oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = source);
  schema text := (SELECT c.relnamespace::regnamespace::text FROM pg_class AS c WHERE c.oid = source);
BEGIN
  -- it was made by who owned the table then, and is to go; nobody else has it yet
  RETURN QUERY
  SELECT 'undoing', e.extowner, 'ACCESS EXCLUSIVE on ' || target, format('ALTER TABLE %s OWNER TO %s', target, sagaz_ha._role_name(owner)), NULL
    FROM pg_class AS c, pg_extension AS e
   WHERE c.oid = target AND c.relowner <> owner AND e.extname = 'sagaz_ha';
  RETURN QUERY
  SELECT CASE s.part WHEN 6 THEN 'undoing: check' ELSE 'undoing' END, owner, 'ACCESS EXCLUSIVE on ' || source, s.statement, NULL
    FROM (
      SELECT 1 AS part, 0::bigint AS n, format('ALTER TABLE %s DETACH PARTITION %s', target, source) AS statement WHERE attached
      UNION ALL
      SELECT 2, q.column_number * 10 + s.n, s.statement
        FROM sagaz_ha._conversion_sequences(target) AS q
        JOIN pg_sequence AS p ON p.seqrelid = q.sequence
        CROSS JOIN LATERAL (VALUES
          (1, format('ALTER SEQUENCE %s RENAME TO %I', q.sequence::regclass, sagaz_ha._conversion_name(q.name, '_parent'))),
          (2, format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s.%I'
                       ' INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %sCYCLE)',
                       source, q.column_name, CASE q.identity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
                       schema, q.name, p.seqincrement, p.seqmin, p.seqmax, p.seqstart, p.seqcache,
                       CASE WHEN p.seqcycle THEN '' ELSE 'NO ' END)),
          (3, format('SELECT pg_catalog.setval(%L, s.last_value, s.is_called) FROM %s.%I AS s', schema || '.' || quote_ident(q.name),
                     (SELECT c.relnamespace::regnamespace::text FROM pg_class AS c WHERE c.oid = q.sequence),
                     sagaz_ha._conversion_name(q.name, '_parent')))) AS s (n, statement)
       WHERE attached AND version >= 170000 AND q.identity <> ''
      UNION ALL
      SELECT 3, q.column_number, format('GRANT %s ON SEQUENCE %s.%I TO %s', string_agg(x.privilege_type, ', '),
                                        schema, q.name, sagaz_ha._role_name(x.grantee))
        FROM sagaz_ha._conversion_sequences(target) AS q
        JOIN pg_class AS c ON c.oid = q.sequence
        CROSS JOIN aclexplode(c.relacl) AS x
       WHERE attached AND version >= 170000 AND q.identity <> '' AND x.grantee <> c.relowner
       GROUP BY q.column_number, q.name, x.grantee
      UNION ALL
      SELECT 4, g.oid::bigint * 10 + c.n, c.statement
        FROM pg_trigger AS g CROSS JOIN sagaz_ha._trigger_copy(g.oid, source::text) WITH ORDINALITY AS c (statement, n)
       WHERE attached AND g.tgrelid = target AND NOT g.tgisinternal AND g.tgtype & 1 = 1
      UNION ALL
      SELECT 5, 0, format('DROP TABLE %s', target) WHERE target IS NOT NULL
      UNION ALL
      SELECT 6, 0, format('ALTER TABLE %s DROP CONSTRAINT sagaz_ha_bounds', source)
       WHERE EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = source AND k.conname = 'sagaz_ha_bounds')
      UNION ALL
      SELECT 7, c.oid::bigint, format('DROP INDEX %s', c.oid::regclass)
        FROM sagaz_ha._conversion_indexes(source, key) AS x
        JOIN pg_class AS c ON c.relname IN (sagaz_ha._conversion_name(x.name, '_with_key'),
                                            sagaz_ha._conversion_name(x.name, '_alone'))
        JOIN pg_index AS i ON i.indexrelid = c.oid AND i.indrelid = source) AS s
   ORDER BY s.part, s.n;
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_undoing(regclass, regclass, name) IS
  'internal: the statements that take a conversion back';

-- What differs between a table and its counterpart. Policies, rules and publications
-- come with the renames, row triggers with ATTACH, foreign keys when they are linked.
CREATE FUNCTION sagaz_ha._conversion_changes(
  source regclass, target regclass, key name, linked boolean, weaken_unique boolean
) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  WITH relations AS (
    SELECT source AS relation, true AS is_source UNION ALL SELECT target, false),
  privileges AS (
    SELECT c.oid, 0 AS attnum, a.grantee, a.privilege_type, a.is_grantable
      FROM pg_class AS c CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
     WHERE c.oid IN (source, target)
    UNION
    SELECT t.attrelid, b.attnum, a.grantee, a.privilege_type, a.is_grantable
      FROM pg_attribute AS t
      JOIN pg_attribute AS b ON b.attrelid = source AND b.attname = t.attname
      CROSS JOIN LATERAL aclexplode(t.attacl) AS a
     WHERE t.attrelid IN (source, target) AND NOT t.attisdropped),
  sequences AS (
    SELECT r.relation, q.column_name,
           concat_ws(' ', p.seqtypid, p.seqstart, p.seqincrement, p.seqmin, p.seqmax, p.seqcache, p.seqcycle) AS options
      FROM relations AS r CROSS JOIN LATERAL sagaz_ha._conversion_sequences(r.relation) AS q
      JOIN pg_sequence AS p ON p.seqrelid = q.sequence
     WHERE q.identity <> ''),
  columns AS (
    SELECT r.is_source, a.attname AS name, x.what, x.definition
      FROM relations AS r
      JOIN pg_attribute AS a ON a.attrelid = r.relation AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      CROSS JOIN LATERAL (VALUES
        ('', ''),
        ('type of ', concat_ws(' ', a.atttypid, a.atttypmod, a.attcollation)),
        ('default of ', concat(a.attgenerated, pg_get_expr(d.adbin, d.adrelid))),
        ('NOT NULL of ', a.attnotnull::text),
        -- since 17 a partition has none of its own
        ('identity of ', concat(a.attidentity, coalesce(
           (SELECT q.options FROM sequences AS q WHERE q.relation = r.relation AND q.column_name = a.attname),
           (SELECT q.options FROM sequences AS q WHERE q.relation = target AND q.column_name = a.attname)))),
        ('storage of ', concat_ws(' ', a.attstorage, a.attcompression)),
        ('statistics of ', concat_ws(' ', nullif(a.attstattarget, -1),
                                     (SELECT string_agg(o, ' ' ORDER BY o) FROM unnest(a.attoptions) AS o WHERE starts_with(o, 'n_distinct')))),
        ('comment on ', col_description(a.attrelid, a.attnum))) AS x (what, definition)),
  objects AS (
    SELECT r.is_source, 'constraint ' AS what, k.conname AS name,
           concat_ws(' ', pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint')) AS definition
      FROM relations AS r JOIN pg_constraint AS k ON k.conrelid = r.relation
     WHERE (k.contype = 'c' AND NOT (r.is_source AND k.conname = 'sagaz_ha_bounds'))
        -- a part of one has the foreign key to a partitioned table as its parent
        OR (k.contype = 'f' AND linked AND (k.conparentid = 0 OR EXISTS (SELECT FROM pg_constraint AS o WHERE o.oid = k.conparentid AND o.conrelid = target AND o.conparentid = 0 AND r.is_source)))
    UNION ALL
    SELECT r.is_source, 'index ',
           CASE WHEN r.is_source THEN sagaz_ha._conversion_name(x.name, '_parent') ELSE x.name END,
           concat_ws(' ', x.contype, x.is_unique, x.definition, obj_description(x.index, 'pg_class'), obj_description(x.constraint_oid, 'pg_constraint'))
      FROM relations AS r CROSS JOIN LATERAL sagaz_ha._conversion_indexes(r.relation, key) AS x
     WHERE x.has_key OR NOT x.is_unique
    UNION ALL
    -- one that was made too late to get the key
    SELECT true, 'index ', x.name, ''
      FROM sagaz_ha._conversion_indexes(source, key) AS x
     WHERE x.is_unique AND NOT x.has_key AND linked AND weaken_unique
       AND NOT EXISTS (SELECT FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
                        WHERE i.indrelid = source AND i.indisvalid AND c.relname = sagaz_ha._conversion_name(x.name, '_with_key'))
    UNION ALL
    SELECT r.is_source, 'trigger ', t.tgname,
           concat_ws(' ', t.tgenabled, sagaz_ha._trigger_prefix(t.oid),
                     sagaz_ha._without_prefix(pg_get_triggerdef(t.oid), sagaz_ha._trigger_prefix(t.oid) || r.relation))
      FROM relations AS r JOIN pg_trigger AS t ON t.tgrelid = r.relation AND NOT t.tgisinternal
     WHERE (t.tgtype & 1 = 0 OR EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = source AND i.inhparent = target))
       AND t.tgfoid NOT IN (SELECT f.oid FROM pg_proc AS f WHERE f.pronamespace = 'sagaz_ha'::regnamespace)
    UNION ALL
    SELECT r.is_source, 'statistics ',
           CASE WHEN r.is_source THEN sagaz_ha._conversion_name(x.stxname, '_parent') ELSE x.stxname END,
           concat_ws(' ', x.stxkind, nullif(x.stxstattarget, -1), pg_get_statisticsobjdef_columns(x.oid), obj_description(x.oid, 'pg_statistic_ext'))
      FROM relations AS r JOIN pg_statistic_ext AS x ON x.stxrelid = r.relation)
  SELECT concat_ws(', ',
           CASE WHEN s.relowner <> t.relowner THEN 'the owner' END,
           CASE WHEN s.relnamespace <> t.relnamespace THEN 'the schema' END,
           CASE WHEN s.relpersistence <> t.relpersistence THEN 'persistence' END,
           CASE WHEN EXISTS (SELECT FROM privileges AS p GROUP BY p.attnum, p.grantee, p.privilege_type, p.is_grantable
                             HAVING count(*) <> 2) THEN 'privileges' END,
           CASE WHEN s.relrowsecurity <> t.relrowsecurity OR s.relforcerowsecurity <> t.relforcerowsecurity THEN 'row security' END,
           -- an index that has to get the key becomes it with the renames
           CASE WHEN s.relreplident <> t.relreplident AND NOT (s.relreplident = 'i' AND t.relreplident = 'd') THEN 'replica identity' END,
           CASE WHEN obj_description(source, 'pg_class') IS DISTINCT FROM obj_description(target, 'pg_class') THEN 'the comment' END,
           (SELECT string_agg(x.what, ', ' ORDER BY x.what) FROM (
              SELECT DISTINCT format('%scolumn %I', c.what, c.name) FROM columns AS c
               -- with the whole column, its properties are no news
               WHERE c.what = '' OR EXISTS (SELECT FROM columns AS o WHERE o.name = c.name AND o.is_source <> c.is_source)
               GROUP BY c.what, c.name, c.definition HAVING count(*) <> 2) AS x (what)),
           (SELECT string_agg(x.what, ', ' ORDER BY x.what) FROM (
              SELECT DISTINCT o.what || quote_ident(CASE WHEN o.what IN ('index ', 'statistics ') THEN regexp_replace(o.name, '_parent$', '') ELSE o.name END)
                FROM objects AS o GROUP BY o.what, o.name, o.definition HAVING count(*) <> 2) AS x (what)))
    FROM pg_class AS s, pg_class AS t WHERE s.oid = source AND t.oid = target;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_changes(regclass, regclass, name, boolean, boolean) IS
  'internal: what differs between a table and what is to take its place, as a list';

-- What was done to the table after its counterpart was made would be gone with the
-- renames: a privilege that was revoked would be back.
CREATE FUNCTION sagaz_ha._require_unchanged(
  source regclass, target regclass, linked boolean, weaken_unique boolean
) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  changes text := (SELECT sagaz_ha._conversion_changes(source, target, a.attname, linked, weaken_unique)
                     FROM pg_partitioned_table AS p
                     JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
                    WHERE p.partrelid = target);
BEGIN
  IF changes <> '' THEN
    RAISE EXCEPTION 'table % was changed while it became partitioned: %', source, changes
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Undo the change; or cancel the conversion with sagaz_ha.cancel_partition_table(), and begin again.';
  END IF;
END
$$;
COMMENT ON FUNCTION sagaz_ha._require_unchanged(regclass, regclass, boolean, boolean) IS
  'internal: fail if a table is not what its counterpart is';

CREATE FUNCTION sagaz_ha._require_attached(source regclass, target regclass) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = source AND i.inhparent = target AND NOT i.inhdetachpending) THEN
    RAISE EXCEPTION 'table % is no partition of table %', source, target
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run the statements before this one again, in their order.';
  END IF;
  PERFORM sagaz_ha._require_unchanged(source, target, true, false);
END
$$;
COMMENT ON FUNCTION sagaz_ha._require_attached(regclass, regclass) IS
  'internal: fail unless a table is a partition of another one, and is what that is';

-- ATTACH builds what an index of the partitioned table has no match for, and reads
-- the table where no constraint implies the bounds: both under the lock.
CREATE FUNCTION sagaz_ha._require_quick_attach(source regclass, target regclass) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  key name := (SELECT a.attname FROM pg_partitioned_table AS p
                 JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] WHERE p.partrelid = target);
  missing text;
BEGIN
  SELECT string_agg(format('index %I would be built', x.name), '; ') INTO missing
    FROM sagaz_ha._conversion_indexes(target, key) AS x
   WHERE NOT EXISTS (SELECT FROM sagaz_ha._conversion_indexes(source, key) AS y
                      WHERE y.definition = x.definition AND y.contype IS NOT DISTINCT FROM x.contype
                        AND y.is_unique = x.is_unique)
     -- a partition's own
     AND NOT EXISTS (SELECT FROM pg_inherits AS h JOIN pg_index AS i ON i.indexrelid = h.inhrelid
                      WHERE h.inhparent = x.index AND i.indrelid = source AND i.indisvalid);
  SELECT concat_ws('; ', missing, string_agg(format('constraint %I would be checked', k.conname), '; ')) INTO missing
    FROM pg_constraint AS k
   WHERE k.conrelid = target AND k.contype IN ('c', 'f') AND k.convalidated
     AND NOT EXISTS (SELECT FROM pg_constraint AS o
                      WHERE o.conrelid = source AND o.contype = k.contype AND o.convalidated
                        AND (pg_get_constraintdef(o.oid) = pg_get_constraintdef(k.oid)
                             OR o.conparentid = k.oid OR (o.coninhcount > 0 AND o.conname = k.conname)));
  IF NOT EXISTS (SELECT FROM pg_constraint AS k
                  WHERE k.conrelid = source AND k.conname = 'sagaz_ha_bounds' AND k.convalidated) THEN
    missing := concat_ws('; ', nullif(missing, ''), 'the bounds would be checked');
  END IF;
  IF missing <> '' THEN
    RAISE EXCEPTION 'attaching table % would take long under a lock: %', source, missing
      USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'The table was changed meanwhile: cancel its conversion, and begin again.';
  END IF;
END
$$;
COMMENT ON FUNCTION sagaz_ha._require_quick_attach(regclass, regclass) IS
  'internal: fail if attaching a table would read it, or build an index';

CREATE FUNCTION sagaz_ha._clone_index(index regclass, target regclass, name name) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'sagaz_clone_index';
COMMENT ON FUNCTION sagaz_ha._clone_index(regclass, regclass, name) IS
  'internal: make a table''s index, and its constraint, on another table with the same columns';

CREATE FUNCTION sagaz_ha._keep_unique(parent regclass, columns name[]) RETURNS name
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_keep_unique_columns';
COMMENT ON FUNCTION sagaz_ha._keep_unique(regclass, name[]) IS
  'internal: add_unique() for a table that has just been converted; fails if it isn''t in force at once';

CREATE FUNCTION sagaz_ha._replace_query(view regclass, query text) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'sagaz_replace_query';
COMMENT ON FUNCTION sagaz_ha._replace_query(regclass, text) IS
  'internal: give a materialized view another query with the same columns; its rows, indexes and rights stay';

CREATE FUNCTION sagaz_ha.partition_table(
  parent regclass,
  key name,
  partition_interval interval,
  premake integer DEFAULT 4,
  retention interval DEFAULT NULL,
  retention_action text DEFAULT 'drop',
  unfinished_when text DEFAULT NULL,
  time_zone text DEFAULT 'UTC',
  archive_schema regnamespace DEFAULT NULL,
  tablespace name DEFAULT NULL,
  storage_parameters text[] DEFAULT NULL,
  auto_analyze boolean DEFAULT true,
  auto_freeze boolean DEFAULT true,
  before_drop regprocedure DEFAULT NULL,
  plain boolean DEFAULT false,
  key_encoding text DEFAULT NULL,
  protect boolean DEFAULT true,
  weaken_unique boolean DEFAULT false,
  publish_via_partition_root boolean DEFAULT false
) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_partition_table';
COMMENT ON FUNCTION sagaz_ha.partition_table(regclass, name, interval, integer, interval, text, text, text, regnamespace, name, text[], boolean, boolean, regprocedure, boolean, text, boolean, boolean, boolean) IS
  'have a plain table, or a default partition with rows, partitioned in place by the worker, while it is written to';

CREATE FUNCTION sagaz_ha.plan_partition_table(
  parent regclass,
  key name,
  partition_interval interval,
  premake integer DEFAULT 4,
  retention interval DEFAULT NULL,
  retention_action text DEFAULT 'drop',
  unfinished_when text DEFAULT NULL,
  time_zone text DEFAULT 'UTC',
  archive_schema regnamespace DEFAULT NULL,
  tablespace name DEFAULT NULL,
  storage_parameters text[] DEFAULT NULL,
  auto_analyze boolean DEFAULT true,
  auto_freeze boolean DEFAULT true,
  before_drop regprocedure DEFAULT NULL,
  plain boolean DEFAULT false,
  key_encoding text DEFAULT NULL,
  protect boolean DEFAULT true,
  weaken_unique boolean DEFAULT false,
  publish_via_partition_root boolean DEFAULT false
) RETURNS TABLE (step text, lock text, statement text, meaning text)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_plan_partition_table';
COMMENT ON FUNCTION sagaz_ha.plan_partition_table(regclass, name, interval, integer, interval, text, text, text, regnamespace, name, text[], boolean, boolean, regprocedure, boolean, text, boolean, boolean, boolean) IS
  'what partition_table() would run, with each lock; what changes in meaning; what is in the way. Nothing is done';

CREATE FUNCTION sagaz_ha.cancel_partition_table(parent regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_cancel_partition_table';
COMMENT ON FUNCTION sagaz_ha.cancel_partition_table(regclass) IS
  'take a conversion back before its last step: everything is as it was';

CREATE FUNCTION sagaz_ha.unpartition_table(parent regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_unpartition_table';
COMMENT ON FUNCTION sagaz_ha.unpartition_table(regclass) IS
  'make a plain table of a converted one again, as long as its other partitions are empty';

CREATE VIEW sagaz_ha.conversions AS
SELECT c.table_name, c.relation, c.parent, c.kind, c.phase AS step, c.phase_since AS step_since, c.since,
       (SELECT round(100.0 * p.blocks_done / nullif(p.blocks_total, 0), 1)
          FROM pg_stat_progress_create_index AS p WHERE p.relid = c.relation LIMIT 1) AS progress,
       c.waits_for AS waiting_for, c.longest_lock, c.tries, c.next_try, c.finish_by, c.error
  FROM sagaz_ha.conversion AS c;
COMMENT ON VIEW sagaz_ha.conversions IS
  'tables that are becoming partitioned: how far that is, what it waits for, and the longest lock so far';
COMMENT ON COLUMN sagaz_ha.conversions.table_name IS 'the name that clients use, before and afterwards';
COMMENT ON COLUMN sagaz_ha.conversions.relation IS 'the table that has the rows';
COMMENT ON COLUMN sagaz_ha.conversions.parent IS 'the partitioned table that it becomes a partition of';
COMMENT ON COLUMN sagaz_ha.conversions.kind IS 'table, partition or rows; see sagaz_ha.conversion';
COMMENT ON COLUMN sagaz_ha.conversions.step IS 'the step that is being done';
COMMENT ON COLUMN sagaz_ha.conversions.step_since IS 'when the step began';
COMMENT ON COLUMN sagaz_ha.conversions.since IS 'when it was asked for';
COMMENT ON COLUMN sagaz_ha.conversions.progress IS 'percent of the index that is being made; null: the step has no measure';
COMMENT ON COLUMN sagaz_ha.conversions.waiting_for IS 'session or standby that is waited for; null: none';
COMMENT ON COLUMN sagaz_ha.conversions.longest_lock IS 'the longest time so far that a strong lock was held';
COMMENT ON COLUMN sagaz_ha.conversions.tries IS 'how often the step has been tried in vain';
COMMENT ON COLUMN sagaz_ha.conversions.next_try IS 'when the worker tries again; null: now';
COMMENT ON COLUMN sagaz_ha.conversions.finish_by IS 'after this time the worker begins again with a later bound';
COMMENT ON COLUMN sagaz_ha.conversions.error IS 'why the step failed; null: it has not';

-- The empty partitioned table that a conversion has made beside this one.
CREATE FUNCTION sagaz_ha._conversion_left(source regclass) RETURNS regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT p.oid::regclass
    FROM pg_class AS c
    JOIN pg_class AS p ON p.relnamespace = c.relnamespace AND p.relowner = c.relowner AND p.relkind = 'p'
                      AND p.relname = sagaz_ha._conversion_name(c.relname, '_sagaz_ha')
   WHERE c.oid = source AND c.relkind = 'r'
     AND EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.conname = 'sagaz_ha_bounds');
END;
COMMENT ON FUNCTION sagaz_ha._conversion_left(regclass) IS
  'internal: the partitioned table beside a table that is, or was, becoming partitioned';

CREATE FUNCTION sagaz_ha._display_name(relation regclass, name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT CASE WHEN c.relnamespace = (SELECT e.extnamespace FROM pg_extension AS e WHERE e.extname = 'sagaz_ha')
           THEN quote_ident(name) ELSE format('%s.%I', c.relnamespace::regnamespace, name) END
    FROM pg_class AS c WHERE c.oid = relation;
END;
COMMENT ON FUNCTION sagaz_ha._display_name(regclass, text) IS
  'internal: a name in the schema of a relation, as people read it';

CREATE FUNCTION sagaz_ha._conversion_finishing(target regclass)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT 'finishing', c.relowner, 'SHARE UPDATE EXCLUSIVE on ' || k.conrelid::regclass,
         format('ALTER TABLE %s VALIDATE CONSTRAINT %I', k.conrelid::regclass, k.conname), NULL
    FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
   WHERE k.confrelid = target AND k.contype = 'f' AND k.conparentid = 0 AND NOT k.convalidated;
END;
COMMENT ON FUNCTION sagaz_ha._conversion_finishing(regclass) IS
  'internal: the statements that validate foreign keys to a table that was converted';

-- The way back after the end: the first partition takes the place of the table.
CREATE FUNCTION sagaz_ha._conversion_returning(source regclass, target regclass)
RETURNS SETOF sagaz_ha._conversion_statement
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  t pg_class;
  schema text;
  old_name text;
BEGIN
  SELECT * INTO t FROM pg_class AS c WHERE c.oid = source;
  schema := t.relnamespace::regnamespace::text;
  old_name := schema || '.' || quote_ident(sagaz_ha._conversion_name(t.relname, '_sagaz_ha'));
  RETURN QUERY
  SELECT 'returning', s.run_as, 'ACCESS EXCLUSIVE on ' || source, s.statement, NULL
    FROM (
      -- or else the detach would read both tables
      SELECT 0 AS part, k.oid::bigint AS n, c.relowner AS run_as,
             format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname) AS statement
        FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
       WHERE k.confrelid = source AND k.contype = 'f' AND k.conparentid = 0 AND k.conrelid <> source
      UNION ALL
      SELECT 1, 0, t.relowner, format('ALTER TABLE %s DETACH PARTITION %s', source, target)
      UNION ALL
      SELECT 2, q.column_number * 10 + s.n, t.relowner, s.statement
        FROM sagaz_ha._conversion_sequences(source) AS q
        JOIN pg_sequence AS p ON p.seqrelid = q.sequence
        CROSS JOIN LATERAL (VALUES
          (1, format('ALTER SEQUENCE %s RENAME TO %I', q.sequence::regclass, sagaz_ha._conversion_name(q.name, '_parent'))),
          (2, format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s.%I'
                       ' INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %sCYCLE)',
                       target, q.column_name, CASE q.identity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
                       schema, q.name, p.seqincrement, p.seqmin, p.seqmax, p.seqstart, p.seqcache,
                       CASE WHEN p.seqcycle THEN '' ELSE 'NO ' END)),
          (3, format('SELECT pg_catalog.setval(%L, s.last_value, s.is_called) FROM %s.%I AS s', schema || '.' || quote_ident(q.name),
                     schema, sagaz_ha._conversion_name(q.name, '_parent')))) AS s (n, statement)
       WHERE q.identity <> ''
      UNION ALL
      SELECT 3, q.column_number, t.relowner, format('GRANT %s ON SEQUENCE %s.%I TO %s', string_agg(x.privilege_type, ', '),
                                        schema, q.name, sagaz_ha._role_name(x.grantee))
        FROM sagaz_ha._conversion_sequences(source) AS q
        JOIN pg_class AS c ON c.oid = q.sequence
        CROSS JOIN aclexplode(c.relacl) AS x
       WHERE q.identity <> '' AND x.grantee <> c.relowner
       GROUP BY q.column_number, q.name, x.grantee
      UNION ALL
      SELECT 3, q.column_number, t.relowner, format('ALTER SEQUENCE %s OWNED BY %s.%I', q.sequence::regclass, target, q.column_name)
        FROM sagaz_ha._conversion_sequences(source) AS q WHERE q.identity = ''
      UNION ALL
      SELECT 4, g.oid::bigint * 10 + c.n, t.relowner, c.statement
        FROM pg_trigger AS g CROSS JOIN sagaz_ha._trigger_copy(g.oid, target::text) WITH ORDINALITY AS c (statement, n)
       WHERE g.tgrelid = source AND NOT g.tgisinternal
         -- a plain table's own indexes see to that
         AND g.tgfoid NOT IN ('sagaz_ha.check_unique'::regproc, 'sagaz_ha.skip_duplicate'::regproc)
         AND (g.tgtype & 1 = 1 OR NOT EXISTS (SELECT FROM pg_trigger AS o WHERE o.tgrelid = target AND o.tgname = g.tgname))
      UNION ALL
      SELECT 5, i.oid::bigint * 10 + s.n, t.relowner, s.statement
        FROM pg_index AS x
        JOIN pg_class AS i ON i.oid = x.indexrelid
        JOIN pg_inherits AS h ON h.inhparent = x.indexrelid
        JOIN pg_index AS y ON y.indexrelid = h.inhrelid AND y.indrelid = target
        JOIN pg_class AS yc ON yc.oid = y.indexrelid
        -- a primary key that was kept, by the index that its columns have alone
        LEFT JOIN LATERAL (
          SELECT ac.relname
            FROM pg_index AS a JOIN pg_class AS ac ON ac.oid = a.indexrelid
           WHERE a.indrelid = target AND ac.relname = sagaz_ha._conversion_name(i.relname, '_alone')
             AND a.indisunique AND a.indisvalid AND x.indisprimary AND NOT x.indisreplident
             AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.confrelid = source AND k.contype = 'f')) AS alone ON true
        CROSS JOIN LATERAL (VALUES
          (1, format('ALTER INDEX %s RENAME TO %I', i.oid::regclass, sagaz_ha._conversion_name(i.relname, '_parent'))),
          (2, CASE WHEN alone.relname IS NULL THEN format('ALTER INDEX %s RENAME TO %I', y.indexrelid::regclass, i.relname)
                ELSE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I PRIMARY KEY USING INDEX %I',
                            target, yc.relname, i.relname, alone.relname) END)) AS s (n, statement)
       WHERE x.indrelid = source
      UNION ALL
      SELECT 6, x.oid::bigint * 10 + s.n, s.run_as, s.statement
        FROM pg_statistic_ext AS x
        JOIN pg_statistic_ext AS y ON y.stxrelid = target AND y.stxname = sagaz_ha._conversion_name(x.stxname, '_before')
        CROSS JOIN LATERAL (VALUES
          (1, x.stxowner, format('ALTER STATISTICS %s.%I RENAME TO %I', x.stxnamespace::regnamespace, x.stxname, sagaz_ha._conversion_name(x.stxname, '_parent'))),
          (2, y.stxowner, format('ALTER STATISTICS %s.%I RENAME TO %I', y.stxnamespace::regnamespace, y.stxname, x.stxname))) AS s (n, run_as, statement)
       WHERE x.stxrelid = source
      UNION ALL
      SELECT 7, o.oid::bigint, t.relowner, format('DROP POLICY %I ON %s', o.polname, target) FROM pg_policy AS o WHERE o.polrelid = target
      UNION ALL
      SELECT 7, r.oid::bigint, t.relowner, format('DROP RULE %I ON %s', r.rulename, target) FROM pg_rewrite AS r WHERE r.ev_class = target
      UNION ALL
      SELECT 8, 0, t.relowner, format('REVOKE ALL ON TABLE %s FROM %s', target, string_agg(DISTINCT sagaz_ha._role_name(x.grantee), ', '))
        FROM pg_class AS c
        CROSS JOIN LATERAL (SELECT g.grantee FROM aclexplode(c.relacl) AS g
                            UNION ALL
                            SELECT g.grantee FROM pg_attribute AS a CROSS JOIN aclexplode(a.attacl) AS g WHERE a.attrelid = c.oid) AS x
       WHERE c.oid = target AND x.grantee <> c.relowner
      HAVING count(*) > 0
      UNION ALL
      SELECT 9, row_number() OVER (), t.relowner, p FROM sagaz_ha._copy_privileges(source, target::text) AS p
      UNION ALL
      SELECT 10, s.n, t.relowner, format('ALTER TABLE %s %s', target, s.what)
        FROM (VALUES
          (1, CASE WHEN t.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END || ' ROW LEVEL SECURITY'),
          (2, CASE WHEN t.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END || ' ROW LEVEL SECURITY'),
          (3, 'DROP CONSTRAINT IF EXISTS sagaz_ha_bounds')) AS s (n, what)
      UNION ALL
      SELECT 10, g.oid::bigint, t.relowner, format('DROP TRIGGER %I ON %s', g.tgname, target)
        FROM pg_trigger AS g WHERE g.tgrelid = target AND g.tgfoid = 'sagaz_ha.refuse_truncate'::regproc
      UNION ALL
      SELECT 11, 0, t.relowner, format('COMMENT ON TABLE %s IS %L', target, d)
        FROM obj_description(source, 'pg_class') AS d WHERE d IS DISTINCT FROM obj_description(target, 'pg_class')
      UNION ALL
      SELECT 12, 1, t.relowner, format('ALTER TABLE %s RENAME TO %I', source, sagaz_ha._conversion_name(t.relname, '_sagaz_ha'))
      UNION ALL
      SELECT 12, 2, t.relowner, format('ALTER TABLE %s RENAME TO %I', target, t.relname)
      UNION ALL
      SELECT 13, s.n, s.run_as, s.statement
        FROM sagaz_ha._conversion_named(source, old_name) WITH ORDINALITY AS s (phase, run_as, lock, statement, meaning, n)
      UNION ALL
      SELECT 14, 0, t.relowner, format('DROP TABLE %s', old_name)) AS s
   ORDER BY s.part, s.n;
END
$$;
COMMENT ON FUNCTION sagaz_ha._conversion_returning(regclass, regclass) IS
  'internal: the statements that make a plain table of a converted one again';

--
-- Uniqueness across partitions
--

CREATE TABLE sagaz_ha.unique_key (
  parent regclass NOT NULL,
  name name NOT NULL,
  columns name[] NOT NULL,
  within interval,
  on_duplicate text NOT NULL CHECK (on_duplicate IN ('error', 'skip')),
  phase text NOT NULL CHECK (phase IN ('building', 'checking', 'in_force')),
  since timestamptz NOT NULL,
  PRIMARY KEY (parent, name)
);
COMMENT ON TABLE sagaz_ha.unique_key IS
  'columns that are unique across partitions; written by add_unique()';
COMMENT ON COLUMN sagaz_ha.unique_key.parent IS 'the partitioned table';
COMMENT ON COLUMN sagaz_ha.unique_key.name IS 'name of the constraint, and of its trigger';
COMMENT ON COLUMN sagaz_ha.unique_key.columns IS 'the columns, as they were called when it was added';
COMMENT ON COLUMN sagaz_ha.unique_key.within IS
  'partitions that ended longer ago are not looked at; null: all are';
COMMENT ON COLUMN sagaz_ha.unique_key.on_duplicate IS
  'error; skip: a row that is there already is dropped silently';
COMMENT ON COLUMN sagaz_ha.unique_key.phase IS
  'building: partitions get their indexes; checking: in force for new rows, older ones are looked at; in_force';
COMMENT ON COLUMN sagaz_ha.unique_key.since IS 'when it was added';
SELECT pg_catalog.pg_extension_config_dump('sagaz_ha.unique_key', '');
CREATE TRIGGER unique_key_changed AFTER INSERT OR UPDATE OR DELETE ON sagaz_ha.unique_key
  FOR EACH STATEMENT EXECUTE FUNCTION sagaz_ha.policy_changed();
COMMENT ON TRIGGER unique_key_changed ON sagaz_ha.unique_key IS
  'what the worker has to build or to look at begins at once';

CREATE FUNCTION sagaz_ha.add_unique(
  parent regclass,
  columns name[],
  within interval DEFAULT NULL,
  on_duplicate text DEFAULT 'error'
) RETURNS name
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_add_unique';
COMMENT ON FUNCTION sagaz_ha.add_unique(regclass, name[], interval, text) IS
  'from now on no two rows of the table have equal columns, whatever their partitions; the constraint''s name';

CREATE FUNCTION sagaz_ha.drop_unique(parent regclass, columns name[]) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_drop_unique';
COMMENT ON FUNCTION sagaz_ha.drop_unique(regclass, name[]) IS
  'end what add_unique() began; the partitions keep their indexes; false if there was nothing';

-- Everybody may run them: they only refuse or drop rows of the table whose triggers
-- they are, and the table's owner, who makes those, has to be allowed to.
CREATE FUNCTION sagaz_ha.check_unique() RETURNS trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_check_unique';
COMMENT ON FUNCTION sagaz_ha.check_unique() IS
  'trigger function: refuse a row that another partition has';

CREATE FUNCTION sagaz_ha.skip_duplicate() RETURNS trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_skip_duplicate';
COMMENT ON FUNCTION sagaz_ha.skip_duplicate() IS
  'trigger function: drop a row that is there already';

CREATE FUNCTION sagaz_ha.keep_unique() RETURNS event_trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_keep_unique';
COMMENT ON FUNCTION sagaz_ha.keep_unique() IS
  'event trigger function: a new partition gets the indexes of unique keys, or is refused for its duplicates';
CREATE EVENT TRIGGER sagaz_ha_keep_unique ON ddl_command_end
  WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE')
  EXECUTE FUNCTION sagaz_ha.keep_unique();
ALTER EVENT TRIGGER sagaz_ha_keep_unique ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER sagaz_ha_keep_unique IS
  'keeps unique keys when partitions come';

--
-- Reading
--

CREATE FUNCTION sagaz_ha.partitions(
  sizes boolean DEFAULT true,
  OUT parent regclass, OUT table_name text,
  OUT partition regclass, OUT partition_name text,
  OUT partition_start timestamptz, OUT partition_end timestamptz,
  OUT state text, OUT total_bytes bigint, OUT estimated_rows bigint
) RETURNS SETOF record
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'sagaz_partitions';
COMMENT ON FUNCTION sagaz_ha.partitions(boolean) IS
  'every partition of every managed table, from catalogs and, if asked for, file sizes';

CREATE FUNCTION sagaz_ha._expired_state(partition regclass) RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT CASE
           WHEN EXISTS (SELECT FROM sagaz_ha.problem AS p
                         WHERE p.partition OPERATOR(pg_catalog.=) _expired_state.partition
                           AND p.action OPERATOR(pg_catalog.=) 'KEEP')
           THEN 'kept' ELSE 'expired'
         END;
END;
COMMENT ON FUNCTION sagaz_ha._expired_state(regclass) IS
  'internal: kept or expired';

CREATE FUNCTION sagaz_ha.coverage(
  OUT parent regclass, OUT table_name text,
  OUT covered_until timestamptz, OUT premade_until timestamptz,
  OUT holes integer, OUT first_hole timestamptz,
  OUT default_partition regclass, OUT default_has_rows boolean,
  OUT pending_detach regclass, OUT pending_waits_for text, OUT problem text,
  OUT catch_all regclass
) RETURNS SETOF record
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'sagaz_coverage';
COMMENT ON FUNCTION sagaz_ha.coverage() IS
  'until when inserts succeed, per managed table, and what hinders maintenance';


CREATE VIEW @extschema@.partition_metadata AS
  SELECT p.table_name, p.partition_name, p.partition_start, p.partition_end,
         (SELECT t.created_at FROM sagaz_ha.partition_times AS t
           WHERE t.partition OPERATOR(pg_catalog.=) p.partition) AS created_at,
         CASE WHEN p.state OPERATOR(pg_catalog.=) 'expired'
              THEN sagaz_ha._expired_state(p.partition) ELSE p.state END AS state,
         p.total_bytes, p.estimated_rows, p.parent, p.partition
    FROM sagaz_ha.partitions() AS p;
COMMENT ON VIEW @extschema@.partition_metadata IS
  'partitions of the managed tables; state is current, future, past, expired, kept, detaching or default';
COMMENT ON COLUMN @extschema@.partition_metadata.table_name IS 'the managed table';
COMMENT ON COLUMN @extschema@.partition_metadata.partition_name IS 'the partition';
COMMENT ON COLUMN @extschema@.partition_metadata.partition_start IS 'lower bound, inclusive';
COMMENT ON COLUMN @extschema@.partition_metadata.partition_end IS 'upper bound, exclusive';
COMMENT ON COLUMN @extschema@.partition_metadata.created_at IS
  'when maintenance made it; null for a partition that was not made by maintenance, or that was restored';
COMMENT ON COLUMN @extschema@.partition_metadata.state IS
  'current, future, past, expired, kept (expired, but held, with unfinished rows, or needed), detaching or default';
COMMENT ON COLUMN @extschema@.partition_metadata.total_bytes IS
  'size on disk with indexes and TOAST, in bytes; null when Citus can''t be asked, or for a table that is dropped meanwhile';
COMMENT ON COLUMN @extschema@.partition_metadata.estimated_rows IS
  'rows as of the last VACUUM or ANALYZE, or else as the statistics collector counted; null if Citus distributes the table';
COMMENT ON COLUMN @extschema@.partition_metadata.parent IS 'the managed table, as regclass';
COMMENT ON COLUMN @extschema@.partition_metadata.partition IS 'the partition, as regclass';

CREATE FUNCTION sagaz_ha._statistics(
  OUT parent regclass, OUT table_name text, OUT partitions bigint,
  OUT oldest_partition text, OUT newest_partition text,
  OUT total_bytes bigint, OUT estimated_rows bigint, OUT kept bigint,
  OUT covered_until timestamptz, OUT premade_until timestamptz
) RETURNS SETOF record
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'sagaz_statistics';
COMMENT ON FUNCTION sagaz_ha._statistics() IS
  'internal: what the partitions of each managed table come to, without a row for each';

CREATE FUNCTION @extschema@.get_partition_statistics(
  OUT table_name text, OUT partition_count bigint,
  OUT oldest_partition text, OUT newest_partition text,
  OUT total_size_mb numeric, OUT estimated_rows bigint,
  OUT kept bigint, OUT covered_until timestamptz
) RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT s.table_name, s.partitions, s.oldest_partition, s.newest_partition,
         pg_catalog.round(s.total_bytes OPERATOR(pg_catalog./) 1048576.0, 2),
         s.estimated_rows, s.kept, s.covered_until
    FROM sagaz_ha._statistics() AS s
   ORDER BY s.table_name;
END;
COMMENT ON FUNCTION @extschema@.get_partition_statistics() IS
  'one row per managed table: partitions, size in MB, estimated rows, kept partitions, and until when inserts succeed';

CREATE FUNCTION sagaz_ha.partition_timeline(
  width integer DEFAULT 50,
  OUT table_name text, OUT timeline text, OUT covered_until timestamptz
) RETURNS SETOF record
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  IF width IS NULL OR width NOT BETWEEN 10 AND 1000 THEN
    RAISE EXCEPTION 'the width of a timeline has to be from 10 to 1000 characters, not %', coalesce(width::text, 'null')
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out for 50 characters.';
  END IF;
  RETURN QUERY
  -- zone: before now, now, after now; rank: which sign is seen where several share a place
  WITH partitions AS MATERIALIZED (
    SELECT p.parent, p.partition_start,
           CASE p.state WHEN 'current' THEN 1 WHEN 'future' THEN 2 ELSE 0 END AS zone,
           CASE
             WHEN p.state = 'detaching' THEN 6
             WHEN p.state IN ('past', 'expired') AND h.partition IS NOT NULL THEN 5
             WHEN p.state = 'expired' THEN CASE sagaz_ha._expired_state(p.partition) WHEN 'kept' THEN 4 ELSE 3 END
             WHEN p.state IN ('current', 'future') THEN 2
             ELSE 1
           END AS rank
      FROM sagaz_ha.partitions(false) AS p
      LEFT JOIN sagaz_ha.partition_hold AS h ON h.partition = p.partition
     -- a default partition has no time
     WHERE p.state <> 'default'),
  tables AS MATERIALIZED (
    SELECT c.parent, c.table_name, c.covered_until,
           EXISTS (SELECT FROM sagaz_ha.conversion AS v
                    WHERE v.parent = c.parent AND v.phase <> 'failed') AS converting
      FROM sagaz_ha.coverage() AS c),
  counts AS MATERIALIZED (
    SELECT t.parent,
           count(*) FILTER (WHERE p.zone = 0) + max(t.converting::int) AS past,
           count(*) FILTER (WHERE p.zone = 2) AS ahead
      FROM tables AS t LEFT JOIN partitions AS p ON p.parent = t.parent
     GROUP BY t.parent),
  room AS MATERIALIZED (
    -- one place is now's; what is ahead gets what the past leaves, and a third at least
    SELECT r.ahead, greatest(least(r.most, width - 1 - r.ahead), 1) AS past
      FROM (SELECT greatest(least(max(c.ahead), greatest(width / 3, width - 1 - max(c.past))), 1) AS ahead,
                   coalesce(max(c.past), 0) AS most
              FROM counts AS c) AS r),
  scale AS MATERIALIZED (
    SELECT c.parent,
           greatest((c.past + r.past - 1) / r.past, (c.ahead + r.ahead - 1) / r.ahead, 1) AS each
      FROM counts AS c, room AS r),
  places AS MATERIALIZED (
    SELECT n.parent, n.zone, n.place, max(n.rank) AS rank
      FROM (SELECT p.parent, p.zone, p.rank,
                   -- counted from now on both sides, so that a full place is next to it
                   (row_number() OVER (PARTITION BY p.parent, p.zone
                                       ORDER BY CASE WHEN p.zone = 0 THEN p.partition_start END DESC,
                                                p.partition_start) - 1) / s.each AS place
              FROM partitions AS p JOIN scale AS s ON s.parent = p.parent) AS n
     GROUP BY n.parent, n.zone, n.place),
  lines AS MATERIALIZED (
    SELECT l.parent,
           string_agg(substr('-@xKHd', l.rank, 1), '' ORDER BY l.place DESC) FILTER (WHERE l.zone = 0) AS past,
           max(substr('-@xKHd', l.rank, 1)) FILTER (WHERE l.zone = 1) AS now,
           string_agg(substr('-+xKHd', l.rank, 1), '' ORDER BY l.place) FILTER (WHERE l.zone = 2) AS ahead
      FROM places AS l GROUP BY l.parent)
  SELECT t.table_name,
         lpad(CASE WHEN t.converting THEN 'c' ELSE '' END || coalesce(l.past, ''), r.past::integer) || coalesce(l.now, '!') || coalesce(l.ahead, ''),
         t.covered_until
    FROM tables AS t CROSS JOIN room AS r LEFT JOIN lines AS l ON l.parent = t.parent
  UNION ALL
  -- what clients still use as a plain table: none of the above tells of it
  SELECT sagaz_ha._display_name(v.relation, v.table_name),
         lpad('c', coalesce(r.past::integer, 0) + 1), v.finish_by
    FROM sagaz_ha.conversion AS v
    LEFT JOIN room AS r ON true
   WHERE v.kind = 'table' AND v.phase NOT IN ('failed', 'finishing')
   ORDER BY 1;
END
$$;
COMMENT ON FUNCTION sagaz_ha.partition_timeline(integer) IS
  'a picture of the partitions of each table, a sign for each: - past, @ now, + ahead, K kept, H held, x expired, d draining, c converting, ! none for now';

--
-- Partitions that differ from their table
--

-- A policy's expression that names its table must name the partition instead.
CREATE FUNCTION sagaz_ha._expression(tree pg_node_tree, relation oid, alias name) RETURNS text
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'sagaz_expression';
COMMENT ON FUNCTION sagaz_ha._expression(pg_node_tree, oid, name) IS
  'internal: as pg_get_expr(), with another name for the relation';

CREATE FUNCTION sagaz_ha._partition_tree(
  parent regclass,
  OUT partition oid, OUT tab oid, OUT root regclass
) RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
  WITH RECURSIVE tree AS (
    SELECT i.inhrelid, i.inhparent, r.root
      FROM (SELECT _partition_tree.parent AS root WHERE _partition_tree.parent IS NOT NULL
            UNION ALL
            SELECT p.parent FROM sagaz_ha.partition_policy AS p WHERE _partition_tree.parent IS NULL) AS r
      JOIN pg_inherits AS i ON i.inhparent = r.root
     WHERE NOT i.inhdetachpending
       -- what is being retired is about to go
       AND NOT EXISTS (SELECT FROM sagaz_ha.retirement AS r WHERE r.partition = i.inhrelid)
    UNION ALL
    SELECT i.inhrelid, i.inhparent, t.root FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.inhrelid
     WHERE NOT i.inhdetachpending
  )
  SELECT t.inhrelid, t.inhparent, t.root FROM tree AS t;
END;
COMMENT ON FUNCTION sagaz_ha._partition_tree(regclass) IS
  'internal: the partitions of a table, and theirs, each with the table that it is a partition of; of all managed tables for null';

CREATE FUNCTION sagaz_ha._catalog_changes() RETURNS bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
  -- what this session has not yet reported is counted apart
  SELECT sum(pg_stat_get_tuples_inserted(c) + pg_stat_get_tuples_updated(c) + pg_stat_get_tuples_deleted(c)
             + pg_stat_get_xact_tuples_inserted(c) + pg_stat_get_xact_tuples_updated(c)
             + pg_stat_get_xact_tuples_deleted(c))::bigint
    -- each a constant of its own: of an array, no dependency would be written down,
    -- and pg_upgrade would make this function before the tables
    FROM unnest(ARRAY['pg_class'::regclass, 'pg_index', 'pg_inherits', 'pg_constraint', 'pg_trigger', 'pg_attribute',
                      'pg_attrdef', 'pg_policy', 'sagaz_ha.partition_policy', 'sagaz_ha.asleep']) AS c
   WHERE current_setting('track_counts')::boolean;
END;
COMMENT ON FUNCTION sagaz_ha._catalog_changes() IS
  'internal: rows of the catalogs that a comparison reads that have been changed so far; null: not counted';

CREATE FUNCTION sagaz_ha._drift(
  parent regclass,
  OUT partition regclass, OUT kind text, OUT details text, OUT statement text, OUT root regclass
) RETURNS SETOF record
LANGUAGE plpgsql STABLE -- planned once a session: that takes long
SET search_path = pg_catalog, pg_temp
-- the planner takes this for work that is worth compiling, which takes longer
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH pair AS MATERIALIZED (
    SELECT c.*, t.tab, t.root, p.relowner AS tab_owner, p.relacl AS tab_acl,
           p.relrowsecurity AS tab_rowsecurity, p.relforcerowsecurity AS tab_forcerowsecurity,
           p.relreplident AS tab_replident
      FROM sagaz_ha._partition_tree(_drift.parent) AS t
      JOIN pg_class AS c ON c.oid = t.partition
      JOIN pg_class AS p ON p.oid = t.tab
  ), indexes AS MATERIALIZED (
    SELECT x.oid AS part, x.relkind, x.tab, p.indexrelid AS tab_index, p.indisvalid AS tab_valid,
           p.indisreplident AS tab_ident, c.indexrelid, c.indisvalid, c.indisreplident
      FROM pair AS x
      JOIN pg_index AS p ON p.indrelid = x.tab AND p.indislive
      LEFT JOIN (pg_index AS c JOIN pg_inherits AS i ON i.inhrelid = c.indexrelid)
        ON c.indrelid = x.oid AND i.inhparent = p.indexrelid
     WHERE x.relkind IN ('r', 'p')
  ), columns AS MATERIALIZED (
    SELECT x.oid AS part, x.tab, p.attname, p.attnum AS tab_attnum, c.attnum,
           p.attnotnull AS tab_notnull, c.attnotnull, p.attacl AS tab_acl, c.attacl,
           p.attidentity = '' AND p.attgenerated = '' AND c.attidentity = '' AND c.attgenerated = ''
             AND (p.atthasdef OR c.atthasdef) AS has_default
      FROM pair AS x
      JOIN pg_attribute AS p ON p.attrelid = x.tab AND p.attnum > 0 AND NOT p.attisdropped
      JOIN pg_attribute AS c ON c.attrelid = x.oid AND c.attname = p.attname
                            AND c.attnum > 0 AND NOT c.attisdropped
  ), grants AS (
    SELECT g.oid, array_agg(ROW(g.grantee, g.privilege_type, g.is_grantable)::text
                            ORDER BY g.grantee, g.privilege_type) AS list
      -- two may have given the same, of which the partition needs one
      FROM (SELECT r.oid, a.grantee, a.privilege_type, bool_or(a.is_grantable) AS is_grantable
              FROM (SELECT x.oid, x.relacl AS acl, x.relowner AS owner FROM pair AS x
                     WHERE x.relacl IS DISTINCT FROM x.tab_acl
                    UNION
                    SELECT x.tab, x.tab_acl, x.tab_owner FROM pair AS x) AS r,
                   aclexplode(r.acl) AS a
             WHERE a.grantee <> r.owner GROUP BY r.oid, a.grantee, a.privilege_type) AS g
     GROUP BY g.oid
  ), policies AS (
    SELECT p.polrelid, array_agg(ROW(p.polname, p.polcmd, p.polpermissive,
                                     (SELECT array_agg(o ORDER BY o) FROM unnest(p.polroles) AS o),
                                     sagaz_ha._expression(p.polqual, p.polrelid, 't'),
                                     sagaz_ha._expression(p.polwithcheck, p.polrelid, 't'))::text
                                 ORDER BY p.polname) AS list
      FROM pg_policy AS p
     WHERE p.polrelid IN (SELECT x.oid FROM pair AS x UNION SELECT x.tab FROM pair AS x)
     GROUP BY p.polrelid
  )
  SELECT d.partition, d.kind, d.details, d.statement, r.root FROM (
  SELECT i.part::regclass AS partition, 'index' AS kind,
         CASE WHEN i.indexrelid IS NULL THEN format('has nothing for index %s', i.tab_index::regclass)
              ELSE format('index %s is not valid', i.indexrelid::regclass) END AS details, NULL::text AS statement
    FROM indexes AS i
   WHERE i.indexrelid IS NULL OR NOT i.indisvalid AND i.relkind = 'r'
  UNION ALL
  -- every partition has it, and still
  SELECT i.tab::regclass, 'index', format('index %s is not valid', i.tab_index::regclass), NULL
    FROM indexes AS i
   GROUP BY i.tab, i.tab_index HAVING NOT bool_and(i.tab_valid) AND bool_and(i.indisvalid IS TRUE)
  UNION ALL
  SELECT x.oid::regclass, 'constraint',
         CASE WHEN c.oid IS NULL THEN format('lacks constraint %I', p.conname)
              ELSE format('constraint %I is not validated', c.conname) END,
         CASE WHEN c.oid IS NOT NULL
              THEN format('ALTER TABLE %s VALIDATE CONSTRAINT %I', x.oid::regclass, c.conname) END
    FROM pair AS x
    JOIN pg_constraint AS p ON p.conrelid = x.tab
    LEFT JOIN pg_constraint AS c ON c.conrelid = x.oid AND c.contype = p.contype
          AND CASE p.contype WHEN 'f' THEN c.conparentid = p.oid ELSE c.conname = p.conname END
   WHERE (p.contype = 'c' AND NOT p.connoinherit
          -- each partition of a referenced table has a row of its own here
          OR p.contype = 'f' AND NOT EXISTS (SELECT FROM pg_constraint AS s
                                              WHERE s.oid = p.conparentid AND s.conrelid = p.conrelid))
     AND (c.oid IS NULL OR p.convalidated AND NOT c.convalidated)
  UNION ALL
  SELECT x.oid::regclass, 'trigger',
         CASE WHEN c.oid IS NULL THEN format('lacks trigger %I', p.tgname)
              ELSE format('trigger %I is %s, the table''s is %s', c.tgname, s.name, t.name) END,
         CASE WHEN c.oid IS NOT NULL
              THEN format('ALTER TABLE %s %s TRIGGER %I', x.oid::regclass, t.verb, c.tgname) END
    FROM pair AS x
    JOIN pg_trigger AS p ON p.tgrelid = x.tab AND NOT p.tgisinternal AND p.tgtype & 1 = 1
    LEFT JOIN pg_trigger AS c ON c.tgrelid = x.oid AND c.tgparentid = p.oid
    JOIN (VALUES ('O', 'enabled', 'ENABLE'), ('D', 'disabled', 'DISABLE'),
                 ('R', 'enabled on replicas', 'ENABLE REPLICA'),
                 ('A', 'always enabled', 'ENABLE ALWAYS')) AS t (code, name, verb)
      ON t.code = p.tgenabled::text
    LEFT JOIN (VALUES ('O', 'enabled'), ('D', 'disabled'), ('R', 'enabled on replicas'),
                      ('A', 'always enabled')) AS s (code, name) ON s.code = c.tgenabled::text
   WHERE c.tgenabled IS DISTINCT FROM p.tgenabled
  UNION ALL
  SELECT d.part::regclass, 'default',
         format('default of column %I is %s, the table''s is %s', d.attname,
                coalesce(d.own, 'none'), coalesce(d.tabs, 'none')),
         format('ALTER TABLE %s ALTER COLUMN %I %s', d.part::regclass, d.attname,
                coalesce('SET DEFAULT ' || d.tabs, 'DROP DEFAULT'))
    FROM (SELECT c.part, c.attname, pg_get_expr(o.adbin, o.adrelid) AS own,
                 pg_get_expr(p.adbin, p.adrelid) AS tabs
            FROM columns AS c
            LEFT JOIN pg_attrdef AS o ON o.adrelid = c.part AND o.adnum = c.attnum
            LEFT JOIN pg_attrdef AS p ON p.adrelid = c.tab AND p.adnum = c.tab_attnum
           WHERE c.has_default AND o.adbin::text IS DISTINCT FROM p.adbin::text) AS d
   WHERE d.own IS DISTINCT FROM d.tabs
  UNION ALL
  -- a primary key of its own needs it
  SELECT c.part::regclass, 'not null',
         format(CASE WHEN c.attnotnull THEN 'column %I is NOT NULL, the table''s isn''t'
                     ELSE 'column %I isn''t NOT NULL, the table''s is' END, c.attname),
         format('ALTER TABLE %s ALTER COLUMN %I %s NOT NULL', c.part::regclass, c.attname,
                CASE WHEN c.attnotnull THEN 'DROP' ELSE 'SET' END)
    FROM columns AS c
   WHERE c.attnotnull <> c.tab_notnull
     AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.part AND i.indisprimary
                        AND c.attnum = ANY (i.indkey) AND c.attnotnull)
  UNION ALL
  SELECT x.oid::regclass, 'owner',
         format('belongs to %I, the table to %I', pg_get_userbyid(x.relowner), pg_get_userbyid(x.tab_owner)),
         format('ALTER TABLE %s OWNER TO %I', x.oid::regclass, pg_get_userbyid(x.tab_owner))
    FROM pair AS x WHERE x.relowner <> x.tab_owner
  UNION ALL
  SELECT x.oid::regclass, 'privileges', 'privileges differ from the table''s', NULL
    FROM pair AS x
    LEFT JOIN grants AS c ON c.oid = x.oid
    LEFT JOIN grants AS p ON p.oid = x.tab
   WHERE x.relowner = x.tab_owner AND x.relacl IS DISTINCT FROM x.tab_acl AND c.list IS DISTINCT FROM p.list
  UNION ALL
  SELECT c.part::regclass, 'privileges',
         format('privileges on column %s differ from the table''s', string_agg(quote_ident(c.attname), ', ' ORDER BY c.attnum)), NULL
    FROM columns AS c JOIN pair AS x ON x.oid = c.part
   WHERE x.relowner = x.tab_owner AND c.attacl IS DISTINCT FROM c.tab_acl
     AND ARRAY(SELECT ROW(a.grantee, a.privilege_type, bool_or(a.is_grantable))::text FROM aclexplode(c.attacl) AS a
                WHERE a.grantee <> x.relowner GROUP BY a.grantee, a.privilege_type ORDER BY 1)
         <> ARRAY(SELECT ROW(a.grantee, a.privilege_type, bool_or(a.is_grantable))::text FROM aclexplode(c.tab_acl) AS a
                   WHERE a.grantee <> x.relowner GROUP BY a.grantee, a.privilege_type ORDER BY 1)
   GROUP BY c.part
  UNION ALL
  SELECT x.oid::regclass, 'row security',
         concat_ws(', ',
           CASE WHEN x.relrowsecurity <> x.tab_rowsecurity
                THEN CASE WHEN x.tab_rowsecurity THEN 'row security is off, the table''s is on'
                          ELSE 'row security is on, the table''s is off' END END,
           CASE WHEN x.relforcerowsecurity <> x.tab_forcerowsecurity
                THEN CASE WHEN x.tab_forcerowsecurity THEN 'row security isn''t forced on its owner, the table''s is'
                          ELSE 'row security is forced on its owner, the table''s isn''t' END END,
           CASE WHEN c.list IS DISTINCT FROM p.list THEN 'policies of row security differ from the table''s' END),
         NULL
    FROM pair AS x
    LEFT JOIN policies AS c ON c.polrelid = x.oid
    LEFT JOIN policies AS p ON p.polrelid = x.tab
   WHERE x.relkind IN ('r', 'p') -- a foreign table can have none
     AND (x.relrowsecurity <> x.tab_rowsecurity OR x.relforcerowsecurity <> x.tab_forcerowsecurity
          OR c.list IS DISTINCT FROM p.list)
  UNION ALL
  SELECT x.oid::regclass, 'replica identity', 'replica identity differs from the table''s', NULL
    FROM pair AS x
   WHERE x.relkind IN ('r', 'p')
     AND (x.relreplident <> x.tab_replident
          OR x.tab_replident = 'i'
             AND EXISTS (SELECT FROM indexes AS i
                          WHERE i.part = x.oid AND i.tab_ident AND i.indisreplident IS NOT TRUE))
  UNION ALL
  SELECT x.oid::regclass, 'storage parameter', format('lacks storage parameter %s', s.parameter),
         format('ALTER TABLE %s SET (%s = %L)', x.oid::regclass, split_part(s.parameter, '=', 1),
                substr(s.parameter, strpos(s.parameter, '=') + 1))
    FROM sagaz_ha.partition_policy AS p, unnest(p.storage_parameters) AS s (parameter), pair AS x
    LEFT JOIN pg_class AS t ON t.oid = x.reltoastrelid
   WHERE p.parent = x.root AND x.relkind = 'r'
     AND CASE WHEN starts_with(s.parameter, 'toast.')
              THEN t.oid IS NOT NULL AND NOT coalesce(substr(s.parameter, 7) = ANY (t.reloptions), false)
              ELSE NOT coalesce(s.parameter = ANY (x.reloptions), false) END
  UNION ALL
  -- moving it copies it, under a lock that keeps everybody out
  SELECT x.oid::regclass, 'tablespace',
         format('is in tablespace %I, the policy says %I', t.spcname, p.tablespace), NULL
    FROM sagaz_ha.partition_policy AS p, pair AS x
    JOIN pg_database AS d ON d.datname = current_database()
    JOIN pg_tablespace AS t ON t.oid = coalesce(nullif(x.reltablespace, 0), d.dattablespace)
   WHERE p.parent = x.root AND x.relkind = 'r' AND t.spcname <> p.tablespace
  ) AS d
  JOIN (SELECT x.oid, x.root FROM pair AS x UNION SELECT x.tab, x.root FROM pair AS x) AS r ON r.oid = d.partition;
END
$$;
COMMENT ON FUNCTION sagaz_ha._drift(regclass) IS
  'internal: in what the partitions of a table, or of all for null, differ from it, and what would mend that';

CREATE FUNCTION sagaz_ha._drift_indexes(
  parent regclass,
  OUT partition oid, OUT relkind "char", OUT partition_owner oid, OUT bytes numeric,
  OUT tab oid, OUT tab_owner oid, OUT tab_index oid, OUT is_unique boolean, OUT tail text,
  OUT contype "char", OUT constraint_definition text, OUT deferral text,
  OUT attached oid, OUT found oid, OUT found_valid boolean, OUT found_constraint boolean
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
-- the planner takes this for work that is worth compiling, which takes longer
SET jit = off
BEGIN ATOMIC
  WITH lacking AS MATERIALIZED (
    SELECT x.oid AS part, x.relkind, x.relowner, t.tab, o.relowner AS tab_owner, p.indexrelid, p.indisunique,
           a.indexrelid AS attached, a.indisvalid AS attached_valid
      FROM sagaz_ha._partition_tree(_drift_indexes.parent) AS t
      JOIN pg_class AS x ON x.oid = t.partition AND x.relkind IN ('r', 'p')
      JOIN pg_class AS o ON o.oid = t.tab
      JOIN pg_index AS p ON p.indrelid = t.tab AND p.indislive
      LEFT JOIN (pg_index AS a JOIN pg_inherits AS i ON i.inhrelid = a.indexrelid)
        ON a.indrelid = x.oid AND i.inhparent = p.indexrelid
     WHERE a.indexrelid IS NULL OR NOT a.indisvalid AND x.relkind = 'r'
        -- all have it, and one stands for all: to look at the table's again
        OR NOT p.indisvalid AND x.oid = (SELECT min(i.inhrelid) FROM pg_inherits AS i WHERE i.inhparent = t.tab)
           AND NOT EXISTS (SELECT FROM pg_inherits AS h
                            WHERE h.inhparent = t.tab
                              AND NOT EXISTS (SELECT FROM pg_index AS c JOIN pg_inherits AS i ON i.inhrelid = c.indexrelid
                                               WHERE c.indrelid = h.inhrelid AND i.inhparent = p.indexrelid AND c.indisvalid))
  ), definitions AS (
    SELECT r.oid, substr(pg_get_indexdef(r.oid),
             length(format('CREATE %sINDEX %I ON %s%s USING ', CASE WHEN i.indisunique THEN 'UNIQUE ' END,
                           r.relname, CASE r.relkind WHEN 'I' THEN 'ONLY ' END, i.indrelid::regclass)) + 1) AS tail
      FROM pg_index AS i JOIN pg_class AS r ON r.oid = i.indexrelid
     WHERE i.indrelid IN (SELECT l.part FROM lacking AS l UNION SELECT l.tab FROM lacking AS l)
  )
  SELECT l.part, l.relkind, l.relowner,
         (SELECT sum(pg_relation_size(t.relid)) FROM pg_partition_tree(l.part) AS t WHERE t.isleaf), l.tab, l.tab_owner, l.indexrelid, l.indisunique, d.tail,
         k.contype, pg_get_constraintdef(k.oid),
         CASE WHEN k.condeferrable THEN ' DEFERRABLE' END || CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END,
         l.attached, f.indexrelid, coalesce(l.attached_valid, f.indisvalid), f.contype IS NOT NULL
    FROM lacking AS l
    JOIN definitions AS d ON d.oid = l.indexrelid
    LEFT JOIN pg_constraint AS k ON k.conindid = l.indexrelid AND k.conrelid = l.tab AND k.contype IN ('p', 'u', 'x')
    LEFT JOIN LATERAL (
      SELECT i.indexrelid, i.indisvalid, c.contype
        FROM pg_index AS i
        JOIN definitions AS e ON e.oid = i.indexrelid AND e.tail = d.tail
        LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid AND c.conrelid = l.part AND c.contype IN ('p', 'u', 'x')
       WHERE i.indrelid = l.part AND i.indisunique = l.indisunique
         AND NOT EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhrelid = i.indexrelid)
         AND (c.contype IS NULL OR c.contype = k.contype)
       ORDER BY i.indisvalid DESC, c.contype IS NOT NULL DESC, i.indexrelid LIMIT 1) AS f ON l.attached IS NULL
   ORDER BY l.part, l.indexrelid;
END;
COMMENT ON FUNCTION sagaz_ha._drift_indexes(regclass) IS
  'internal: the indexes that partitions of a table lack, and what there is to make of it';

CREATE FUNCTION sagaz_ha.repair_partitions(
  parent regclass,
  OUT action text, OUT table_name text, OUT partition_name text, OUT details text
) RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_repair_partitions';
COMMENT ON FUNCTION sagaz_ha.repair_partitions(regclass) IS
  'make the partitions of a table what the table is, as far as short locks allow; what was done';

CREATE FUNCTION sagaz_ha._off_grid(
  parents regclass[], OUT parent regclass, OUT partition_start timestamptz, OUT bounds text
) RETURNS SETOF record
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'sagaz_off_grid';
COMMENT ON FUNCTION sagaz_ha._off_grid(regclass[]) IS
  'internal: the odd partition of each table after which its bounds are the time zone''s again; no row if they are';

--
-- Restores
--

CREATE FUNCTION sagaz_ha._not_whole(parent regclass, OUT reason text, OUT version text) RETURNS record
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
-- the planner takes this for work that is worth compiling, which takes longer
SET jit = off
BEGIN ATOMIC
  WITH tree AS MATERIALIZED (
    SELECT t.partition AS oid FROM sagaz_ha._partition_tree(_not_whole.parent) AS t
    UNION ALL SELECT _not_whole.parent
  ), rels AS MATERIALIZED (
    SELECT t.oid FROM tree AS t
    UNION ALL SELECT i.indexrelid FROM tree AS t JOIN pg_index AS i ON i.indrelid = t.oid
  )
  SELECT coalesce(
    (SELECT format('index %s is not valid', min(i.indexrelid::regclass::text)) FROM pg_index AS i
      WHERE i.indrelid = _not_whole.parent AND NOT i.indisvalid HAVING count(*) > 0),
    (SELECT format('process %s, which brought the policy, is still at work', s.pid)
       FROM sagaz_ha.asleep AS a
       JOIN pg_stat_activity AS s ON s.pid = a.brought_by AND s.backend_start = a.brought_by_since
      WHERE a.parent = _not_whole.parent AND s.pid <> pg_backend_pid()
        AND (s.state <> 'idle' OR s.state_change > clock_timestamp() - interval '1 minute')),
    (SELECT format('process %s of pg_restore is still at work', min(s.pid)) FROM pg_stat_activity AS s
      WHERE s.datname = current_database() AND s.application_name = 'pg_restore' HAVING count(*) > 0),
    (SELECT format('process %s changes or loads it', min(l.pid)) FROM pg_locks AS l
       JOIN pg_stat_activity AS s ON s.pid = l.pid AND s.backend_type = 'client backend'
       JOIN rels AS r ON r.oid = l.relation
      WHERE l.locktype = 'relation' AND l.pid <> pg_backend_pid()
        AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
        AND (l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
             OR EXISTS (SELECT FROM pg_stat_progress_copy AS c WHERE c.pid = l.pid AND c.relid = l.relation))
     HAVING count(*) > 0)),
    (SELECT md5(string_agg(v.version, ' ' ORDER BY v.version)) FROM (
       SELECT concat(c.oid, ' ', c.xmin) FROM rels AS r JOIN pg_class AS c ON c.oid = r.oid
       UNION ALL SELECT concat(i.indexrelid, ' ', i.xmin) FROM tree AS r JOIN pg_index AS i ON i.indrelid = r.oid
       UNION ALL SELECT concat(c.oid, ' ', c.xmin) FROM tree AS r JOIN pg_constraint AS c ON c.conrelid = r.oid
       UNION ALL SELECT concat(t.oid, ' ', t.xmin) FROM tree AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid
       UNION ALL SELECT concat(p.oid, ' ', p.xmin) FROM tree AS r JOIN pg_policy AS p ON p.polrelid = r.oid
       UNION ALL SELECT concat(a.attrelid, ' ', a.attnum, ' ', a.xmin) FROM tree AS r
                   JOIN pg_attribute AS a ON a.attrelid = r.oid) AS v (version));
END;
COMMENT ON FUNCTION sagaz_ha._not_whole(regclass) IS
  'internal: why a restored table isn''t whole yet, null if it is; and what changes with it';

CREATE FUNCTION sagaz_ha.policy_arrived() RETURNS trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_policy_arrived';
COMMENT ON FUNCTION sagaz_ha.policy_arrived() IS
  'trigger function: a policy that manage_partitions() doesn''t write comes in a restore';
CREATE TRIGGER policy_arrived AFTER INSERT ON sagaz_ha.partition_policy
  FOR EACH ROW EXECUTE FUNCTION sagaz_ha.policy_arrived();
COMMENT ON TRIGGER policy_arrived ON sagaz_ha.partition_policy IS
  'a restored table is left alone until it is whole';

-- From the catalogs alone: a lock on a partition is none of health's business.
CREATE FUNCTION sagaz_ha._unique_flaws(
  parent regclass,
  OUT root regclass, OUT name name, OUT kind text, OUT details text
) RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
  WITH keys AS (
    SELECT k.parent AS root, k.name, k.on_duplicate,
           -- as they are called now
           coalesce((SELECT array_agg(a.attname ORDER BY a.attnum)
                       FROM pg_trigger AS g
                       JOIN pg_depend AS d ON d.classid = 'pg_trigger'::regclass AND d.objid = g.oid
                                          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = k.parent
                       JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attnum > 0
                      WHERE g.tgrelid = k.parent AND g.tgname = k.name
                        AND g.tgfoid = 'sagaz_ha.check_unique'::regproc), k.columns) AS columns
      FROM sagaz_ha.unique_key AS k
     WHERE k.parent = _unique_flaws.parent OR _unique_flaws.parent IS NULL
  ), tables AS (
    SELECT k.*, k.root::oid AS relid FROM keys AS k
    UNION ALL
    SELECT k.*, t.partition FROM keys AS k CROSS JOIN LATERAL sagaz_ha._partition_tree(k.root) AS t
  )
  SELECT t.root, t.name, 'trigger',
         format(CASE WHEN g.tgenabled IS NULL THEN '%s has no trigger of it' ELSE 'a trigger of it is off on %s' END,
                t.relid::regclass)
    FROM tables AS t
   CROSS JOIN LATERAL (SELECT 'sagaz_ha.check_unique'::regproc AS function
                       UNION ALL
                       SELECT 'sagaz_ha.skip_duplicate'::regproc WHERE t.on_duplicate = 'skip') AS f
    LEFT JOIN pg_trigger AS g ON g.tgrelid = t.relid AND g.tgfoid = f.function
     AND CASE WHEN f.function = 'sagaz_ha.check_unique'::regproc THEN g.tgname = t.name
           ELSE g.tgargs = convert_to(t.name::text, getdatabaseencoding()) || '\x00'::bytea END
   WHERE g.tgenabled IS DISTINCT FROM 'A'
  UNION ALL
  SELECT t.root, t.name, 'index', format('%s has no index of it', c.oid::regclass)
    FROM tables AS t JOIN pg_class AS c ON c.oid = t.relid AND c.relkind = 'r'
   WHERE NOT EXISTS (
     SELECT FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
      WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indisready AND i.indislive
        AND x.relam = (SELECT a.oid FROM pg_am AS a WHERE a.amname = 'btree')
        AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = cardinality(t.columns)
        AND (SELECT count(*) FROM pg_attribute AS a
              WHERE a.attrelid = c.oid AND a.attname = ANY (t.columns) AND a.attnum > 0
                AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) = cardinality(t.columns));
END;
COMMENT ON FUNCTION sagaz_ha._unique_flaws(regclass) IS
  'internal: what the unique keys of a table lack, or of all tables for null';

CREATE FUNCTION sagaz_ha.partition_health(
  OUT table_name text, OUT check_name text, OUT status text, OUT value text, OUT details text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
SET jit = off -- compiling would take a thousand times as long as running
SET plan_cache_mode = force_generic_plan -- a plan without the look for drift is cheaper, and would be made for each call
AS $$
#variable_conflict use_column
DECLARE
  -- comparing takes long: where a worker runs, it has done that
  compares boolean := NOT pg_is_in_recovery()
    AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.backend_type = 'sagaz_ha launcher');
BEGIN
  RETURN QUERY
  WITH drift AS MATERIALIZED (
    SELECT d.* FROM sagaz_ha._drift(NULL) AS d WHERE compares
  ), flaws AS MATERIALIZED (
    SELECT f.* FROM sagaz_ha._unique_flaws(NULL) AS f
  ), coverage AS (
    SELECT c.*, sagaz_ha.clock() AS now FROM sagaz_ha.coverage() AS c
  ), failing AS (
    SELECT p.parent, count(*) AS failures, (array_agg(p.details ORDER BY p.since DESC))[1] AS details
      FROM sagaz_ha.problem AS p
     -- one that has been changed since may be solved: the next pass tells
     WHERE p.action = 'ERROR' AND p.version = sagaz_ha._problem_version(p.parent, p.partition)
     GROUP BY p.parent
  )
  SELECT c.table_name, 'coverage',
         CASE
           WHEN c.covered_until IS NULL OR c.covered_until <= c.now THEN 'critical'
           WHEN c.covered_until < c.now + (c.premade_until - c.now) / 4 THEN 'critical'
           WHEN c.covered_until < c.now + (c.premade_until - c.now) / 2 THEN 'warning'
           ELSE 'ok'
         END,
         c.covered_until::text,
         CASE
           WHEN c.covered_until < c.premade_until AND c.catch_all IS NOT NULL
           THEN format('rows have a partition of their time until %s, and go to %s then, which has no end: no other can be made; the policy wants %s',
                       c.covered_until, c.catch_all, c.premade_until)
           WHEN c.covered_until IS NOT NULL
           THEN format('inserts succeed until %s; the policy wants %s', c.covered_until, c.premade_until)
           WHEN c.catch_all IS NOT NULL
           THEN format('no partition covers the current time: rows go to %s, which has no end, so that no other can be made', c.catch_all)
           WHEN c.default_partition IS NOT NULL
           THEN 'no partition covers the current time: rows go to the default partition'
           ELSE 'no partition covers the current time: inserts fail'
         END
    FROM coverage AS c WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
  UNION ALL
  SELECT c.table_name, 'holes',
         CASE WHEN c.holes > 0 THEN 'warning' ELSE 'ok' END,
         c.holes::text,
         CASE WHEN c.holes > 0
           THEN format('no partition from %s on; the next pass fills it', c.first_hole)
           ELSE 'no gaps between partitions' END
    FROM coverage AS c WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
  UNION ALL
  SELECT c.table_name, 'default_partition',
         CASE WHEN c.default_has_rows THEN 'critical'
              WHEN c.default_partition IS NOT NULL OR c.catch_all IS NOT NULL THEN 'warning' ELSE 'ok' END,
         c.default_partition::text,
         CASE WHEN c.default_has_rows
           THEN 'has rows: a new partition for their time can''t be made until sagaz_ha.partition_table() has moved them'
              WHEN c.default_partition IS NOT NULL
           THEN 'exists and is empty: making and dropping partitions needs an exclusive lock on it'
              WHEN c.catch_all IS NOT NULL
           THEN 'none, but the last partition has no end, so no other is ever made: sagaz_ha.partition_table() gives it one'
              ELSE 'none' END
    FROM coverage AS c WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
  UNION ALL
  SELECT k.table_name, 'keys', CASE WHEN k.others > 0 THEN 'warning' ELSE 'ok' END,
         k.others::text,
         CASE WHEN k.sampled = 0 THEN 'no rows'
              ELSE format('%s of a sample of %s rows of partition %s have a key that is no %s%s',
                          k.others, k.sampled, k.partition_name, k.wanted,
                          CASE WHEN k.others > 0
                               THEN ': it carries no time, so its row is in the partition of a random time'
                               ELSE '' END) END
    FROM sagaz_ha._key_samples() AS k
  UNION ALL
  SELECT c.table_name, 'pending_detach',
         CASE WHEN c.pending_detach IS NOT NULL THEN 'warning' ELSE 'ok' END,
         c.pending_detach::text,
         CASE WHEN c.pending_detach IS NOT NULL
           THEN 'is being detached, and its rows are not visible through the table'
                || coalesce('; waiting for ' || c.pending_waits_for, '')
           ELSE 'none' END
    FROM coverage AS c WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
  UNION ALL
  SELECT m.table_name, 'kept_partitions',
         CASE WHEN count(*) FILTER (WHERE m.state = 'kept') > 0 THEN 'warning' ELSE 'ok' END,
         (count(*) FILTER (WHERE m.state = 'kept'))::text,
         coalesce(nullif(concat_ws('; ',
             string_agg(m.partition_name || ': expired, but kept: ' || m.details, '; '
                        ORDER BY m.partition_start) FILTER (WHERE m.state = 'kept' AND NOT m.held),
             string_agg(m.partition_name, ', ' ORDER BY m.partition_start)
               FILTER (WHERE m.state = 'kept' AND m.held) || ': expired, but held'), ''), 'none')
    FROM (SELECT p.table_name, p.partition_name, p.partition_start,
                 CASE WHEN p.state = 'expired' THEN sagaz_ha._expired_state(p.partition) END AS state,
                 EXISTS (SELECT FROM sagaz_ha.partition_hold AS h
                          WHERE h.partition = p.partition) AS held,
                 (SELECT max(k.details) FROM sagaz_ha.problem AS k
                   WHERE k.partition = p.partition AND k.action = 'KEEP') AS details
            FROM sagaz_ha.partitions(sizes => false) AS p) AS m GROUP BY m.table_name
  UNION ALL
  SELECT c.table_name, 'maintainable',
         CASE WHEN c.problem IS NOT NULL THEN 'critical' ELSE 'ok' END,
         NULL, coalesce(c.problem, 'the policy fits the table')
    FROM coverage AS c
  UNION ALL
  SELECT c.table_name, 'errors',
         CASE WHEN f.failures > 0 THEN 'critical' ELSE 'ok' END,
         coalesce(f.failures, 0)::text, coalesce(f.details, 'none')
    FROM coverage AS c LEFT JOIN failing AS f ON f.parent = c.parent
  UNION ALL
  SELECT c.table_name, 'drops',
         CASE WHEN p.since IS NOT NULL THEN 'critical' ELSE 'ok' END,
         p.since::text,
         CASE WHEN p.since IS NULL THEN 'not held back'
           ELSE 'held back, because '
                || CASE WHEN p.since = p.restored THEN 'the server was restored from a backup'
                        ELSE 'the clock looked wrong' END
                || '; sagaz_ha.resume_drops() lets them go on' END
    FROM coverage AS c
    -- a restore that no pass has written down yet holds them back already
    JOIN (SELECT p.parent, coalesce(r.at, p.restored_at) AS restored,
                 CASE WHEN p.restored_at IS DISTINCT FROM coalesce(r.at, p.restored_at)
                   THEN r.at ELSE p.drops_held_since END AS since
            FROM sagaz_ha.partition_policy AS p
           CROSS JOIN sagaz_ha._restored_at() AS r (at)) AS p ON p.parent = c.parent
  UNION ALL
  -- only while there is one
  SELECT sagaz_ha._display_name(v.relation, v.table_name), 'conversion',
         CASE WHEN v.phase = 'failed' OR v.finish_by < sagaz_ha.clock() THEN 'critical'
              WHEN v.error IS NOT NULL OR v.tries >= 100 THEN 'warning' ELSE 'ok' END,
         v.phase,
         CASE WHEN v.phase = 'failed' THEN 'was taken back: ' || v.error
              WHEN v.finish_by < sagaz_ha.clock()
                THEN format('has to end before %s, when rows reach the bound and are refused; sagaz_ha.cancel_partition_table() takes it back', v.upper_bound)
              WHEN v.error IS NOT NULL THEN 'is tried again: ' || v.error
              WHEN v.waits_for IS NOT NULL THEN 'waiting for ' || v.waits_for
              ELSE 'is becoming partitioned' END
    FROM sagaz_ha.conversion AS v
  UNION ALL
  -- of a dump that was made during one
  SELECT sagaz_ha._display_name(c.oid, c.relname), 'conversion', 'critical', NULL,
         'was becoming partitioned in the database that this is a copy of, and would refuse rows some day; sagaz_ha.cancel_partition_table() takes it back'
    -- partitions have such a constraint as well: they are many, and what is looked for is rare
    FROM (SELECT DISTINCT c.oid, c.relname
            FROM pg_class AS p
            JOIN pg_constraint AS k ON k.connamespace = p.relnamespace AND k.contype = 'c' AND k.conname = 'sagaz_ha_bounds'
            JOIN pg_class AS c ON c.oid = k.conrelid
           WHERE p.relkind = 'p' AND p.relname LIKE '%\_sagaz\_ha' OFFSET 0) AS c
   WHERE sagaz_ha._conversion_left(c.oid) IS NOT NULL
     AND NOT EXISTS (SELECT FROM sagaz_ha.conversion AS v WHERE v.relation = c.oid)
  UNION ALL
  SELECT c.table_name, 'before_drop',
         CASE WHEN r.refused > 0 THEN 'warning' ELSE 'ok' END,
         coalesce(r.waiting, 0)::text, coalesce(r.details, 'no partition waits for a function')
    FROM coverage AS c
    LEFT JOIN (SELECT r.parent, count(*) AS waiting, count(*) FILTER (WHERE r.calls > 0) AS refused,
                      string_agg(format('%s: detached%s', r.name,
                        CASE WHEN r.calls > 0 THEN format(
                          '; the function was called %s times, last at %s, and hasn''t returned true', r.calls, r.called_at)
                        ELSE '; the function is called next' END), '; ' ORDER BY r.since, r.name) AS details
                 FROM (SELECT t.*, coalesce((SELECT min(p.partition_name) FROM sagaz_ha.problem AS p
                                              WHERE p.partition = t.partition), t.partition::text) AS name
                         FROM sagaz_ha.retirement AS t WHERE t.phase = 'before_drop') AS r
                GROUP BY r.parent) AS r ON r.parent = c.parent
  UNION ALL
  SELECT c.table_name, 'publications',
         CASE WHEN d.tables > 0 THEN 'warning' ELSE 'ok' END,
         coalesce(d.tables, 0)::text,
         coalesce(d.details || ': detached, and published all the same', 'no detached partition is published')
    FROM coverage AS c
    LEFT JOIN (SELECT s.parent, count(*) AS tables,
                      string_agg(format('%s (%s)', s.partition, s.publications), ', ' ORDER BY s.partition) AS details
                 FROM (SELECT t.parent, t.partition::text AS partition,
                              string_agg(quote_ident(p.pubname)
                                || CASE WHEN p.puballtables THEN ' FOR ALL TABLES' ELSE ' FOR TABLES IN SCHEMA' END,
                                ', ' ORDER BY p.pubname) AS publications
                         FROM sagaz_ha.partition_times AS t
                         JOIN pg_class AS r ON r.oid = t.partition AND NOT r.relispartition
                           AND r.relkind IN ('r', 'p') AND r.relpersistence = 'p'
                         JOIN pg_publication AS p ON p.puballtables
                           OR EXISTS (SELECT FROM pg_publication_namespace AS n
                                       WHERE n.pnpubid = p.oid AND n.pnnspid = r.relnamespace)
                        WHERE t.detached_at IS NOT NULL GROUP BY t.parent, t.partition) AS s
                GROUP BY s.parent) AS d ON d.parent = c.parent
  UNION ALL
  SELECT c.table_name, 'drift',
         CASE WHEN d.partitions = 0 THEN 'ok' WHEN d.index THEN 'critical' ELSE 'warning' END,
         d.partitions::text,
         CASE WHEN d.partitions > 0
           THEN d.first || CASE WHEN d.partitions > 1 THEN format(' (and %s more)', d.partitions - 1) ELSE '' END
                || '; sagaz_ha.repair_partitions() mends what it can'
           ELSE 'no partition differs from the table' END
    FROM coverage AS c
   CROSS JOIN LATERAL (
     SELECT count(*) AS partitions, bool_or(p.index) AS index, (array_agg(p.text ORDER BY NOT p.index, p.text))[1] AS first
       FROM (SELECT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.parent AND NOT i.indisvalid) AS index,
                    format('%s: %s', coalesce(r.partition_name, r.table_name), r.details) AS text
               FROM sagaz_ha.problem AS r WHERE NOT compares AND r.parent = c.parent AND r.found_by = 'drift'
             UNION ALL
             SELECT bool_or(d.kind = 'index'),
                    format('%s: %s', d.partition, string_agg(d.details, ', ' ORDER BY d.kind, d.details))
               FROM drift AS d WHERE d.root = c.parent GROUP BY d.partition) AS p) AS d
  UNION ALL
  -- only of tables with such a key, which need no policy
  SELECT sagaz_ha._display_name(k.parent, k.parent::text), 'unique',
         CASE WHEN bool_or(f.triggers > 0) THEN 'critical' WHEN bool_or(f.flaws > 0) THEN 'warning' ELSE 'ok' END,
         sum(f.flaws)::text,
         string_agg(CASE WHEN f.triggers > 0
                      THEN format('%s: not in force: %s; sagaz_ha.add_unique() puts it in force again', k.name, f.details)
                      WHEN f.flaws > 0
                      THEN format('%s: in force, but every row is read where there is no index: %s', k.name, f.details)
                      ELSE format('%s: %s', k.name, CASE k.phase WHEN 'building' THEN 'is being built'
                                                      WHEN 'checking' THEN 'in force for new rows; older ones are being looked at'
                                                      ELSE 'in force' END) END, '; ' ORDER BY k.name)
    FROM sagaz_ha.unique_key AS k
    JOIN pg_class AS t ON t.oid = k.parent
   CROSS JOIN LATERAL (
     SELECT count(*) AS flaws, count(*) FILTER (WHERE w.kind = 'trigger') AS triggers,
            (array_agg(w.details ORDER BY w.kind DESC, w.details))[1]
              || CASE WHEN count(*) > 1 THEN format(' (and %s more)', count(*) - 1) ELSE '' END AS details
       FROM flaws AS w WHERE w.root = k.parent AND w.name = k.name AND k.phase <> 'building') AS f
   GROUP BY k.parent
  UNION ALL
  (SELECT c.table_name, 'bounds',
         CASE WHEN g.partition_start IS NOT NULL THEN 'warning' ELSE 'ok' END,
         g.partition_start::text,
         CASE WHEN g.partition_start IS NULL THEN format('partitions begin when days do in time zone %s', p.time_zone)
           ELSE format('partitions begin at %s of time zone %s, inside of a day, and so will all later ones: '
                       'the bounds were written in another zone. The way back is one odd partition, '
                       '%s: sagaz_ha.repair_partitions() makes it',
                       to_char(timezone(p.time_zone, g.partition_start), 'HH24:MI'), p.time_zone, g.bounds) END
    FROM coverage AS c
    JOIN sagaz_ha.partition_policy AS p ON p.parent = c.parent
    LEFT JOIN sagaz_ha._off_grid(ARRAY(SELECT o.parent FROM coverage AS o
                                        WHERE o.problem IS NULL OR o.premade_until IS NOT NULL)) AS g ON g.parent = c.parent
   WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
   ORDER BY c.table_name)
  UNION ALL
  SELECT c.table_name, 'restored',
         CASE WHEN a.parent IS NULL THEN 'ok'
              WHEN a.since < clock_timestamp() - interval '1 hour' THEN 'critical' ELSE 'warning' END,
         a.since::text,
         CASE WHEN a.parent IS NULL THEN 'maintenance has begun'
           ELSE 'the policy came in a restore, and maintenance begins when the table is whole'
                || coalesce(': ' || (SELECT n.reason FROM sagaz_ha._not_whole(c.parent) AS n), '')
                || '; sagaz_ha.maintain_partitions() begins now' END
    FROM coverage AS c LEFT JOIN sagaz_ha.asleep AS a ON a.parent = c.parent
  UNION ALL
  SELECT NULL, 'retirement',
         CASE current_setting('sagaz_ha.retire') WHEN 'on' THEN 'ok' ELSE 'warning' END,
         current_setting('sagaz_ha.retire'),
         CASE current_setting('sagaz_ha.retire') WHEN 'on' THEN 'expired partitions are retired'
           ELSE 'sagaz_ha.retire is off: expired partitions stay, and partitions are made all the same' END
  UNION ALL
  SELECT t.table_name, 'plain_table', 'warning', NULL, t.details
    FROM sagaz_ha._plain_saga_tables() AS t
  UNION ALL
  SELECT NULL, 'standbys',
         CASE WHEN count(*) > 0 THEN 'warning' ELSE 'ok' END,
         count(*)::text,
         coalesce(string_agg(f.name || f.trouble, '; '), 'drops wait for every standby that they have to')
    FROM (SELECT coalesce(nullif(r.application_name, ''), r.client_addr::text, r.pid::text) AS name,
                 ': no feedback, so drops don''t wait for its queries; set hot_standby_feedback = on there' AS trouble
            FROM pg_stat_replication AS r
            LEFT JOIN pg_replication_slots AS s ON s.active_pid = r.pid
           WHERE r.backend_xmin IS NULL AND s.xmin IS NULL
             AND r.replay_lsn IS NOT NULL AND s.slot_type IS DISTINCT FROM 'logical'
          UNION ALL
          SELECT s.slot_name::text,
                 ': its standby is not connected; drops wait for it up to sagaz_ha.standby_drain_timeout ('
                 || current_setting('sagaz_ha.standby_drain_timeout') || ')'
            FROM pg_replication_slots AS s
           WHERE s.slot_type = 'physical' AND NOT s.active AND s.xmin IS NOT NULL) AS f
  UNION ALL
  SELECT NULL, 'worker',
         CASE WHEN NOT s.has_room THEN 'critical'
              WHEN s.overdue IS NULL AND (w.pid IS NOT NULL OR pg_is_in_recovery()) THEN 'ok' ELSE 'warning' END,
         w.pid::text,
         CASE WHEN NOT s.has_room
                THEN format('the launcher is running, but has no room for this database: raise sagaz_ha.max_databases (%s) and restart the server',
                            current_setting('sagaz_ha.max_databases', true))
              WHEN s.overdue IS NOT NULL
                THEN format('the launcher is running, but a pass has been due for %s: see the log, and sagaz_ha.maintenance_status()',
                            date_trunc('second', s.overdue))
              WHEN w.pid IS NOT NULL THEN 'the launcher is running'
              WHEN pg_is_in_recovery() THEN 'this is a standby: its primary does maintenance'
              ELSE 'no worker is running: add sagaz_ha to shared_preload_libraries, or call maintain_all_partitions() regularly' END
    FROM (SELECT min(a.pid) AS pid FROM pg_stat_activity AS a
           WHERE a.backend_type = 'sagaz_ha launcher') AS w
   CROSS JOIN sagaz_ha._maintained() AS s;
END
$$;
COMMENT ON FUNCTION sagaz_ha.partition_health() IS
  'checks per managed table and for the server, each with status ok, warning or critical';

CREATE FUNCTION sagaz_ha.maintenance_status(
  OUT process text, OUT pid integer, OUT database text, OUT phase text, OUT table_name text,
  OUT since timestamptz, OUT partitions_done integer, OUT partitions_total integer,
  OUT waiting_for text, OUT last_pass timestamptz, OUT next_pass timestamptz,
  OUT passes bigint, OUT actions bigint, OUT last_error text,
  OUT last_duration interval, OUT errors bigint, OUT overdue interval
) RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_maintenance_status';
COMMENT ON FUNCTION sagaz_ha.maintenance_status() IS
  'launcher and workers of all databases: what each is doing, since when, and what it waits for';

CREATE FUNCTION sagaz_ha._maintained(OUT has_room boolean, OUT overdue interval) RETURNS record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_maintained';
COMMENT ON FUNCTION sagaz_ha._maintained() IS
  'internal: whether the launcher has room for this database, and by how much its next pass is late';

--
-- Moving in from pg_partman
--

CREATE FUNCTION sagaz_ha._require_primary(function text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION 'cannot execute %() during recovery', function
      USING ERRCODE = 'read_only_sql_transaction', HINT = 'Run it on the primary; its changes reach this standby by replication.';
  ELSIF current_setting('transaction_read_only')::boolean THEN
    RAISE EXCEPTION 'cannot execute %() in a read-only transaction', function
      USING ERRCODE = 'read_only_sql_transaction', HINT = 'Use a read-write transaction.';
  END IF;
END
$$;
COMMENT ON FUNCTION sagaz_ha._require_primary(text) IS
  'internal: an error where nothing can be changed';

-- Whatever has its columns, of 4.7 or 5: one object per set.
CREATE FUNCTION sagaz_ha._pg_partman_sets(OUT schema name, OUT parent regclass, OUT table_name text, OUT config jsonb, OUT has_sub boolean)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  SELECT n.nspname INTO schema FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
   WHERE e.extname = 'pg_partman';
  IF schema IS NULL THEN
    RAISE EXCEPTION 'extension "pg_partman" is not installed in this database'
      USING ERRCODE = 'undefined_object', HINT = 'Connect to the database whose tables pg_partman maintains.';
  END IF;
  FOR config, has_sub IN EXECUTE format(
    'SELECT to_jsonb(c), EXISTS (SELECT FROM %1$I.part_config_sub AS s WHERE s.sub_parent = c.parent_table)
       FROM %1$I.part_config AS c ORDER BY c.parent_table', schema) LOOP
    -- pg_partman writes the name without quotes
    SELECT c.oid, CASE WHEN n.oid = e.extnamespace THEN quote_ident(c.relname) ELSE c.oid::regclass::text END
      INTO parent, table_name
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_extension AS e ON e.extname = 'sagaz_ha'
     WHERE n.nspname || '.' || c.relname = config ->> 'parent_table';
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION sagaz_ha._pg_partman_sets() IS
  'internal: the partition sets of pg_partman, of version 4.7 or 5';

-- pg_partman takes midnight of the session's zone, so the bounds tell which one it was.
CREATE FUNCTION sagaz_ha._time_zone_of_bounds(parent regclass) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO'
AS $$
DECLARE
  zone text;
  is_instant boolean;
  bounds text[];
BEGIN
  SELECT a.atttypid = 'timestamptz'::regtype INTO is_instant
    FROM pg_partitioned_table AS p
    JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
   WHERE p.partrelid = parent;
  bounds := ARRAY (SELECT (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*?)''\)'))[1]
                     FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
                    WHERE i.inhparent = parent);
  bounds := array_remove(bounds, NULL);
  FOR zone IN
    -- first as now() was turned into a bound, then what is said for all, roles and databases
    SELECT z.name FROM (
      SELECT 1 AS place, current_setting('TimeZone') AS name WHERE NOT is_instant
      UNION ALL SELECT 2, 'UTC'
      UNION ALL SELECT 3, current_setting('TimeZone')
      UNION ALL SELECT 4, s.reset_val FROM pg_settings AS s WHERE s.name = 'TimeZone'
      UNION ALL SELECT 5, substr(c, 10) FROM pg_db_role_setting AS r, unnest(r.setconfig) AS c
                 WHERE c ILIKE 'timezone=%') AS z
     ORDER BY z.place LOOP
    IF NOT is_instant OR NOT EXISTS (SELECT FROM unnest(bounds) AS b
                                      WHERE (b::timestamptz AT TIME ZONE zone)::time <> '00:00') THEN
      RETURN zone;
    END IF;
  END LOOP;
  RETURN 'UTC';
END
$$;
COMMENT ON FUNCTION sagaz_ha._time_zone_of_bounds(regclass) IS
  'internal: the time zone in which the bounds of a table are at midnight; UTC if there is none';

-- What a set has that a policy doesn't.
CREATE FUNCTION sagaz_ha._pg_partman_rest(parent regclass, config jsonb, OUT item text, OUT details text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  template regclass;
BEGIN
  template := (SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname || '.' || c.relname = config ->> 'template_table');
  RETURN QUERY
  SELECT 'template_table index', format('%s: new partitions get the indexes of the table itself; make it there', pg_get_indexdef(i.indexrelid))
    FROM pg_index AS i WHERE i.indrelid = template
  UNION ALL
  SELECT 'template_table', format('%s: new partitions are like the table itself; pass %s as tablespace or storage_parameters',
           template, concat_ws(', ', CASE WHEN t.relpersistence = 'u' THEN 'UNLOGGED (which has no counterpart)' END,
                               (SELECT spcname FROM pg_tablespace WHERE oid = t.reltablespace), t.reloptions::text))
    FROM pg_class AS t
   WHERE t.oid = template AND (t.relpersistence = 'u' OR t.reltablespace <> 0 OR t.reloptions IS NOT NULL)
  UNION ALL
  SELECT v.item, v.details FROM (VALUES
    ('constraint_cols', nullif(config ->> 'constraint_cols', '{}'),
     'CHECK constraints of old partitions'' columns are not made: no writer would wait for them, but a late row would be refused'),
    ('datetime_string', config ->> 'datetime_string',
     'new partitions are named by the time they begin with, as in _y2026m03d10; existing names stay'),
    ('retention_keep_index', CASE WHEN config ->> 'retention' IS NOT NULL AND config ->> 'retention_keep_table' = 'true'
                                   AND config ->> 'retention_keep_index' = 'false' THEN 'false' END,
     'a detached partition keeps its indexes'),
    ('infinite_time_partitions', CASE WHEN config ->> 'infinite_time_partitions' = 'false' THEN 'false' END,
     'partitions are made ahead of the clock, whether rows come or not'),
    ('publications', nullif(config ->> 'publications', '{}'),
     'a new partition is published by way of its table: add that to the publications'),
    ('date_trunc_interval', config ->> 'date_trunc_interval', 'a new partition begins where the last one ends'),
    ('maintenance_order', config ->> 'maintenance_order', 'all tables get partitions before any is retired')
  ) AS v (item, value, details) WHERE v.value IS NOT NULL;
END
$$;
COMMENT ON FUNCTION sagaz_ha._pg_partman_rest(regclass, jsonb) IS
  'internal: what a set of pg_partman has that a policy has not, and why';

-- Why a set can't be imported; no row: it can.
CREATE FUNCTION sagaz_ha._pg_partman_obstacles(parent regclass, config jsonb, has_sub boolean, OUT item text, OUT details text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT v.item, v.details FROM (VALUES
    ('table', parent IS NULL, 'there is no such table'),
    ('partition_type', config ->> 'partition_type' = 'partman', 'partitions are made by inheritance and triggers; only declarative ones can be managed'),
    ('partition_type', config ->> 'partition_type' = 'list', 'a table partitioned by list can''t be managed'),
    ('partition_interval', config ->> 'epoch' = 'none' AND config ->> 'partition_interval' ~ '^\d+$' AND config ->> 'time_encoder' IS NULL,
     'it is a range of ids: a policy is about time'),
    ('sub-partitions', has_sub, 'its partitions are partitioned themselves by pg_partman: import those as tables of their own, and go on making this level by pg_partman'),
    ('undo_in_progress', config ->> 'undo_in_progress' = 'true', 'pg_partman is undoing its partitions'),
    ('async_partitioning_in_progress', config ->> 'async_partitioning_in_progress' IS NOT NULL, 'pg_partman is moving rows into partitions')
  ) AS v (item, is_so, details) WHERE v.is_so;
END
$$;
COMMENT ON FUNCTION sagaz_ha._pg_partman_obstacles(regclass, jsonb, boolean) IS
  'internal: why a set of pg_partman can not be imported';

CREATE FUNCTION sagaz_ha._drop_empty_default(parent regclass, dry_run boolean, OUT finding text, OUT item text, OUT details text)
RETURNS record
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
  default_partition regclass := (SELECT nullif(p.partdefid, 0) FROM pg_partitioned_table AS p WHERE p.partrelid = parent);
  has_rows boolean;
BEGIN
  IF default_partition IS NULL THEN
    RETURN;
  END IF;
  item := 'default partition';
  EXECUTE format('SELECT EXISTS (SELECT FROM %s)', default_partition) INTO has_rows;
  IF has_rows THEN
    finding := 'in the way';
    details := format('%s has rows: partitions for their times can''t be made until they are moved, with partition_data_proc() of pg_partman or sagaz_ha.partition_table()',
                      default_partition);
    RETURN;
  END IF;
  finding := 'default partition';
  details := format('%s is empty: with it, making and dropping a partition takes an exclusive lock, so it is dropped if it can be had at once',
                    default_partition);
  IF dry_run THEN
    RETURN;
  END IF;
  -- parent first. Nobody may wait behind us, so we don't wait
  EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', parent);
  EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', default_partition);
  EXECUTE format('SELECT EXISTS (SELECT FROM %s)', default_partition) INTO has_rows;
  IF has_rows THEN
    details := format('%s stays: it has got rows just now', default_partition);
    RETURN;
  END IF;
  details := format('%s was empty, and is dropped', default_partition);
  EXECUTE format('DROP TABLE %s', default_partition);
EXCEPTION WHEN lock_not_available OR dependent_objects_still_exist THEN
  details := format('%s is empty and stays (%s): making and dropping a partition takes an exclusive lock on it; drop it by hand',
                    default_partition, sqlerrm);
END
$$;
COMMENT ON FUNCTION sagaz_ha._drop_empty_default(regclass, boolean) IS
  'internal: drops the default partition of a table, if it has no rows and nobody uses it; what came of it';

CREATE FUNCTION sagaz_ha.import_pg_partman(
  parent regclass DEFAULT NULL, dry_run boolean DEFAULT true,
  OUT table_name text, OUT finding text, OUT item text, OUT details text
) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET intervalstyle = 'postgres'
SET lock_timeout = '10s'
AS $$
#variable_conflict use_variable
DECLARE
  one record;
  row record;
  default_partition record;
  call text;
  archive name;
  in_the_way boolean;
  found_one boolean := false;
BEGIN
  PERFORM sagaz_ha._require_primary('import_pg_partman');
  IF dry_run IS NULL THEN
    RAISE EXCEPTION 'dry_run must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Use true or false.';
  END IF;
  FOR one IN SELECT s.* FROM sagaz_ha._pg_partman_sets() AS s WHERE parent IS NULL OR s.parent = parent LOOP
    found_one := true;
    in_the_way := false;
    SELECT NULL::text AS finding, NULL::text AS item, NULL::text AS details INTO default_partition;
    table_name := coalesce(one.table_name, one.config ->> 'parent_table');
    FOR row IN SELECT o.* FROM sagaz_ha._pg_partman_obstacles(one.parent, one.config, one.has_sub) AS o LOOP
      in_the_way := true;
      finding := 'in the way'; item := row.item; details := row.details;
      RETURN NEXT;
    END LOOP;
    CONTINUE WHEN in_the_way;

    archive := CASE WHEN one.config ->> 'retention' IS NOT NULL THEN nullif(one.config ->> 'retention_schema', '') END;
    call := format('SELECT sagaz_ha.manage_partitions(%L, %L, premake => %s, retention => %s, retention_action => %L, time_zone => %L%s)',
      one.parent, one.config ->> 'partition_interval', one.config ->> 'premake', coalesce(quote_literal(one.config ->> 'retention'), 'NULL'),
      CASE WHEN archive IS NOT NULL THEN 'archive'
           WHEN one.config ->> 'retention' IS NOT NULL AND (one.config ->> 'retention_keep_table')::boolean THEN 'detach'
           ELSE 'drop' END,
      sagaz_ha._time_zone_of_bounds(one.parent), ', archive_schema => ' || quote_literal(quote_ident(archive)));
    finding := 'policy'; item := 'manage_partitions'; details := call;
    RETURN NEXT;
    FOR row IN SELECT r.* FROM sagaz_ha._pg_partman_rest(one.parent, one.config) AS r LOOP
      finding := 'no counterpart'; item := row.item; details := row.details;
      RETURN NEXT;
    END LOOP;

    -- all or nothing for each set; a dry run does it, and undoes it
    BEGIN
      -- what pg_partman's maintenance holds while it runs; no longer than lock_timeout
      PERFORM pg_advisory_xact_lock(hashtext('pg_partman run_maintenance')),
              pg_advisory_xact_lock(hashtext('pg_partman run_maintenance procedure'));
      EXECUTE call;
      SELECT d.* INTO default_partition FROM sagaz_ha._drop_empty_default(one.parent, dry_run) AS d;
      IF default_partition.finding = 'in the way' THEN
        RAISE EXCEPTION '%', default_partition.details USING ERRCODE = 'object_not_in_prerequisite_state';
      END IF;
      EXECUTE format('UPDATE %I.part_config SET automatic_maintenance = ''off'' WHERE parent_table = $1', one.schema)
        USING one.config ->> 'parent_table';
      IF dry_run THEN
        RAISE EXCEPTION USING ERRCODE = 'SHDRY', MESSAGE = 'dry run';
      END IF;
    EXCEPTION
      WHEN SQLSTATE 'SHDRY' THEN
        NULL;
      WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS details = PG_EXCEPTION_HINT;
        details := sqlstate || ': ' || sqlerrm || coalesce(' HINT: ' || nullif(details, ''), '');
        finding := 'in the way';
        item := CASE WHEN default_partition.finding = 'in the way' THEN default_partition.item ELSE 'manage_partitions' END;
        in_the_way := true;
        RETURN NEXT;
    END;
    CONTINUE WHEN in_the_way;
    IF default_partition.finding IS NOT NULL THEN
      finding := default_partition.finding; item := default_partition.item; details := default_partition.details;
      RETURN NEXT;
    END IF;
    IF NOT dry_run THEN
      finding := 'imported'; item := 'automatic_maintenance';
      details := format('off: sagaz_ha maintains it now; to go back: SELECT sagaz_ha.return_to_pg_partman(%L)', one.parent)
        || CASE WHEN one.config ->> 'automatic_maintenance' <> 'on'
             THEN format(', which sets it to on; it was %s before', one.config ->> 'automatic_maintenance') ELSE '' END;
      RETURN NEXT;
      -- its locks stay until the transaction ends, and nobody may wait behind them for long
      PERFORM set_config('lock_timeout', '20ms', true);
    END IF;
  END LOOP;
  IF parent IS NOT NULL AND NOT found_one THEN
    RAISE EXCEPTION 'table % is not maintained by pg_partman', parent
      USING ERRCODE = 'undefined_object', HINT = 'Its part_config has no row with that parent_table.';
  END IF;
END
$$;
COMMENT ON FUNCTION sagaz_ha.import_pg_partman(regclass, boolean) IS
  'policies from the configuration of pg_partman, whose own maintenance is then off; a row for each set and finding';

CREATE FUNCTION sagaz_ha._policy_time_zone(parent regclass) RETURNS text
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'sagaz_policy_time_zone';
COMMENT ON FUNCTION sagaz_ha._policy_time_zone(regclass) IS
  'internal: the time zone of a table''s policy, for who owns the table';

-- pg_partman 4 reads a partition's time from its name; 5 from its bounds. The owner of
-- the table may neither read policies nor call partitions().
CREATE FUNCTION sagaz_ha._rename_for_pg_partman(parent regclass, config jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO'
AS $$
DECLARE
  time_zone text := sagaz_ha._policy_time_zone(parent);
  one record;
BEGIN
  FOR one IN
    SELECT c.oid::regclass AS partition, left(t.relname, 63 - length(n.suffix)) || n.suffix AS name
      FROM pg_partitioned_table AS p
      JOIN pg_class AS t ON t.oid = p.partrelid
      JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
      JOIN pg_inherits AS i ON i.inhparent = p.partrelid
      JOIN pg_class AS c ON c.oid = i.inhrelid
     CROSS JOIN LATERAL (VALUES ((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*?)''\)'))[1])) AS b (lower)
     CROSS JOIN LATERAL (VALUES (CASE a.atttypid WHEN 'timestamptz'::regtype THEN b.lower::timestamptz AT TIME ZONE time_zone
                                   ELSE b.lower::timestamp END)) AS s (starts)
     CROSS JOIN LATERAL (VALUES ('_p' || to_char(s.starts, config ->> 'datetime_string'))) AS n (suffix)
     WHERE p.partrelid = parent AND isfinite(s.starts) AND c.relname !~ '_p[0-9]'
     ORDER BY s.starts LOOP
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', one.partition);
    EXECUTE format('ALTER TABLE %s RENAME TO %I', one.partition, one.name);
  END LOOP;
END
$$;
COMMENT ON FUNCTION sagaz_ha._rename_for_pg_partman(regclass, jsonb) IS
  'internal: gives partitions the names that pg_partman 4 would have given them';

CREATE FUNCTION sagaz_ha.return_to_pg_partman(parent regclass) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  one record;
BEGIN
  PERFORM sagaz_ha._require_primary('return_to_pg_partman');
  SELECT s.* INTO one FROM sagaz_ha._pg_partman_sets() AS s WHERE s.parent = parent;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'table % is not known to pg_partman', parent
      USING ERRCODE = 'undefined_object', HINT = 'Its part_config has no row with that parent_table.';
  END IF;
  IF one.config ->> 'partition_type' = 'native' THEN
    PERFORM sagaz_ha._rename_for_pg_partman(parent, one.config);
  END IF;
  PERFORM sagaz_ha.stop_managing_partitions(parent);
  EXECUTE format('UPDATE %I.part_config SET automatic_maintenance = ''on'' WHERE parent_table = $1', one.schema)
    USING one.config ->> 'parent_table';
END
$$;
COMMENT ON FUNCTION sagaz_ha.return_to_pg_partman(regclass) IS
  'the way back from import_pg_partman(): the policy goes, and pg_partman maintains the table again';

--
-- Replication health: a primary or a standby as it is, read only
--
-- Names that begin with an underscore are internal. A public function reads each
-- source once, and hands it to the internal ones as an argument. A reason is
-- (severity, message) until it is shown, and a status is the worst severity.
-- Internal PL/pgSQL functions are planned once per session: without
-- plan_cache_mode, arguments would have each of the first five calls planned.
--

CREATE TYPE sagaz_ha._reason AS (severity text, message text);
COMMENT ON TYPE sagaz_ha._reason IS
  'internal: why a status is not ok; severity is unknown, warning or critical';

CREATE FUNCTION sagaz_ha._status(reasons sagaz_ha._reason[]) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_status';
COMMENT ON FUNCTION sagaz_ha._status(sagaz_ha._reason[]) IS
  'internal: the worst severity among reasons; ok without any';

CREATE FUNCTION sagaz_ha._reason_lines(reasons sagaz_ha._reason[]) RETURNS text[]
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_reason_lines';
COMMENT ON FUNCTION sagaz_ha._reason_lines(sagaz_ha._reason[]) IS
  'internal: reasons as they are shown, "severity: message"';

CREATE TYPE sagaz_ha._thresholds AS (
  replay_lag_warning interval, replay_lag_critical interval,
  replay_lag_bytes_warning bigint, replay_lag_bytes_critical bigint,
  slot_retained_warning bigint, slot_time_to_loss_critical interval,
  expected_standbys integer, expected_standby_names text[],
  contact_grace interval, xmin_age_warning integer,
  wal_disk_free_critical bigint, sample_interval interval);
COMMENT ON TYPE sagaz_ha._thresholds IS
  'internal: the thresholds of replication health';

CREATE FUNCTION sagaz_ha._thresholds() RETURNS sagaz_ha._thresholds
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_thresholds';
COMMENT ON FUNCTION sagaz_ha._thresholds() IS
  'internal: the thresholds of replication health, in the units they are compared in';

CREATE TYPE sagaz_ha._node_state AS (
  node_name text, in_recovery boolean, promoting boolean,
  system_identifier text, timeline_id bigint, lsn pg_lsn,
  sync_required integer, sampler_running boolean, sampled_at timestamptz);
COMMENT ON TYPE sagaz_ha._node_state IS
  'internal: role, timeline and position of a server';

CREATE FUNCTION sagaz_ha._node_state() RETURNS sagaz_ha._node_state
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_node_state';
COMMENT ON FUNCTION sagaz_ha._node_state() IS
  'internal: role, timeline and position of this server';

CREATE TYPE sagaz_ha._receiver_state AS (
  receiver_pid integer, receiver_state text, receiver_restarts bigint,
  starts_unheard integer, upstream_host text, upstream_port integer,
  slot_name text, received_lsn pg_lsn, latest_end_lsn pg_lsn,
  replay_lsn pg_lsn, received_timeline bigint, replay_timeline bigint,
  message_age interval, in_contact boolean, responsive boolean,
  replay_lag interval, lag_source text, staleness_bound interval,
  clock_offset interval, stuck_for interval, replay_speed float8,
  wal_speed float8, promoting boolean, paused boolean,
  receive_lag_bytes bigint, replay_backlog_bytes bigint,
  streaming_configured boolean, loss_bound interval);
COMMENT ON TYPE sagaz_ha._receiver_state IS
  'internal: what a standby knows of its upstream and of its replay';

CREATE FUNCTION sagaz_ha._receiver_state() RETURNS sagaz_ha._receiver_state
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_receiver_state';
COMMENT ON FUNCTION sagaz_ha._receiver_state() IS
  'internal: what a standby knows of its upstream and of its replay; NULL on a primary';

CREATE FUNCTION sagaz_ha._sender_state(
  OUT pid integer, OUT effective_lag interval, OUT lag_source text,
  OUT reply_age interval, OUT clock_offset interval, OUT end_lsn pg_lsn)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'sagaz_sender_state';
COMMENT ON FUNCTION sagaz_ha._sender_state() IS
  'internal: of each walsender''s other side, its lag and the age of its last reply';

CREATE TYPE sagaz_ha._wal_state AS (
  wal_bytes bigint, oldest_lsn pg_lsn, disk_free_bytes bigint,
  archive_ready_files bigint, oldest_ready_lsn pg_lsn,
  archives boolean, archive_waiting_age interval,
  archived_at timestamptz, archive_failed_at timestamptz, wal_speed float8);
COMMENT ON TYPE sagaz_ha._wal_state IS
  'internal: the WAL directory';

CREATE FUNCTION sagaz_ha._wal_state() RETURNS sagaz_ha._wal_state
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_wal_state';
COMMENT ON FUNCTION sagaz_ha._wal_state() IS
  'internal: the WAL directory: its size, its free space and the files that wait for the archiver';

CREATE FUNCTION sagaz_ha._lsn_age(lsn pg_lsn) RETURNS interval
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_lsn_age';
COMMENT ON FUNCTION sagaz_ha._lsn_age(pg_lsn) IS
  'internal: time since the end of WAL reached this position; a lower bound before the first sample';

CREATE FUNCTION sagaz_ha._wal_speed() RETURNS float8
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_wal_speed';
COMMENT ON FUNCTION sagaz_ha._wal_speed() IS
  'internal: bytes of WAL per second over the last five minutes; NULL without the LSN clock';

CREATE FUNCTION sagaz_ha.lsn_timestamp(lsn pg_lsn) RETURNS timestamptz
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_lsn_timestamp';
COMMENT ON FUNCTION sagaz_ha.lsn_timestamp(pg_lsn) IS
  'when the end of WAL reached this position, by the LSN clock; NULL when that was not seen';

CREATE FUNCTION sagaz_ha.commit_token() RETURNS text
LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_commit_token';
COMMENT ON FUNCTION sagaz_ha.commit_token() IS
  'timeline and position that cover everything committed before; call it after COMMIT';

CREATE FUNCTION sagaz_ha.has_replayed(token text) RETURNS boolean
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sagaz_has_replayed';
COMMENT ON FUNCTION sagaz_ha.has_replayed(text) IS
  'whether this server shows everything that the token covers; an error when it never will';

CREATE PROCEDURE sagaz_ha.wait_for_replay(token text, timeout interval DEFAULT '10 s')
LANGUAGE C AS 'MODULE_PATHNAME', 'sagaz_wait_for_replay';
COMMENT ON PROCEDURE sagaz_ha.wait_for_replay(text, interval) IS
  'waits until this server shows everything that the token covers; SQLSTATE SH001 timeout, SH002 promoted, SH003 lost timeline';

--
-- This standby: its distance from the upstream, and what holds up replay
--
-- Its numbers are of one reading of the WAL receiver; no row on a primary.
--

CREATE FUNCTION sagaz_ha._replay_block(
  OUT replay_wait text, OUT blocking_pids integer[], OUT waiting_for interval)
LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  SELECT w.replay_wait,
         CASE w.replay_wait
           WHEN 'lock' THEN
             (SELECT array_agg(DISTINCT h.pid)
              FROM pg_catalog.pg_locks AS l
              JOIN pg_catalog.pg_locks AS h
                ON h.granted AND h.pid <> l.pid
               AND (h.locktype, h.database, h.relation, h.transactionid, h.virtualxid,
                    h.classid, h.objid, h.objsubid)
                   IS NOT DISTINCT FROM
                   (l.locktype, l.database, l.relation, l.transactionid, l.virtualxid,
                    l.classid, l.objid, l.objsubid)
              WHERE l.pid = w.pid AND NOT l.granted)
           -- Replay doesn't say which snapshot it conflicts with: in the database
           -- concerned, at least with the oldest.
           WHEN 'conflict' THEN
             (SELECT array_agg(b.pid ORDER BY b.age DESC)
              FROM (SELECT a.pid, age(a.backend_xmin) AS age,
                           max(age(a.backend_xmin)) OVER (PARTITION BY a.datid) AS oldest
                    FROM pg_catalog.pg_stat_activity AS a
                    WHERE a.backend_xmin IS NOT NULL AND a.backend_type <> 'walsender'
                      AND a.pid <> pg_backend_pid()) AS b
              WHERE b.age = b.oldest)
         END,
         CASE WHEN w.replay_wait = 'lock' THEN
           (SELECT max(clock_timestamp() - l.waitstart) FROM pg_catalog.pg_locks AS l
            WHERE l.pid = w.pid AND NOT l.granted)
         END
  INTO replay_wait, blocking_pids, waiting_for
  FROM (SELECT a.pid,
               CASE
                 WHEN a.wait_event_type = 'Lock' THEN 'lock'
                 WHEN a.wait_event IN ('RecoveryConflictSnapshot',
                                       'RecoveryConflictTablespace', 'BufferPin')
                   OR a.wait_event_type = 'BufferPin' THEN 'conflict'
                 WHEN a.wait_event = 'RecoveryApplyDelay' THEN 'delayed'
               END AS replay_wait
        FROM pg_catalog.pg_stat_activity AS a
        WHERE a.backend_type = 'startup') AS w;
END
$$;
COMMENT ON FUNCTION sagaz_ha._replay_block() IS
  'internal: what the startup process waits for, and which backends it waits for';

CREATE FUNCTION sagaz_ha._standby_status(limits sagaz_ha._thresholds, receiver sagaz_ha._receiver_state)
RETURNS TABLE (
  receiver_state text, receiver_pid integer, receiver_restarts bigint,
  upstream_host text, upstream_port integer, slot_name text,
  received_lsn pg_lsn, latest_end_lsn pg_lsn, replay_lsn pg_lsn,
  received_timeline bigint, replay_timeline bigint,
  receive_lag_bytes bigint, replay_backlog_bytes bigint,
  replay_lag interval, staleness_bound interval, message_age interval,
  replay_state text, blocking_pids integer[], blocked_for interval,
  replay_bytes_per_second float8, catchup_eta interval,
  lag_source text, clock_offset interval, upstream_in_contact boolean,
  scope text, status text, reasons sagaz_ha._reason[])
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH s AS MATERIALIZED (
    SELECT b.*,
      array_remove(ARRAY[
        CASE WHEN b.replay_lag IS NULL THEN
          ROW('unknown',
              'replay lag is not known')::sagaz_ha._reason END,
        CASE
          WHEN NOT b.streaming_configured THEN NULL
          WHEN b.starts_unheard >= 3 AND NOT b.in_contact THEN
            ROW('critical',
                format('%s starts of the WAL receiver without a message from the upstream: it may be gone, or no longer have the WAL that is needed; see the server log',
                   b.starts_unheard))::sagaz_ha._reason
          WHEN b.message_age > t.contact_grace THEN
            ROW('critical',
                format('nothing heard from the upstream for %s', date_trunc('second', b.message_age)))::sagaz_ha._reason
          WHEN b.receiver_state <> 'streaming' AND b.message_age IS NULL THEN
            ROW('unknown',
                format('WAL receiver is %s, and nothing was heard from the upstream yet', b.receiver_state))::sagaz_ha._reason
          WHEN b.receiver_state <> 'streaming' THEN
            ROW('warning', format('WAL receiver is %s', b.receiver_state))::sagaz_ha._reason
          WHEN NOT b.responsive THEN ROW('warning', 'WAL receiver does not react')::sagaz_ha._reason
        END,
        CASE
          WHEN b.excess_lag >= t.replay_lag_critical THEN
            ROW('critical',
                format('replay lag is %s', date_trunc('second', b.replay_lag)))::sagaz_ha._reason
          WHEN b.excess_lag >= t.replay_lag_warning THEN
            ROW('warning',
                format('replay lag is %s', date_trunc('second', b.replay_lag)))::sagaz_ha._reason
        END,
        CASE
          WHEN b.replay_backlog_bytes >= t.replay_lag_bytes_critical THEN
            ROW('critical',
                format('%s of WAL are not replayed', pg_size_pretty(b.replay_backlog_bytes)))::sagaz_ha._reason
          WHEN b.replay_backlog_bytes >= t.replay_lag_bytes_warning THEN
            ROW('warning',
                format('%s of WAL are not replayed', pg_size_pretty(b.replay_backlog_bytes)))::sagaz_ha._reason
        END,
        CASE b.replay_state
          WHEN 'paused' THEN ROW('warning', 'replay is paused')::sagaz_ha._reason
          WHEN 'lock' THEN
            ROW('warning',
                format('replay waits for a lock of %s', b.blocking_pids))::sagaz_ha._reason
          WHEN 'conflict' THEN
            ROW('warning',
                format('replay waits for queries that conflict with it, of %s at least', b.blocking_pids))::sagaz_ha._reason
        END], NULL) AS reasons
    FROM (SELECT (limits).*) AS t,
      (SELECT r.*, k.blocking_pids,
              CASE
                WHEN r.paused THEN 'paused'
                WHEN k.replay_wait IS NOT NULL THEN k.replay_wait
                WHEN r.receiver_state IN ('streaming', 'waiting', 'restarting') THEN 'streaming'
                ELSE 'archive'
              END AS replay_state,
              CASE WHEN r.paused OR k.replay_wait IS NOT NULL THEN
                least(coalesce(k.waiting_for, r.stuck_for),
                      CASE WHEN r.lag_source = 'lsn_clock' THEN r.replay_lag END)
              END AS blocked_for,
              CASE
                WHEN r.replay_backlog_bytes = 0 AND r.in_contact THEN interval '0'
                WHEN r.replay_backlog_bytes > 0 AND r.replay_speed > coalesce(r.wal_speed, 0) THEN
                  make_interval(secs => least(r.replay_backlog_bytes /
                    (r.replay_speed - coalesce(r.wal_speed, 0)), 1e9))
              END AS catchup_eta,
              CASE WHEN k.replay_wait = 'delayed' THEN
                greatest(r.replay_lag - current_setting('recovery_min_apply_delay')::interval, interval '0')
              ELSE r.replay_lag END AS excess_lag,
              format('relative to the upstream %s, which may be a standby itself',
                     coalesce(r.upstream_host || ':' || r.upstream_port, 'last connected')) AS scope
       FROM (SELECT (receiver).*) AS r, sagaz_ha._replay_block() AS k
       WHERE r.receiver_state IS NOT NULL) AS b)
  SELECT s.receiver_state, s.receiver_pid, s.receiver_restarts,
         s.upstream_host, s.upstream_port, s.slot_name,
         s.received_lsn, s.latest_end_lsn, s.replay_lsn,
         s.received_timeline, s.replay_timeline,
         s.receive_lag_bytes, s.replay_backlog_bytes,
         s.replay_lag, s.staleness_bound, s.message_age,
         s.replay_state, s.blocking_pids, s.blocked_for,
         s.replay_speed, s.catchup_eta, s.lag_source, s.clock_offset, s.in_contact,
         s.scope, sagaz_ha._status(s.reasons), s.reasons
  FROM s;
END
$$;
COMMENT ON FUNCTION sagaz_ha._standby_status(sagaz_ha._thresholds, sagaz_ha._receiver_state) IS
  'internal: standby_status() by what was read; reasons are typed';

CREATE FUNCTION sagaz_ha.standby_status()
RETURNS TABLE (
  receiver_state text, receiver_pid integer, receiver_restarts bigint,
  upstream_host text, upstream_port integer, slot_name text,
  received_lsn pg_lsn, latest_end_lsn pg_lsn, replay_lsn pg_lsn,
  received_timeline bigint, replay_timeline bigint,
  receive_lag_bytes bigint, replay_backlog_bytes bigint,
  replay_lag interval, staleness_bound interval, message_age interval,
  replay_state text, blocking_pids integer[], blocked_for interval,
  replay_bytes_per_second float8, catchup_eta interval,
  lag_source text, clock_offset interval, upstream_in_contact boolean,
  scope text, status text, reasons text[])
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT s.receiver_state, s.receiver_pid, s.receiver_restarts, s.upstream_host, s.upstream_port,
         s.slot_name, s.received_lsn, s.latest_end_lsn, s.replay_lsn, s.received_timeline,
         s.replay_timeline, s.receive_lag_bytes, s.replay_backlog_bytes, s.replay_lag,
         s.staleness_bound, s.message_age, s.replay_state, s.blocking_pids, s.blocked_for,
         s.replay_bytes_per_second, s.catchup_eta, s.lag_source, s.clock_offset,
         s.upstream_in_contact, s.scope, s.status, sagaz_ha._reason_lines(s.reasons)
  FROM sagaz_ha._standby_status(sagaz_ha._thresholds(), sagaz_ha._receiver_state()) AS s;
END
$$;
COMMENT ON FUNCTION sagaz_ha.standby_status() IS
  'this standby: its receiver, its lag and the source of that, and what holds up replay; no row on a primary';

--
-- The receivers of this server's WAL, and the expected standbys that are absent
--
-- Ages and lags are in this server's clock.
--

CREATE TYPE sagaz_ha._standby AS (
  standby_name text, client_addr inet, slot_name text, kind text,
  state text, sync_state text,
  sent_lsn pg_lsn, write_lsn pg_lsn, flush_lsn pg_lsn, replay_lsn pg_lsn,
  sent_lag_bytes bigint, write_lag_bytes bigint, flush_lag_bytes bigint, replay_lag_bytes bigint,
  reported_replay_lag interval, effective_replay_lag interval,
  reply_age interval, xmin_age integer, status text, reasons sagaz_ha._reason[],
  pid integer, lag_source text, clock_offset interval);
COMMENT ON TYPE sagaz_ha._standby IS
  'internal: a receiver of this server''s WAL, or an expected standby that is absent';

CREATE FUNCTION sagaz_ha._standbys(limits sagaz_ha._thresholds) RETURNS SETOF sagaz_ha._standby
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH t AS (SELECT (limits).*),
  present AS MATERIALIZED (
    SELECT r.application_name AS standby_name, r.client_addr, l.slot_name::text AS slot_name,
           CASE
             WHEN a.datid IS NOT NULL OR l.slot_type = 'logical' THEN 'logical'
             WHEN r.state = 'backup' OR r.application_name = 'pg_basebackup'
               OR l.temporary AND l.slot_name LIKE 'pg\_basebackup\_%' THEN 'base_backup'
             WHEN r.application_name = 'pg_receivewal'
               OR r.replay_lsn IS NULL AND r.reply_time IS NOT NULL THEN 'wal_archiver'
             ELSE 'standby'
           END AS kind,
           r.state, r.sync_state, r.sent_lsn, r.write_lsn, r.flush_lsn, r.replay_lsn,
           greatest(s.end_lsn - r.sent_lsn, 0)::bigint AS sent_lag_bytes,
           greatest(s.end_lsn - r.write_lsn, 0)::bigint AS write_lag_bytes,
           greatest(s.end_lsn - r.flush_lsn, 0)::bigint AS flush_lag_bytes,
           greatest(s.end_lsn - r.replay_lsn, 0)::bigint AS replay_lag_bytes,
           r.replay_lag AS reported_replay_lag, s.effective_lag, s.reply_age,
           greatest(age(r.backend_xmin), age(l.xmin)) AS xmin_age,
           r.pid, s.lag_source, s.clock_offset
    FROM pg_catalog.pg_stat_replication AS r
    JOIN sagaz_ha._sender_state() AS s ON s.pid = r.pid
    LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = r.pid
    LEFT JOIN pg_catalog.pg_replication_slots AS l ON l.active_pid = r.pid),
  judged AS MATERIALIZED (
    SELECT p.*, array_remove(ARRAY[
        CASE
          WHEN p.kind <> 'standby' THEN NULL
          WHEN p.effective_lag IS NULL THEN
            ROW('unknown',
                'replay lag is not known')::sagaz_ha._reason
          WHEN p.effective_lag >= t.replay_lag_critical THEN
            ROW('critical',
                format('replay lag is %s', date_trunc('second', p.effective_lag)))::sagaz_ha._reason
          WHEN p.effective_lag >= t.replay_lag_warning THEN
            ROW('warning',
                format('replay lag is %s', date_trunc('second', p.effective_lag)))::sagaz_ha._reason
        END,
        CASE
          WHEN p.kind <> 'standby' THEN NULL
          WHEN p.replay_lag_bytes >= t.replay_lag_bytes_critical THEN
            ROW('critical',
                format('%s of WAL are not replayed', pg_size_pretty(p.replay_lag_bytes)))::sagaz_ha._reason
          WHEN p.replay_lag_bytes >= t.replay_lag_bytes_warning THEN
            ROW('warning',
                format('%s of WAL are not replayed', pg_size_pretty(p.replay_lag_bytes)))::sagaz_ha._reason
        END,
        CASE WHEN p.kind IN ('standby', 'wal_archiver') AND p.state <> 'streaming' THEN
          ROW('warning', format('state is %s', p.state))::sagaz_ha._reason END,
        CASE WHEN p.reply_age > t.contact_grace THEN
          ROW('critical',
              format('no reply for %s', date_trunc('second', p.reply_age)))::sagaz_ha._reason END,
        CASE WHEN p.xmin_age >= t.xmin_age_warning THEN
          ROW('warning',
              format('holds back vacuum by %s transactions', p.xmin_age))::sagaz_ha._reason END], NULL) AS reasons
    FROM present AS p, t)
  SELECT j.standby_name, j.client_addr, j.slot_name, j.kind, j.state, j.sync_state,
         j.sent_lsn, j.write_lsn, j.flush_lsn, j.replay_lsn,
         j.sent_lag_bytes, j.write_lag_bytes, j.flush_lag_bytes, j.replay_lag_bytes,
         j.reported_replay_lag, j.effective_lag, j.reply_age, j.xmin_age,
         sagaz_ha._status(j.reasons), j.reasons, j.pid, j.lag_source, j.clock_offset
  FROM judged AS j
  UNION ALL
  SELECT n.name, NULL, l.slot_name::text, 'standby', 'absent', NULL,
         NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, age(l.xmin),
         'critical', ARRAY[
           ROW('critical',
               format('expected standby %s is not connected', quote_ident(n.name)))::sagaz_ha._reason],
         NULL, 'none', NULL
  FROM t, unnest(t.expected_standby_names) AS n (name)
  LEFT JOIN pg_catalog.pg_replication_slots AS l ON lower(l.slot_name) = lower(n.name)
  WHERE NOT EXISTS (SELECT FROM present AS p
                    WHERE p.kind = 'standby' AND lower(p.standby_name) = lower(n.name));
END
$$;
COMMENT ON FUNCTION sagaz_ha._standbys(sagaz_ha._thresholds) IS
  'internal: replication_standbys() by what was read; reasons are typed';

CREATE FUNCTION sagaz_ha.replication_standbys()
RETURNS TABLE (
  standby_name text, client_addr inet, slot_name text, kind text,
  state text, sync_state text,
  sent_lsn pg_lsn, write_lsn pg_lsn, flush_lsn pg_lsn, replay_lsn pg_lsn,
  sent_lag_bytes bigint, write_lag_bytes bigint, flush_lag_bytes bigint, replay_lag_bytes bigint,
  reported_replay_lag interval, effective_replay_lag interval,
  reply_age interval, xmin_age integer, status text, reasons text[],
  pid integer, lag_source text, clock_offset interval)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT s.standby_name, s.client_addr, s.slot_name, s.kind, s.state, s.sync_state, s.sent_lsn,
         s.write_lsn, s.flush_lsn, s.replay_lsn, s.sent_lag_bytes, s.write_lag_bytes,
         s.flush_lag_bytes, s.replay_lag_bytes, s.reported_replay_lag, s.effective_replay_lag,
         s.reply_age, s.xmin_age, s.status, sagaz_ha._reason_lines(s.reasons), s.pid, s.lag_source,
         s.clock_offset
  FROM sagaz_ha._standbys(sagaz_ha._thresholds()) AS s;
END
$$;
COMMENT ON FUNCTION sagaz_ha.replication_standbys() IS
  'every receiver of this server''s WAL, and each expected standby that is absent';

--
-- What keeps WAL and old rows: slots and the time to their loss, and xmin holders
--
-- A lost slot keeps nothing, and is critical.
--

CREATE TYPE sagaz_ha._slot AS (
  slot_name text, slot_type text, active boolean, active_pid integer, restart_lsn pg_lsn,
  retained_bytes bigint, retained_age interval, safe_wal_bytes bigint,
  bytes_to_loss bigint, time_to_loss interval, limited_by text,
  wal_status text, invalidation_reason text, xmin_age integer, catalog_xmin_age integer,
  status text, reasons sagaz_ha._reason[], remedy text);
COMMENT ON TYPE sagaz_ha._slot IS
  'internal: a replication slot, the WAL that it keeps and the time to its loss';

CREATE FUNCTION sagaz_ha._slots(
  limits sagaz_ha._thresholds, node sagaz_ha._node_state, wal sagaz_ha._wal_state)
RETURNS SETOF sagaz_ha._slot
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH slot AS (
    SELECT l.slot_name::text AS slot_name, l.slot_type, l.active, l.active_pid, l.restart_lsn,
           l.safe_wal_size, l.wal_status,
           coalesce(l.j ->> 'invalidation_reason',
                    CASE WHEN (l.j ->> 'conflicting')::boolean THEN 'rows_removed' END,
                    CASE WHEN l.wal_status = 'lost' THEN 'wal_removed' END) AS invalidation_reason,
           (l.j ->> 'inactive_since')::timestamptz AS inactive_since,
           age(l.xmin) AS xmin_age, age(l.catalog_xmin) AS catalog_xmin_age
    -- as JSON for the columns that only newer servers have
    FROM (SELECT r.*, to_jsonb(r) AS j FROM pg_catalog.pg_replication_slots AS r OFFSET 0) AS l),
  once AS MATERIALIZED (
    SELECT limits.slot_retained_warning, limits.slot_time_to_loss_critical, limits.xmin_age_warning,
           node.lsn, wal.disk_free_bytes, sagaz_ha._wal_speed() AS speed,
           nullif(current_setting('idle_replication_slot_timeout', true), '0')::interval AS idle_timeout),
  base AS (
    SELECT s.*, o.*, s.invalidation_reason IS NOT NULL AS lost,
           CASE WHEN s.invalidation_reason IS NOT NULL OR s.restart_lsn IS NULL THEN 0
             ELSE greatest(o.lsn - s.restart_lsn, 0) END::bigint AS retained_bytes,
           sagaz_ha._lsn_age(s.restart_lsn) AS retained_age,
           CASE WHEN NOT s.active AND s.inactive_since + o.idle_timeout IS NOT NULL THEN
             greatest(s.inactive_since + o.idle_timeout - clock_timestamp(), interval '0')
           END AS idle_left
    FROM slot AS s, once AS o),
  loss AS (
    SELECT b.*,
           CASE WHEN b.lost THEN 0 WHEN b.restart_lsn IS NULL THEN NULL
             ELSE greatest(least(b.safe_wal_size, b.disk_free_bytes), 0) END AS bytes_to_loss
    FROM base AS b),
  timed AS (
    SELECT l.*,
           CASE WHEN l.lost THEN interval '0'
             ELSE least(CASE WHEN l.bytes_to_loss = 0 THEN interval '0'
                             WHEN l.speed > 0 THEN
                               make_interval(secs => least(l.bytes_to_loss / l.speed, 1e9)) END,
                        l.idle_left) END AS time_to_loss
    FROM loss AS l),
  judged AS MATERIALIZED (
    SELECT d.*,
      CASE
        WHEN d.lost THEN d.invalidation_reason
        WHEN d.idle_left IS NOT NULL AND d.idle_left = d.time_to_loss THEN 'idle timeout'
        WHEN d.bytes_to_loss IS NULL THEN NULL
        WHEN d.safe_wal_size <= d.disk_free_bytes OR d.disk_free_bytes IS NULL THEN 'slot limit'
        ELSE 'disk'
      END AS limited_by,
      array_remove(ARRAY[
        CASE WHEN d.lost THEN
          ROW('critical',
              format('slot is lost (%s)', d.invalidation_reason))::sagaz_ha._reason
             WHEN d.wal_status = 'unreserved' THEN
               ROW('critical',
                   'WAL that the slot needs goes with the next checkpoint')::sagaz_ha._reason END,
        CASE WHEN NOT d.lost AND d.time_to_loss <= d.slot_time_to_loss_critical
              AND (NOT d.active OR d.retained_bytes >= d.slot_retained_warning) THEN
          ROW('critical',
              format('%s until it is lost or the disk is full', date_trunc('second', d.time_to_loss)))::sagaz_ha._reason END,
        CASE WHEN d.retained_bytes >= d.slot_retained_warning THEN
          ROW('warning',
              format('keeps %s of WAL', pg_size_pretty(d.retained_bytes)))::sagaz_ha._reason END,
        CASE WHEN NOT d.lost AND NOT d.active THEN
          ROW('warning',
              'nobody is connected to it')::sagaz_ha._reason END,
        CASE WHEN greatest(d.xmin_age, d.catalog_xmin_age) >= d.xmin_age_warning THEN
          ROW('warning', format('holds back vacuum by %s transactions',
                 greatest(d.xmin_age, d.catalog_xmin_age)))::sagaz_ha._reason END], NULL) AS reasons
    FROM timed AS d)
  SELECT j.slot_name, j.slot_type, j.active, j.active_pid, j.restart_lsn,
         j.retained_bytes, CASE WHEN NOT j.lost THEN j.retained_age END,
         j.safe_wal_size, j.bytes_to_loss, j.time_to_loss, j.limited_by,
         j.wal_status, j.invalidation_reason, j.xmin_age, j.catalog_xmin_age,
         sagaz_ha._status(j.reasons), j.reasons,
         CASE
           WHEN j.lost THEN format('Rebuild its consumer, then SELECT pg_drop_replication_slot(%L).', j.slot_name)
           WHEN NOT j.active THEN format('Reconnect its consumer; if that is gone for good, SELECT pg_drop_replication_slot(%L).', j.slot_name)
           WHEN cardinality(j.reasons) > 0 THEN 'See why its consumer does not keep up.'
         END
  FROM judged AS j;
END
$$;
COMMENT ON FUNCTION sagaz_ha._slots(sagaz_ha._thresholds, sagaz_ha._node_state, sagaz_ha._wal_state) IS
  'internal: replication_slot_risk() by what was read; reasons are typed';

CREATE FUNCTION sagaz_ha.replication_slot_risk()
RETURNS TABLE (
  slot_name text, slot_type text, active boolean, active_pid integer, restart_lsn pg_lsn,
  retained_bytes bigint, retained_age interval, safe_wal_bytes bigint,
  bytes_to_loss bigint, time_to_loss interval, limited_by text,
  wal_status text, invalidation_reason text, xmin_age integer, catalog_xmin_age integer,
  status text, reasons text[], remedy text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT s.slot_name, s.slot_type, s.active, s.active_pid, s.restart_lsn, s.retained_bytes,
         s.retained_age, s.safe_wal_bytes, s.bytes_to_loss, s.time_to_loss, s.limited_by,
         s.wal_status, s.invalidation_reason, s.xmin_age, s.catalog_xmin_age, s.status,
         sagaz_ha._reason_lines(s.reasons), s.remedy
  FROM sagaz_ha._slots(sagaz_ha._thresholds(), sagaz_ha._node_state(), sagaz_ha._wal_state()) AS s;
END
$$;
COMMENT ON FUNCTION sagaz_ha.replication_slot_risk() IS
  'every replication slot: the WAL that it keeps, and the time until it is lost or the disk is full';

CREATE FUNCTION sagaz_ha.wal_retention()
RETURNS TABLE (cause text, name text, oldest_lsn pg_lsn, bytes bigint, age interval, binds boolean, details text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH here AS MATERIALIZED (
    SELECT n.lsn, w.oldest_ready_lsn, w.archive_ready_files
    FROM sagaz_ha._node_state() AS n, sagaz_ha._wal_state() AS w),
  cause AS (
    SELECT 'checkpoint' AS cause, NULL::text AS name, c.redo_lsn AS lsn,
           'crash recovery would start there' AS details
    FROM pg_catalog.pg_control_checkpoint() AS c
    UNION ALL
    SELECT 'wal_keep_size', NULL,
           greatest(here.lsn - pg_size_bytes(current_setting('wal_keep_size'))::numeric, '0/0'),
           format('wal_keep_size = %s', current_setting('wal_keep_size'))
    FROM here WHERE current_setting('wal_keep_size') <> '0'
    UNION ALL
    SELECT 'archiver', NULL, here.oldest_ready_lsn,
           format('%s files wait to be archived', here.archive_ready_files)
    FROM here WHERE here.oldest_ready_lsn IS NOT NULL
    UNION ALL
    SELECT 'slot', s.slot_name::text, s.restart_lsn,
           format('%s slot, %s', s.slot_type, CASE WHEN s.active THEN 'active' ELSE 'not active' END)
    FROM pg_catalog.pg_replication_slots AS s WHERE s.restart_lsn IS NOT NULL)
  SELECT c.cause, c.name, c.lsn, greatest(here.lsn - c.lsn, 0)::bigint,
         sagaz_ha._lsn_age(c.lsn),
         c.lsn = min(c.lsn) OVER (), c.details
  FROM cause AS c, here;
END
$$;
COMMENT ON FUNCTION sagaz_ha.wal_retention() IS
  'what keeps WAL, from which position, and which of them binds';

CREATE FUNCTION sagaz_ha._xmin_holders()
RETURNS TABLE (kind text, name text, pid integer, database text, xmin xid, age integer,
               catalog_only boolean, since timestamptz, remedy text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT h.kind, h.name, h.pid, h.database, h.xmin, age(h.xmin), h.catalog_only, h.since, h.remedy
  FROM (
    SELECT 'backend' AS kind, coalesce(nullif(a.application_name, ''), a.backend_type) AS name,
           a.pid, a.datname::text AS database,
           CASE WHEN a.backend_xid IS NULL OR age(a.backend_xmin) >= age(a.backend_xid)
             THEN a.backend_xmin ELSE a.backend_xid END AS xmin,
           false AS catalog_only, a.xact_start AS since,
           format('End its transaction (%s), or SELECT pg_terminate_backend(%s).', a.state, a.pid) AS remedy
    FROM pg_catalog.pg_stat_activity AS a
    WHERE coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL
      AND a.backend_type <> 'walsender' AND a.pid <> pg_backend_pid()
    UNION ALL
    SELECT 'standby', r.application_name, r.pid, NULL, r.backend_xmin, false, NULL,
           'End the long query on that standby (hot_standby_feedback reports it).'
    FROM pg_catalog.pg_stat_replication AS r WHERE r.backend_xmin IS NOT NULL
    UNION ALL
    SELECT 'slot', s.slot_name::text, s.active_pid, s.database::text, x.xmin, x.catalog_only,
           (to_jsonb(s) ->> 'inactive_since')::timestamptz,
           CASE WHEN s.active THEN 'End the long query on its standby, or let its consumer catch up.'
             ELSE format('Nobody is connected to it: reconnect its consumer, or SELECT pg_drop_replication_slot(%L).', s.slot_name) END
    FROM pg_catalog.pg_replication_slots AS s
    CROSS JOIN LATERAL (VALUES (s.xmin, false), (s.catalog_xmin, true)) AS x (xmin, catalog_only)
    WHERE x.xmin IS NOT NULL
    UNION ALL
    SELECT 'prepared_transaction', p.gid, NULL, p.database::text, p.transaction, false, p.prepared,
           format('COMMIT PREPARED or ROLLBACK PREPARED %L.', p.gid)
    FROM pg_catalog.pg_prepared_xacts AS p) AS h;
END
$$;
COMMENT ON FUNCTION sagaz_ha._xmin_holders() IS
  'internal: xmin_holders(), unsorted and not judged';

CREATE FUNCTION sagaz_ha.xmin_holders()
RETURNS TABLE (kind text, name text, pid integer, database text, xmin xid, age integer,
               catalog_only boolean, since timestamptz, status text, remedy text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT h.kind, h.name, h.pid, h.database, h.xmin, h.age, h.catalog_only, h.since,
         CASE WHEN h.age >= t.xmin_age_warning THEN 'warning' ELSE 'ok' END, h.remedy
  FROM sagaz_ha._thresholds() AS t, sagaz_ha._xmin_holders() AS h
  ORDER BY h.age DESC;
END
$$;
COMMENT ON FUNCTION sagaz_ha.xmin_holders() IS
  'what holds back vacuum, the oldest first, and the remedy';

--
-- Replication health: one row about this server, primary or standby
--
-- It is made from one observation, so its columns agree with each other.
--

CREATE TYPE sagaz_ha._observation AS (
  limits sagaz_ha._thresholds, node sagaz_ha._node_state, wal sagaz_ha._wal_state,
  standbys sagaz_ha._standby[], slots sagaz_ha._slot[]);
COMMENT ON TYPE sagaz_ha._observation IS
  'internal: what replication health and metrics are made from';

CREATE FUNCTION sagaz_ha._observe() RETURNS sagaz_ha._observation
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  seen sagaz_ha._observation;
BEGIN
  seen.limits := sagaz_ha._thresholds();
  seen.node := sagaz_ha._node_state();
  seen.wal := sagaz_ha._wal_state();
  seen.standbys := ARRAY(SELECT s FROM sagaz_ha._standbys(seen.limits) AS s);
  seen.slots := ARRAY(SELECT s FROM sagaz_ha._slots(seen.limits, seen.node, seen.wal) AS s);
  RETURN seen;
END
$$;
COMMENT ON FUNCTION sagaz_ha._observe() IS
  'internal: reads thresholds, node, WAL directory, standbys and slots, each once';

CREATE FUNCTION sagaz_ha._health(seen sagaz_ha._observation)
RETURNS TABLE (
  checked_at timestamptz, node_name text, role text, status text, reasons text[], summary text,
  system_identifier text, timeline_id bigint, current_lsn pg_lsn,
  standbys_streaming integer, standbys_expected integer,
  sync_required integer, sync_available integer, sync_waiters integer,
  replay_lag interval, replay_lag_bytes bigint, staleness_bound interval,
  upstream_contact_age interval, slots_at_risk integer, replication_xmin_age integer,
  wal_bytes bigint, wal_disk_free_bytes bigint, archive_ready_files bigint, lag_source text,
  archive_failing boolean, archive_waiting_age interval, wal_disk_full_in interval)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH n AS (SELECT (seen.node).*),
  t AS (SELECT (seen.limits).*),
  w AS (SELECT (seen.wal).*),
  standby AS MATERIALIZED (SELECT s.* FROM unnest(seen.standbys) AS s),
  slot AS MATERIALIZED (SELECT s.* FROM unnest(seen.slots) AS s),
  me AS MATERIALIZED (
    SELECT * FROM sagaz_ha._standby_status(seen.limits, sagaz_ha._receiver_state())),
  -- one row each from here on
  below AS (
    SELECT count(*) FILTER (WHERE s.kind = 'standby' AND s.state = 'streaming')::integer AS streaming,
           count(*) FILTER (WHERE s.kind = 'standby' AND s.state <> 'absent')::integer AS connected,
           count(*) FILTER (WHERE s.state = 'streaming' AND
                            s.sync_state IN ('sync', 'quorum', 'potential'))::integer AS sync_available,
           max(s.effective_replay_lag) FILTER (WHERE s.kind = 'standby') AS lag,
           max(s.replay_lag_bytes) FILTER (WHERE s.kind = 'standby') AS lag_bytes,
           max(s.lag_source) FILTER (WHERE s.kind = 'standby' AND s.state <> 'absent') AS lag_source,
           max(s.xmin_age) AS xmin_age
    FROM standby AS s),
  slots AS (
    SELECT count(*) FILTER (WHERE s.status <> 'ok')::integer AS at_risk,
           max(greatest(s.xmin_age, s.catalog_xmin_age)) AS xmin_age
    FROM slot AS s),
  sync AS (
    SELECT count(*)::integer AS waiters
    FROM pg_catalog.pg_stat_activity AS a WHERE a.wait_event = 'SyncRep'),
  expected AS (
    SELECT greatest(t.expected_standbys, cardinality(t.expected_standby_names)) AS standbys FROM t),
  -- A quiet server has one file that waits, at most, and fills no disk: a time that
  -- is beyond a month says nothing.
  archiver AS MATERIALIZED (
    SELECT a.fails, a.grows,
           CASE WHEN (a.fails OR a.grows) AND a.full_in < interval '30 days' THEN date_trunc('second', a.full_in) END AS full_in
    -- a failure from before the first file that waits is over: a success during a
    -- shutdown isn't counted
    FROM (SELECT coalesce(w.archive_ready_files > 0 AND w.archive_failed_at > coalesce(w.archived_at, '-infinity')
                          AND w.archive_failed_at >= clock_timestamp() - w.archive_waiting_age - interval '1 s', false) AS fails,
                 w.archive_ready_files > 1 AND w.archive_waiting_age >= interval '2 min' AS grows,
                 CASE WHEN w.wal_speed > 0 THEN
                   make_interval(secs => least(w.disk_free_bytes / w.wal_speed, 1e9)) END AS full_in
          FROM w WHERE w.archives) AS a),
  -- materialized, because reasons are read several times below
  found AS MATERIALIZED (
    SELECT n.node_name, n.in_recovery, n.promoting, n.system_identifier, n.timeline_id, n.lsn,
           CASE WHEN NOT n.in_recovery THEN n.sync_required END AS sync_required,
           below.streaming, below.connected, expected.standbys AS standbys_expected,
           CASE WHEN NOT n.in_recovery THEN below.sync_available END AS sync_available,
           sync.waiters, greatest(slots.xmin_age, below.xmin_age) AS xmin_age, slots.at_risk,
           CASE WHEN n.in_recovery THEN me.replay_lag ELSE below.lag END AS replay_lag,
           CASE WHEN n.in_recovery THEN me.replay_backlog_bytes ELSE below.lag_bytes END AS replay_lag_bytes,
           CASE WHEN n.in_recovery THEN me.staleness_bound ELSE interval '0' END AS staleness_bound,
           me.message_age, me.scope, me.replay_state,
           w.wal_bytes, w.disk_free_bytes, w.archive_ready_files,
           archiver.fails AS archive_failing, archiver.full_in AS wal_disk_full_in,
           CASE WHEN w.archives THEN coalesce(w.archive_waiting_age, '0') END AS archive_waiting_age,
           CASE WHEN n.in_recovery THEN me.lag_source
                ELSE coalesce(below.lag_source,
                              CASE WHEN n.sampler_running THEN 'lsn_clock' ELSE 'reported' END)
           END AS lag_source,
           array_remove(ARRAY[
             CASE WHEN n.promoting THEN
               ROW('warning',
                   'promotion is under way')::sagaz_ha._reason END,
             CASE WHEN below.streaming < expected.standbys THEN
               ROW('critical',
                   format('%s of %s expected standbys are streaming', below.streaming, expected.standbys))::sagaz_ha._reason END,
             CASE WHEN NOT n.in_recovery AND below.sync_available < n.sync_required THEN
               ROW('critical',
                   format('%s of %s required synchronous standbys are there; %s sessions wait for them',
                      below.sync_available, n.sync_required, sync.waiters))::sagaz_ha._reason END,
             CASE WHEN w.disk_free_bytes < t.wal_disk_free_critical THEN
               ROW('critical',
                   format('%s left on the disk with WAL', pg_size_pretty(w.disk_free_bytes)))::sagaz_ha._reason
                  WHEN w.disk_free_bytes IS NULL THEN
               ROW('unknown', 'free space for WAL is not known')::sagaz_ha._reason END,
             CASE WHEN archiver.fails OR archiver.grows THEN
               ROW(CASE WHEN archiver.full_in <= t.slot_time_to_loss_critical THEN 'critical' ELSE 'warning' END,
                   CASE WHEN archiver.fails THEN
                     format('archiving fails, last %s ago, and %s; %s files wait',
                       date_trunc('second', clock_timestamp() - w.archive_failed_at),
                       coalesce('succeeded last ' || date_trunc('second', clock_timestamp() - w.archived_at) || ' ago',
                                'has never succeeded'),
                       w.archive_ready_files)
                   ELSE
                     format('%s files wait for the archiver, the first for %s, though none has failed since',
                       w.archive_ready_files, date_trunc('second', w.archive_waiting_age))
                   END || coalesce('; at this rate the disk is full in ' || archiver.full_in, ''))::sagaz_ha._reason END], NULL)
           || coalesce(me.reasons, '{}')
           || ARRAY(SELECT ROW(r.severity, format('standby %s: %s', s.standby_name, r.message))::sagaz_ha._reason
                    FROM standby AS s, unnest(s.reasons) AS r)
           || ARRAY(SELECT ROW(r.severity, format('slot %s: %s', s.slot_name, r.message))::sagaz_ha._reason
                    FROM slot AS s, unnest(s.reasons) AS r) AS reasons
    FROM n CROSS JOIN t CROSS JOIN w CROSS JOIN below CROSS JOIN slots CROSS JOIN sync
    CROSS JOIN expected LEFT JOIN archiver ON true LEFT JOIN me ON true),
  named AS MATERIALIZED (
    SELECT f.*, sagaz_ha._status(f.reasons) AS status,
           CASE WHEN NOT f.in_recovery THEN 'primary'
                WHEN f.promoting THEN 'promoting'
                WHEN f.connected > 0 THEN 'cascading_standby'
                ELSE 'standby' END AS role
    FROM found AS f)
  SELECT clock_timestamp(), d.node_name, d.role, d.status, sagaz_ha._reason_lines(d.reasons),
         format('%s %s, timeline %s: %s', d.role, d.node_name, d.timeline_id,
           CASE WHEN d.status <> 'ok' THEN
                  array_to_string(sagaz_ha._reason_lines(ARRAY(
                    SELECT ROW(r.severity, r.message)::sagaz_ha._reason
                    FROM unnest(d.reasons) WITH ORDINALITY AS r (severity, message, o)
                    ORDER BY r.severity <> d.status, r.o)), '; ')
                WHEN d.in_recovery THEN
                  format('%s, lag %s', d.replay_state, d.replay_lag)
                ELSE format('%s standbys streaming, lag %s', d.streaming, coalesce(d.replay_lag::text, 'not known'))
           END) || CASE WHEN d.in_recovery THEN format(' (%s)', d.scope) ELSE '' END,
         d.system_identifier, d.timeline_id, d.lsn,
         d.streaming, d.standbys_expected, d.sync_required, d.sync_available, d.waiters,
         d.replay_lag, d.replay_lag_bytes, d.staleness_bound, d.message_age,
         d.at_risk, d.xmin_age, d.wal_bytes, d.disk_free_bytes, d.archive_ready_files, d.lag_source,
         d.archive_failing, d.archive_waiting_age, d.wal_disk_full_in
  FROM named AS d;
END
$$;
COMMENT ON FUNCTION sagaz_ha._health(sagaz_ha._observation) IS
  'internal: replication_health() by what was observed';

CREATE FUNCTION sagaz_ha.replication_health()
RETURNS TABLE (
  checked_at timestamptz, node_name text, role text, status text, reasons text[], summary text,
  system_identifier text, timeline_id bigint, current_lsn pg_lsn,
  standbys_streaming integer, standbys_expected integer,
  sync_required integer, sync_available integer, sync_waiters integer,
  replay_lag interval, replay_lag_bytes bigint, staleness_bound interval,
  upstream_contact_age interval, slots_at_risk integer, replication_xmin_age integer,
  wal_bytes bigint, wal_disk_free_bytes bigint, archive_ready_files bigint, lag_source text,
  archive_failing boolean, archive_waiting_age interval, wal_disk_full_in interval)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT h.* FROM sagaz_ha._health(sagaz_ha._observe()) AS h;
END
$$;
COMMENT ON FUNCTION sagaz_ha.replication_health() IS
  'one row: the state of replication as this server knows it, primary or standby';

--
-- Promotion, and the checks of load balancers
--
-- An unknown value never passes.
--

CREATE FUNCTION sagaz_ha._promotion_checks(receiver sagaz_ha._receiver_state)
RETURNS TABLE (check_name text, passed boolean, severity text, observed text, required text, hint text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  limits sagaz_ha._thresholds := sagaz_ha._thresholds();
BEGIN
  RETURN QUERY
  WITH n AS MATERIALIZED (SELECT * FROM sagaz_ha._node_state()),
  t AS (SELECT (limits).*),
  w AS MATERIALIZED (SELECT * FROM sagaz_ha._wal_state()),
  me AS MATERIALIZED (SELECT * FROM sagaz_ha._standby_status(limits, receiver)),
  below AS (SELECT count(*) FILTER (WHERE s.kind = 'standby' AND s.state = 'streaming') AS streaming
            FROM sagaz_ha._standbys(limits) AS s)
  SELECT c.check_name, coalesce(c.passed, false), c.severity, coalesce(c.observed, 'unknown'), c.required,
         CASE WHEN coalesce(c.passed, false) THEN NULL ELSE c.hint END
  FROM n CROSS JOIN t CROSS JOIN w CROSS JOIN below LEFT JOIN me ON true CROSS JOIN LATERAL (VALUES
    ('in_recovery', n.in_recovery AND NOT n.promoting, 'required',
     CASE WHEN NOT n.in_recovery THEN 'primary' WHEN n.promoting THEN 'promoting' ELSE 'standby' END,
     'standby', 'Only a standby can be promoted.'),
    ('data_received', me.receive_lag_bytes = 0 AND me.upstream_in_contact, 'advised',
     format('%s bytes missing, upstream heard %s ago', me.receive_lag_bytes, coalesce(me.message_age::text, 'never')),
     '0 bytes missing, upstream in contact',
     'What this standby has not received is lost: see data_loss_bound in promotion_readiness().'),
    -- The lag grows for as long as the primary is dead, and no wait makes it
    -- less: data_received judges what was not received.
    ('lag', me.replay_lag < t.replay_lag_critical
            OR (NOT me.upstream_in_contact AND me.replay_lsn >= me.received_lsn), 'required', me.replay_lag::text,
     format('less than %s, or all replayed that came before contact was lost', t.replay_lag_critical),
     'Wait until replay has caught up.'),
    ('replay_running', me.replay_state NOT IN ('paused', 'lock', 'conflict'), 'required', me.replay_state,
     'not paused or blocked', 'pg_wal_replay_resume(), or end what blocks replay (blocking_pids of standby_status()).'),
    ('apply_delay', current_setting('recovery_min_apply_delay') = '0', 'advised',
     current_setting('recovery_min_apply_delay'), '0',
     'Promotion replays what was held back first.'),
    ('synchronous_standbys', below.streaming >= n.sync_required, 'advised',
     format('%s connected', below.streaming), n.sync_required::text,
     'After the promotion commits would wait for synchronous_standby_names: connect its standbys, or clear it.'),
    ('wal_level', current_setting('wal_level') IN ('replica', 'logical'), 'required',
     current_setting('wal_level'), 'replica or logical', 'Other standbys could not follow.'),
    ('wal_senders', current_setting('max_wal_senders')::integer > 0, 'required',
     current_setting('max_wal_senders'), 'more than 0', 'Other standbys could not follow.'),
    ('writable', current_setting('default_transaction_read_only') = 'off', 'advised',
     current_setting('default_transaction_read_only'), 'off',
     'Sessions would stay read-only: default_transaction_read_only is on.'),
    ('wal_disk', w.disk_free_bytes >= t.wal_disk_free_critical, 'required',
     pg_size_pretty(w.disk_free_bytes), format('%s free', pg_size_pretty(t.wal_disk_free_critical)),
     'Make room for WAL first.'))
    AS c (check_name, passed, severity, observed, required, hint);
END
$$;
COMMENT ON FUNCTION sagaz_ha._promotion_checks(sagaz_ha._receiver_state) IS
  'internal: promotion_checks() by what was read of the receiver';

CREATE FUNCTION sagaz_ha.promotion_checks()
RETURNS TABLE (check_name text, passed boolean, severity text, observed text, required text, hint text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT c.* FROM sagaz_ha._promotion_checks(sagaz_ha._receiver_state()) AS c;
END
$$;
COMMENT ON FUNCTION sagaz_ha.promotion_checks() IS
  'what speaks against promoting this server now';

CREATE FUNCTION sagaz_ha.promotion_readiness()
RETURNS TABLE (ready boolean, data_loss_bytes bigint, data_loss_bound interval,
               time_to_promote interval, failed text[], advice text[])
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT c.ready,
         CASE WHEN r.in_contact THEN r.receive_lag_bytes END,
         r.loss_bound,
         CASE WHEN r.replay_lsn >= r.received_lsn THEN interval '0'
              WHEN r.replay_speed > 0 THEN
                make_interval(secs => least((r.received_lsn - r.replay_lsn)::float8 / r.replay_speed, 1e9))
         END,
         c.failed, c.advice
  FROM sagaz_ha._receiver_state() AS r,
       LATERAL (
        SELECT bool_and(p.passed) FILTER (WHERE p.severity = 'required') AS ready,
               coalesce(array_agg(p.check_name) FILTER (WHERE NOT p.passed AND p.severity = 'required'), '{}') AS failed,
               coalesce(array_agg(p.check_name) FILTER (WHERE NOT p.passed AND p.severity = 'advised'), '{}') AS advice
        FROM sagaz_ha._promotion_checks(r) AS p) AS c;
END
$$;
COMMENT ON FUNCTION sagaz_ha.promotion_readiness() IS
  'whether this standby can be promoted, the data that would be lost and the time that it would take';

CREATE FUNCTION sagaz_ha.node_ready(purpose text, max_staleness interval DEFAULT NULL)
RETURNS boolean
LANGUAGE sql VOLATILE PARALLEL RESTRICTED
BEGIN ATOMIC
  SELECT CASE lower(purpose)
           WHEN 'write' THEN NOT n.in_recovery AND NOT current_setting('transaction_read_only')::boolean
           WHEN 'primary' THEN NOT n.in_recovery
           WHEN 'standby' THEN n.in_recovery AND NOT n.promoting AND coalesce(s.fresh, false)
           WHEN 'read' THEN NOT n.in_recovery OR coalesce(s.fresh, false)
           ELSE false
         END
  FROM sagaz_ha._node_state() AS n,
    (SELECT r.staleness_bound <= coalesce(max_staleness, t.replay_lag_critical)
            AND r.replay_lag <= coalesce(max_staleness, t.replay_lag_critical) AS fresh
     FROM sagaz_ha._thresholds() AS t, sagaz_ha._receiver_state() AS r) AS s;
END;
COMMENT ON FUNCTION sagaz_ha.node_ready(text, interval) IS
  'whether this server may serve primary, write, standby or read; what is not known is not ready';

--
-- Metrics, for Prometheus and for Nagios
--
-- An unknown value has no row; each source is read once per scrape.
--

CREATE FUNCTION sagaz_ha._replication_metrics(seen sagaz_ha._observation)
RETURNS TABLE (name text, type text, help text, labels jsonb, value float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH h AS MATERIALIZED (SELECT * FROM sagaz_ha._health(seen)),
  s AS MATERIALIZED (SELECT u.* FROM unnest(seen.standbys) AS u),
  l AS MATERIALIZED (
    SELECT jsonb_build_object('slot', r.slot_name) AS labels,
           ARRAY[array_position(ARRAY['ok', 'warning', 'critical', 'unknown'], r.status)::float8 - 1,
                 r.active::integer, r.retained_bytes, extract(epoch FROM r.retained_age),
                 r.bytes_to_loss, extract(epoch FROM r.time_to_loss)] AS numbers
    FROM unnest(seen.slots) AS r),
  x AS MATERIALIZED (SELECT * FROM sagaz_ha._xmin_holders()),
  m (name, type, help, labels, value) AS (
    -- of this server
    SELECT v.name, v.type, v.help, v.labels, v.value
    FROM h CROSS JOIN LATERAL (VALUES
      ('sagaz_ha_replication_status', 'gauge', 'Replication health: 0 ok, 1 warning, 2 critical, 3 unknown.',
       '{}'::jsonb, array_position(ARRAY['ok', 'warning', 'critical', 'unknown'], h.status)::float8 - 1),
      ('sagaz_ha_in_recovery', 'gauge', 'Whether this server is a standby.',
       '{}', (h.role <> 'primary')::integer),
      ('sagaz_ha_timeline_id', 'gauge', 'Timeline that is written or replayed.', '{}', h.timeline_id),
      ('sagaz_ha_wal_position_bytes_total', 'counter', 'Position in WAL: flushed on a primary, replayed on a standby.',
       '{}', (h.current_lsn - '0/0')::float8),
      ('sagaz_ha_standbys_streaming', 'gauge', 'Standbys that stream from this server.', '{}', h.standbys_streaming),
      ('sagaz_ha_standbys_expected', 'gauge', 'Standbys that should.', '{}', h.standbys_expected),
      ('sagaz_ha_sync_required', 'gauge', 'Synchronous standbys that commits wait for.', '{}', h.sync_required),
      ('sagaz_ha_sync_available', 'gauge', 'Synchronous standbys that are connected.', '{}', h.sync_available),
      ('sagaz_ha_sync_waiters', 'gauge', 'Sessions that wait for synchronous standbys.', '{}', h.sync_waiters),
      ('sagaz_ha_staleness_bound_seconds', 'gauge', 'All that was committed before now minus this is visible here.',
       '{}', extract(epoch FROM h.staleness_bound)),
      ('sagaz_ha_upstream_contact_age_seconds', 'gauge', 'Time since anything was heard from the upstream.',
       '{}', extract(epoch FROM h.upstream_contact_age)),
      ('sagaz_ha_slots_at_risk', 'gauge', 'Replication slots that are not ok.', '{}', h.slots_at_risk),
      ('sagaz_ha_wal_bytes', 'gauge', 'Size of the WAL directory.', '{}', h.wal_bytes),
      ('sagaz_ha_wal_disk_free_bytes', 'gauge', 'Free space for WAL.', '{}', h.wal_disk_free_bytes),
      ('sagaz_ha_archive_ready_files', 'gauge', 'Files that wait for the archiver.', '{}', h.archive_ready_files),
      ('sagaz_ha_archive_failing', 'gauge', 'Whether archiving has failed since it last succeeded.',
       '{}', h.archive_failing::integer),
      ('sagaz_ha_archive_waiting_seconds', 'gauge', 'Time since the first of these files waits.',
       '{}', extract(epoch FROM h.archive_waiting_age)),
      ('sagaz_ha_wal_disk_full_seconds', 'gauge', 'Time until WAL that is not archived fills the disk.',
       '{}', extract(epoch FROM h.wal_disk_full_in)))
      AS v (name, type, help, labels, value)
    UNION ALL
    -- on a standby its own lag, on a primary that of each standby
    SELECT 'sagaz_postgres_replication_lag_seconds', 'gauge', 'Replay lag, by the LSN clock.',
           jsonb_build_object('standby', h.node_name, 'source', h.lag_source), extract(epoch FROM h.replay_lag)
    FROM h WHERE h.role <> 'primary'
    UNION ALL
    SELECT 'sagaz_postgres_replication_lag_seconds', 'gauge', 'Replay lag, by the LSN clock.',
           jsonb_build_object('standby', s.standby_name, 'source', s.lag_source),
           extract(epoch FROM max(s.effective_replay_lag))
    FROM s WHERE s.kind = 'standby' GROUP BY s.standby_name, s.lag_source
    UNION ALL
    SELECT 'sagaz_ha_replay_lag_bytes', 'gauge', 'WAL that is not replayed.',
           jsonb_build_object('standby', h.node_name), h.replay_lag_bytes
    FROM h WHERE h.role <> 'primary'
    UNION ALL
    SELECT 'sagaz_ha_replay_lag_bytes', 'gauge', 'WAL that is not replayed.',
           jsonb_build_object('standby', s.standby_name), max(s.replay_lag_bytes)
    FROM s WHERE s.kind = 'standby' GROUP BY s.standby_name
    UNION ALL
    SELECT 'sagaz_ha_standby_up', 'gauge', 'Whether the standby is streaming.',
           jsonb_build_object('standby', s.standby_name), max((s.state = 'streaming')::integer)
    FROM s WHERE s.kind = 'standby' GROUP BY s.standby_name
    UNION ALL
    SELECT 'sagaz_ha_standby_reply_age_seconds', 'gauge', 'Time since the standby''s last reply.',
           jsonb_build_object('standby', s.standby_name), extract(epoch FROM max(s.reply_age))
    FROM s WHERE s.kind = 'standby' GROUP BY s.standby_name
    UNION ALL
    -- per slot: VALUES that refer to a slot's columns would be compiled for each slot
    SELECT v.name, 'gauge', v.help, l.labels, l.numbers[v.n]
    FROM (VALUES
      (1, 'sagaz_ha_slot_status', 'Replication slot: 0 ok, 1 warning, 2 critical, 3 unknown.'),
      (2, 'sagaz_ha_slot_active', 'Whether a consumer is connected to the slot.'),
      (3, 'sagaz_ha_slot_retained_bytes', 'WAL that the slot keeps.'),
      (4, 'sagaz_ha_slot_retained_seconds', 'Age of the oldest WAL that the slot keeps.'),
      (5, 'sagaz_ha_slot_bytes_to_loss', 'WAL until the slot is lost or the disk is full.'),
      (6, 'sagaz_ha_slot_seconds_to_loss', 'Time until then, if its consumer stands still.'))
      AS v (n, name, help)
    CROSS JOIN l
    UNION ALL
    SELECT 'sagaz_ha_xmin_age', 'gauge', 'Transactions by which vacuum is held back.',
           jsonb_build_object('kind', x.kind), max(x.age)
    FROM x GROUP BY x.kind)
  -- an unknown value has no row: 0 would be a measurement
  SELECT m.name, m.type, m.help, m.labels, m.value FROM m WHERE m.value IS NOT NULL;
END
$$;
COMMENT ON FUNCTION sagaz_ha._replication_metrics(sagaz_ha._observation) IS
  'internal: the metrics of replication and slots';

CREATE FUNCTION sagaz_ha._partition_metrics(preloaded boolean)
RETURNS TABLE (name text, type text, help text, labels jsonb, value float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH c AS MATERIALIZED (
    SELECT c.*, extract(epoch FROM y.partition_interval) AS interval,
           extract(epoch FROM c.premade_until - sagaz_ha.clock()) AS wanted,
           CASE
             WHEN c.covered_until IS NOT NULL THEN extract(epoch FROM c.covered_until - sagaz_ha.clock())
             -- of a table that can't be read nothing is known
             WHEN c.premade_until IS NOT NULL THEN 0
           END AS covered
    FROM sagaz_ha._statistics() AS c JOIN sagaz_ha.partition_policy AS y ON y.parent = c.parent),
  m (name, type, help, labels, value) AS (
    SELECT v.name, 'gauge', v.help, jsonb_build_object('table', c.table_name), v.value
    FROM c CROSS JOIN LATERAL (VALUES
      ('sagaz_partition_count', 'Partitions of the table.', c.partitions::float8),
      ('sagaz_partition_size_bytes', 'Size of the table''s partitions.', c.total_bytes),
      ('sagaz_ha_partition_estimated_rows', 'Rows of the table, estimated.', c.estimated_rows),
      ('sagaz_ha_partitions_kept', 'Expired partitions that are kept for unfinished rows.', c.kept),
      ('sagaz_ha_partition_interval_seconds', 'Width of a new partition; a month is taken for 30 days.', c.interval),
      ('sagaz_ha_partition_wanted_seconds', 'Time ahead that the policy wants to be covered.', c.wanted),
      ('sagaz_ha_partition_covered_seconds', 'Time until inserts fail, or go to a default partition or to one without an end; 0: they do now.',
       c.covered)) AS v (name, help, value)
    UNION ALL
    SELECT 'sagaz_ha_partition_check_status', 'gauge', 'Check of partition_health(): 0 ok, 1 warning, 2 critical, 3 unknown.',
           jsonb_strip_nulls(jsonb_build_object('table', c.table_name, 'check', c.check_name)),
           array_position(ARRAY['ok', 'warning', 'critical', 'unknown'], c.status)::float8 - 1
    FROM sagaz_ha.partition_health() AS c
    UNION ALL
    SELECT v.name, 'gauge', v.help,
           jsonb_build_object('table', sagaz_ha._display_name(c.relation, c.table_name), 'step', c.phase), v.value
    FROM sagaz_ha.conversion AS c CROSS JOIN LATERAL (VALUES
      ('sagaz_ha_conversion_step_seconds', 'Time that the step of the conversion has taken so far.',
       extract(epoch FROM clock_timestamp() - c.phase_since)::float8),
      ('sagaz_ha_conversion_tries', 'How often the step has been tried in vain.', c.tries::float8),
      ('sagaz_ha_conversion_longest_lock_seconds', 'Longest time that a conversion held a strong lock.',
       extract(epoch FROM c.longest_lock)::float8)) AS v (name, help, value)
    UNION ALL
    SELECT 'sagaz_ha_worker_up', 'gauge', 'Processes of sagaz_ha that are running.',
           jsonb_build_object('type', w.type), count(a.pid)
    FROM (VALUES ('sagaz_ha launcher'), ('sagaz_ha sampler')) AS w (type)
    LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.backend_type = w.type
    GROUP BY w.type)
  SELECT m.name, m.type, m.help, m.labels, m.value FROM m WHERE m.value IS NOT NULL;
  -- Shared memory, which needs preloading, and not the history: old rows of
  -- that are deleted, so it is no counter.
  IF preloaded THEN
    RETURN QUERY
    SELECT v.name, v.type, v.help,
           jsonb_build_object('database', w.database, 'process', w.process), v.value
    FROM sagaz_ha.maintenance_status() AS w CROSS JOIN LATERAL (VALUES
      ('sagaz_partition_maintenance_duration_seconds', 'gauge', 'Duration of the last finished pass.',
       extract(epoch FROM w.last_duration)::float8),
      ('sagaz_ha_maintenance_overdue_seconds', 'gauge', 'Time since work was due that isn''t done; 0: there is none.',
       extract(epoch FROM w.overdue)),
      ('sagaz_partition_maintenance_errors_total', 'counter', 'Errors in passes since the server started.',
       w.errors)) AS v (name, type, help, value)
    WHERE w.database = current_database() AND v.value IS NOT NULL;
  END IF;
END
$$;
COMMENT ON FUNCTION sagaz_ha._partition_metrics(boolean) IS
  'internal: the metrics of partitions and of the processes that maintain them';

CREATE FUNCTION sagaz_ha.metrics()
RETURNS TABLE (name text, type text, help text, labels jsonb, value float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  seen sagaz_ha._observation := sagaz_ha._observe();
BEGIN
  RETURN QUERY SELECT * FROM sagaz_ha._replication_metrics(seen);
  RETURN QUERY SELECT * FROM sagaz_ha._partition_metrics((seen.node).sampled_at IS NOT NULL);
END
$$;
COMMENT ON FUNCTION sagaz_ha.metrics() IS
  'every number for monitoring; an unknown value has no row';

CREATE FUNCTION sagaz_ha._prometheus_labels(labels jsonb) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_prometheus_labels';
COMMENT ON FUNCTION sagaz_ha._prometheus_labels(jsonb) IS
  'internal: labels of a metric in the Prometheus text format';

CREATE FUNCTION sagaz_ha.prometheus_metrics() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN (
  SELECT string_agg(f.text, '' ORDER BY f.name)
  FROM (
    SELECT m.name,
           format(E'# HELP %s %s\n# TYPE %s %s\n', m.name,
                  replace(replace(min(m.help), E'\\', E'\\\\'), E'\n', E'\\n'),
                  m.name, min(m.type)) ||
           string_agg(m.name || m.label_text || ' ' ||
                      CASE m.value WHEN 'Infinity' THEN '+Inf' ELSE m.value::text END || E'\n',
                      '' ORDER BY m.label_text) AS text
    FROM (SELECT r.*, sagaz_ha._prometheus_labels(r.labels) AS label_text
          FROM sagaz_ha.metrics() AS r) AS m
    GROUP BY m.name) AS f);
END
$$;
COMMENT ON FUNCTION sagaz_ha.prometheus_metrics() IS
  'metrics() in the Prometheus text exposition format';

CREATE FUNCTION sagaz_ha.nagios_check(OUT code integer, OUT message text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  WITH found AS (
    SELECT h.status, h.summary, 0 AS o FROM sagaz_ha.replication_health() AS h
    UNION ALL
    SELECT p.status, format('partitions %s: %s: %s', p.check_name, coalesce(p.table_name, 'server'), p.details), 1
    FROM sagaz_ha.partition_health() AS p WHERE p.status <> 'ok'),
  worst AS (
    SELECT sagaz_ha._status(array_agg(ROW(f.status, f.summary)::sagaz_ha._reason)) AS status FROM found AS f)
  SELECT array_position(ARRAY['ok', 'warning', 'critical', 'unknown'], w.status) - 1,
         upper(w.status) || ' - ' ||
         (SELECT string_agg(f.summary, '; ' ORDER BY f.status <> w.status, f.o) FROM found AS f)
  INTO code, message
  FROM worst AS w;
END
$$;
COMMENT ON FUNCTION sagaz_ha.nagios_check() IS
  'exit code and message of a Nagios plugin: replication and partitions, the worst first';

--
-- Rights: readers need pg_monitor. Changing functions have to be granted, and
-- check themselves that the caller owns the table.
--

REVOKE ALL ON ALL TABLES IN SCHEMA sagaz_ha FROM PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA sagaz_ha TO pg_monitor;
GRANT SELECT ON @extschema@.partition_metadata TO pg_monitor;

REVOKE ALL ON ALL ROUTINES IN SCHEMA sagaz_ha FROM PUBLIC;
-- In the extension's own schema there may be functions of others.
REVOKE ALL ON FUNCTION
  @extschema@.maintain_all_partitions(),
  @extschema@.create_saga_executions_partition(date),
  @extschema@.create_saga_outbox_partition(date),
  @extschema@.create_saga_audit_log_partition(date),
  @extschema@.cleanup_consumer_inbox(integer),
  @extschema@.get_partition_statistics()
FROM PUBLIC;

-- A token says no more than pg_current_wal_lsn(), and applications need it. The
-- owner of a table must be allowed to make the triggers, which only refuse, and to
-- run the statements of a conversion: they check, or ask for the owner themselves.
GRANT EXECUTE ON ROUTINE
  sagaz_ha.clock(),
  sagaz_ha.commit_token(),
  sagaz_ha.has_replayed(text),
  sagaz_ha.wait_for_replay(text, interval),
  sagaz_ha.refuse_late_write(),
  sagaz_ha.check_unique(),
  sagaz_ha.skip_duplicate(),
  sagaz_ha.refuse_truncate(),
  sagaz_ha._require_attached(regclass, regclass),
  sagaz_ha._require_quick_attach(regclass, regclass),
  sagaz_ha._clone_index(regclass, regclass, name),
  sagaz_ha._keep_unique(regclass, name[]),
  sagaz_ha._replace_query(regclass, text),
  -- no more than pg_get_expr(); the owner of a table copies its policies with it
  sagaz_ha._expression(pg_node_tree, oid, name),
  sagaz_ha.uuidv7_at(timestamptz),
  sagaz_ha.ulid_at(timestamptz),
  sagaz_ha.unix_seconds_at(timestamptz),
  sagaz_ha.unix_milliseconds_at(timestamptz),
  sagaz_ha.unix_microseconds_at(timestamptz),
  sagaz_ha.snowflake_at(timestamptz, text)
TO PUBLIC;

-- Parts of import_pg_partman(), which do no more than the caller may.
GRANT EXECUTE ON FUNCTION
  sagaz_ha._require_primary(text),
  sagaz_ha._pg_partman_sets(),
  sagaz_ha._pg_partman_rest(regclass, jsonb),
  sagaz_ha._pg_partman_obstacles(regclass, jsonb, boolean),
  sagaz_ha._time_zone_of_bounds(regclass),
  sagaz_ha._drop_empty_default(regclass, boolean),
  sagaz_ha._policy_time_zone(regclass),
  sagaz_ha._rename_for_pg_partman(regclass, jsonb)
TO PUBLIC;

GRANT EXECUTE ON FUNCTION
  sagaz_ha._restored_at(),
  sagaz_ha._plain_saga_tables(),
  sagaz_ha.maintenance_status(),
  sagaz_ha._maintained(),
  sagaz_ha.plan_partition_maintenance(timestamptz),
  sagaz_ha.partitions(boolean),
  sagaz_ha._expired_state(regclass),
  sagaz_ha._problem_version(regclass, regclass),
  sagaz_ha._conversion_left(regclass),
  sagaz_ha._conversion_name(text, text),
  sagaz_ha._display_name(regclass, text),
  sagaz_ha._statistics(),
  sagaz_ha.coverage(),
  sagaz_ha.partition_timeline(integer),
  sagaz_ha._partition_tree(regclass),
  sagaz_ha._catalog_changes(),
  sagaz_ha._unique_flaws(regclass),
  sagaz_ha._drift(regclass),
  sagaz_ha._drift_indexes(regclass),
  sagaz_ha._not_whole(regclass),
  sagaz_ha._off_grid(regclass[]),
  sagaz_ha._key_samples(),
  @extschema@.get_partition_statistics(),
  sagaz_ha.partition_health(),
  sagaz_ha._thresholds(),
  sagaz_ha._node_state(),
  sagaz_ha._receiver_state(),
  sagaz_ha._sender_state(),
  sagaz_ha._wal_state(),
  sagaz_ha._lsn_age(pg_lsn),
  sagaz_ha._wal_speed(),
  sagaz_ha._status(sagaz_ha._reason[]),
  sagaz_ha._reason_lines(sagaz_ha._reason[]),
  sagaz_ha._replay_block(),
  sagaz_ha.lsn_timestamp(pg_lsn),
  sagaz_ha._standby_status(sagaz_ha._thresholds, sagaz_ha._receiver_state),
  sagaz_ha.standby_status(),
  sagaz_ha._standbys(sagaz_ha._thresholds),
  sagaz_ha.replication_standbys(),
  sagaz_ha._slots(sagaz_ha._thresholds, sagaz_ha._node_state, sagaz_ha._wal_state),
  sagaz_ha.replication_slot_risk(),
  sagaz_ha.wal_retention(),
  sagaz_ha._xmin_holders(),
  sagaz_ha.xmin_holders(),
  sagaz_ha._observe(),
  sagaz_ha._health(sagaz_ha._observation),
  sagaz_ha.replication_health(),
  sagaz_ha._promotion_checks(sagaz_ha._receiver_state),
  sagaz_ha.promotion_checks(),
  sagaz_ha.promotion_readiness(),
  sagaz_ha.node_ready(text, interval),
  sagaz_ha._replication_metrics(sagaz_ha._observation),
  sagaz_ha._partition_metrics(boolean),
  sagaz_ha.metrics(),
  sagaz_ha._prometheus_labels(jsonb),
  sagaz_ha.prometheus_metrics(),
  sagaz_ha.nagios_check()
TO pg_monitor;
