#!/bin/bash
# Shows the extension's main job on a PostgreSQL cluster of its own, which
# listens on no network address and is gone at the end. The extension has to be
# installed: `make demo` does that first.
#
# PG_CONFIG chooses one of several PostgreSQL installations.
set -euo pipefail

bin=$("${PG_CONFIG:-pg_config}" --bindir)
dir=$(mktemp -d /tmp/sagaz_ha-demo.XXXXXX)
# initdb and the server refuse to be root
server_user=()
if [[ $EUID == 0 ]]; then
  server_user=(runuser -u postgres --)
  chown postgres "$dir"
fi

server() {
  (cd "$dir" && "${server_user[@]}" env LC_ALL=C.UTF-8 "$bin/$1" -D "$dir/data" "${@:2}")
}

cleanup() {
  if [[ -f $dir/data/postmaster.pid ]]; then
    server pg_ctl --mode=immediate --silent stop || true
  fi
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

psql_demo() {
  PGOPTIONS="-c timezone=UTC ${clock:+-c sagaz_ha.clock=$clock}" \
    "$bin/psql" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --pset=pager=off \
    --host="$dir" --port=5432 --username=postgres --dbname=sagaz "$@"
}

title() {
  printf '\n\n===== %s\n' "$1"
}

# Shows statements and what they return.
show() {
  psql_demo --echo-queries </dev/stdin
}

# The demo is a test as well: what it says must be so.
# expect WHAT QUERY WANTED
expect() {
  local got
  got=$(psql_demo --tuples-only --no-align --command="$2")
  if [[ $got != "$3" ]]; then
    echo "demo: $1: expected $3, but it is $got" >&2
    exit 1
  fi
  echo "-- $1: $got"
}

title "A throwaway cluster of $("$bin/postgres" --version)"
server initdb --auth=trust --username=postgres --encoding=UTF8 --no-sync >"$dir/initdb.log" 2>&1 ||
  { cat "$dir/initdb.log"; exit 1; }
server pg_ctl --silent --wait --log="$dir/server.log" \
  --options="-c listen_addresses='' -c unix_socket_directories='$dir' -c port=5432 -c fsync=off" start
"$bin/createdb" --host="$dir" --port=5432 --username=postgres sagaz
echo "It runs in $dir."

title "Two statements: from nothing to maintained partitions"
show <<'SQL'
CREATE EXTENSION sagaz_ha;
SELECT * FROM maintain_all_partitions();
SQL

title "Run again, it has nothing to do and does nothing"
show <<'SQL'
SELECT * FROM maintain_all_partitions();
SQL

title "Work comes in: finished and unfinished sagas, events sent and not sent"
show <<'SQL'
INSERT INTO saga_executions (saga_name, status) VALUES ('test-saga', 'SUCCESS');
INSERT INTO saga_executions (saga_name, status, created_at)
VALUES ('slow-saga', 'RUNNING', now() + interval '1 month');
INSERT INTO saga_outbox (topic, payload, status)
VALUES ('test.topic', '{"foo": "bar"}'::jsonb, 'PENDING');
INSERT INTO saga_outbox (topic, payload, status, created_at)
VALUES ('test.topic', '{"foo": "baz"}'::jsonb, 'PUBLISHED', now() + interval '1 day');
SELECT tableoid::regclass AS partition, topic, status FROM saga_outbox ORDER BY created_at;
SQL

title "A query that names a time reads only the partitions of that time"
show <<'SQL'
EXPLAIN (ANALYZE, BUFFERS)
SELECT * FROM saga_executions WHERE created_at >= CURRENT_DATE - INTERVAL '1 day'
AND created_at < CURRENT_DATE + INTERVAL '1 day';
SELECT * FROM get_partition_statistics();
SQL

clock=$(date --utc --date='40 days' +%Y-%m-%dT12:00:00Z)
title "40 days later (a superuser may set sagaz_ha.clock = '$clock')"
echo "The outbox is kept for 30 days. What would a pass do?"
show <<'SQL'
SELECT action, table_name, count(*), min(partition_name) AS first, max(partition_name) AS last
FROM sagaz_ha.plan_partition_maintenance()
GROUP BY action, table_name ORDER BY action, table_name;
SQL
echo "The pass itself. An event that was never sent keeps its partition:"
show <<'SQL'
SELECT * FROM maintain_all_partitions() WHERE action <> 'CREATE';
SQL
expect "events not sent that are still there" \
  "SELECT count(*) FROM saga_outbox WHERE status = 'PENDING'" 1
expect "partitions of the outbox dropped" \
  "SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'DROP'" 7

title "Health says so as well"
show <<'SQL'
SELECT table_name, check_name, status, details FROM sagaz_ha.partition_health()
WHERE status <> 'ok' OR check_name = 'coverage';
SQL

title "The event is sent at last: now its partition can go"
show <<'SQL'
UPDATE saga_outbox SET status = 'PUBLISHED', published_at = now() WHERE status = 'PENDING';
SELECT * FROM maintain_all_partitions();
SQL
expect "partitions of the outbox dropped" \
  "SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'DROP'" 8

clock=$(date --utc --date='15 months' +%Y-%m-%dT12:00:00Z)
title "15 months from now ($clock)"
echo "Sagas are kept for 12 months, unless they are still running:"
show <<'SQL'
SELECT action, table_name, count(*), min(partition_name) AS first, max(partition_name) AS last,
       max(details) FILTER (WHERE action = 'KEEP') AS details
FROM maintain_all_partitions()
GROUP BY action, table_name ORDER BY table_name, action;
SELECT table_name, partition_count, oldest_partition, newest_partition, kept, covered_until
FROM get_partition_statistics();
SELECT check_name, status, details FROM sagaz_ha.partition_health()
WHERE table_name = 'saga_executions';
SQL
expect "running sagas that are still there" \
  "SELECT count(*) FROM saga_executions WHERE status = 'RUNNING'" 1
expect "finished sagas that are still there" \
  "SELECT count(*) FROM saga_executions WHERE status = 'SUCCESS'" 0

title "DROP EXTENSION takes the machinery and leaves the data"
clock=
show <<'SQL'
DROP EXTENSION sagaz_ha;
SELECT saga_name, status FROM saga_executions;
SQL

title "Done; the cluster is removed"
