CREATE FUNCTION sagaz_ha.partition_health(
  OUT table_name text, OUT check_name text, OUT status text, OUT value text, OUT details text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH coverage AS (
    SELECT c.*, sagaz_ha.clock() AS now FROM sagaz_ha.coverage() AS c
  ), failing AS (
    SELECT p.parent, count(*) AS failures, (array_agg(p.details ORDER BY p.since DESC))[1] AS details
      FROM sagaz_ha.problem AS p
     -- one that has been changed since may be solved: the next pass tells
     WHERE p.action = 'ERROR' AND p.version = sagaz_ha._problem_version(p.parent, p.partition)
     GROUP BY p.parent
  )
  SELECT c.table_name, 'coverage',
         CASE
           WHEN c.covered_until IS NULL OR c.covered_until <= c.now THEN 'critical'
           WHEN c.covered_until < c.now + (c.premade_until - c.now) / 4 THEN 'critical'
           WHEN c.covered_until < c.now + (c.premade_until - c.now) / 2 THEN 'warning'
           ELSE 'ok'
         END,
         c.covered_until::text,
         CASE
           WHEN c.covered_until < c.premade_until AND c.catch_all IS NOT NULL
           THEN format('rows have a partition of their time until %s, and go to %s then, which has no end: no other can be made; the policy wants %s',
                       c.covered_until, c.catch_all, c.premade_until)
           WHEN c.covered_until IS NOT NULL
           THEN format('inserts succeed until %s; the policy wants %s', c.covered_until, c.premade_until)
           WHEN c.catch_all IS NOT NULL
           THEN format('no partition covers the current time: rows go to %s, which has no end, so that no other can be made', c.catch_all)
           WHEN c.default_partition IS NOT NULL
           THEN 'no partition covers the current time: rows go to the default partition'
           ELSE 'no partition covers the current time: inserts fail'
         END
    FROM coverage AS c WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
  UNION ALL
  SELECT c.table_name, 'holes',
         CASE WHEN c.holes > 0 THEN 'warning' ELSE 'ok' END,
         c.holes::text,
         CASE WHEN c.holes > 0
           THEN format('no partition from %s on; the next pass fills it', c.first_hole)
           ELSE 'no gaps between partitions' END
    FROM coverage AS c WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
  UNION ALL
  SELECT c.table_name, 'default_partition',
         CASE WHEN c.default_has_rows THEN 'critical'
              WHEN c.default_partition IS NOT NULL THEN 'warning' ELSE 'ok' END,
         c.default_partition::text,
         CASE WHEN c.default_has_rows
           THEN 'has rows: a new partition for their time can''t be made until they are moved'
              WHEN c.default_partition IS NOT NULL
           THEN 'exists and is empty: making and dropping partitions needs an exclusive lock on it'
              ELSE 'none' END
    FROM coverage AS c WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
  UNION ALL
  SELECT c.table_name, 'pending_detach',
         CASE WHEN c.pending_detach IS NOT NULL THEN 'warning' ELSE 'ok' END,
         c.pending_detach::text,
         CASE WHEN c.pending_detach IS NOT NULL
           THEN 'is being detached, and its rows are not visible through the table'
                || coalesce('; waiting for ' || c.pending_waits_for, '')
           ELSE 'none' END
    FROM coverage AS c WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
  UNION ALL
  SELECT m.table_name, 'kept_partitions',
         CASE WHEN count(*) FILTER (WHERE m.state = 'kept') > 0 THEN 'warning' ELSE 'ok' END,
         (count(*) FILTER (WHERE m.state = 'kept'))::text,
         coalesce(nullif(concat_ws('; ',
             string_agg(m.partition_name || ': expired, but kept: ' || m.details, '; '
                        ORDER BY m.partition_start) FILTER (WHERE m.state = 'kept' AND NOT m.held),
             string_agg(m.partition_name, ', ' ORDER BY m.partition_start)
               FILTER (WHERE m.state = 'kept' AND m.held) || ': expired, but held'), ''), 'none')
    FROM (SELECT p.table_name, p.partition_name, p.partition_start,
                 CASE WHEN p.state = 'expired' THEN sagaz_ha._expired_state(p.partition) END AS state,
                 EXISTS (SELECT FROM sagaz_ha.partition_hold AS h
                          WHERE h.partition = p.partition) AS held,
                 (SELECT max(k.details) FROM sagaz_ha.problem AS k
                   WHERE k.partition = p.partition AND k.action = 'KEEP') AS details
            FROM sagaz_ha.partitions(sizes => false) AS p) AS m GROUP BY m.table_name
  UNION ALL
  SELECT c.table_name, 'maintainable',
         CASE WHEN c.problem IS NOT NULL THEN 'critical' ELSE 'ok' END,
         NULL, coalesce(c.problem, 'the policy fits the table')
    FROM coverage AS c
  UNION ALL
  SELECT c.table_name, 'errors',
         CASE WHEN f.failures > 0 THEN 'critical' ELSE 'ok' END,
         coalesce(f.failures, 0)::text, coalesce(f.details, 'none')
    FROM coverage AS c LEFT JOIN failing AS f ON f.parent = c.parent
  UNION ALL
  SELECT c.table_name, 'drops',
         CASE WHEN p.since IS NOT NULL THEN 'critical' ELSE 'ok' END,
         p.since::text,
         CASE WHEN p.since IS NULL THEN 'not held back'
           ELSE 'held back, because '
                || CASE WHEN p.since = p.restored THEN 'the server was restored from a backup'
                        ELSE 'the clock looked wrong' END
                || '; sagaz_ha.resume_drops() lets them go on' END
    FROM coverage AS c
    -- a restore that no pass has written down yet holds them back already
    JOIN (SELECT p.parent, coalesce(r.at, p.restored_at) AS restored,
                 CASE WHEN p.restored_at IS DISTINCT FROM coalesce(r.at, p.restored_at)
                   THEN r.at ELSE p.drops_held_since END AS since
            FROM sagaz_ha.partition_policy AS p
           CROSS JOIN sagaz_ha._restored_at() AS r (at)) AS p ON p.parent = c.parent
  UNION ALL
  SELECT NULL, 'standbys',
         CASE WHEN count(*) > 0 THEN 'warning' ELSE 'ok' END,
         count(*)::text,
         coalesce(string_agg(f.name || f.trouble, '; '), 'drops wait for every standby that they have to')
    FROM (SELECT coalesce(nullif(r.application_name, ''), r.client_addr::text, r.pid::text) AS name,
                 ': no feedback, so drops don''t wait for its queries; set hot_standby_feedback = on there' AS trouble
            FROM pg_stat_replication AS r
            LEFT JOIN pg_replication_slots AS s ON s.active_pid = r.pid
           WHERE r.backend_xmin IS NULL AND s.xmin IS NULL
             AND r.replay_lsn IS NOT NULL AND s.slot_type IS DISTINCT FROM 'logical'
          UNION ALL
          SELECT s.slot_name::text,
                 ': its standby is not connected; drops wait for it up to sagaz_ha.standby_drain_timeout ('
                 || current_setting('sagaz_ha.standby_drain_timeout') || ')'
            FROM pg_replication_slots AS s
           WHERE s.slot_type = 'physical' AND NOT s.active AND s.xmin IS NOT NULL) AS f
  UNION ALL
  SELECT NULL, 'worker',
         CASE WHEN w.pid IS NOT NULL OR pg_is_in_recovery() THEN 'ok' ELSE 'warning' END,
         w.pid::text,
         CASE WHEN w.pid IS NOT NULL THEN 'the launcher is running'
              WHEN pg_is_in_recovery() THEN 'this is a standby: its primary does maintenance'
              ELSE 'no worker is running: add sagaz_ha to shared_preload_libraries, or call maintain_all_partitions() regularly' END
    FROM (SELECT min(a.pid) AS pid FROM pg_stat_activity AS a
           WHERE a.backend_type = 'sagaz_ha launcher') AS w;
END
$$;
COMMENT ON FUNCTION sagaz_ha.partition_health() IS
  'checks per managed table and for the server, each with status ok, warning or critical';
