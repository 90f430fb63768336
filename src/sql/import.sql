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
