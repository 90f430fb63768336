--
-- The receivers of this server's WAL, and the expected standbys that are absent
--
-- Ages and lags are in this server's clock.
--

CREATE TYPE sagaz_ha._standby AS (
  standby_name text, client_addr inet, slot_name text, kind text,
  state text, sync_state text,
  sent_lsn pg_lsn, write_lsn pg_lsn, flush_lsn pg_lsn, replay_lsn pg_lsn,
  sent_lag_bytes bigint, write_lag_bytes bigint, flush_lag_bytes bigint, replay_lag_bytes bigint,
  reported_replay_lag interval, effective_replay_lag interval,
  reply_age interval, xmin_age integer, status text, reasons sagaz_ha._reason[],
  pid integer, lag_source text, clock_offset interval);
COMMENT ON TYPE sagaz_ha._standby IS
  'internal: a receiver of this server''s WAL, or an expected standby that is absent';

CREATE FUNCTION sagaz_ha._standbys(limits sagaz_ha._thresholds) RETURNS SETOF sagaz_ha._standby
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH t AS (SELECT (limits).*),
  present AS MATERIALIZED (
    SELECT r.application_name AS standby_name, r.client_addr, l.slot_name::text AS slot_name,
           CASE
             WHEN a.datid IS NOT NULL OR l.slot_type = 'logical' THEN 'logical'
             WHEN r.state = 'backup' OR r.application_name = 'pg_basebackup'
               OR l.temporary AND l.slot_name LIKE 'pg\_basebackup\_%' THEN 'base_backup'
             WHEN r.application_name = 'pg_receivewal'
               OR r.replay_lsn IS NULL AND r.reply_time IS NOT NULL THEN 'wal_archiver'
             ELSE 'standby'
           END AS kind,
           r.state, r.sync_state, r.sent_lsn, r.write_lsn, r.flush_lsn, r.replay_lsn,
           greatest(s.end_lsn - r.sent_lsn, 0)::bigint AS sent_lag_bytes,
           greatest(s.end_lsn - r.write_lsn, 0)::bigint AS write_lag_bytes,
           greatest(s.end_lsn - r.flush_lsn, 0)::bigint AS flush_lag_bytes,
           greatest(s.end_lsn - r.replay_lsn, 0)::bigint AS replay_lag_bytes,
           r.replay_lag AS reported_replay_lag, s.effective_lag, s.reply_age,
           greatest(age(r.backend_xmin), age(l.xmin)) AS xmin_age,
           r.pid, s.lag_source, s.clock_offset
    FROM pg_catalog.pg_stat_replication AS r
    JOIN sagaz_ha._sender_state() AS s ON s.pid = r.pid
    LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = r.pid
    LEFT JOIN pg_catalog.pg_replication_slots AS l ON l.active_pid = r.pid),
  judged AS MATERIALIZED (
    SELECT p.*, array_remove(ARRAY[
        CASE
          WHEN p.kind <> 'standby' THEN NULL
          WHEN p.effective_lag IS NULL THEN
            ROW('unknown',
                'replay lag is not known')::sagaz_ha._reason
          WHEN p.effective_lag >= t.replay_lag_critical THEN
            ROW('critical',
                format('replay lag is %s', date_trunc('second', p.effective_lag)))::sagaz_ha._reason
          WHEN p.effective_lag >= t.replay_lag_warning THEN
            ROW('warning',
                format('replay lag is %s', date_trunc('second', p.effective_lag)))::sagaz_ha._reason
        END,
        CASE
          WHEN p.kind <> 'standby' THEN NULL
          WHEN p.replay_lag_bytes >= t.replay_lag_bytes_critical THEN
            ROW('critical',
                format('%s of WAL are not replayed', pg_size_pretty(p.replay_lag_bytes)))::sagaz_ha._reason
          WHEN p.replay_lag_bytes >= t.replay_lag_bytes_warning THEN
            ROW('warning',
                format('%s of WAL are not replayed', pg_size_pretty(p.replay_lag_bytes)))::sagaz_ha._reason
        END,
        CASE WHEN p.kind IN ('standby', 'wal_archiver') AND p.state <> 'streaming' THEN
          ROW('warning', format('state is %s', p.state))::sagaz_ha._reason END,
        CASE WHEN p.reply_age > t.contact_grace THEN
          ROW('critical',
              format('no reply for %s', date_trunc('second', p.reply_age)))::sagaz_ha._reason END,
        CASE WHEN p.xmin_age >= t.xmin_age_warning THEN
          ROW('warning',
              format('holds back vacuum by %s transactions', p.xmin_age))::sagaz_ha._reason END], NULL) AS reasons
    FROM present AS p, t)
  SELECT j.standby_name, j.client_addr, j.slot_name, j.kind, j.state, j.sync_state,
         j.sent_lsn, j.write_lsn, j.flush_lsn, j.replay_lsn,
         j.sent_lag_bytes, j.write_lag_bytes, j.flush_lag_bytes, j.replay_lag_bytes,
         j.reported_replay_lag, j.effective_lag, j.reply_age, j.xmin_age,
         sagaz_ha._status(j.reasons), j.reasons, j.pid, j.lag_source, j.clock_offset
  FROM judged AS j
  UNION ALL
  SELECT n.name, NULL, l.slot_name::text, 'standby', 'absent', NULL,
         NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, age(l.xmin),
         'critical', ARRAY[
           ROW('critical',
               format('expected standby %s is not connected', quote_ident(n.name)))::sagaz_ha._reason],
         NULL, 'none', NULL
  FROM t, unnest(t.expected_standby_names) AS n (name)
  LEFT JOIN pg_catalog.pg_replication_slots AS l ON lower(l.slot_name) = lower(n.name)
  WHERE NOT EXISTS (SELECT FROM present AS p
                    WHERE p.kind = 'standby' AND lower(p.standby_name) = lower(n.name));
END
$$;
COMMENT ON FUNCTION sagaz_ha._standbys(sagaz_ha._thresholds) IS
  'internal: replication_standbys() by what was read; reasons are typed';

CREATE FUNCTION sagaz_ha.replication_standbys()
RETURNS TABLE (
  standby_name text, client_addr inet, slot_name text, kind text,
  state text, sync_state text,
  sent_lsn pg_lsn, write_lsn pg_lsn, flush_lsn pg_lsn, replay_lsn pg_lsn,
  sent_lag_bytes bigint, write_lag_bytes bigint, flush_lag_bytes bigint, replay_lag_bytes bigint,
  reported_replay_lag interval, effective_replay_lag interval,
  reply_age interval, xmin_age integer, status text, reasons text[],
  pid integer, lag_source text, clock_offset interval)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT s.standby_name, s.client_addr, s.slot_name, s.kind, s.state, s.sync_state, s.sent_lsn,
         s.write_lsn, s.flush_lsn, s.replay_lsn, s.sent_lag_bytes, s.write_lag_bytes,
         s.flush_lag_bytes, s.replay_lag_bytes, s.reported_replay_lag, s.effective_replay_lag,
         s.reply_age, s.xmin_age, s.status, sagaz_ha._reason_lines(s.reasons), s.pid, s.lag_source,
         s.clock_offset
  FROM sagaz_ha._standbys(sagaz_ha._thresholds()) AS s;
END
$$;
COMMENT ON FUNCTION sagaz_ha.replication_standbys() IS
  'every receiver of this server''s WAL, and each expected standby that is absent';
