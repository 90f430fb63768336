--
-- Replication health: one row about this server, primary or standby
--
-- It is made from one observation, so its columns agree with each other.
--

CREATE TYPE sagaz_ha._observation AS (
  limits sagaz_ha._thresholds, node sagaz_ha._node_state, wal sagaz_ha._wal_state,
  standbys sagaz_ha._standby[], slots sagaz_ha._slot[]);
COMMENT ON TYPE sagaz_ha._observation IS
  'internal: what replication health and metrics are made from';

CREATE FUNCTION sagaz_ha._observe() RETURNS sagaz_ha._observation
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  seen sagaz_ha._observation;
BEGIN
  seen.limits := sagaz_ha._thresholds();
  seen.node := sagaz_ha._node_state();
  seen.wal := sagaz_ha._wal_state();
  seen.standbys := ARRAY(SELECT s FROM sagaz_ha._standbys(seen.limits) AS s);
  seen.slots := ARRAY(SELECT s FROM sagaz_ha._slots(seen.limits, seen.node, seen.wal) AS s);
  RETURN seen;
END
$$;
COMMENT ON FUNCTION sagaz_ha._observe() IS
  'internal: reads thresholds, node, WAL directory, standbys and slots, each once';

CREATE FUNCTION sagaz_ha._health(seen sagaz_ha._observation)
RETURNS TABLE (
  checked_at timestamptz, node_name text, role text, status text, reasons text[], summary text,
  system_identifier text, timeline_id bigint, current_lsn pg_lsn,
  standbys_streaming integer, standbys_expected integer,
  sync_required integer, sync_available integer, sync_waiters integer,
  replay_lag interval, replay_lag_bytes bigint, staleness_bound interval,
  upstream_contact_age interval, slots_at_risk integer, replication_xmin_age integer,
  wal_bytes bigint, wal_disk_free_bytes bigint, archive_ready_files bigint, lag_source text,
  archive_failing boolean, archive_waiting_age interval, wal_disk_full_in interval)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH n AS (SELECT (seen.node).*),
  t AS (SELECT (seen.limits).*),
  w AS (SELECT (seen.wal).*),
  standby AS MATERIALIZED (SELECT s.* FROM unnest(seen.standbys) AS s),
  slot AS MATERIALIZED (SELECT s.* FROM unnest(seen.slots) AS s),
  me AS MATERIALIZED (
    SELECT * FROM sagaz_ha._standby_status(seen.limits, sagaz_ha._receiver_state())),
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
  -- A quiet server has one file that waits, at most, and fills no disk: a time that
  -- is beyond a month says nothing.
  archiver AS MATERIALIZED (
    SELECT a.fails, a.grows,
           CASE WHEN (a.fails OR a.grows) AND a.full_in < interval '30 days' THEN date_trunc('second', a.full_in) END AS full_in
    -- a failure from before the first file that waits is over: a success during a
    -- shutdown isn't counted
    FROM (SELECT coalesce(w.archive_ready_files > 0 AND w.archive_failed_at > coalesce(w.archived_at, '-infinity')
                          AND w.archive_failed_at >= clock_timestamp() - w.archive_waiting_age - interval '1 s', false) AS fails,
                 w.archive_ready_files > 1 AND w.archive_waiting_age >= interval '2 min' AS grows,
                 CASE WHEN w.wal_speed > 0 THEN
                   make_interval(secs => least(w.disk_free_bytes / w.wal_speed, 1e9)) END AS full_in
          FROM w WHERE w.archives) AS a),
  -- materialized, because reasons are read several times below
  found AS MATERIALIZED (
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
           archiver.fails AS archive_failing, archiver.full_in AS wal_disk_full_in,
           CASE WHEN w.archives THEN coalesce(w.archive_waiting_age, '0') END AS archive_waiting_age,
           CASE WHEN n.in_recovery THEN me.lag_source
                ELSE coalesce(below.lag_source,
                              CASE WHEN n.sampler_running THEN 'lsn_clock' ELSE 'reported' END)
           END AS lag_source,
           array_remove(ARRAY[
             CASE WHEN n.promoting THEN
               ROW('warning',
                   'promotion is under way')::sagaz_ha._reason END,
             CASE WHEN below.streaming < expected.standbys THEN
               ROW('critical',
                   format('%s of %s expected standbys are streaming', below.streaming, expected.standbys))::sagaz_ha._reason END,
             CASE WHEN NOT n.in_recovery AND below.sync_available < n.sync_required THEN
               ROW('critical',
                   format('%s of %s required synchronous standbys are there; %s sessions wait for them',
                      below.sync_available, n.sync_required, sync.waiters))::sagaz_ha._reason END,
             CASE WHEN w.disk_free_bytes < t.wal_disk_free_critical THEN
               ROW('critical',
                   format('%s left on the disk with WAL', pg_size_pretty(w.disk_free_bytes)))::sagaz_ha._reason
                  WHEN w.disk_free_bytes IS NULL THEN
               ROW('unknown', 'free space for WAL is not known')::sagaz_ha._reason END,
             CASE WHEN archiver.fails OR archiver.grows THEN
               ROW(CASE WHEN archiver.full_in <= t.slot_time_to_loss_critical THEN 'critical' ELSE 'warning' END,
                   CASE WHEN archiver.fails THEN
                     format('archiving fails, last %s ago, and %s; %s files wait',
                       date_trunc('second', clock_timestamp() - w.archive_failed_at),
                       coalesce('succeeded last ' || date_trunc('second', clock_timestamp() - w.archived_at) || ' ago',
                                'has never succeeded'),
                       w.archive_ready_files)
                   ELSE
                     format('%s files wait for the archiver, the first for %s, though none has failed since',
                       w.archive_ready_files, date_trunc('second', w.archive_waiting_age))
                   END || coalesce('; at this rate the disk is full in ' || archiver.full_in, ''))::sagaz_ha._reason END], NULL)
           || coalesce(me.reasons, '{}')
           || ARRAY(SELECT ROW(r.severity, format('standby %s: %s', s.standby_name, r.message))::sagaz_ha._reason
                    FROM standby AS s, unnest(s.reasons) AS r)
           || ARRAY(SELECT ROW(r.severity, format('slot %s: %s', s.slot_name, r.message))::sagaz_ha._reason
                    FROM slot AS s, unnest(s.reasons) AS r) AS reasons
    FROM n CROSS JOIN t CROSS JOIN w CROSS JOIN below CROSS JOIN slots CROSS JOIN sync
    CROSS JOIN expected LEFT JOIN archiver ON true LEFT JOIN me ON true),
  named AS MATERIALIZED (
    SELECT f.*, sagaz_ha._status(f.reasons) AS status,
           CASE WHEN NOT f.in_recovery THEN 'primary'
                WHEN f.promoting THEN 'promoting'
                WHEN f.connected > 0 THEN 'cascading_standby'
                ELSE 'standby' END AS role
    FROM found AS f)
  SELECT clock_timestamp(), d.node_name, d.role, d.status, sagaz_ha._reason_lines(d.reasons),
         format('%s %s, timeline %s: %s', d.role, d.node_name, d.timeline_id,
           CASE WHEN d.status <> 'ok' THEN
                  array_to_string(sagaz_ha._reason_lines(ARRAY(
                    SELECT ROW(r.severity, r.message)::sagaz_ha._reason
                    FROM unnest(d.reasons) WITH ORDINALITY AS r (severity, message, o)
                    ORDER BY r.severity <> d.status, r.o)), '; ')
                WHEN d.in_recovery THEN
                  format('%s, lag %s', d.replay_state, d.replay_lag)
                ELSE format('%s standbys streaming, lag %s', d.streaming, coalesce(d.replay_lag::text, 'not known'))
           END) || CASE WHEN d.in_recovery THEN format(' (%s)', d.scope) ELSE '' END,
         d.system_identifier, d.timeline_id, d.lsn,
         d.streaming, d.standbys_expected, d.sync_required, d.sync_available, d.waiters,
         d.replay_lag, d.replay_lag_bytes, d.staleness_bound, d.message_age,
         d.at_risk, d.xmin_age, d.wal_bytes, d.disk_free_bytes, d.archive_ready_files, d.lag_source,
         d.archive_failing, d.archive_waiting_age, d.wal_disk_full_in
  FROM named AS d;
END
$$;
COMMENT ON FUNCTION sagaz_ha._health(sagaz_ha._observation) IS
  'internal: replication_health() by what was observed';

CREATE FUNCTION sagaz_ha.replication_health()
RETURNS TABLE (
  checked_at timestamptz, node_name text, role text, status text, reasons text[], summary text,
  system_identifier text, timeline_id bigint, current_lsn pg_lsn,
  standbys_streaming integer, standbys_expected integer,
  sync_required integer, sync_available integer, sync_waiters integer,
  replay_lag interval, replay_lag_bytes bigint, staleness_bound interval,
  upstream_contact_age interval, slots_at_risk integer, replication_xmin_age integer,
  wal_bytes bigint, wal_disk_free_bytes bigint, archive_ready_files bigint, lag_source text,
  archive_failing boolean, archive_waiting_age interval, wal_disk_full_in interval)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT h.* FROM sagaz_ha._health(sagaz_ha._observe()) AS h;
END
$$;
COMMENT ON FUNCTION sagaz_ha.replication_health() IS
  'one row: the state of replication as this server knows it, primary or standby';
