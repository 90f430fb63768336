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
