--
-- Metrics, for Prometheus and for Nagios
--
-- An unknown value has no row; each source is read once per scrape.
--

CREATE FUNCTION sagaz_ha._replication_metrics(seen sagaz_ha._observation)
RETURNS TABLE (name text, type text, help text, labels jsonb, value float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH h AS MATERIALIZED (SELECT * FROM sagaz_ha._health(seen)),
  s AS MATERIALIZED (SELECT u.* FROM unnest(seen.standbys) AS u),
  l AS MATERIALIZED (
    SELECT jsonb_build_object('slot', r.slot_name) AS labels,
           ARRAY[array_position(ARRAY['ok', 'warning', 'critical', 'unknown'], r.status)::float8 - 1,
                 r.active::integer, r.retained_bytes, extract(epoch FROM r.retained_age),
                 r.bytes_to_loss, extract(epoch FROM r.time_to_loss)] AS numbers
    FROM unnest(seen.slots) AS r),
  x AS MATERIALIZED (SELECT * FROM sagaz_ha._xmin_holders()),
  m (name, type, help, labels, value) AS (
    -- of this server
    SELECT v.name, v.type, v.help, v.labels, v.value
    FROM h CROSS JOIN LATERAL (VALUES
      ('sagaz_ha_replication_status', 'gauge', 'Replication health: 0 ok, 1 warning, 2 critical, 3 unknown.',
       '{}'::jsonb, array_position(ARRAY['ok', 'warning', 'critical', 'unknown'], h.status)::float8 - 1),
      ('sagaz_ha_in_recovery', 'gauge', 'Whether this server is a standby.',
       '{}', (h.role <> 'primary')::integer),
      ('sagaz_ha_timeline_id', 'gauge', 'Timeline that is written or replayed.', '{}', h.timeline_id),
      ('sagaz_ha_wal_position_bytes_total', 'counter', 'Position in WAL: flushed on a primary, replayed on a standby.',
       '{}', (h.current_lsn - '0/0')::float8),
      ('sagaz_ha_standbys_streaming', 'gauge', 'Standbys that stream from this server.', '{}', h.standbys_streaming),
      ('sagaz_ha_standbys_expected', 'gauge', 'Standbys that should.', '{}', h.standbys_expected),
      ('sagaz_ha_sync_required', 'gauge', 'Synchronous standbys that commits wait for.', '{}', h.sync_required),
      ('sagaz_ha_sync_available', 'gauge', 'Synchronous standbys that are connected.', '{}', h.sync_available),
      ('sagaz_ha_sync_waiters', 'gauge', 'Sessions that wait for synchronous standbys.', '{}', h.sync_waiters),
      ('sagaz_ha_staleness_bound_seconds', 'gauge', 'All that was committed before now minus this is visible here.',
       '{}', extract(epoch FROM h.staleness_bound)),
      ('sagaz_ha_upstream_contact_age_seconds', 'gauge', 'Time since anything was heard from the upstream.',
       '{}', extract(epoch FROM h.upstream_contact_age)),
      ('sagaz_ha_slots_at_risk', 'gauge', 'Replication slots that are not ok.', '{}', h.slots_at_risk),
      ('sagaz_ha_wal_bytes', 'gauge', 'Size of the WAL directory.', '{}', h.wal_bytes),
      ('sagaz_ha_wal_disk_free_bytes', 'gauge', 'Free space for WAL.', '{}', h.wal_disk_free_bytes),
      ('sagaz_ha_archive_ready_files', 'gauge', 'Files that wait for the archiver.', '{}', h.archive_ready_files),
      ('sagaz_ha_archive_failing', 'gauge', 'Whether archiving has failed since it last succeeded.',
       '{}', h.archive_failing::integer),
      ('sagaz_ha_archive_waiting_seconds', 'gauge', 'Time since the first of these files waits.',
       '{}', extract(epoch FROM h.archive_waiting_age)),
      ('sagaz_ha_wal_disk_full_seconds', 'gauge', 'Time until WAL that is not archived fills the disk.',
       '{}', extract(epoch FROM h.wal_disk_full_in)))
      AS v (name, type, help, labels, value)
    UNION ALL
    -- on a standby its own lag, on a primary that of each standby
    SELECT 'sagaz_postgres_replication_lag_seconds', 'gauge', 'Replay lag, by the LSN clock.',
           jsonb_build_object('standby', h.node_name, 'source', h.lag_source), extract(epoch FROM h.replay_lag)
    FROM h WHERE h.role <> 'primary'
    UNION ALL
    SELECT 'sagaz_postgres_replication_lag_seconds', 'gauge', 'Replay lag, by the LSN clock.',
           jsonb_build_object('standby', s.standby_name, 'source', s.lag_source),
           extract(epoch FROM max(s.effective_replay_lag))
    FROM s WHERE s.kind = 'standby' GROUP BY s.standby_name, s.lag_source
    UNION ALL
    SELECT 'sagaz_ha_replay_lag_bytes', 'gauge', 'WAL that is not replayed.',
           jsonb_build_object('standby', h.node_name), h.replay_lag_bytes
    FROM h WHERE h.role <> 'primary'
    UNION ALL
    SELECT 'sagaz_ha_replay_lag_bytes', 'gauge', 'WAL that is not replayed.',
           jsonb_build_object('standby', s.standby_name), max(s.replay_lag_bytes)
    FROM s WHERE s.kind = 'standby' GROUP BY s.standby_name
    UNION ALL
    SELECT 'sagaz_ha_standby_up', 'gauge', 'Whether the standby is streaming.',
           jsonb_build_object('standby', s.standby_name), max((s.state = 'streaming')::integer)
    FROM s WHERE s.kind = 'standby' GROUP BY s.standby_name
    UNION ALL
    SELECT 'sagaz_ha_standby_reply_age_seconds', 'gauge', 'Time since the standby''s last reply.',
           jsonb_build_object('standby', s.standby_name), extract(epoch FROM max(s.reply_age))
    FROM s WHERE s.kind = 'standby' GROUP BY s.standby_name
    UNION ALL
    -- per slot: VALUES that refer to a slot's columns would be compiled for each slot
    SELECT v.name, 'gauge', v.help, l.labels, l.numbers[v.n]
    FROM (VALUES
      (1, 'sagaz_ha_slot_status', 'Replication slot: 0 ok, 1 warning, 2 critical, 3 unknown.'),
      (2, 'sagaz_ha_slot_active', 'Whether a consumer is connected to the slot.'),
      (3, 'sagaz_ha_slot_retained_bytes', 'WAL that the slot keeps.'),
      (4, 'sagaz_ha_slot_retained_seconds', 'Age of the oldest WAL that the slot keeps.'),
      (5, 'sagaz_ha_slot_bytes_to_loss', 'WAL until the slot is lost or the disk is full.'),
      (6, 'sagaz_ha_slot_seconds_to_loss', 'Time until then, if its consumer stands still.'))
      AS v (n, name, help)
    CROSS JOIN l
    UNION ALL
    SELECT 'sagaz_ha_xmin_age', 'gauge', 'Transactions by which vacuum is held back.',
           jsonb_build_object('kind', x.kind), max(x.age)
    FROM x GROUP BY x.kind)
  -- an unknown value has no row: 0 would be a measurement
  SELECT m.name, m.type, m.help, m.labels, m.value FROM m WHERE m.value IS NOT NULL;
END
$$;
COMMENT ON FUNCTION sagaz_ha._replication_metrics(sagaz_ha._observation) IS
  'internal: the metrics of replication and slots';

CREATE FUNCTION sagaz_ha._partition_metrics(preloaded boolean)
RETURNS TABLE (name text, type text, help text, labels jsonb, value float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH c AS MATERIALIZED (
    SELECT c.*, extract(epoch FROM y.partition_interval) AS interval,
           extract(epoch FROM c.premade_until - sagaz_ha.clock()) AS wanted,
           CASE
             WHEN c.covered_until IS NOT NULL THEN extract(epoch FROM c.covered_until - sagaz_ha.clock())
             -- of a table that can't be read nothing is known
             WHEN c.premade_until IS NOT NULL THEN 0
           END AS covered
    FROM sagaz_ha._statistics() AS c JOIN sagaz_ha.partition_policy AS y ON y.parent = c.parent),
  m (name, type, help, labels, value) AS (
    SELECT v.name, 'gauge', v.help, jsonb_build_object('table', c.table_name), v.value
    FROM c CROSS JOIN LATERAL (VALUES
      ('sagaz_partition_count', 'Partitions of the table.', c.partitions::float8),
      ('sagaz_partition_size_bytes', 'Size of the table''s partitions.', c.total_bytes),
      ('sagaz_ha_partition_estimated_rows', 'Rows of the table, estimated.', c.estimated_rows),
      ('sagaz_ha_partitions_kept', 'Expired partitions that are kept for unfinished rows.', c.kept),
      ('sagaz_ha_partition_interval_seconds', 'Width of a new partition; a month is taken for 30 days.', c.interval),
      ('sagaz_ha_partition_wanted_seconds', 'Time ahead that the policy wants to be covered.', c.wanted),
      ('sagaz_ha_partition_covered_seconds', 'Time until inserts fail, or go to a default partition or to one without an end; 0: they do now.',
       c.covered)) AS v (name, help, value)
    UNION ALL
    SELECT 'sagaz_ha_partition_check_status', 'gauge', 'Check of partition_health(): 0 ok, 1 warning, 2 critical, 3 unknown.',
           jsonb_strip_nulls(jsonb_build_object('table', c.table_name, 'check', c.check_name)),
           array_position(ARRAY['ok', 'warning', 'critical', 'unknown'], c.status)::float8 - 1
    FROM sagaz_ha.partition_health() AS c
    UNION ALL
    SELECT v.name, 'gauge', v.help,
           jsonb_build_object('table', sagaz_ha._display_name(c.relation, c.table_name), 'step', c.phase), v.value
    FROM sagaz_ha.conversion AS c CROSS JOIN LATERAL (VALUES
      ('sagaz_ha_conversion_step_seconds', 'Time that the step of the conversion has taken so far.',
       extract(epoch FROM clock_timestamp() - c.phase_since)::float8),
      ('sagaz_ha_conversion_tries', 'How often the step has been tried in vain.', c.tries::float8),
      ('sagaz_ha_conversion_longest_lock_seconds', 'Longest time that a conversion held a strong lock.',
       extract(epoch FROM c.longest_lock)::float8)) AS v (name, help, value)
    UNION ALL
    SELECT 'sagaz_ha_worker_up', 'gauge', 'Processes of sagaz_ha that are running.',
           jsonb_build_object('type', w.type), count(a.pid)
    FROM (VALUES ('sagaz_ha launcher'), ('sagaz_ha sampler')) AS w (type)
    LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.backend_type = w.type
    GROUP BY w.type)
  SELECT m.name, m.type, m.help, m.labels, m.value FROM m WHERE m.value IS NOT NULL;
  -- Shared memory, which needs preloading, and not the history: old rows of
  -- that are deleted, so it is no counter.
  IF preloaded THEN
    RETURN QUERY
    SELECT v.name, v.type, v.help,
           jsonb_build_object('database', w.database, 'process', w.process), v.value
    FROM sagaz_ha.maintenance_status() AS w CROSS JOIN LATERAL (VALUES
      ('sagaz_partition_maintenance_duration_seconds', 'gauge', 'Duration of the last finished pass.',
       extract(epoch FROM w.last_duration)::float8),
      ('sagaz_ha_maintenance_overdue_seconds', 'gauge', 'Time since work was due that isn''t done; 0: there is none.',
       extract(epoch FROM w.overdue)),
      ('sagaz_partition_maintenance_errors_total', 'counter', 'Errors in passes since the server started.',
       w.errors)) AS v (name, type, help, value)
    WHERE w.database = current_database() AND v.value IS NOT NULL;
  END IF;
END
$$;
COMMENT ON FUNCTION sagaz_ha._partition_metrics(boolean) IS
  'internal: the metrics of partitions and of the processes that maintain them';

CREATE FUNCTION sagaz_ha.metrics()
RETURNS TABLE (name text, type text, help text, labels jsonb, value float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  seen sagaz_ha._observation := sagaz_ha._observe();
BEGIN
  RETURN QUERY SELECT * FROM sagaz_ha._replication_metrics(seen);
  RETURN QUERY SELECT * FROM sagaz_ha._partition_metrics((seen.node).sampled_at IS NOT NULL);
END
$$;
COMMENT ON FUNCTION sagaz_ha.metrics() IS
  'every number for monitoring; an unknown value has no row';

CREATE FUNCTION sagaz_ha._prometheus_labels(labels jsonb) RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'sagaz_prometheus_labels';
COMMENT ON FUNCTION sagaz_ha._prometheus_labels(jsonb) IS
  'internal: labels of a metric in the Prometheus text format';

CREATE FUNCTION sagaz_ha.prometheus_metrics() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN (
  SELECT string_agg(f.text, '' ORDER BY f.name)
  FROM (
    SELECT m.name,
           format(E'# HELP %s %s\n# TYPE %s %s\n', m.name,
                  replace(replace(min(m.help), E'\\', E'\\\\'), E'\n', E'\\n'),
                  m.name, min(m.type)) ||
           string_agg(m.name || m.label_text || ' ' ||
                      CASE m.value WHEN 'Infinity' THEN '+Inf' ELSE m.value::text END || E'\n',
                      '' ORDER BY m.label_text) AS text
    FROM (SELECT r.*, sagaz_ha._prometheus_labels(r.labels) AS label_text
          FROM sagaz_ha.metrics() AS r) AS m
    GROUP BY m.name) AS f);
END
$$;
COMMENT ON FUNCTION sagaz_ha.prometheus_metrics() IS
  'metrics() in the Prometheus text exposition format';

CREATE FUNCTION sagaz_ha.nagios_check(OUT code integer, OUT message text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  WITH found AS (
    SELECT h.status, h.summary, 0 AS o FROM sagaz_ha.replication_health() AS h
    UNION ALL
    SELECT p.status, format('partitions %s: %s: %s', p.check_name, coalesce(p.table_name, 'server'), p.details), 1
    FROM sagaz_ha.partition_health() AS p WHERE p.status <> 'ok'),
  worst AS (
    SELECT sagaz_ha._status(array_agg(ROW(f.status, f.summary)::sagaz_ha._reason)) AS status FROM found AS f)
  SELECT array_position(ARRAY['ok', 'warning', 'critical', 'unknown'], w.status) - 1,
         upper(w.status) || ' - ' ||
         (SELECT string_agg(f.summary, '; ' ORDER BY f.status <> w.status, f.o) FROM found AS f)
  INTO code, message
  FROM worst AS w;
END
$$;
COMMENT ON FUNCTION sagaz_ha.nagios_check() IS
  'exit code and message of a Nagios plugin: replication and partitions, the worst first';
