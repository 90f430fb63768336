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
