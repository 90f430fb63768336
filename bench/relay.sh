#!/bin/bash
# How many events per second the outbox relay takes from saga_outbox, through
# PgBouncer's transaction pool, to a Redis that syncs each write: with one relay
# and with four, from a backlog, while others insert, and after a million events
# that VACUUM can't clear away yet.
#
# usage: bench/relay.sh [SCENARIO]...
# SCENARIO   backlog, inserts, bloat; all when none is named
# EVENTS     in the backlog (100000)
# RATE       events inserted per second (5000)
# SECONDS_OF_INSERTS  how long (15)
#
# Needs pgbouncer, redis-server, libpq-dev and libhiredis-dev.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

events=${EVENTS:-100000} rate=${RATE:-5000} seconds=${SECONDS_OF_INSERTS:-15}
scenarios=("$@")
[[ $# -gt 0 ]] || scenarios=(backlog inserts bloat)
relay=$here/../deploy/relay
export POSTGRES_PASSWORD=sesame MONITOR_PASSWORD=sesame PGPASSWORD=sesame

free_port() {
  perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1)->sockport'
}

relay_sql() {
  sql relay --command="$1"
}

pool_answers() {
  "$bin/psql" --no-psqlrc --host=127.0.0.1 --port="$POOL_PORT" --username=postgres \
    --dbname=relay --command='' 2>/dev/null
}

redis_answers() {
  [[ $(redis-cli -p "$REDIS_PORT" PING 2>/dev/null) == PONG ]]
}

# start NAME COMMAND...: in the background, with its process id in a file
start() {
  # shellcheck disable=SC2016  # for the inner shell
  server bash -c 'echo $$ >"$0.pid"; exec "$@" >"$0.log" 2>&1' "$dir/$1" "${@:2}" &
}

stop_all() {
  for pid_file in "$dir"/*.pid; do
    [[ ! -e $pid_file ]] || kill "$(<"$pid_file")" 2>/dev/null || true
  done
  cleanup
}
trap stop_all EXIT

start_servers() {
  cluster_create primary 5432 "shared_preload_libraries = 'sagaz_ha'" "autovacuum = off" \
    "max_connections = 150" "max_wal_size = 4GB" "checkpoint_timeout = 1h" "shared_buffers = 256MB"
  database_create relay
  relay_sql "CREATE EXTENSION sagaz_ha" >/dev/null
  relay_sql "SELECT * FROM maintain_all_partitions()" >/dev/null
  # as many as there are after a month
  relay_sql "SELECT create_saga_outbox_partition(current_date - i) FROM generate_series(1, 29) AS i" >/dev/null
  POOL_PORT=$(free_port) REDIS_PORT=$(free_port)
  export POOL_PORT REDIS_PORT DATABASE_URL="host=127.0.0.1 port=$POOL_PORT user=postgres dbname=relay"
  server mkdir "$dir/pool" "$dir/redis"
  start pool env POSTGRES_DB=relay LISTEN_ADDRESSES=127.0.0.1 PRIMARY_HOST="$dir" PRIMARY_PORT=5432 RUN_DIR="$dir/pool" \
    "$here/../deploy/scripts/pool" rw
  start redis redis-server "$here/../deploy/config/redis/redis.conf" --bind 127.0.0.1 \
    --port "$REDIS_PORT" --dir "$dir/redis"
  wait_until 30 pool_answers || { tail -n 5 "$dir/pool.log" >&2; die "the pool doesn't start"; }
  wait_until 30 redis_answers || { tail -n 5 "$dir/redis.log" >&2; die "Redis doesn't start"; }
}

# start_relays NUMBER
start_relays() {
  relays=()
  for ((i = 0; i < $1; i++)); do
    "$relay/relay" 2>>"$dir/relays.log" &
    relays+=($!)
  done
}

stop_relays() {
  kill "${relays[@]}"
  wait "${relays[@]}"
}

none_pending() {
  is_true relay "SELECT NOT EXISTS (SELECT FROM saga_outbox WHERE status = 'PENDING')"
}

insert_backlog() {
  relay_sql "INSERT INTO saga_outbox (topic, partition_key, payload)
    SELECT 'bench.topic', 'key' || i % 5000, jsonb_build_object('order', i, 'note', repeat('x', 200))
    FROM generate_series(1, $events) AS i"
}

empty_outbox() {
  relay_sql "TRUNCATE saga_outbox"
  redis-cli -p "$REDIS_PORT" FLUSHALL >/dev/null
}

# CPU time of every process that takes part and is still there, in ns
cpu() {
  local pid
  for pid in $(cat "$dir"/*.pid) $(pgrep --parent "$(head -n 1 "$dir/primary/postmaster.pid")") "${relays[@]}"; do
    echo "$pid $(cut -d' ' -f1 "/proc/$pid/schedstat" 2>/dev/null || true)"
  done
}

# The clock and the CPU meters begin to run.
begin() {
  began=$(relay_sql "SELECT clock_timestamp()")
  relays=()
  cpu >"$dir/cpu"
}

# A line of the table: SCENARIO RELAYS, of what was published since it began
result() {
  local used
  used=$(cpu | awk 'NR == FNR { before[$1] = $2; next } { used += $2 - before[$1] } END { print used / 1000 }' "$dir/cpu" -)
  relay_sql "SELECT concat_ws('|', '$1', $2, count(*),
      round(count(*) / extract(epoch FROM max(published_at) - '$began')), round($used / count(*)),
      round(1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM published_at - created_at))::numeric),
      round(1000 * percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM published_at - created_at))::numeric))
    FROM saga_outbox WHERE published_at >= '$began'"
}

# drain SCENARIO RELAYS
drain() {
  insert_backlog
  begin
  start_relays "$2"
  wait_until 300 none_pending || die "events are left over: $(tail -n 3 "$dir/relays.log")"
  result "$1" "$2"
  stop_relays
}

run_backlog() {
  empty_outbox
  drain "backlog" "$1"
}

run_inserts() {
  empty_outbox
  cat >"$dir/insert.sql" <<'SQL'
\set key random(1, 5000)
INSERT INTO saga_outbox (topic, partition_key, payload)
SELECT 'bench.topic', 'key' || :key + i, jsonb_build_object('order', i, 'note', repeat('x', 200))
FROM generate_series(1, 10) AS i;
SQL
  begin
  start_relays "$1"
  "$bin/pgbench" --no-vacuum --client=4 --rate=$((rate / 10)) --time="$seconds" --file="$dir/insert.sql" \
    --host=127.0.0.1 --port="$POOL_PORT" --username=postgres relay >"$dir/pgbench.log" 2>&1 ||
    die "$(tail -n 3 "$dir/pgbench.log")"
  wait_until 300 none_pending || die "events are left over: $(tail -n 3 "$dir/relays.log")"
  result "while inserted" "$1"
  stop_relays
}

# A query that lasts, here or on a replica, keeps VACUUM from removing what was
# published since it began.
run_bloat() {
  empty_outbox
  sql relay --command="BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM saga_outbox; SELECT pg_sleep(600)" \
    >/dev/null 2>&1 &
  local reader=$!
  wait_until 30 is_true relay "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'BEGIN ISO%' AND state = 'active'" ||
    die "the reader doesn't start"
  events=1000000 insert_backlog
  relay_sql "UPDATE saga_outbox SET status = 'PUBLISHED'"
  drain "beside a million unvacuumed" "$1"
  relay_sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN ISO%' AND pid <> pg_backend_pid()" >/dev/null
  wait "$reader" || true
}

note "building the relay"
make --silent --no-print-directory -C "$relay" >&2
note "starting PostgreSQL, PgBouncer, Redis"
start_servers
{
  echo "events|relays|published|per second|CPU us each|p50 ms|p99 ms"
  for scenario in "${scenarios[@]}"; do
    for number in 1 4; do
      note "$scenario, $number"
      "run_$scenario" "$number"
    done
  done
} >"$dir/table"
table <"$dir/table"
cat <<EXPLANATION

37 partitions, 5000 keys, payloads of 230 bytes. While inserted: $rate/s wanted.
CPU: of server processes, pool, Redis and relays. Latency is from the beginning of the
transaction that inserted an event until it was marked; a
backlog's says how long it waited.
EXPLANATION
# shellcheck disable=SC2119  # no peers
say_conditions
echo "          $(redis-server --version | cut -d' ' -f1-3), $(PATH=$PATH:/usr/sbin pgbouncer --version | head -n 1)"
