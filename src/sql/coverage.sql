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
