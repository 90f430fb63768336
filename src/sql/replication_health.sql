CREATE FUNCTION sagaz_ha.replication_health()
RETURNS TABLE (
  checked_at timestamptz, node_name text, role text, status text, reasons text[], summary text,
  system_identifier text, timeline_id bigint, current_lsn pg_lsn,
  standbys_streaming integer, standbys_expected integer,
  sync_required integer, sync_available integer, sync_waiters integer,
  replay_lag interval, replay_lag_bytes bigint, staleness_bound interval,
  upstream_contact_age interval, slots_at_risk integer, replication_xmin_age integer,
  wal_bytes bigint, wal_disk_free_bytes bigint, archive_ready_files bigint, lag_source text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH n AS MATERIALIZED (SELECT * FROM sagaz_ha._node_state()),
  t AS MATERIALIZED (SELECT * FROM sagaz_ha._thresholds()),
  w AS MATERIALIZED (SELECT * FROM sagaz_ha._wal_state()),
  me AS MATERIALIZED (SELECT * FROM sagaz_ha.standby_status()),
  standby AS MATERIALIZED (SELECT * FROM sagaz_ha.replication_standbys()),
  slot AS MATERIALIZED (SELECT * FROM sagaz_ha.replication_slot_risk()),
  -- one row each from here on
  below AS (
    SELECT count(*) FILTER (WHERE s.kind = 'standby' AND s.state = 'streaming')::integer AS streaming,
           count(*) FILTER (WHERE s.kind = 'standby' AND s.state <> 'absent')::integer AS connected,
           count(*) FILTER (WHERE s.state = 'streaming' AND
                            s.sync_state IN ('sync', 'quorum', 'potential'))::integer AS sync_available,
           max(s.effective_replay_lag) FILTER (WHERE s.kind = 'standby') AS lag,
           max(s.replay_lag_bytes) FILTER (WHERE s.kind = 'standby') AS lag_bytes,
           max(s.lag_source) FILTER (WHERE s.kind = 'standby' AND s.state <> 'absent') AS lag_source,
           max(s.xmin_age) AS xmin_age
    FROM standby AS s),
  slots AS (
    SELECT count(*) FILTER (WHERE s.status <> 'ok')::integer AS at_risk,
           max(greatest(s.xmin_age, s.catalog_xmin_age)) AS xmin_age
    FROM slot AS s),
  sync AS (
    SELECT count(*)::integer AS waiters
    FROM pg_catalog.pg_stat_activity AS a WHERE a.wait_event = 'SyncRep'),
  expected AS (
    SELECT greatest(t.expected_standbys, cardinality(t.expected_standby_names)) AS standbys FROM t),
  found AS (
    SELECT n.node_name, n.in_recovery, n.promoting, n.system_identifier, n.timeline_id, n.lsn,
           CASE WHEN NOT n.in_recovery THEN n.sync_required END AS sync_required,
           below.streaming, below.connected, expected.standbys AS standbys_expected,
           CASE WHEN NOT n.in_recovery THEN below.sync_available END AS sync_available,
           sync.waiters, greatest(slots.xmin_age, below.xmin_age) AS xmin_age, slots.at_risk,
           CASE WHEN n.in_recovery THEN me.replay_lag ELSE below.lag END AS replay_lag,
           CASE WHEN n.in_recovery THEN me.replay_backlog_bytes ELSE below.lag_bytes END AS replay_lag_bytes,
           CASE WHEN n.in_recovery THEN me.staleness_bound ELSE interval '0' END AS staleness_bound,
           me.message_age, me.scope, me.replay_state,
           w.wal_bytes, w.disk_free_bytes, w.archive_ready_files,
           CASE WHEN n.in_recovery THEN me.lag_source
                ELSE coalesce(below.lag_source,
                              CASE WHEN n.sampler_running THEN 'lsn_clock' ELSE 'reported' END)
           END AS lag_source,
           array_remove(ARRAY[
             CASE WHEN n.promoting THEN 'warning: promotion is under way' END,
             CASE WHEN below.streaming < expected.standbys THEN
               format('critical: %s of %s expected standbys are streaming', below.streaming, expected.standbys) END,
             CASE WHEN NOT n.in_recovery AND below.sync_available < n.sync_required THEN
               format('critical: %s of %s required synchronous standbys are there; %s sessions wait for them',
                      below.sync_available, n.sync_required, sync.waiters) END,
             CASE WHEN w.disk_free_bytes < t.wal_disk_free_critical THEN
               format('critical: %s left on the disk with WAL', pg_size_pretty(w.disk_free_bytes))
                  WHEN w.disk_free_bytes IS NULL THEN
               'unknown: free space for WAL is not known' END], NULL)
           || coalesce(me.reasons, '{}')
           || ARRAY(SELECT format('%s: standby %s: %s', split_part(r, ': ', 1), s.standby_name,
                                  substr(r, length(split_part(r, ': ', 1)) + 3))
                    FROM standby AS s, unnest(s.reasons) AS r)
           || ARRAY(SELECT format('%s: slot %s: %s', split_part(r, ': ', 1), s.slot_name,
                                  substr(r, length(split_part(r, ': ', 1)) + 3))
                    FROM slot AS s, unnest(s.reasons) AS r) AS reasons
    FROM n CROSS JOIN t CROSS JOIN w CROSS JOIN below CROSS JOIN slots CROSS JOIN sync
    CROSS JOIN expected LEFT JOIN me ON true),
  named AS (
    SELECT f.*, sagaz_ha._status(f.reasons) AS status,
           CASE WHEN NOT f.in_recovery THEN 'primary'
                WHEN f.promoting THEN 'promoting'
                WHEN f.connected > 0 THEN 'cascading_standby'
                ELSE 'standby' END AS role
    FROM found AS f)
  SELECT clock_timestamp(), d.node_name, d.role, d.status, d.reasons,
         format('%s %s, timeline %s: %s', d.role, d.node_name, d.timeline_id,
           CASE WHEN cardinality(d.reasons) > 0 THEN
                  (SELECT string_agg(r, '; ' ORDER BY NOT starts_with(r, d.status), o)
                   FROM unnest(d.reasons) WITH ORDINALITY AS u (r, o))
                WHEN d.in_recovery THEN
                  format('%s, lag %s', d.replay_state, d.replay_lag)
                ELSE format('%s standbys streaming, lag %s', d.streaming, coalesce(d.replay_lag::text, 'not known'))
           END) || CASE WHEN d.in_recovery THEN format(' (%s)', d.scope) ELSE '' END,
         d.system_identifier, d.timeline_id, d.lsn,
         d.streaming, d.standbys_expected, d.sync_required, d.sync_available, d.waiters,
         d.replay_lag, d.replay_lag_bytes, d.staleness_bound, d.message_age,
         d.at_risk, d.xmin_age, d.wal_bytes, d.disk_free_bytes, d.archive_ready_files, d.lag_source
  FROM named AS d;
END
$$;
COMMENT ON FUNCTION sagaz_ha.replication_health() IS
  'one row: the state of replication as this server knows it, primary or standby';
