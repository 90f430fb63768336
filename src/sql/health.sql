-- From the catalogs alone: a lock on a partition is none of health's business.
CREATE FUNCTION sagaz_ha._unique_flaws(
  parent regclass,
  OUT root regclass, OUT name name, OUT kind text, OUT details text
) RETURNS SETOF record
LANGUAGE sql STABLE
BEGIN ATOMIC
  WITH keys AS (
    SELECT k.parent AS root, k.name, k.on_duplicate,
           -- as they are called now
           coalesce((SELECT array_agg(a.attname ORDER BY a.attnum)
                       FROM pg_trigger AS g
                       JOIN pg_depend AS d ON d.classid = 'pg_trigger'::regclass AND d.objid = g.oid
                                          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = k.parent
                       JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attnum > 0
                      WHERE g.tgrelid = k.parent AND g.tgname = k.name
                        AND g.tgfoid = 'sagaz_ha.check_unique'::regproc), k.columns) AS columns
      FROM sagaz_ha.unique_key AS k
     WHERE k.parent = _unique_flaws.parent OR _unique_flaws.parent IS NULL
  ), tables AS (
    SELECT k.*, k.root::oid AS relid FROM keys AS k
    UNION ALL
    SELECT k.*, t.partition FROM keys AS k CROSS JOIN LATERAL sagaz_ha._partition_tree(k.root) AS t
  )
  SELECT t.root, t.name, 'trigger',
         format(CASE WHEN g.tgenabled IS NULL THEN '%s has no trigger of it' ELSE 'a trigger of it is off on %s' END,
                t.relid::regclass)
    FROM tables AS t
   CROSS JOIN LATERAL (SELECT 'sagaz_ha.check_unique'::regproc AS function
                       UNION ALL
                       SELECT 'sagaz_ha.skip_duplicate'::regproc WHERE t.on_duplicate = 'skip') AS f
    LEFT JOIN pg_trigger AS g ON g.tgrelid = t.relid AND g.tgfoid = f.function
     AND CASE WHEN f.function = 'sagaz_ha.check_unique'::regproc THEN g.tgname = t.name
           ELSE g.tgargs = convert_to(t.name::text, getdatabaseencoding()) || '\x00'::bytea END
   WHERE g.tgenabled IS DISTINCT FROM 'A'
  UNION ALL
  SELECT t.root, t.name, 'index', format('%s has no index of it', c.oid::regclass)
    FROM tables AS t JOIN pg_class AS c ON c.oid = t.relid AND c.relkind = 'r'
   WHERE NOT EXISTS (
     SELECT FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
      WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indisready AND i.indislive
        AND x.relam = (SELECT a.oid FROM pg_am AS a WHERE a.amname = 'btree')
        AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = cardinality(t.columns)
        AND (SELECT count(*) FROM pg_attribute AS a
              WHERE a.attrelid = c.oid AND a.attname = ANY (t.columns) AND a.attnum > 0
                AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) = cardinality(t.columns));
END;
COMMENT ON FUNCTION sagaz_ha._unique_flaws(regclass) IS
  'internal: what the unique keys of a table lack, or of all tables for null';

CREATE FUNCTION sagaz_ha.partition_health(
  OUT table_name text, OUT check_name text, OUT status text, OUT value text, OUT details text
) RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
SET jit = off -- compiling would take a thousand times as long as running
SET plan_cache_mode = force_generic_plan -- a plan without the look for drift is cheaper, and would be made for each call
AS $$
#variable_conflict use_column
DECLARE
  -- comparing takes long: where a worker runs, it has done that
  compares boolean := NOT pg_is_in_recovery()
    AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.backend_type = 'sagaz_ha launcher');
BEGIN
  RETURN QUERY
  WITH drift AS MATERIALIZED (
    SELECT d.* FROM sagaz_ha._drift(NULL) AS d WHERE compares
  ), flaws AS MATERIALIZED (
    SELECT f.* FROM sagaz_ha._unique_flaws(NULL) AS f
  ), coverage AS (
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
              WHEN c.default_partition IS NOT NULL OR c.catch_all IS NOT NULL THEN 'warning' ELSE 'ok' END,
         c.default_partition::text,
         CASE WHEN c.default_has_rows
           THEN 'has rows: a new partition for their time can''t be made until sagaz_ha.partition_table() has moved them'
              WHEN c.default_partition IS NOT NULL
           THEN 'exists and is empty: making and dropping partitions needs an exclusive lock on it'
              WHEN c.catch_all IS NOT NULL
           THEN 'none, but the last partition has no end, so no other is ever made: sagaz_ha.partition_table() gives it one'
              ELSE 'none' END
    FROM coverage AS c WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
  UNION ALL
  SELECT k.table_name, 'keys', CASE WHEN k.others > 0 THEN 'warning' ELSE 'ok' END,
         k.others::text,
         CASE WHEN k.sampled = 0 THEN 'no rows'
              ELSE format('%s of a sample of %s rows of partition %s have a key that is no %s%s',
                          k.others, k.sampled, k.partition_name, k.wanted,
                          CASE WHEN k.others > 0
                               THEN ': it carries no time, so its row is in the partition of a random time'
                               ELSE '' END) END
    FROM sagaz_ha._key_samples() AS k
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
  -- only while there is one
  SELECT sagaz_ha._display_name(v.relation, v.table_name), 'conversion',
         CASE WHEN v.phase = 'failed' OR v.finish_by < sagaz_ha.clock() THEN 'critical'
              WHEN v.error IS NOT NULL OR v.tries >= 100 THEN 'warning' ELSE 'ok' END,
         v.phase,
         CASE WHEN v.phase = 'failed' THEN 'was taken back: ' || v.error
              WHEN v.finish_by < sagaz_ha.clock()
                THEN format('has to end before %s, when rows reach the bound and are refused; sagaz_ha.cancel_partition_table() takes it back', v.upper_bound)
              WHEN v.error IS NOT NULL THEN 'is tried again: ' || v.error
              WHEN v.waits_for IS NOT NULL THEN 'waiting for ' || v.waits_for
              ELSE 'is becoming partitioned' END
    FROM sagaz_ha.conversion AS v
  UNION ALL
  -- of a dump that was made during one
  SELECT sagaz_ha._display_name(c.oid, c.relname), 'conversion', 'critical', NULL,
         'was becoming partitioned in the database that this is a copy of, and would refuse rows some day; sagaz_ha.cancel_partition_table() takes it back'
    -- partitions have such a constraint as well: they are many, and what is looked for is rare
    FROM (SELECT DISTINCT c.oid, c.relname
            FROM pg_class AS p
            JOIN pg_constraint AS k ON k.connamespace = p.relnamespace AND k.contype = 'c' AND k.conname = 'sagaz_ha_bounds'
            JOIN pg_class AS c ON c.oid = k.conrelid
           WHERE p.relkind = 'p' AND p.relname LIKE '%\_sagaz\_ha' OFFSET 0) AS c
   WHERE sagaz_ha._conversion_left(c.oid) IS NOT NULL
     AND NOT EXISTS (SELECT FROM sagaz_ha.conversion AS v WHERE v.relation = c.oid)
  UNION ALL
  SELECT c.table_name, 'before_drop',
         CASE WHEN r.refused > 0 THEN 'warning' ELSE 'ok' END,
         coalesce(r.waiting, 0)::text, coalesce(r.details, 'no partition waits for a function')
    FROM coverage AS c
    LEFT JOIN (SELECT r.parent, count(*) AS waiting, count(*) FILTER (WHERE r.calls > 0) AS refused,
                      string_agg(format('%s: detached%s', r.name,
                        CASE WHEN r.calls > 0 THEN format(
                          '; the function was called %s times, last at %s, and hasn''t returned true', r.calls, r.called_at)
                        ELSE '; the function is called next' END), '; ' ORDER BY r.since, r.name) AS details
                 FROM (SELECT t.*, coalesce((SELECT min(p.partition_name) FROM sagaz_ha.problem AS p
                                              WHERE p.partition = t.partition), t.partition::text) AS name
                         FROM sagaz_ha.retirement AS t WHERE t.phase = 'before_drop') AS r
                GROUP BY r.parent) AS r ON r.parent = c.parent
  UNION ALL
  SELECT c.table_name, 'publications',
         CASE WHEN d.tables > 0 THEN 'warning' ELSE 'ok' END,
         coalesce(d.tables, 0)::text,
         coalesce(d.details || ': detached, and published all the same', 'no detached partition is published')
    FROM coverage AS c
    LEFT JOIN (SELECT s.parent, count(*) AS tables,
                      string_agg(format('%s (%s)', s.partition, s.publications), ', ' ORDER BY s.partition) AS details
                 FROM (SELECT t.parent, t.partition::text AS partition,
                              string_agg(quote_ident(p.pubname)
                                || CASE WHEN p.puballtables THEN ' FOR ALL TABLES' ELSE ' FOR TABLES IN SCHEMA' END,
                                ', ' ORDER BY p.pubname) AS publications
                         FROM sagaz_ha.partition_times AS t
                         JOIN pg_class AS r ON r.oid = t.partition AND NOT r.relispartition
                           AND r.relkind IN ('r', 'p') AND r.relpersistence = 'p'
                         JOIN pg_publication AS p ON p.puballtables
                           OR EXISTS (SELECT FROM pg_publication_namespace AS n
                                       WHERE n.pnpubid = p.oid AND n.pnnspid = r.relnamespace)
                        WHERE t.detached_at IS NOT NULL GROUP BY t.parent, t.partition) AS s
                GROUP BY s.parent) AS d ON d.parent = c.parent
  UNION ALL
  SELECT c.table_name, 'drift',
         CASE WHEN d.partitions = 0 THEN 'ok' WHEN d.index THEN 'critical' ELSE 'warning' END,
         d.partitions::text,
         CASE WHEN d.partitions > 0
           THEN d.first || CASE WHEN d.partitions > 1 THEN format(' (and %s more)', d.partitions - 1) ELSE '' END
                || '; sagaz_ha.repair_partitions() mends what it can'
           ELSE 'no partition differs from the table' END
    FROM coverage AS c
   CROSS JOIN LATERAL (
     SELECT count(*) AS partitions, bool_or(p.index) AS index, (array_agg(p.text ORDER BY NOT p.index, p.text))[1] AS first
       FROM (SELECT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.parent AND NOT i.indisvalid) AS index,
                    format('%s: %s', coalesce(r.partition_name, r.table_name), r.details) AS text
               FROM sagaz_ha.problem AS r WHERE NOT compares AND r.parent = c.parent AND r.found_by = 'drift'
             UNION ALL
             SELECT bool_or(d.kind = 'index'),
                    format('%s: %s', d.partition, string_agg(d.details, ', ' ORDER BY d.kind, d.details))
               FROM drift AS d WHERE d.root = c.parent GROUP BY d.partition) AS p) AS d
  UNION ALL
  -- only of tables with such a key, which need no policy
  SELECT sagaz_ha._display_name(k.parent, k.parent::text), 'unique',
         CASE WHEN bool_or(f.triggers > 0) THEN 'critical' WHEN bool_or(f.flaws > 0) THEN 'warning' ELSE 'ok' END,
         sum(f.flaws)::text,
         string_agg(CASE WHEN f.triggers > 0
                      THEN format('%s: not in force: %s; sagaz_ha.add_unique() puts it in force again', k.name, f.details)
                      WHEN f.flaws > 0
                      THEN format('%s: in force, but every row is read where there is no index: %s', k.name, f.details)
                      ELSE format('%s: %s', k.name, CASE k.phase WHEN 'building' THEN 'is being built'
                                                      WHEN 'checking' THEN 'in force for new rows; older ones are being looked at'
                                                      ELSE 'in force' END) END, '; ' ORDER BY k.name)
    FROM sagaz_ha.unique_key AS k
    JOIN pg_class AS t ON t.oid = k.parent
   CROSS JOIN LATERAL (
     SELECT count(*) AS flaws, count(*) FILTER (WHERE w.kind = 'trigger') AS triggers,
            (array_agg(w.details ORDER BY w.kind DESC, w.details))[1]
              || CASE WHEN count(*) > 1 THEN format(' (and %s more)', count(*) - 1) ELSE '' END AS details
       FROM flaws AS w WHERE w.root = k.parent AND w.name = k.name AND k.phase <> 'building') AS f
   GROUP BY k.parent
  UNION ALL
  (SELECT c.table_name, 'bounds',
         CASE WHEN g.partition_start IS NOT NULL THEN 'warning' ELSE 'ok' END,
         g.partition_start::text,
         CASE WHEN g.partition_start IS NULL THEN format('partitions begin when days do in time zone %s', p.time_zone)
           ELSE format('partitions begin at %s of time zone %s, inside of a day, and so will all later ones: '
                       'the bounds were written in another zone. The way back is one odd partition, '
                       '%s: sagaz_ha.repair_partitions() makes it',
                       to_char(timezone(p.time_zone, g.partition_start), 'HH24:MI'), p.time_zone, g.bounds) END
    FROM coverage AS c
    JOIN sagaz_ha.partition_policy AS p ON p.parent = c.parent
    LEFT JOIN sagaz_ha._off_grid(ARRAY(SELECT o.parent FROM coverage AS o
                                        WHERE o.problem IS NULL OR o.premade_until IS NOT NULL)) AS g ON g.parent = c.parent
   WHERE c.problem IS NULL OR c.premade_until IS NOT NULL
   ORDER BY c.table_name)
  UNION ALL
  SELECT c.table_name, 'restored',
         CASE WHEN a.parent IS NULL THEN 'ok'
              WHEN a.since < clock_timestamp() - interval '1 hour' THEN 'critical' ELSE 'warning' END,
         a.since::text,
         CASE WHEN a.parent IS NULL THEN 'maintenance has begun'
           ELSE 'the policy came in a restore, and maintenance begins when the table is whole'
                || coalesce(': ' || (SELECT n.reason FROM sagaz_ha._not_whole(c.parent) AS n), '')
                || '; sagaz_ha.maintain_partitions() begins now' END
    FROM coverage AS c LEFT JOIN sagaz_ha.asleep AS a ON a.parent = c.parent
  UNION ALL
  SELECT NULL, 'retirement',
         CASE current_setting('sagaz_ha.retire') WHEN 'on' THEN 'ok' ELSE 'warning' END,
         current_setting('sagaz_ha.retire'),
         CASE current_setting('sagaz_ha.retire') WHEN 'on' THEN 'expired partitions are retired'
           ELSE 'sagaz_ha.retire is off: expired partitions stay, and partitions are made all the same' END
  UNION ALL
  SELECT t.table_name, 'plain_table', 'warning', NULL, t.details
    FROM sagaz_ha._plain_saga_tables() AS t
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
         CASE WHEN NOT s.has_room THEN 'critical'
              WHEN s.overdue IS NULL AND (w.pid IS NOT NULL OR pg_is_in_recovery()) THEN 'ok' ELSE 'warning' END,
         w.pid::text,
         CASE WHEN NOT s.has_room
                THEN format('the launcher is running, but has no room for this database: raise sagaz_ha.max_databases (%s) and restart the server',
                            current_setting('sagaz_ha.max_databases', true))
              WHEN s.overdue IS NOT NULL
                THEN format('the launcher is running, but a pass has been due for %s: see the log, and sagaz_ha.maintenance_status()',
                            date_trunc('second', s.overdue))
              WHEN w.pid IS NOT NULL THEN 'the launcher is running'
              WHEN pg_is_in_recovery() THEN 'this is a standby: its primary does maintenance'
              ELSE 'no worker is running: add sagaz_ha to shared_preload_libraries, or call maintain_all_partitions() regularly' END
    FROM (SELECT min(a.pid) AS pid FROM pg_stat_activity AS a
           WHERE a.backend_type = 'sagaz_ha launcher') AS w
   CROSS JOIN sagaz_ha._maintained() AS s;
END
$$;
COMMENT ON FUNCTION sagaz_ha.partition_health() IS
  'checks per managed table and for the server, each with status ok, warning or critical';
