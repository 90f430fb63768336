--
-- Policy and history: the only state that the catalogs don't have
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
  drops_held_since timestamptz,
  restored_at timestamptz
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
COMMENT ON COLUMN sagaz_ha.partition_policy.drops_held_since IS
  'since when nothing is retired, because the clock looked wrong or the server was restored; null normally';
COMMENT ON COLUMN sagaz_ha.partition_policy.restored_at IS
  'the last restore of the server that drops were held back for; drops_held_since is the same as long as they are';
SELECT pg_catalog.pg_extension_config_dump('sagaz_ha.partition_policy', '');

CREATE TABLE sagaz_ha.partition_hold (
  partition regclass PRIMARY KEY,
  reason text NOT NULL,
  since timestamptz NOT NULL,
  held_by name NOT NULL
);
COMMENT ON TABLE sagaz_ha.partition_hold IS
  'partitions that stay however old they are';
COMMENT ON COLUMN sagaz_ha.partition_hold.partition IS 'the partition';
COMMENT ON COLUMN sagaz_ha.partition_hold.reason IS 'why it stays';
COMMENT ON COLUMN sagaz_ha.partition_hold.since IS 'since when it is held';
COMMENT ON COLUMN sagaz_ha.partition_hold.held_by IS 'the role that asked for it';
SELECT pg_catalog.pg_extension_config_dump('sagaz_ha.partition_hold', '');

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
CREATE INDEX partition_history_latest
  ON sagaz_ha.partition_history (table_name, coalesce(partition_name, ''), id);
CREATE INDEX partition_history_partition ON sagaz_ha.partition_history (partition, id);
CREATE INDEX partition_history_retiring ON sagaz_ha.partition_history (partition)
  WHERE action = 'DEFER' AND details LIKE 'retiring%';
COMMENT ON TABLE sagaz_ha.partition_history IS
  'what maintenance did and found; KEEP, DEFER and ERROR when they begin or change';
COMMENT ON COLUMN sagaz_ha.partition_history.id IS 'order in which rows were recorded';
COMMENT ON COLUMN sagaz_ha.partition_history.recorded_at IS 'time of the pass''s transaction';
COMMENT ON COLUMN sagaz_ha.partition_history.action IS
  'CREATE, DETACH, DROP, KEEP, DEFER, ANALYZE or ERROR; and FREEZE and ATTACH';
COMMENT ON COLUMN sagaz_ha.partition_history.parent IS 'OID of the partitioned table';
COMMENT ON COLUMN sagaz_ha.partition_history.table_name IS 'name of the partitioned table then';
COMMENT ON COLUMN sagaz_ha.partition_history.partition IS 'OID of the partition, if there was one';
COMMENT ON COLUMN sagaz_ha.partition_history.partition_name IS
  'name of the partition; null for the table as a whole';
COMMENT ON COLUMN sagaz_ha.partition_history.details IS
  'bounds, number of unfinished rows, who is in the way, or the error';

CREATE FUNCTION sagaz_ha.policy_changed() RETURNS trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_policy_changed';
COMMENT ON FUNCTION sagaz_ha.policy_changed() IS
  'trigger function: wake the worker for this database';
CREATE TRIGGER policy_changed AFTER INSERT OR UPDATE OR DELETE ON sagaz_ha.partition_policy
  FOR EACH STATEMENT EXECUTE FUNCTION sagaz_ha.policy_changed();
COMMENT ON TRIGGER policy_changed ON sagaz_ha.partition_policy IS
  'a changed policy is acted on at once, not at the next nap';

-- Everybody may run it: it does nothing but refuse, and the table's owner,
-- who makes the trigger, has to be allowed to.
CREATE FUNCTION sagaz_ha.refuse_late_write() RETURNS trigger
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_refuse_late_write';
COMMENT ON FUNCTION sagaz_ha.refuse_late_write() IS
  'trigger function: refuse writes to a partition that is being retired';
