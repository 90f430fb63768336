--
-- What keeps WAL and old rows: slots and the time to their loss, and xmin holders
--
-- A lost slot keeps nothing, and is critical.
--

CREATE TYPE sagaz_ha._slot AS (
  slot_name text, slot_type text, active boolean, active_pid integer, restart_lsn pg_lsn,
  retained_bytes bigint, retained_age interval, safe_wal_bytes bigint,
  bytes_to_loss bigint, time_to_loss interval, limited_by text,
  wal_status text, invalidation_reason text, xmin_age integer, catalog_xmin_age integer,
  status text, reasons sagaz_ha._reason[], remedy text);
COMMENT ON TYPE sagaz_ha._slot IS
  'internal: a replication slot, the WAL that it keeps and the time to its loss';

CREATE FUNCTION sagaz_ha._slots(
  limits sagaz_ha._thresholds, node sagaz_ha._node_state, wal sagaz_ha._wal_state)
RETURNS SETOF sagaz_ha._slot
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH slot AS (
    SELECT l.slot_name::text AS slot_name, l.slot_type, l.active, l.active_pid, l.restart_lsn,
           l.safe_wal_size, l.wal_status,
           coalesce(l.j ->> 'invalidation_reason',
                    CASE WHEN (l.j ->> 'conflicting')::boolean THEN 'rows_removed' END,
                    CASE WHEN l.wal_status = 'lost' THEN 'wal_removed' END) AS invalidation_reason,
           (l.j ->> 'inactive_since')::timestamptz AS inactive_since,
           age(l.xmin) AS xmin_age, age(l.catalog_xmin) AS catalog_xmin_age
    -- as JSON for the columns that only newer servers have
    FROM (SELECT r.*, to_jsonb(r) AS j FROM pg_catalog.pg_replication_slots AS r OFFSET 0) AS l),
  once AS MATERIALIZED (
    SELECT limits.slot_retained_warning, limits.slot_time_to_loss_critical, limits.xmin_age_warning,
           node.lsn, wal.disk_free_bytes, sagaz_ha._wal_speed() AS speed,
           nullif(current_setting('idle_replication_slot_timeout', true), '0')::interval AS idle_timeout),
  base AS (
    SELECT s.*, o.*, s.invalidation_reason IS NOT NULL AS lost,
           CASE WHEN s.invalidation_reason IS NOT NULL OR s.restart_lsn IS NULL THEN 0
             ELSE greatest(o.lsn - s.restart_lsn, 0) END::bigint AS retained_bytes,
           sagaz_ha._lsn_age(s.restart_lsn) AS retained_age,
           CASE WHEN NOT s.active AND s.inactive_since + o.idle_timeout IS NOT NULL THEN
             greatest(s.inactive_since + o.idle_timeout - clock_timestamp(), interval '0')
           END AS idle_left
    FROM slot AS s, once AS o),
  loss AS (
    SELECT b.*,
           CASE WHEN b.lost THEN 0 WHEN b.restart_lsn IS NULL THEN NULL
             ELSE greatest(least(b.safe_wal_size, b.disk_free_bytes), 0) END AS bytes_to_loss
    FROM base AS b),
  timed AS (
    SELECT l.*,
           CASE WHEN l.lost THEN interval '0'
             ELSE least(CASE WHEN l.bytes_to_loss = 0 THEN interval '0'
                             WHEN l.speed > 0 THEN
                               make_interval(secs => least(l.bytes_to_loss / l.speed, 1e9)) END,
                        l.idle_left) END AS time_to_loss
    FROM loss AS l),
  judged AS MATERIALIZED (
    SELECT d.*,
      CASE
        WHEN d.lost THEN d.invalidation_reason
        WHEN d.idle_left IS NOT NULL AND d.idle_left = d.time_to_loss THEN 'idle timeout'
        WHEN d.bytes_to_loss IS NULL THEN NULL
        WHEN d.safe_wal_size <= d.disk_free_bytes OR d.disk_free_bytes IS NULL THEN 'slot limit'
        ELSE 'disk'
      END AS limited_by,
      array_remove(ARRAY[
        CASE WHEN d.lost THEN
          ROW('critical',
              format('slot is lost (%s)', d.invalidation_reason))::sagaz_ha._reason
             WHEN d.wal_status = 'unreserved' THEN
               ROW('critical',
                   'WAL that the slot needs goes with the next checkpoint')::sagaz_ha._reason END,
        CASE WHEN NOT d.lost AND d.time_to_loss <= d.slot_time_to_loss_critical
              AND (NOT d.active OR d.retained_bytes >= d.slot_retained_warning) THEN
          ROW('critical',
              format('%s until it is lost or the disk is full', date_trunc('second', d.time_to_loss)))::sagaz_ha._reason END,
        CASE WHEN d.retained_bytes >= d.slot_retained_warning THEN
          ROW('warning',
              format('keeps %s of WAL', pg_size_pretty(d.retained_bytes)))::sagaz_ha._reason END,
        CASE WHEN NOT d.lost AND NOT d.active THEN
          ROW('warning',
              'nobody is connected to it')::sagaz_ha._reason END,
        CASE WHEN greatest(d.xmin_age, d.catalog_xmin_age) >= d.xmin_age_warning THEN
          ROW('warning', format('holds back vacuum by %s transactions',
                 greatest(d.xmin_age, d.catalog_xmin_age)))::sagaz_ha._reason END], NULL) AS reasons
    FROM timed AS d)
  SELECT j.slot_name, j.slot_type, j.active, j.active_pid, j.restart_lsn,
         j.retained_bytes, CASE WHEN NOT j.lost THEN j.retained_age END,
         j.safe_wal_size, j.bytes_to_loss, j.time_to_loss, j.limited_by,
         j.wal_status, j.invalidation_reason, j.xmin_age, j.catalog_xmin_age,
         sagaz_ha._status(j.reasons), j.reasons,
         CASE
           WHEN j.lost THEN format('Rebuild its consumer, then SELECT pg_drop_replication_slot(%L).', j.slot_name)
           WHEN NOT j.active THEN format('Reconnect its consumer; if that is gone for good, SELECT pg_drop_replication_slot(%L).', j.slot_name)
           WHEN cardinality(j.reasons) > 0 THEN 'See why its consumer does not keep up.'
         END
  FROM judged AS j;
END
$$;
COMMENT ON FUNCTION sagaz_ha._slots(sagaz_ha._thresholds, sagaz_ha._node_state, sagaz_ha._wal_state) IS
  'internal: replication_slot_risk() by what was read; reasons are typed';

CREATE FUNCTION sagaz_ha.replication_slot_risk()
RETURNS TABLE (
  slot_name text, slot_type text, active boolean, active_pid integer, restart_lsn pg_lsn,
  retained_bytes bigint, retained_age interval, safe_wal_bytes bigint,
  bytes_to_loss bigint, time_to_loss interval, limited_by text,
  wal_status text, invalidation_reason text, xmin_age integer, catalog_xmin_age integer,
  status text, reasons text[], remedy text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT s.slot_name, s.slot_type, s.active, s.active_pid, s.restart_lsn, s.retained_bytes,
         s.retained_age, s.safe_wal_bytes, s.bytes_to_loss, s.time_to_loss, s.limited_by,
         s.wal_status, s.invalidation_reason, s.xmin_age, s.catalog_xmin_age, s.status,
         sagaz_ha._reason_lines(s.reasons), s.remedy
  FROM sagaz_ha._slots(sagaz_ha._thresholds(), sagaz_ha._node_state(), sagaz_ha._wal_state()) AS s;
END
$$;
COMMENT ON FUNCTION sagaz_ha.replication_slot_risk() IS
  'every replication slot: the WAL that it keeps, and the time until it is lost or the disk is full';

CREATE FUNCTION sagaz_ha.wal_retention()
RETURNS TABLE (cause text, name text, oldest_lsn pg_lsn, bytes bigint, age interval, binds boolean, details text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH here AS MATERIALIZED (
    SELECT n.lsn, w.oldest_ready_lsn, w.archive_ready_files
    FROM sagaz_ha._node_state() AS n, sagaz_ha._wal_state() AS w),
  cause AS (
    SELECT 'checkpoint' AS cause, NULL::text AS name, c.redo_lsn AS lsn,
           'crash recovery would start there' AS details
    FROM pg_catalog.pg_control_checkpoint() AS c
    UNION ALL
    SELECT 'wal_keep_size', NULL,
           greatest(here.lsn - pg_size_bytes(current_setting('wal_keep_size'))::numeric, '0/0'),
           format('wal_keep_size = %s', current_setting('wal_keep_size'))
    FROM here WHERE current_setting('wal_keep_size') <> '0'
    UNION ALL
    SELECT 'archiver', NULL, here.oldest_ready_lsn,
           format('%s files wait to be archived', here.archive_ready_files)
    FROM here WHERE here.oldest_ready_lsn IS NOT NULL
    UNION ALL
    SELECT 'slot', s.slot_name::text, s.restart_lsn,
           format('%s slot, %s', s.slot_type, CASE WHEN s.active THEN 'active' ELSE 'not active' END)
    FROM pg_catalog.pg_replication_slots AS s WHERE s.restart_lsn IS NOT NULL)
  SELECT c.cause, c.name, c.lsn, greatest(here.lsn - c.lsn, 0)::bigint,
         sagaz_ha._lsn_age(c.lsn),
         c.lsn = min(c.lsn) OVER (), c.details
  FROM cause AS c, here;
END
$$;
COMMENT ON FUNCTION sagaz_ha.wal_retention() IS
  'what keeps WAL, from which position, and which of them binds';

CREATE FUNCTION sagaz_ha._xmin_holders()
RETURNS TABLE (kind text, name text, pid integer, database text, xmin xid, age integer,
               catalog_only boolean, since timestamptz, remedy text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT h.kind, h.name, h.pid, h.database, h.xmin, age(h.xmin), h.catalog_only, h.since, h.remedy
  FROM (
    SELECT 'backend' AS kind, coalesce(nullif(a.application_name, ''), a.backend_type) AS name,
           a.pid, a.datname::text AS database,
           CASE WHEN a.backend_xid IS NULL OR age(a.backend_xmin) >= age(a.backend_xid)
             THEN a.backend_xmin ELSE a.backend_xid END AS xmin,
           false AS catalog_only, a.xact_start AS since,
           format('End its transaction (%s), or SELECT pg_terminate_backend(%s).', a.state, a.pid) AS remedy
    FROM pg_catalog.pg_stat_activity AS a
    WHERE coalesce(a.backend_xmin, a.backend_xid) IS NOT NULL
      AND a.backend_type <> 'walsender' AND a.pid <> pg_backend_pid()
    UNION ALL
    SELECT 'standby', r.application_name, r.pid, NULL, r.backend_xmin, false, NULL,
           'End the long query on that standby (hot_standby_feedback reports it).'
    FROM pg_catalog.pg_stat_replication AS r WHERE r.backend_xmin IS NOT NULL
    UNION ALL
    SELECT 'slot', s.slot_name::text, s.active_pid, s.database::text, x.xmin, x.catalog_only,
           (to_jsonb(s) ->> 'inactive_since')::timestamptz,
           CASE WHEN s.active THEN 'End the long query on its standby, or let its consumer catch up.'
             ELSE format('Nobody is connected to it: reconnect its consumer, or SELECT pg_drop_replication_slot(%L).', s.slot_name) END
    FROM pg_catalog.pg_replication_slots AS s
    CROSS JOIN LATERAL (VALUES (s.xmin, false), (s.catalog_xmin, true)) AS x (xmin, catalog_only)
    WHERE x.xmin IS NOT NULL
    UNION ALL
    SELECT 'prepared_transaction', p.gid, NULL, p.database::text, p.transaction, false, p.prepared,
           format('COMMIT PREPARED or ROLLBACK PREPARED %L.', p.gid)
    FROM pg_catalog.pg_prepared_xacts AS p) AS h;
END
$$;
COMMENT ON FUNCTION sagaz_ha._xmin_holders() IS
  'internal: xmin_holders(), unsorted and not judged';

CREATE FUNCTION sagaz_ha.xmin_holders()
RETURNS TABLE (kind text, name text, pid integer, database text, xmin xid, age integer,
               catalog_only boolean, since timestamptz, status text, remedy text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT h.kind, h.name, h.pid, h.database, h.xmin, h.age, h.catalog_only, h.since,
         CASE WHEN h.age >= t.xmin_age_warning THEN 'warning' ELSE 'ok' END, h.remedy
  FROM sagaz_ha._thresholds() AS t, sagaz_ha._xmin_holders() AS h
  ORDER BY h.age DESC;
END
$$;
COMMENT ON FUNCTION sagaz_ha.xmin_holders() IS
  'what holds back vacuum, the oldest first, and the remedy';
