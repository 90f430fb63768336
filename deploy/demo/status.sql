-- What one node of the stack has to say, for `stack.sh status`: its replication
-- in one line, and everything else before that if :picture.
\pset border 0
\pset footer off
SET timezone = 'UTC';
\if :picture
\echo
\echo 'Partitions: - past  @ now  + ahead  K kept  H held  x expired  d draining  c converting'
SELECT table_name AS "table", timeline, to_char(covered_until, 'YYYY-MM-DD') AS "inserts until"
FROM sagaz_ha.partition_timeline();
SELECT process, phase, left(coalesce(waiting_for, table_name), 38) AS "waits for, or works on", passes, actions, errors
FROM sagaz_ha.maintenance_status() WHERE database = current_database() OR database IS NULL;
\pset tuples_only on
\pset format unaligned
SELECT 'Health: ' || count(*) FILTER (WHERE status = 'ok') || ' of ' || count(*) || ' checks ok' FROM sagaz_ha.partition_health()
UNION ALL
SELECT left(format('  %s: %s %s %s', status, coalesce(table_name, 'server'), check_name, details), 80)
FROM sagaz_ha.partition_health() WHERE status <> 'ok';
\echo
\endif
\pset tuples_only on
\pset format unaligned
SELECT format('%s: %s%s', status, regexp_replace(summary, ' \(relative.*', ''),
         CASE WHEN role <> 'primary' THEN
           format(E'\n    what was committed %s ms ago can be seen there', (1000 * extract(epoch FROM staleness_bound))::integer) END)
FROM sagaz_ha.replication_health();
