--
-- Promotion, and the checks of load balancers
--
-- An unknown value never passes.
--

CREATE FUNCTION sagaz_ha._promotion_checks(receiver sagaz_ha._receiver_state)
RETURNS TABLE (check_name text, passed boolean, severity text, observed text, required text, hint text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  limits sagaz_ha._thresholds := sagaz_ha._thresholds();
BEGIN
  RETURN QUERY
  WITH n AS MATERIALIZED (SELECT * FROM sagaz_ha._node_state()),
  t AS (SELECT (limits).*),
  w AS MATERIALIZED (SELECT * FROM sagaz_ha._wal_state()),
  me AS MATERIALIZED (SELECT * FROM sagaz_ha._standby_status(limits, receiver)),
  below AS (SELECT count(*) FILTER (WHERE s.kind = 'standby' AND s.state = 'streaming') AS streaming
            FROM sagaz_ha._standbys(limits) AS s)
  SELECT c.check_name, coalesce(c.passed, false), c.severity, coalesce(c.observed, 'unknown'), c.required,
         CASE WHEN coalesce(c.passed, false) THEN NULL ELSE c.hint END
  FROM n CROSS JOIN t CROSS JOIN w CROSS JOIN below LEFT JOIN me ON true CROSS JOIN LATERAL (VALUES
    ('in_recovery', n.in_recovery AND NOT n.promoting, 'required',
     CASE WHEN NOT n.in_recovery THEN 'primary' WHEN n.promoting THEN 'promoting' ELSE 'standby' END,
     'standby', 'Only a standby can be promoted.'),
    ('data_received', me.receive_lag_bytes = 0 AND me.upstream_in_contact, 'advised',
     format('%s bytes missing, upstream heard %s ago', me.receive_lag_bytes, coalesce(me.message_age::text, 'never')),
     '0 bytes missing, upstream in contact',
     'What this standby has not received is lost: see data_loss_bound in promotion_readiness().'),
    -- The lag grows for as long as the primary is dead, and no wait makes it
    -- less: data_received judges what was not received.
    ('lag', me.replay_lag < t.replay_lag_critical
            OR (NOT me.upstream_in_contact AND me.replay_lsn >= me.received_lsn), 'required', me.replay_lag::text,
     format('less than %s, or all replayed that came before contact was lost', t.replay_lag_critical),
     'Wait until replay has caught up.'),
    ('replay_running', me.replay_state NOT IN ('paused', 'lock', 'conflict'), 'required', me.replay_state,
     'not paused or blocked', 'pg_wal_replay_resume(), or end what blocks replay (blocking_pids of standby_status()).'),
    ('apply_delay', current_setting('recovery_min_apply_delay') = '0', 'advised',
     current_setting('recovery_min_apply_delay'), '0',
     'Promotion replays what was held back first.'),
    ('synchronous_standbys', below.streaming >= n.sync_required, 'advised',
     format('%s connected', below.streaming), n.sync_required::text,
     'After the promotion commits would wait for synchronous_standby_names: connect its standbys, or clear it.'),
    ('wal_level', current_setting('wal_level') IN ('replica', 'logical'), 'required',
     current_setting('wal_level'), 'replica or logical', 'Other standbys could not follow.'),
    ('wal_senders', current_setting('max_wal_senders')::integer > 0, 'required',
     current_setting('max_wal_senders'), 'more than 0', 'Other standbys could not follow.'),
    ('writable', current_setting('default_transaction_read_only') = 'off', 'advised',
     current_setting('default_transaction_read_only'), 'off',
     'Sessions would stay read-only: default_transaction_read_only is on.'),
    ('wal_disk', w.disk_free_bytes >= t.wal_disk_free_critical, 'required',
     pg_size_pretty(w.disk_free_bytes), format('%s free', pg_size_pretty(t.wal_disk_free_critical)),
     'Make room for WAL first.'))
    AS c (check_name, passed, severity, observed, required, hint);
END
$$;
COMMENT ON FUNCTION sagaz_ha._promotion_checks(sagaz_ha._receiver_state) IS
  'internal: promotion_checks() by what was read of the receiver';

CREATE FUNCTION sagaz_ha.promotion_checks()
RETURNS TABLE (check_name text, passed boolean, severity text, observed text, required text, hint text)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT c.* FROM sagaz_ha._promotion_checks(sagaz_ha._receiver_state()) AS c;
END
$$;
COMMENT ON FUNCTION sagaz_ha.promotion_checks() IS
  'what speaks against promoting this server now';

CREATE FUNCTION sagaz_ha.promotion_readiness()
RETURNS TABLE (ready boolean, data_loss_bytes bigint, data_loss_bound interval,
               time_to_promote interval, failed text[], advice text[])
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT c.ready,
         CASE WHEN r.in_contact THEN r.receive_lag_bytes END,
         r.loss_bound,
         CASE WHEN r.replay_lsn >= r.received_lsn THEN interval '0'
              WHEN r.replay_speed > 0 THEN
                make_interval(secs => least((r.received_lsn - r.replay_lsn)::float8 / r.replay_speed, 1e9))
         END,
         c.failed, c.advice
  FROM sagaz_ha._receiver_state() AS r,
       LATERAL (
        SELECT bool_and(p.passed) FILTER (WHERE p.severity = 'required') AS ready,
               coalesce(array_agg(p.check_name) FILTER (WHERE NOT p.passed AND p.severity = 'required'), '{}') AS failed,
               coalesce(array_agg(p.check_name) FILTER (WHERE NOT p.passed AND p.severity = 'advised'), '{}') AS advice
        FROM sagaz_ha._promotion_checks(r) AS p) AS c;
END
$$;
COMMENT ON FUNCTION sagaz_ha.promotion_readiness() IS
  'whether this standby can be promoted, the data that would be lost and the time that it would take';

CREATE FUNCTION sagaz_ha.node_ready(purpose text, max_staleness interval DEFAULT NULL)
RETURNS boolean
LANGUAGE sql VOLATILE PARALLEL RESTRICTED
BEGIN ATOMIC
  SELECT CASE lower(purpose)
           WHEN 'write' THEN NOT n.in_recovery AND NOT current_setting('transaction_read_only')::boolean
           WHEN 'primary' THEN NOT n.in_recovery
           WHEN 'standby' THEN n.in_recovery AND NOT n.promoting AND coalesce(s.fresh, false)
           WHEN 'read' THEN NOT n.in_recovery OR coalesce(s.fresh, false)
           ELSE false
         END
  FROM sagaz_ha._node_state() AS n,
    (SELECT r.staleness_bound <= coalesce(max_staleness, t.replay_lag_critical)
            AND r.replay_lag <= coalesce(max_staleness, t.replay_lag_critical) AS fresh
     FROM sagaz_ha._thresholds() AS t, sagaz_ha._receiver_state() AS r) AS s;
END;
COMMENT ON FUNCTION sagaz_ha.node_ready(text, interval) IS
  'whether this server may serve primary, write, standby or read; what is not known is not ready';
