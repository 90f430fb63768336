#!/bin/bash
# What replicas notice of maintenance: a transaction on each of two standbys
# has read all partitions of saga_outbox and stays open, while the primary
# retires 10 that have expired. One standby never cancels a query
# (max_standby_streaming_delay = -1), the other does so at once (0).
#
# usage: bench/standby.sh [CONTENDER]...
# CONTENDER  baseline, worker, pg_partman, timescaledb, sql; all when none is named
# READER     seconds that the reading transactions stay open (15)
# ISOLATION  their isolation level ('repeatable read')
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

reader=${READER:-15} isolation=${ISOLATION:-repeatable read}
contenders=("$@")
[[ $# -gt 0 ]] || contenders=(baseline worker pg_partman timescaledb sql)
declare -A titles=(
  [baseline]='no pass at all' [worker]='sagaz_ha worker'
  [pg_partman]='pg_partman run_maintenance()' [sql]='plain SQL, DROP TABLE'
  [timescaledb]='TimescaleDB drop_chunks()'
)
declare -A outboxes=([baseline]=sql [worker]=sagaz_ha [pg_partman]=pg_partman [sql]=sql [timescaledb]=timescaledb)
# each standby's port, and what it is told about queries in its way
declare -A delays=([5433]=-1 [5434]=0)
ports=(5433 5434)

# standby_create PORT
standby_create() {
  local name=standby$1
  clusters+=("$name")
  server "$bin/pg_basebackup" --pgdata="$dir/$name" --host="$dir" --port=5432 --username=postgres \
    --checkpoint=fast --no-sync --write-recovery-conf --create-slot --slot="$name"
  cat >>"$dir/$name/postgresql.auto.conf" <<CONF
hot_standby_feedback = on
wal_receiver_status_interval = 1s
max_standby_streaming_delay = ${delays[$1]}
cluster_name = '$name'
CONF
  cluster_start "$name" "$1"
}

# What the standby can see of the heartbeat, each 10 ms: its time in ms | last id
heartbeat_watch() {
  exec "$bin/psql" --no-psqlrc --quiet --no-align --tuples-only --host="$dir" --port="$2" \
    --username=postgres --dbname="$1" --output="$dir/$1.$2.seen" \
    <<<"SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, max(id) FROM bench.heartbeat \\watch 0.01"
}

heartbeat_write() {
  exec "$bin/psql" --no-psqlrc --quiet --host="$dir" --port=5432 --username=postgres --dbname="$1" \
    --output=/dev/null <<<"INSERT INTO bench.heartbeat DEFAULT VALUES \\watch 0.1"
}

# read_all DATABASE PORT: the analytics query; leaves when it ended, and how
read_all() {
  local outcome=finished
  client "$2" --dbname="$1" --command="BEGIN ISOLATION LEVEL $isolation READ ONLY" \
    --command="SELECT count(*) FROM saga_outbox" --command="SELECT pg_sleep($reader)" \
    --command="COMMIT" >/dev/null 2>"$dir/$1.$2.reader_error" || outcome=cancelled
  echo "$(now_ms) $outcome" >"$dir/$1.$2.reader"
}

start_pass() {
  started=$(now_ms)
  case $1 in
    worker)
      sql postgres --command="ALTER SYSTEM SET sagaz_ha.enabled = on" \
        --command="SELECT pg_reload_conf()" >/dev/null
      ;;
    pg_partman) sql "$1" --command="SELECT partman.run_maintenance()" >/dev/null & ;;
    timescaledb) sql "$1" --command="SELECT drop_chunks('saga_outbox', interval '30 days')" >/dev/null & ;;
    sql) sql "$1" <<<"SELECT bench.statements() \\gexec" >/dev/null & ;;
  esac
}

# staleness DATABASE PORT: ms from each commit until readable, one per line.
# A row that was never seen counts as stale until the end.
staleness() {
  sql "$1" --field-separator=' ' \
    --command="SELECT id, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000)::bigint
      FROM bench.heartbeat WHERE id > 1 ORDER BY id" >"$dir/$1.written"
  awk '
    FILENAME == ARGV[1] { id[++n] = $1; written[n] = $2; next }
    split($0, seen, "|") == 2 && seen[1] + 0 > 0 {
      last = seen[1]
      while (next_row < n && id[next_row + 1] <= seen[2]) { next_row++; report(seen[1]) }
    }
    function report(at) { print (at > written[next_row] ? at - written[next_row] : 0) }
    END { while (next_row < n) { next_row++; report(last) } }
  ' "$dir/$1.written" "$dir/$1.$2.seen"
}

has_caught_up() {
  [[ $(client "$1" --dbname=postgres --command="SELECT pg_last_wal_replay_lsn() >= '$2'") == t ]]
}

# run CONTENDER: a line of the table for each standby
run() {
  local port started pids=() readers=() read_end=0 dropped after ended outcome stale
  outbox_create "$1" "${outboxes[$1]}"
  sql "$1" --command="CREATE TABLE bench.heartbeat (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)" \
    --command="INSERT INTO bench.heartbeat DEFAULT VALUES" --command="CHECKPOINT"
  local lsn
  lsn=$(sql "$1" --command="SELECT pg_current_wal_flush_lsn()")
  for port in "${ports[@]}"; do
    wait_until 60 has_caught_up "$port" "$lsn" || die "the standby at port $port does not catch up"
    heartbeat_watch "$1" "$port" &
    pids+=($!)
  done
  outbox_watch "$1" "$dir/$1.watch" &
  pids+=($!)
  heartbeat_write "$1" &
  pids+=($!)
  sleep 1
  for port in "${ports[@]}"; do
    read_all "$1" "$port" &
    readers+=($!)
  done
  sleep 1.5
  start_pass "$1"
  wait "${readers[@]}"
  [[ $1 == baseline ]] || wait_until 30 outbox_is_finished "$dir/$1.watch" "$1" || note "$1 did not finish"
  sleep 1
  kill "${pids[@]}"
  if [[ $1 == worker ]]; then
    sql postgres --command="ALTER SYSTEM RESET sagaz_ha.enabled" --command="SELECT pg_reload_conf()" >/dev/null
  fi

  for port in "${ports[@]}"; do
    read -r ended outcome <"$dir/$1.$port.reader"
    ((ended < read_end)) || read_end=$ended
  done
  dropped=$(outbox_time "$dir/$1.watch" "$started" dropped)
  after=${dropped:+$((dropped + started - read_end))}
  for port in "${ports[@]}"; do
    read -r ended outcome <"$dir/$1.$port.reader"
    stale=$(staleness "$1" "$port" | distribution | cut -d' ' -f1-3,5 | tr ' ' '|')
    echo "${titles[$1]}|${delays[$port]}|$stale|$outcome|${dropped:--}|${after:--}"
  done
}

note "making a primary and two standbys"
cluster_create primary 5432 "shared_preload_libraries = '$(preload_with timescaledb "${contenders[@]}")'" \
  "sagaz_ha.enabled = off" "timescaledb.telemetry_level = off" \
  "sagaz_ha.databases = 'worker'" "autovacuum = off" "max_wal_size = 4GB" \
  "track_commit_timestamp = on"
for port in "${ports[@]}"; do
  standby_create "$port"
done
{
  echo "contender|streaming delay|rows|p50|p99|max|reader|dropped after|after readers"
  for contender in "${contenders[@]}"; do
    [[ -n ${titles[$contender]:-} ]] || die "there is no contender $contender"
    is_contender "$contender" || continue
    note "${titles[$contender]}"
    run "$contender"
  done
} >"$dir/table"
table <"$dir/table"
cat <<EXPLANATION

Staleness of the standby in ms: from the commit of a row on the primary, one each
100 ms, until it can be read on the standby (looked at each 10 ms).
dropped after: ms from when the partitions expired until all 10 are gone on the
primary; after readers: the same from the end of the last reader on. sagaz_ha
detaches one partition of a table at a time (PostgreSQL allows no more), and each
waits for feedback of each standby, which the guard there has sent at once.
EXPLANATION
say_conditions pg_partman timescaledb
