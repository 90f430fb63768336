#!/bin/bash
# What writers of a referenced table notice of new partitions: clients update hub
# rows and insert rows that reference them, beside a transaction that has updated
# hub and stays open. The partitions of the referencing table are used up.
#
# usage: bench/patience.sh [CONTENDER]...
# CONTENDER  baseline, whole, used_up, partition_of, attach, retry; all when none is named
# RATE       transactions per second, of all clients together (400)
# CLIENTS    (8)
# OPEN       seconds that the other transaction stays open (4)
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

rate=${RATE:-400} clients=${CLIENTS:-8} open=${OPEN:-4}
after=4 # seconds that the writes go on after that
contenders=("$@")
[[ $# -gt 0 ]] || contenders=(baseline whole used_up partition_of attach retry)
declare -A titles=(
  [baseline]='no partition at all'
  [whole]='sagaz_ha worker, 1 of 4 missing'
  [used_up]='sagaz_ha worker, 4 of 4 missing'
  [partition_of]='CREATE ... PARTITION OF'
  [attach]='CREATE ... LIKE and ATTACH, as pg_partman'
  [retry]='PARTITION OF, lock_timeout 1 s, again each second'
)
declare -A ahead=([whole]=3) # days that have partitions already, beside today

cat >"$dir/write.sql" <<'SQL'
BEGIN;
UPDATE hub SET n = n + 1 WHERE id = :client_id;
INSERT INTO ev (hub) VALUES (:client_id);
COMMIT;
SQL

# make DATABASE: ev with a partition for today, and for the days that it has ahead
make() {
  database_create "$1"
  sql "$1" --set=ahead="${ahead[$1]:-0}" >/dev/null <<'SQL'
CREATE TABLE hub (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
INSERT INTO hub SELECT generate_series(0, 100);
CREATE TABLE ev (at timestamptz NOT NULL DEFAULT now(), hub int REFERENCES hub) PARTITION BY RANGE (at);
SELECT format('CREATE TABLE ev_%s PARTITION OF ev FOR VALUES FROM (%L) TO (%L)', n, day, day + interval '1 day')
  FROM (SELECT n, date_trunc('day', now()) + n * interval '1 day' AS day FROM generate_series(0, :ahead) AS n) AS days
\gexec
CREATE VIEW missing AS
  SELECT to_char(day, 'YYYYMMDD') AS name, day AS lower, day + interval '1 day' AS upper
    FROM (SELECT date_trunc('day', now()) + n * interval '1 day' AS day FROM generate_series(1, 4) AS n) AS days;
SQL
}

# Begins to make partitions; what that waits for goes on meanwhile.
start() {
  case $1 in
    whole | used_up)
      sql "$1" --command="CREATE EXTENSION sagaz_ha" \
        --command="SELECT sagaz_ha.manage_partitions('ev', '1 day', 4)" >/dev/null
      ;;
    partition_of)
      sql "$1" --single-transaction >/dev/null <<'SQL' &
SELECT format('CREATE TABLE ev_%s PARTITION OF ev FOR VALUES FROM (%L) TO (%L)', name, lower, upper) FROM missing
\gexec
SQL
      ;;
    attach)
      sql "$1" --single-transaction >/dev/null <<'SQL' &
SELECT format('CREATE TABLE ev_%s (LIKE ev INCLUDING ALL)', name),
       format('ALTER TABLE ev ATTACH PARTITION ev_%s FOR VALUES FROM (%L) TO (%L)', name, lower, upper) FROM missing
\gexec
SQL
      ;;
    retry)
      {
        until sql "$1" --single-transaction <<'SQL'
SET LOCAL lock_timeout = '1s';
SELECT format('CREATE TABLE ev_%s PARTITION OF ev FOR VALUES FROM (%L) TO (%L)', name, lower, upper) FROM missing
\gexec
SQL
        do
          sleep 1
        done
      } >/dev/null 2>&1 &
      ;;
  esac
}

# has_all DATABASE: today's partition and four more
has_all() {
  is_true "$1" "SELECT count(*) >= 5 FROM pg_inherits WHERE inhparent = 'ev'::regclass"
}

# run CONTENDER: one line of the table
run() {
  local pgbench holding started created='' writes p50 p99 p999 max
  make "$1"
  "$bin/pgbench" --no-vacuum --client="$clients" --jobs=2 --rate="$rate" --time=$((2 + open + after)) \
    --log --log-prefix="$dir/$1.latency" --file="$dir/write.sql" \
    --host="$dir" --port=5432 --username=postgres "$1" >"$dir/$1.pgbench" 2>&1 &
  pgbench=$!
  sleep 1
  sql "$1" --command="BEGIN" --command="UPDATE hub SET n = 0 WHERE id = 100" \
    --command="SELECT pg_sleep($open)" --command="COMMIT" >/dev/null &
  holding=$!
  sleep 1
  started=$(now_ms)
  start "$1"
  if [[ $1 != baseline ]] && wait_until $((open + after)) has_all "$1"; then
    created=$(($(now_ms) - started))
  fi
  wait "$pgbench" || die "pgbench: $(tail -n 3 "$dir/$1.pgbench")"
  wait "$holding"
  # from when a write was due: those that a stalled client couldn't begin are in it
  read -r writes p50 p99 p999 max < <(cat "$dir/$1.latency".* | awk -v started="$started" '
    $5 * 1000 + $6 / 1000 >= started { printf "%.1f\n", $3 / 1000 }' | distribution)
  echo "${titles[$1]}|$writes|$p50|$p99|$p999|$max|${created:--}"
}

note "making a cluster"
cluster_create primary 5432 "shared_preload_libraries = 'sagaz_ha'" "sagaz_ha.naptime = 60" \
  "autovacuum = off" "max_wal_size = 4GB" "shared_buffers = 256MB" "max_worker_processes = 20"
{
  echo "contender|writes|p50|p99|p99.9|longest|created after"
  for contender in "${contenders[@]}"; do
    [[ -n ${titles[$contender]:-} ]] || die "there is no contender $contender"
    note "${titles[$contender]}"
    run "$contender"
  done
} >"$dir/table"
table <"$dir/table"
cat <<EXPLANATION

Latencies of writes in ms since the partitions were asked for, each from when it was
due at $rate a second, beside a transaction that has updated hub and stays open for
$open s, of which $((open - 1)) s are left then.
created after: ms until all partitions exist.
EXPLANATION
# shellcheck disable=SC2119  # no peer is needed
say_conditions
