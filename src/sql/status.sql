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
