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
  drops_held_since timestamptz
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
  'since when nothing is retired, because the clock looked wrong; null normally';
SELECT pg_catalog.pg_extension_config_dump('sagaz_ha.partition_policy', '');

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

REVOKE ALL ON sagaz_ha.partition_policy, sagaz_ha.partition_history FROM PUBLIC;
GRANT SELECT ON sagaz_ha.partition_policy, sagaz_ha.partition_history TO pg_monitor;

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
  auto_freeze boolean DEFAULT true
) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_manage_partitions';
COMMENT ON FUNCTION sagaz_ha.manage_partitions(regclass, interval, integer, interval, text, text, text, regnamespace, name, text[], boolean, boolean) IS
  'register a table partitioned by range on one timestamptz, timestamp or date column, or replace its policy';

CREATE FUNCTION sagaz_ha.stop_managing_partitions(parent regclass) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_stop_managing_partitions';
COMMENT ON FUNCTION sagaz_ha.stop_managing_partitions(regclass) IS
  'forget a table''s policy; the table and its partitions stay as they are';

CREATE FUNCTION sagaz_ha.resume_drops(parent regclass) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_resume_drops';
COMMENT ON FUNCTION sagaz_ha.resume_drops(regclass) IS
  'let a table''s drops go on that the worker held back because the clock looked wrong; false if none were held';

CREATE FUNCTION sagaz_ha.reattach_partition(partition regclass, parent regclass DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_reattach_partition';
COMMENT ON FUNCTION sagaz_ha.reattach_partition(regclass, regclass) IS
  'bring back a partition that was detached or archived; it then stays, however old it is';

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
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_create_saga_partition';
COMMENT ON FUNCTION @extschema@.create_saga_executions_partition(date) IS
  'make the partition of saga_executions for this day, if there is none; its name';

CREATE FUNCTION @extschema@.create_saga_outbox_partition(date) RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_create_saga_partition';
COMMENT ON FUNCTION @extschema@.create_saga_outbox_partition(date) IS
  'make the partition of saga_outbox for this day, if there is none; its name';

CREATE FUNCTION @extschema@.create_saga_audit_log_partition(date) RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_create_saga_partition';
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
  'event trigger function: remove the policies of tables that were dropped';
CREATE EVENT TRIGGER sagaz_ha_forget_dropped_tables ON sql_drop
  WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP EXTENSION')
  EXECUTE FUNCTION sagaz_ha.forget_dropped_tables();
COMMENT ON EVENT TRIGGER sagaz_ha_forget_dropped_tables IS
  'removes the policies of tables that were dropped';

--
-- Reading
--

CREATE FUNCTION sagaz_ha.partitions(
  OUT parent regclass, OUT table_name text,
  OUT partition regclass, OUT partition_name text,
  OUT partition_start timestamptz, OUT partition_end timestamptz,
  OUT state text, OUT total_bytes bigint, OUT estimated_rows bigint
) RETURNS SETOF record
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'sagaz_partitions';
COMMENT ON FUNCTION sagaz_ha.partitions() IS
  'every partition of every managed table, from catalogs and file sizes';

CREATE FUNCTION sagaz_ha.coverage(
  OUT parent regclass, OUT table_name text,
  OUT covered_until timestamptz, OUT premade_until timestamptz,
  OUT holes integer, OUT first_hole timestamptz,
  OUT default_partition regclass, OUT default_has_rows boolean,
  OUT pending_detach regclass, OUT pending_waits_for text, OUT problem text
) RETURNS SETOF record
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'sagaz_coverage';
COMMENT ON FUNCTION sagaz_ha.coverage() IS
  'until when inserts succeed, per managed table, and what stands in the way of maintenance';


CREATE VIEW @extschema@.partition_metadata AS
  SELECT p.table_name, p.partition_name, p.partition_start, p.partition_end,
         (SELECT pg_catalog.max(h.recorded_at)
            FROM sagaz_ha.partition_history AS h
           WHERE h.partition OPERATOR(pg_catalog.=) p.partition
             AND h.action OPERATOR(pg_catalog.=) 'CREATE') AS created_at,
         CASE
           WHEN p.state OPERATOR(pg_catalog.=) 'expired'
            AND (SELECT h.action
                   FROM sagaz_ha.partition_history AS h
                  WHERE h.partition OPERATOR(pg_catalog.=) p.partition
                  ORDER BY h.id DESC LIMIT 1) OPERATOR(pg_catalog.=) 'KEEP'
           THEN 'kept'
           ELSE p.state
         END AS state,
         p.total_bytes, p.estimated_rows, p.parent, p.partition
    FROM sagaz_ha.partitions() AS p;
COMMENT ON VIEW @extschema@.partition_metadata IS
  'partitions of the managed tables; state is current, future, past, expired, kept, detaching or default';
COMMENT ON COLUMN @extschema@.partition_metadata.table_name IS 'the managed table';
COMMENT ON COLUMN @extschema@.partition_metadata.partition_name IS 'the partition';
COMMENT ON COLUMN @extschema@.partition_metadata.partition_start IS 'lower bound, inclusive';
COMMENT ON COLUMN @extschema@.partition_metadata.partition_end IS 'upper bound, exclusive';
COMMENT ON COLUMN @extschema@.partition_metadata.created_at IS
  'when maintenance made it; null for a partition that somebody else made, or that was restored';
COMMENT ON COLUMN @extschema@.partition_metadata.state IS
  'current, future, past, expired, kept (expired, but with unfinished rows), detaching or default';
COMMENT ON COLUMN @extschema@.partition_metadata.total_bytes IS
  'size on disk with indexes and TOAST, in bytes';
COMMENT ON COLUMN @extschema@.partition_metadata.estimated_rows IS
  'rows as of the last VACUUM or ANALYZE, or else as the statistics collector counted';
COMMENT ON COLUMN @extschema@.partition_metadata.parent IS 'the managed table, as regclass';
COMMENT ON COLUMN @extschema@.partition_metadata.partition IS 'the partition, as regclass';

CREATE FUNCTION @extschema@.get_partition_statistics(
  OUT table_name text, OUT partition_count bigint,
  OUT oldest_partition text, OUT newest_partition text,
  OUT total_size_mb numeric, OUT estimated_rows bigint,
  OUT kept bigint, OUT covered_until timestamptz
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT c.table_name,
         count(m.partition),
         (array_agg(m.partition_name ORDER BY m.partition_start)
            FILTER (WHERE m.state <> 'default'))[1],
         (array_agg(m.partition_name ORDER BY m.partition_start DESC)
            FILTER (WHERE m.state <> 'default'))[1],
         round(coalesce(sum(m.total_bytes), 0) / 1048576.0, 2),
         coalesce(sum(m.estimated_rows), 0)::bigint,
         count(*) FILTER (WHERE m.state = 'kept'),
         c.covered_until
    FROM sagaz_ha.coverage() AS c
    LEFT JOIN @extschema@.partition_metadata AS m ON m.parent = c.parent
   GROUP BY c.parent, c.table_name, c.covered_until
   ORDER BY c.table_name;
END;
COMMENT ON FUNCTION @extschema@.get_partition_statistics() IS
  'one row per managed table: partitions, size in MB, estimated rows, kept partitions, and until when inserts succeed';

CREATE FUNCTION sagaz_ha.partition_health(
  OUT table_name text, OUT check_name text, OUT status text, OUT value text, OUT details text
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
BEGIN ATOMIC
  WITH coverage AS (
    SELECT c.*, sagaz_ha.clock() AS now FROM sagaz_ha.coverage() AS c
  ), failing AS (
    SELECT h.table_name, count(*) AS failures, max(h.details) AS details
      FROM (SELECT DISTINCT ON (h.table_name, coalesce(h.partition_name, ''))
                   h.table_name, h.action, h.details, h.recorded_at
              FROM sagaz_ha.partition_history AS h
             ORDER BY h.table_name, coalesce(h.partition_name, ''), h.id DESC) AS h
     WHERE h.action = 'ERROR'
     GROUP BY h.table_name
  )
  SELECT c.table_name, 'coverage',
         CASE
           WHEN c.covered_until IS NULL OR c.covered_until <= c.now THEN 'critical'
           -- covered_until may be infinity, which can't be subtracted from
           WHEN c.covered_until < c.now + (c.premade_until - c.now) / 4 THEN 'critical'
           WHEN c.covered_until < c.now + (c.premade_until - c.now) / 2 THEN 'warning'
           ELSE 'ok'
         END,
         c.covered_until::text,
         CASE
           WHEN c.covered_until IS NOT NULL
           THEN format('inserts succeed until %s; the policy wants %s', c.covered_until, c.premade_until)
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
              WHEN c.default_partition IS NOT NULL THEN 'warning' ELSE 'ok' END,
         c.default_partition::text,
         CASE WHEN c.default_has_rows
           THEN 'has rows: a new partition for their time can''t be made until they are moved'
              WHEN c.default_partition IS NOT NULL
           THEN 'exists and is empty: making and dropping partitions needs an exclusive lock on it'
              ELSE 'none' END
    FROM coverage AS c WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
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
         coalesce(string_agg(m.partition_name, ', ' ORDER BY m.partition_start)
                    FILTER (WHERE m.state = 'kept') || ': expired, but with unfinished rows',
                  'none')
    FROM @extschema@.partition_metadata AS m GROUP BY m.table_name
  UNION ALL
  SELECT c.table_name, 'maintainable',
         CASE WHEN c.problem IS NOT NULL THEN 'critical' ELSE 'ok' END,
         NULL, coalesce(c.problem, 'the policy fits the table')
    FROM coverage AS c
  UNION ALL
  SELECT c.table_name, 'errors',
         CASE WHEN f.failures > 0 THEN 'critical' ELSE 'ok' END,
         coalesce(f.failures, 0)::text, coalesce(f.details, 'none')
    FROM coverage AS c LEFT JOIN failing AS f ON f.table_name = c.table_name
  UNION ALL
  SELECT c.table_name, 'drops',
         CASE WHEN p.drops_held_since IS NOT NULL THEN 'critical' ELSE 'ok' END,
         p.drops_held_since::text,
         CASE WHEN p.drops_held_since IS NOT NULL
           THEN 'held back, because the clock looked wrong; sagaz_ha.resume_drops() lets them go on'
           ELSE 'not held back' END
    FROM coverage AS c JOIN sagaz_ha.partition_policy AS p ON p.parent = c.parent
  UNION ALL
  SELECT NULL, 'worker',
         CASE WHEN w.pid IS NOT NULL OR pg_is_in_recovery() THEN 'ok' ELSE 'warning' END,
         w.pid::text,
         CASE WHEN w.pid IS NOT NULL THEN 'the launcher is running'
              WHEN pg_is_in_recovery() THEN 'this is a standby: its primary does maintenance'
              ELSE 'no worker is running: add sagaz_ha to shared_preload_libraries, or call maintain_all_partitions() regularly' END
    FROM (SELECT min(a.pid) AS pid FROM pg_stat_activity AS a
           WHERE a.backend_type = 'sagaz_ha launcher') AS w;
END;
COMMENT ON FUNCTION sagaz_ha.partition_health() IS
  'checks per managed table and for the server, each with status ok, warning or critical';

CREATE FUNCTION sagaz_ha.maintenance_status(
  OUT process text, OUT pid integer, OUT database text, OUT phase text, OUT table_name text,
  OUT since timestamptz, OUT partitions_done integer, OUT partitions_total integer,
  OUT waiting_for text, OUT last_pass timestamptz, OUT next_pass timestamptz,
  OUT passes bigint, OUT actions bigint, OUT last_error text
) RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'sagaz_maintenance_status';
COMMENT ON FUNCTION sagaz_ha.maintenance_status() IS
  'launcher and workers of all databases: what each is doing, since when, and what it waits for';

--
-- Rights: who reads needs pg_monitor; who changes needs to be granted the
-- function and to own the table, which the functions check themselves.
--

REVOKE ALL ON FUNCTION
  sagaz_ha.create_saga_tables(),
  sagaz_ha.manage_partitions(regclass, interval, integer, interval, text, text, text, regnamespace, name, text[], boolean, boolean),
  sagaz_ha.stop_managing_partitions(regclass),
  sagaz_ha.resume_drops(regclass),
  sagaz_ha.reattach_partition(regclass, regclass),
  sagaz_ha.maintain_partitions(regclass),
  @extschema@.maintain_all_partitions(),
  sagaz_ha.create_partition(regclass, timestamptz),
  @extschema@.create_saga_executions_partition(date),
  @extschema@.create_saga_outbox_partition(date),
  @extschema@.create_saga_audit_log_partition(date),
  @extschema@.cleanup_consumer_inbox(integer),
  sagaz_ha.forget_dropped_tables(),
  sagaz_ha.policy_changed(),
  sagaz_ha.maintenance_status(),
  sagaz_ha.plan_partition_maintenance(timestamptz),
  sagaz_ha.partitions(),
  sagaz_ha.coverage(),
  @extschema@.get_partition_statistics(),
  sagaz_ha.partition_health()
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
  sagaz_ha.maintenance_status(),
  sagaz_ha.plan_partition_maintenance(timestamptz),
  sagaz_ha.partitions(),
  sagaz_ha.coverage(),
  @extschema@.get_partition_statistics(),
  sagaz_ha.partition_health()
TO pg_monitor;
GRANT SELECT ON @extschema@.partition_metadata TO pg_monitor;
