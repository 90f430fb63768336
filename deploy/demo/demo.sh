#!/bin/bash
# Shows the whole: a primary, a replica, both pools and what else the stack has,
# on loopback ports, and partitions that are retired while a long query reads
# them on the replica. Everything is gone at the end. The extension has to be
# installed: `make demo` does that first.
#
# environment: PG_CONFIG, SAGAZ_PORT_OFFSET (free ports otherwise)
set -euo pipefail

stack=$(cd "$(dirname "$0")" && pwd)/stack.sh
SAGAZ_PORT_OFFSET=${SAGAZ_PORT_OFFSET:-$("$stack" free-offset)}
SAGAZ_STATE_DIR=$(mktemp -d /tmp/sagaz_ha-demo.XXXXXX)
export SAGAZ_PORT_OFFSET SAGAZ_STATE_DIR
eval "$("$stack" env)"
export PGPASSWORD=$POSTGRES_PASSWORD PGTZ=UTC

cleanup() {
  trap '' INT TERM
  "$stack" down
  rm -rf "$SAGAZ_STATE_DIR"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# As everybody reaches it.
# sagaz PORT OPTION...
sagaz() {
  "$PG_BIN/psql" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --pset=pager=off \
    --host=127.0.0.1 --port="$1" --username=postgres --dbname=sagaz "${@:2}"
}

title() {
  printf '\n\n===== %s\n' "$1"
}

# Shows statements of stdin and what they return, through the write pool, or
# the pool whose port is given.
show() {
  sagaz "${1:-$PGBOUNCER_RW_PORT}" --echo-queries
}

# One value, from the primary unless a port is given.
value() {
  sagaz "${2:-$POSTGRES_PRIMARY_PORT}" --tuples-only --no-align --command="$1"
}

# The demo is a test as well: what it says must be so.
# expect WHAT GOT WANTED
expect() {
  if [[ $2 != "$3" ]]; then
    echo "demo: $1: expected $3, but it is $2" >&2
    exit 1
  fi
  echo "-- $1: $2"
}

# Waits until a condition is true on the primary, or on the port that is given.
# wait_until WHAT CONDITION [PORT]
wait_until() {
  local deadline=$((SECONDS + 120))
  until [[ $(value "SELECT $2" "${3:-$POSTGRES_PRIMARY_PORT}") == t ]]; do
    if ((SECONDS >= deadline)); then
      echo "demo: not within 120 s: $1" >&2
      "$stack" status >&2 || true
      exit 1
    fi
    sleep 0.1
  done
}

dropped="(SELECT count(*) FROM sagaz_ha.partition_history WHERE action = 'DROP')"

title "The stack of the specification, on loopback ports"
"$stack" up
echo "It runs in $SAGAZ_STATE_DIR. This is what its postgres-init did:"
"$stack" logs postgres-init | sed -n '/partitions made/,/rows)/p'

title "Work comes in through the write pool (pgbouncer-rw)"
show <<'SQL'
INSERT INTO saga_executions (saga_name, status) VALUES ('test-saga', 'SUCCESS');
INSERT INTO saga_outbox (topic, payload, status)
VALUES ('test.topic', '{"foo": "bar"}'::jsonb, 'PENDING');
INSERT INTO saga_outbox (topic, payload, status, created_at)
VALUES ('test.topic', '{"foo": "baz"}'::jsonb, 'PUBLISHED', now() + interval '1 day');
SELECT sagaz_ha.commit_token();
SQL

title "The read pool (pgbouncer-ro) waits for just that commit on the replica, and reads it"
show "$PGBOUNCER_RO_PORT" <<SQL
CALL sagaz_ha.wait_for_replay('$(value 'SELECT sagaz_ha.commit_token()')', '20 s');
SELECT pg_is_in_recovery(), status, count(*) FROM saga_outbox GROUP BY status;
SQL

title "A query that names a time reads only the partitions of that time"
show <<'SQL'
EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM saga_executions
WHERE created_at >= CURRENT_DATE - INTERVAL '1 day' AND created_at < CURRENT_DATE + INTERVAL '1 day';
SQL

title "A long query begins on the replica, in a transaction that sees all of the outbox"
coproc reader { sagaz "$PGBOUNCER_RO_PORT" --tuples-only --no-align 2>&1; }
echo 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM saga_outbox;' >&"${reader[1]}"
read -r -t 30 seen <&"${reader[0]}"
expect "events that it sees" "$seen" 2

clock=$(date --utc --date='40 days' +%Y-%m-%dT12:00:00Z)
title "40 days go by at once (sagaz_ha.clock = '$clock', for tests)"
echo "The worker makes partitions first. It doesn't trust a clock that jumps so far,"
echo "and holds back all drops:"
value "ALTER SYSTEM SET sagaz_ha.clock = '$clock'"
value "ALTER SYSTEM SET sagaz_ha.naptime = '1 s'"
value "SELECT pg_reload_conf()" >/dev/null
wait_until "drops are held back" \
  "EXISTS (SELECT FROM sagaz_ha.partition_health() WHERE check_name = 'drops' AND status = 'critical')"
show <<'SQL'
SELECT table_name, check_name, status, left(details, 90) AS details FROM sagaz_ha.partition_health()
WHERE check_name = 'drops' AND status <> 'ok';
SELECT sagaz_ha.resume_drops('saga_outbox');
SQL

title "The outbox is kept for 30 days: the worker retires what is older, beside the long query"
wait_until "a partition drains" "EXISTS (SELECT FROM partition_metadata WHERE state = 'detaching')
  AND EXISTS (SELECT FROM sagaz_ha.maintenance_status() WHERE waiting_for IS NOT NULL)"
echo "Meanwhile, five seconds of inserts through the write pool:"
echo "INSERT INTO saga_outbox (topic, payload, status, created_at)
  VALUES ('load', '{}', 'PUBLISHED', sagaz_ha.clock());" >"$SAGAZ_STATE_DIR/insert.sql"
"$PG_BIN/pgbench" --host=127.0.0.1 --port="$PGBOUNCER_RW_PORT" --username=postgres --no-vacuum \
  --client=4 --time=5 --latency-limit=100 --file="$SAGAZ_STATE_DIR/insert.sql" sagaz 2>&1 |
  tee "$SAGAZ_STATE_DIR/pgbench" | grep -E '^(number of trans.*(processed|above|failed)|latency|tps)'
expect "inserts that failed" "$(sed -n 's/^number of failed transactions: \([0-9]*\).*/\1/p' "$SAGAZ_STATE_DIR/pgbench")" 0
echo "SELECT count(*) FROM saga_outbox;" >&"${reader[1]}"
read -r -t 30 seen <&"${reader[0]}"
expect "events that the long query still sees" "$seen" 2
wait_until "the replica keeps up all the same" \
  "staleness_bound < '3 s' FROM sagaz_ha.replication_health()" "$POSTGRES_REPLICA_PORT"
expect "partitions dropped so far" "$(value "SELECT $dropped")" 0
echo
"$stack" status

title "The long query ends: now they go, but for the one with an event that was never sent"
echo 'COMMIT; \q' >&"${reader[1]}"
wait_until "seven partitions are dropped" "$dropped >= 7"
wait_until "one is kept" "kept = 1 FROM get_partition_statistics() WHERE table_name = 'saga_outbox'"
expect "partitions of the outbox dropped" "$(value "SELECT $dropped")" 7
expect "events not sent that are still there" \
  "$(value "SELECT count(*) FROM saga_outbox WHERE status = 'PENDING'")" 1
show <<'SQL'
SELECT table_name, check_name, status, details FROM sagaz_ha.partition_health()
WHERE check_name = 'kept_partitions' AND status <> 'ok';
SQL

title "A relay is started, which publishes events to Redis: now that partition can go too"
"$stack" up outbox-relay
wait_until "the event is sent" "NOT EXISTS (SELECT FROM saga_outbox WHERE status = 'PENDING')"
redis-cli -p "$REDIS_PORT" XRANGE outbox:test.topic - +
wait_until "the last one is dropped" "$dropped = 8"
"$stack" status

title "DROP EXTENSION takes the machinery and leaves the data"
show <<'SQL'
SET client_min_messages = warning;
DROP EXTENSION sagaz_ha;
SELECT saga_name, status FROM saga_executions;
SQL

title "Done in $SECONDS s; the stack is stopped and removed"
