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
  'size on disk with indexes and TOAST, in bytes; null when Citus can''t be asked';
COMMENT ON COLUMN @extschema@.partition_metadata.estimated_rows IS
  'rows as of the last VACUUM or ANALYZE, or else as the statistics collector counted; null if Citus distributes the table';
COMMENT ON COLUMN @extschema@.partition_metadata.parent IS 'the managed table, as regclass';
COMMENT ON COLUMN @extschema@.partition_metadata.partition IS 'the partition, as regclass';

CREATE FUNCTION @extschema@.get_partition_statistics(
  OUT table_name text, OUT partition_count bigint,
  OUT oldest_partition text, OUT newest_partition text,
  OUT total_size_mb numeric, OUT estimated_rows bigint,
  OUT kept bigint, OUT covered_until timestamptz
) RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
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
END
$$;
COMMENT ON FUNCTION @extschema@.get_partition_statistics() IS
  'one row per managed table: partitions, size in MB, estimated rows, kept partitions, and until when inserts succeed';
