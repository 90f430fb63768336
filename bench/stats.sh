#!/bin/bash
# The statistics, beside the query of the project that the specification comes
# from: it reads a table with a row for each partition, and asks for each one's
# size. 100 tables with 37 daily partitions, bare and with a primary key and TOAST;
# 370 bare ones; and metrics() of 11 tables with 37.
#
# usage: bench/stats.sh [PARTITIONS_OF_EACH]...   (37 370)
# CALLS      calls in a warm session (9)
# SESSIONS   new sessions (5)
# TABLES     with so many partitions each (100)
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

calls=${CALLS:-9} sessions=${SESSIONS:-5} tables=${TABLES:-100}
counts=("$@")
[[ $# -gt 0 ]] || counts=(37 370)
declare -A columns=(
  [bare]=$BARE_COLUMNS
  [keyed]='at timestamptz NOT NULL DEFAULT now(), n int DEFAULT 1, t text, PRIMARY KEY (at, n)'
)
declare -A titles=([bare]='bare' [keyed]='key, TOAST')

specified="SELECT table_name, count(*), min(partition_start)::date, max(partition_end)::date,
  round(sum(pg_total_relation_size(partition_name::regclass)) / 1024.0 / 1024.0, 2)
  FROM bench_metadata GROUP BY table_name ORDER BY table_name"

# make DATABASE SHAPE TABLES PARTITIONS
make_tables() {
  note "$3 tables with $4 partitions, ${titles[$2]}"
  database_create "$1"
  sql "$1" --set=columns="${columns[$2]}" --set=tables="$3" --set=past="$(($4 - 8))" --set=partman=0 \
    --set=name_format=YYYYMMDD --file="$here/noop.sql" >/dev/null
  sql "$1" --command="CREATE TABLE bench_metadata AS SELECT table_name, partition_name,
      partition_start, partition_end FROM partition_metadata" --command="VACUUM ANALYZE bench_metadata"
  total=$(sql "$1" --command="SELECT count(*) FROM bench_metadata")
}

# line DATABASE SHAPE WHAT STATEMENT: of the table; the specified query's comes first
line() {
  local warm cold
  read -r warm cold < <(measure "$1" "$4")
  if [[ $3 == 'the specified query' ]]; then
    base=$warm
    base_cold=$cold
  fi
  echo "$3|${titles[$2]}|$total|$warm|$cold|$(ratio "$warm" "$base")|$(ratio "$cold" "$base_cold")"
}

# compare SHAPE PARTITIONS
compare() {
  local database=$1$2 base base_cold total
  make_tables "$database" "$1" "$tables" "$2"
  line "$database" "$1" 'the specified query' "$specified"
  line "$database" "$1" 'get_partition_statistics()' "SELECT * FROM get_partition_statistics()"
  line "$database" "$1" 'partition_metadata' "SELECT * FROM partition_metadata"
  line "$database" "$1" 'partition_health()' "SELECT * FROM sagaz_ha.partition_health()"
  line "$database" "$1" 'the server, a query of each table' "$ONLY_BOUNDS"
}

note "making a cluster"
cluster_create primary 5432 "shared_preload_libraries = 'sagaz_ha'" "sagaz_ha.enabled = off" \
  "autovacuum = off" "shared_buffers = 2GB" "max_wal_size = 8GB" "fsync = off" "max_locks_per_transaction = 1024"
{
  echo "what|tables|partitions|warm session, ms|new session, ms|warm, of the specified|new, of the specified"
  for count in "${counts[@]}"; do
    compare bare "$count"
    # a key and TOAST make four files of one
    [[ $count -gt 100 ]] || compare keyed "$count"
  done
  make_tables metrics keyed 11 37
  base=- base_cold=-
  line metrics keyed 'metrics()' "SELECT * FROM sagaz_ha.metrics()"
} >"$dir/table"
table <"$dir/table"
echo
echo "Medians of $calls calls in one session after its first, and of the first call of $sessions new sessions."
echo "The server, a query of each table: it reads every partition's bounds from the catalogs in a new session, as"
echo "whoever tells of partitions in the order of time has to."
# shellcheck disable=SC2119  # no peers
say_conditions
