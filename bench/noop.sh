#!/bin/bash
# What a pass costs that has nothing to do, and the statistics: 100 tables with
# 37 partitions each, and 1 table with 2,890.
#
# usage: bench/noop.sh
# CALLS      calls in a warm session (10)
# SESSIONS   new sessions (5)
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

calls=${CALLS:-10} sessions=${SESSIONS:-5}
partman=false
if is_available pg_partman; then
  partman=true
fi

# database_create NAME TABLES PAST_DAYS
database_create() {
  "$bin/createdb" --host="$dir" --port=5432 --username=postgres "$1"
  sql "$1" --set=tables="$2" --set=past="$3" --set=partman="$partman" --file="$here/noop.sql" >/dev/null
}

# times DATABASE STATEMENT COUNT: ms of each call in one new session
times() {
  local i
  {
    printf '\\timing on\n'
    for ((i = 0; i < $3; i++)); do
      printf '%s;\n' "$2"
    done
  } | sql "$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
}

median() {
  distribution | cut -d' ' -f2
}

# measure TITLE DATABASE STATEMENT
measure() {
  local cold warm i
  cold=$(for ((i = 0; i < sessions; i++)); do times "$2" "$3" 1; done | median)
  warm=$(times "$2" "$3" $((calls + 1)) | tail -n +2 | median)
  echo "$1|$warm|$cold"
}

partition_count() {
  sql "$1" --command="SELECT count(*) FROM pg_inherits JOIN pg_class ON oid = inhparent AND relkind = 'p'"
}

# expect_partitions DATABASE COUNT: what was measured must have been a no-op
expect_partitions() {
  [[ $(partition_count "$1") == "$2" ]] ||
    die "there are $(partition_count "$1") partitions in database $1, not $2"
}

# sees_work STATEMENT: a pass that doesn't notice a missing partition
# would have nothing to do, and be fast
sees_work() {
  local before
  before=$(partition_count many)
  sql many <<<"SELECT format('DROP TABLE t1_p%s', to_char(now() + interval '7 days', 'YYYY_MM_DD')) \\gexec"
  sql many --command="$1" >/dev/null
  expect_partitions many "$before"
}

note "making a cluster"
# preloaded, as it is in production, but without a worker that comes in between
cluster_create primary 5432 "shared_preload_libraries = 'sagaz_ha'" "sagaz_ha.enabled = off" \
  "autovacuum = off" "shared_buffers = 512MB" "max_wal_size = 4GB" "fsync = off"
note "100 tables with 37 partitions"
database_create many 100 29
note "1 table with 2,890 partitions"
database_create wide 1 2882

{
  echo "what|warm session, ms|new session, ms"
  for database in many wide; do
    count=$(partition_count "$database")
    shape="$([[ $database == many ]] && echo '100 x 37' || echo '1 x 2,890')"
    note "calls, $shape"
    measure "$shape: maintain_all_partitions()" "$database" "SELECT * FROM maintain_all_partitions()"
    expect_partitions "$database" "$count"
    if [[ $partman == true ]]; then
      measure "$shape: pg_partman run_maintenance()" "$database" "SELECT partman.run_maintenance()"
      expect_partitions "$database" "$count"
    fi
    measure "$shape: get_partition_statistics()" "$database" "SELECT * FROM get_partition_statistics()"
  done
} >"$dir/table"
# in this order: the partition that sagaz_ha makes has another name
if [[ $partman == true ]]; then
  sees_work "SELECT partman.run_maintenance()"
fi
sees_work "SELECT * FROM maintain_all_partitions()"
table <"$dir/table"
echo
echo "Medians of $calls calls in one session after its first, and of the first call of $sessions new sessions."
say_conditions pg_partman
