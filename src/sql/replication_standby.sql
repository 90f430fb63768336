--
-- This standby: its distance from the upstream, and what holds up replay
--
-- Its numbers are of one reading of the WAL receiver; no row on a primary.
--

CREATE FUNCTION sagaz_ha._replay_block(
  OUT replay_wait text, OUT blocking_pids integer[], OUT waiting_for interval)
LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  SELECT w.replay_wait,
         CASE w.replay_wait
           WHEN 'lock' THEN
             (SELECT array_agg(DISTINCT h.pid)
              FROM pg_catalog.pg_locks AS l
              JOIN pg_catalog.pg_locks AS h
                ON h.granted AND h.pid <> l.pid
               AND (h.locktype, h.database, h.relation, h.transactionid, h.virtualxid,
                    h.classid, h.objid, h.objsubid)
                   IS NOT DISTINCT FROM
                   (l.locktype, l.database, l.relation, l.transactionid, l.virtualxid,
                    l.classid, l.objid, l.objsubid)
              WHERE l.pid = w.pid AND NOT l.granted)
           -- Replay doesn't say which snapshot it conflicts with: in the database
           -- concerned, at least with the oldest.
           WHEN 'conflict' THEN
             (SELECT array_agg(b.pid ORDER BY b.age DESC)
              FROM (SELECT a.pid, age(a.backend_xmin) AS age,
                           max(age(a.backend_xmin)) OVER (PARTITION BY a.datid) AS oldest
                    FROM pg_catalog.pg_stat_activity AS a
                    WHERE a.backend_xmin IS NOT NULL AND a.backend_type <> 'walsender'
                      AND a.pid <> pg_backend_pid()) AS b
              WHERE b.age = b.oldest)
         END,
         CASE WHEN w.replay_wait = 'lock' THEN
           (SELECT max(clock_timestamp() - l.waitstart) FROM pg_catalog.pg_locks AS l
            WHERE l.pid = w.pid AND NOT l.granted)
         END
  INTO replay_wait, blocking_pids, waiting_for
  FROM (SELECT a.pid,
               CASE
                 WHEN a.wait_event_type = 'Lock' THEN 'lock'
                 WHEN a.wait_event IN ('RecoveryConflictSnapshot',
                                       'RecoveryConflictTablespace', 'BufferPin')
                   OR a.wait_event_type = 'BufferPin' THEN 'conflict'
                 WHEN a.wait_event = 'RecoveryApplyDelay' THEN 'delayed'
               END AS replay_wait
        FROM pg_catalog.pg_stat_activity AS a
        WHERE a.backend_type = 'startup') AS w;
END
$$;
COMMENT ON FUNCTION sagaz_ha._replay_block() IS
  'internal: what the startup process waits for, and which backends it waits for';

CREATE FUNCTION sagaz_ha._standby_status(limits sagaz_ha._thresholds, receiver sagaz_ha._receiver_state)
RETURNS TABLE (
  receiver_state text, receiver_pid integer, receiver_restarts bigint,
  upstream_host text, upstream_port integer, slot_name text,
  received_lsn pg_lsn, latest_end_lsn pg_lsn, replay_lsn pg_lsn,
  received_timeline bigint, replay_timeline bigint,
  receive_lag_bytes bigint, replay_backlog_bytes bigint,
  replay_lag interval, staleness_bound interval, message_age interval,
  replay_state text, blocking_pids integer[], blocked_for interval,
  replay_bytes_per_second float8, catchup_eta interval,
  lag_source text, clock_offset interval, upstream_in_contact boolean,
  scope text, status text, reasons sagaz_ha._reason[])
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH s AS MATERIALIZED (
    SELECT b.*,
      array_remove(ARRAY[
        CASE WHEN b.replay_lag IS NULL THEN
          ROW('unknown',
              'replay lag is not known')::sagaz_ha._reason END,
        CASE
          WHEN NOT b.streaming_configured THEN NULL
          WHEN b.starts_unheard >= 3 AND NOT b.in_contact THEN
            ROW('critical',
                format('%s starts of the WAL receiver without a message from the upstream: it may be gone, or no longer have the WAL that is needed; see the server log',
                   b.starts_unheard))::sagaz_ha._reason
          WHEN b.message_age > t.contact_grace THEN
            ROW('critical',
                format('nothing heard from the upstream for %s', date_trunc('second', b.message_age)))::sagaz_ha._reason
          WHEN b.receiver_state <> 'streaming' AND b.message_age IS NULL THEN
            ROW('unknown',
                format('WAL receiver is %s, and nothing was heard from the upstream yet', b.receiver_state))::sagaz_ha._reason
          WHEN b.receiver_state <> 'streaming' THEN
            ROW('warning', format('WAL receiver is %s', b.receiver_state))::sagaz_ha._reason
          WHEN NOT b.responsive THEN ROW('warning', 'WAL receiver does not react')::sagaz_ha._reason
        END,
        CASE
          WHEN b.excess_lag >= t.replay_lag_critical THEN
            ROW('critical',
                format('replay lag is %s', date_trunc('second', b.replay_lag)))::sagaz_ha._reason
          WHEN b.excess_lag >= t.replay_lag_warning THEN
            ROW('warning',
                format('replay lag is %s', date_trunc('second', b.replay_lag)))::sagaz_ha._reason
        END,
        CASE
          WHEN b.replay_backlog_bytes >= t.replay_lag_bytes_critical THEN
            ROW('critical',
                format('%s of WAL are not replayed', pg_size_pretty(b.replay_backlog_bytes)))::sagaz_ha._reason
          WHEN b.replay_backlog_bytes >= t.replay_lag_bytes_warning THEN
            ROW('warning',
                format('%s of WAL are not replayed', pg_size_pretty(b.replay_backlog_bytes)))::sagaz_ha._reason
        END,
        CASE b.replay_state
          WHEN 'paused' THEN ROW('warning', 'replay is paused')::sagaz_ha._reason
          WHEN 'lock' THEN
            ROW('warning',
                format('replay waits for a lock of %s', b.blocking_pids))::sagaz_ha._reason
          WHEN 'conflict' THEN
            ROW('warning',
                format('replay waits for queries that conflict with it, of %s at least', b.blocking_pids))::sagaz_ha._reason
        END], NULL) AS reasons
    FROM (SELECT (limits).*) AS t,
      (SELECT r.*, k.blocking_pids,
              CASE
                WHEN r.paused THEN 'paused'
                WHEN k.replay_wait IS NOT NULL THEN k.replay_wait
                WHEN r.receiver_state IN ('streaming', 'waiting', 'restarting') THEN 'streaming'
                ELSE 'archive'
              END AS replay_state,
              CASE WHEN r.paused OR k.replay_wait IS NOT NULL THEN
                least(coalesce(k.waiting_for, r.stuck_for),
                      CASE WHEN r.lag_source = 'lsn_clock' THEN r.replay_lag END)
              END AS blocked_for,
              CASE
                WHEN r.replay_backlog_bytes = 0 AND r.in_contact THEN interval '0'
                WHEN r.replay_backlog_bytes > 0 AND r.replay_speed > coalesce(r.wal_speed, 0) THEN
                  make_interval(secs => least(r.replay_backlog_bytes /
                    (r.replay_speed - coalesce(r.wal_speed, 0)), 1e9))
              END AS catchup_eta,
              CASE WHEN k.replay_wait = 'delayed' THEN
                greatest(r.replay_lag - current_setting('recovery_min_apply_delay')::interval, interval '0')
              ELSE r.replay_lag END AS excess_lag,
              format('relative to the upstream %s, which may be a standby itself',
                     coalesce(r.upstream_host || ':' || r.upstream_port, 'last connected')) AS scope
       FROM (SELECT (receiver).*) AS r, sagaz_ha._replay_block() AS k
       WHERE r.receiver_state IS NOT NULL) AS b)
  SELECT s.receiver_state, s.receiver_pid, s.receiver_restarts,
         s.upstream_host, s.upstream_port, s.slot_name,
         s.received_lsn, s.latest_end_lsn, s.replay_lsn,
         s.received_timeline, s.replay_timeline,
         s.receive_lag_bytes, s.replay_backlog_bytes,
         s.replay_lag, s.staleness_bound, s.message_age,
         s.replay_state, s.blocking_pids, s.blocked_for,
         s.replay_speed, s.catchup_eta, s.lag_source, s.clock_offset, s.in_contact,
         s.scope, sagaz_ha._status(s.reasons), s.reasons
  FROM s;
END
$$;
COMMENT ON FUNCTION sagaz_ha._standby_status(sagaz_ha._thresholds, sagaz_ha._receiver_state) IS
  'internal: standby_status() by what was read; reasons are typed';

CREATE FUNCTION sagaz_ha.standby_status()
RETURNS TABLE (
  receiver_state text, receiver_pid integer, receiver_restarts bigint,
  upstream_host text, upstream_port integer, slot_name text,
  received_lsn pg_lsn, latest_end_lsn pg_lsn, replay_lsn pg_lsn,
  received_timeline bigint, replay_timeline bigint,
  receive_lag_bytes bigint, replay_backlog_bytes bigint,
  replay_lag interval, staleness_bound interval, message_age interval,
  replay_state text, blocking_pids integer[], blocked_for interval,
  replay_bytes_per_second float8, catchup_eta interval,
  lag_source text, clock_offset interval, upstream_in_contact boolean,
  scope text, status text, reasons text[])
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT s.receiver_state, s.receiver_pid, s.receiver_restarts, s.upstream_host, s.upstream_port,
         s.slot_name, s.received_lsn, s.latest_end_lsn, s.replay_lsn, s.received_timeline,
         s.replay_timeline, s.receive_lag_bytes, s.replay_backlog_bytes, s.replay_lag,
         s.staleness_bound, s.message_age, s.replay_state, s.blocking_pids, s.blocked_for,
         s.replay_bytes_per_second, s.catchup_eta, s.lag_source, s.clock_offset,
         s.upstream_in_contact, s.scope, s.status, sagaz_ha._reason_lines(s.reasons)
  FROM sagaz_ha._standby_status(sagaz_ha._thresholds(), sagaz_ha._receiver_state()) AS s;
END
$$;
COMMENT ON FUNCTION sagaz_ha.standby_status() IS
  'this standby: its receiver, its lag and the source of that, and what holds up replay; no row on a primary';
