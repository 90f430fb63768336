#!/bin/bash
# What writers notice of maintenance: clients insert into saga_outbox while a
# pass makes 3 partitions and drops 10, beside a transaction that has read the
# whole table and stays open.
#
# usage: bench/stall.sh [CONTENDER]...
# CONTENDER  baseline, worker, foreground, pg_partman, timescaledb, ddl, pg_cron; all when none is named
# RATE       inserts per second, of all clients together (400)
# CLIENTS    (4)
# READER     seconds that the reading transaction stays open (8)
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

rate=${RATE:-400} clients=${CLIENTS:-4} reader=${READER:-8}
after=3 # seconds that the inserts go on after the reader has ended
contenders=("$@")
[[ $# -gt 0 ]] || contenders=(baseline worker foreground pg_partman timescaledb ddl pg_cron)
declare -A titles=(
  [baseline]='no pass at all'
  [worker]='sagaz_ha worker'
  [foreground]='sagaz_ha maintain_all_partitions(), each second'
  [pg_partman]='pg_partman run_maintenance()'
  [ddl]='plain DDL, a transaction per statement'
  [pg_cron]='pg_cron, plain SQL function'
  [timescaledb]='TimescaleDB drop_chunks()'
)
declare -A outboxes=(
  [baseline]=sql [worker]=sagaz_ha [foreground]=sagaz_ha
  [pg_partman]=pg_partman [ddl]=sql [pg_cron]=sql [timescaledb]=timescaledb
)

cat >"$dir/insert.sql" <<'SQL'
INSERT INTO saga_outbox (topic, payload) VALUES ('bench.topic', '{"n": 1}');
SQL

make_cluster() {
  local preload settings=()
  preload=$(preload_with timescaledb "${contenders[@]}")
  if [[ " ${contenders[*]} " == *" pg_cron "* ]] && is_available pg_cron; then
    preload+=,pg_cron
    settings=("cron.database_name = 'pg_cron'" "cron.use_background_workers = on")
  fi
  # autovacuum off: its own locks and I/O aren't what is measured
  cluster_create primary 5432 "shared_preload_libraries = '$preload'" "${settings[@]}" \
    "sagaz_ha.enabled = off" "sagaz_ha.databases = 'worker'" "autovacuum = off" \
    "max_wal_size = 4GB" "shared_buffers = 256MB" "max_worker_processes = 20" \
    "timescaledb.telemetry_level = off" "log_lock_waits = on" "deadlock_timeout = 50ms" "log_line_prefix = '%d %a '"
  # pg_cron's launcher would start and fail each second as long as it is missing
  [[ $preload != *,pg_cron ]] || database_create pg_cron
}

# The reader begins 1 s before the minute does, when pg_cron runs the job.
before_minute() {
  sql pg_cron --command="CREATE EXTENSION pg_cron"
  sleep "$(awk -v now="$(now_ms)" 'BEGIN { wait = 58000 - now % 60000
    print (wait < 0 ? wait + 60000 : wait) / 1000 }')"
  sql pg_cron --command="SELECT cron.schedule('* * * * *', 'SELECT bench.maintain()')" >/dev/null
}

# Begins the pass and sets $started, in ms. What it waits for goes on meanwhile.
start_pass() {
  started=$(now_ms)
  case $1 in
    worker)
      sql postgres --command="ALTER SYSTEM SET sagaz_ha.enabled = on" \
        --command="SELECT pg_reload_conf()" >/dev/null
      ;;
    foreground)
      while true; do
        sql "$1" --command="SELECT * FROM maintain_all_partitions()"
        sleep 1
      done >"$dir/$1.pass" 2>&1 &
      pass=$!
      ;;
    pg_partman)
      sql "$1" --command="SELECT partman.run_maintenance()" >"$dir/$1.pass" 2>&1 &
      ;;
    timescaledb)
      sql "$1" --command="SELECT drop_chunks('saga_outbox', interval '30 days')" >"$dir/$1.pass" 2>&1 &
      ;;
    ddl)
      sql "$1" <<<"SELECT bench.statements() \\gexec" >"$dir/$1.pass" 2>&1 &
      ;;
    pg_cron)
      wait_until 10 is_true pg_cron "SELECT count(*) > 0 FROM cron.job_run_details" ||
        die "pg_cron did not run the job"
      sql pg_cron --command="SELECT cron.unschedule(jobid) FROM cron.job" >/dev/null
      started=$(sql pg_cron --command="SELECT (extract(epoch FROM min(start_time)) * 1000)::bigint
        FROM cron.job_run_details")
      ;;
  esac
}

# run CONTENDER: one line of the table
run() {
  local pgbench watch reading pass='' started read_end created dropped stalls waits
  local inserts p50 p99 p999 max
  outbox_create "$1" "${outboxes[$1]}"
  sql "$1" --command="CHECKPOINT"
  [[ $1 != pg_cron ]] || before_minute

  outbox_watch "$1" "$dir/$1.watch" &
  watch=$!
  "$bin/pgbench" --no-vacuum --client="$clients" --jobs=2 --rate="$rate" \
    --time=$((1 + reader + after)) --log --log-prefix="$dir/$1.latency" --file="$dir/insert.sql" \
    --host="$dir" --port=5432 --username=postgres "$1" >"$dir/$1.pgbench" 2>&1 &
  pgbench=$!
  sleep 1
  {
    sql "$1" --command="BEGIN" --command="SELECT count(*) FROM saga_outbox" \
      --command="SELECT pg_sleep($reader)" --command="COMMIT"
    now_ms >"$dir/$1.reader"
  } >/dev/null &
  reading=$!
  sleep 1
  start_pass "$1"
  wait "$pgbench" || die "pgbench: $(tail -n 3 "$dir/$1.pgbench")"
  wait "$reading"
  [[ $1 == baseline ]] || wait_until 15 outbox_is_finished "$dir/$1.watch" "$1" ||
    note "$1 did not finish"
  kill "$watch" ${pass:+"$pass"}
  if [[ $1 == worker ]]; then
    sql postgres --command="ALTER SYSTEM RESET sagaz_ha.enabled" --command="SELECT pg_reload_conf()" >/dev/null
  fi

  read_end=$(<"$dir/$1.reader")
  created=$(outbox_time "$dir/$1.watch" "$started" created)
  dropped=$(outbox_time "$dir/$1.watch" "$started" dropped)
  dropped=${dropped:+$((dropped + started - read_end))}
  # What ended since the pass began. pgbench counts from the moment when the
  # insert was due, so that those that a stalled client couldn't begin are in it.
  cat "$dir/$1.latency".* | awk -v started="$started" '$5 * 1000 + $6 / 1000 >= started {
    printf "%.3f %.1f\n", ($5 * 1000 + $6 / 1000 - started) / 1000, $3 / 1000 }' >"$dir/$1.series"
  [[ -z ${RESULTS:-} ]] || cp "$dir/$1.series" "$RESULTS/stall.$1.series"
  cut -d' ' -f2 "$dir/$1.series" >"$dir/$1.ms"
  stalls=$(awk '$1 > 100 { n++ } END { print n + 0 }' "$dir/$1.ms")
  # who was waiting for a lock, not for the processor or the disk
  waits=$(grep -c "^$1 pgbench LOG: .* still waiting for " "$dir/primary.log" || true)
  read -r inserts p50 p99 p999 max < <(distribution <"$dir/$1.ms")
  baseline=${baseline:-$max}
  echo "${titles[$1]}|$inserts|$p50|$p99|$p999|$max|$(ratio "$max" "$baseline")|$stalls|$waits|${created:--}|${dropped:--}"
}

note "making a cluster"
make_cluster
baseline='' # the first contender's worst
{
  echo "contender|inserts|p50|p99|p99.9|max|of the first|> 100 ms|lock waits|created after|dropped after"
  for contender in "${contenders[@]}"; do
    [[ -n ${titles[$contender]:-} ]] || die "there is no contender $contender"
    is_contender "$contender" || continue
    note "${titles[$contender]}"
    run "$contender"
  done
} >"$dir/table"
table <"$dir/table"
cat <<EXPLANATION

Latencies of inserts in ms since the pass began, each from when it was due at
$rate a second.
of the first: max, of that of the first contender.
lock waits: how often a client waited for a lock for 50 ms or longer.
created after: ms from the beginning of the pass until 3 new partitions exist.
dropped after: ms from the end of the reader until the 10 expired ones are gone.
EXPLANATION
say_conditions pg_partman pg_cron timescaledb
