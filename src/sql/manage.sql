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
