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
