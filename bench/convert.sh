#!/bin/bash
# What clients notice while a plain outbox becomes partitioned: 4 clients insert,
# claim with SKIP LOCKED and update by key, with prepared statements.
#
# usage: bench/convert.sh [CONTENDER]...
# CONTENDER  baseline, worker, pg_partman, timescaledb, ddl; all when none is named
# ROWS       of the table (1000000)
# RATE       statements per second, of all clients together (400)
# CLIENTS    (4)
# SECONDS_MAX  how long a contender may take (300)
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

rows=${ROWS:-1000000} rate=${RATE:-400} clients=${CLIENTS:-4} most=${SECONDS_MAX:-300}
contenders=("$@")
[[ $# -gt 0 ]] || contenders=(baseline worker pg_partman timescaledb ddl)
declare -A titles=(
  [baseline]='no conversion'
  [worker]='sagaz_ha partition_table()'
  [pg_partman]='pg_partman, by way of a default partition'
  [timescaledb]='TimescaleDB create_hypertable(migrate_data)'
  [ddl]='by hand: LOCK, copy, rename'
)

cat >"$dir/client.sql" <<'SQL'
INSERT INTO saga_outbox (event_id, saga_id, aggregate_id, event_type, payload) VALUES (gen_random_uuid(), 's', 'a', 'e', '{"n": 1}') RETURNING event_id AS mine
\gset
WITH c AS (SELECT event_id FROM saga_outbox WHERE status = 'pending' AND created_at <= now() ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED) UPDATE saga_outbox SET status = 'claimed', claimed_at = now() WHERE event_id IN (SELECT event_id FROM c);
UPDATE saga_outbox SET status = 'sent', sent_at = now() WHERE event_id = CAST(:mine AS uuid);
SELECT count(*) FROM saga_outbox WHERE event_id = CAST(:mine AS uuid);
SQL

# Turns the table into a partitioned one; returns when it is one.
convert() {
  case $1 in
    baseline) sleep 15 ;;
    worker)
      sql "$1" --command="SELECT sagaz_ha.partition_table('saga_outbox', 'created_at', '1 day', weaken_unique => true)" || return
      wait_until "$most" is_true "$1" "SELECT NOT EXISTS (SELECT FROM sagaz_ha.conversion)"
      ;;
    pg_partman)
      sql "$1" <<<"BEGIN;
        LOCK TABLE saga_outbox;
        ALTER TABLE saga_outbox RENAME TO saga_outbox_default;
        CREATE TABLE saga_outbox (LIKE saga_outbox_default INCLUDING DEFAULTS) PARTITION BY RANGE (created_at);
        CREATE INDEX ON saga_outbox (event_id); CREATE INDEX ON saga_outbox (created_at) WHERE status = 'pending';
        ALTER TABLE saga_outbox ATTACH PARTITION saga_outbox_default DEFAULT;
        COMMIT;
        CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman;
        SELECT partman.create_parent('public.saga_outbox', 'created_at', $( (($(partman_major) >= 5)) && echo "'1 day', p_default_table := false" || echo "'native', '1 day'"));
        UPDATE partman.part_config SET ignore_default_data = false;
        CALL partman.partition_data_proc('public.saga_outbox');"
      ;;
    timescaledb)
      sql "$1" <<<"CREATE EXTENSION IF NOT EXISTS timescaledb;
        BEGIN;
        ALTER TABLE saga_outbox DROP CONSTRAINT saga_outbox_pkey, ADD PRIMARY KEY (event_id, created_at);
        SELECT create_hypertable('saga_outbox', 'created_at', chunk_time_interval => interval '1 day', migrate_data => true);
        COMMIT;"
      ;;
    ddl)
      sql "$1" <<<"BEGIN;
        LOCK TABLE saga_outbox;
        ALTER TABLE saga_outbox RENAME TO saga_outbox_old;
        CREATE TABLE saga_outbox (LIKE saga_outbox_old INCLUDING DEFAULTS, PRIMARY KEY (event_id, created_at)) PARTITION BY RANGE (created_at);
        CREATE TABLE saga_outbox_p PARTITION OF saga_outbox FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
        INSERT INTO saga_outbox SELECT * FROM saga_outbox_old;
        CREATE INDEX ON saga_outbox (created_at) WHERE status = 'pending'; CREATE INDEX ON saga_outbox (saga_id);
        ANALYZE saga_outbox;
        COMMIT;"
      ;;
  esac >"$dir/$1.out" 2>&1
}

# run CONTENDER: one line of the table
run() {
  local started took pgbench result=converted count lock p50 p99 p999 max errors
  database_create "$1"
  sql "$1" --command="CREATE EXTENSION sagaz_ha" --set=rows="$rows" --file="$here/convert.sql" >/dev/null
  sql "$1" --command="CHECKPOINT"
  "$bin/pgbench" --no-vacuum --client="$clients" --jobs=2 --rate="$((rate / 4))" --protocol=prepared \
    --time="$((most * 2))" --log --log-prefix="$dir/$1.latency" --file="$dir/client.sql" \
    --host="$dir" --port=5432 --username=postgres "$1" >"$dir/$1.pgbench" 2>&1 &
  pgbench=$!
  sleep 5
  started=$(now_ms)
  convert "$1" || result="failed: $(grep -m1 -E 'ERROR' "$dir/$1.out" | cut -c1-80)"
  took=$(($(now_ms) - started))
  sleep 5
  # pgbench ends, with all of its log, when its last client has ended
  errors=$((clients - $(sql "$1" --command="SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = 'pgbench' AND datname = current_database()")))
  wait "$pgbench" || true
  # four statements, and from when they were due
  cat "$dir/$1.latency".* | awk -v started="$started" '$5 * 1000 + $6 / 1000 >= started { printf "%.1f\n", $3 / 1000 }' >"$dir/$1.ms"
  read -r count p50 p99 p999 max < <(distribution <"$dir/$1.ms")
  lock=-
  [[ $1 != worker ]] || lock=$(sql "$1" --command="SELECT substring(details FROM 'longest lock (.*) ms')
    FROM sagaz_ha.partition_history WHERE details ~ 'longest lock'")
  baseline=${baseline:-$max}
  echo "${titles[$1]}|$((took / 1000)).$((took % 1000 / 100))|$count|$p50|$p99|$p999|$max|$(ratio "$max" "$baseline")|$lock|$errors|$result"
}

note "making a cluster"
cluster_create primary 5432 "shared_preload_libraries = '$(preload_with timescaledb "${contenders[@]}")'" \
  "max_wal_size = 8GB" "shared_buffers = 512MB" "max_worker_processes = 20" "timescaledb.telemetry_level = off"
baseline='' # the first contender's worst
{
  echo "contender|seconds|transactions|p50|p99|p99.9|max|of the first|longest lock|clients lost|"
  for contender in "${contenders[@]}"; do
    [[ -n ${titles[$contender]:-} ]] || die "there is no contender $contender"
    is_contender "$contender" || continue
    note "${titles[$contender]}"
    run "$contender"
  done
} >"$dir/table"
table <"$dir/table"
cat <<EXPLANATION

$rows rows. Latencies in ms of a transaction of four statements (insert, claim, update,
look) since the conversion began, each from when it was due at $rate statements a second.
of the first: max, of that of the first contender. longest lock: ms that the worker held
a strong one. clients lost: whose statement failed.
EXPLANATION
say_conditions pg_partman timescaledb
