#!/bin/bash
# The statistics, beside the query of the project that the specification comes
# from: it reads a table with a row for each partition, and asks for each one's
# size. 100 tables with 37 and with 370 daily partitions.
#
# usage: bench/stats.sh [PARTITIONS_OF_EACH]...   (37 370)
# CALLS      calls in a warm session (5)
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

calls=${CALLS:-5} sessions=${SESSIONS:-3}
counts=("$@")
[[ $# -gt 0 ]] || counts=(37 370)

specified="SELECT table_name, count(*), min(partition_start)::date, max(partition_end)::date,
  round(sum(pg_total_relation_size(partition_name::regclass)) / 1024.0 / 1024.0, 2)
  FROM bench_metadata GROUP BY table_name ORDER BY table_name"

note "making a cluster"
cluster_create primary 5432 "shared_preload_libraries = 'sagaz_ha'" "sagaz_ha.enabled = off" \
  "autovacuum = off" "shared_buffers = 2GB" "max_wal_size = 8GB" "fsync = off" "max_locks_per_transaction = 1024"
{
  echo "what|partitions|warm session, ms|new session, ms|warm, of the specified"
  for count in "${counts[@]}"; do
    note "100 tables with $count partitions"
    database_create "s$count"
    sql "s$count" --set=tables=100 --set=past="$((count - 8))" --set=partman=0 \
      --set=name_format=YYYYMMDD --file="$here/noop.sql" >/dev/null
    sql "s$count" --command="CREATE TABLE bench_metadata AS SELECT table_name, partition_name,
        partition_start, partition_end FROM partition_metadata" --command="VACUUM ANALYZE bench_metadata"
    total=$(sql "s$count" --command="SELECT count(*) FROM bench_metadata")
    read -r base cold < <(measure "s$count" "$specified")
    echo "the specified query|$total|$base|$cold|1.00"
    read -r warm cold < <(measure "s$count" "SELECT * FROM get_partition_statistics()")
    echo "get_partition_statistics()|$total|$warm|$cold|$(ratio "$warm" "$base")"
    read -r warm cold < <(measure "s$count" "SELECT * FROM partition_metadata")
    echo "partition_metadata|$total|$warm|$cold|$(ratio "$warm" "$base")"
    read -r warm cold < <(measure "s$count" "SELECT * FROM sagaz_ha.partition_health()")
    echo "partition_health()|$total|$warm|$cold|$(ratio "$warm" "$base")"
  done
} >"$dir/table"
table <"$dir/table"
echo
echo "Medians of $calls calls in one session after its first, and of the first call of $sessions new sessions."
# shellcheck disable=SC2119  # no peers
say_conditions
