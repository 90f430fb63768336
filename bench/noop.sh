#!/bin/bash
# What a pass costs that has nothing to do.
#
# usage: bench/noop.sh [TABLESxPARTITIONS]...   (100x37 1x2890 1x10000 1000x37)
# CALLS      calls in a warm session (10)
# SESSIONS   new sessions (5)
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

# read by measure, in lib.sh
# shellcheck disable=SC2034
calls=${CALLS:-10} sessions=${SESSIONS:-5}
shapes=("$@")
[[ $# -gt 0 ]] || shapes=(100x37 1x2890 1x10000 1000x37)
partman=0
if is_available pg_partman; then
  partman=1
fi
# as pg_partman names partitions
name_format=YYYY_MM_DD
(($(partman_major) < 5)) || name_format=YYYYMMDD

partition_count() {
  sql "$1" --command="SELECT count(*) FROM pg_inherits JOIN pg_class ON oid = inhparent AND relkind = 'p'"
}

# expect_partitions DATABASE COUNT: what was measured must have been a no-op
expect_partitions() {
  [[ $(partition_count "$1") == "$2" ]] ||
    die "there are $(partition_count "$1") partitions in database $1, not $2"
}

# sees_work DATABASE STATEMENT: a pass that doesn't notice a missing partition
# would have nothing to do, and be fast
sees_work() {
  local before
  before=$(partition_count "$1")
  sql "$1" <<<"SELECT format('DROP TABLE t1_p%s', to_char(now() + interval '7 days', '$name_format')) \\gexec"
  sql "$1" --command="$2" >/dev/null
  expect_partitions "$1" "$before"
}

# compare SHAPE: lines of the table
compare() {
  local database=d$1 tables=${1%x*} each=${1#*x} count ours theirs=- ours_cold theirs_cold limit limit_cold
  database_create "$database"
  sql "$database" --set=columns="$BARE_COLUMNS" --set=tables="$tables" --set=past="$((each - 8))" --set=partman="$partman" \
    --set=name_format="$name_format" --set=partman_5="$(($(partman_major) >= 5))" --file="$here/noop.sql" >/dev/null
  count=$(partition_count "$database")
  note "calls, $1"
  read -r ours ours_cold < <(measure "$database" "SELECT * FROM maintain_all_partitions()")
  expect_partitions "$database" "$count"
  if ((partman)); then
    read -r theirs theirs_cold < <(measure "$database" "SELECT partman.run_maintenance()")
    expect_partitions "$database" "$count"
    echo "$1: pg_partman run_maintenance()|$theirs|$theirs_cold||"
  fi
  echo "$1: maintain_all_partitions()|$ours|$ours_cold|$(ratio "$theirs" "$ours")|$(ratio "${theirs_cold:--}" "$ours_cold")"
  read -r limit limit_cold < <(measure "$database" "$ONLY_BOUNDS")
  echo "$1: the server, a query of each table|$limit|$limit_cold||"
  # in this order: the partition that sagaz_ha makes has another name
  if ((partman)); then
    sees_work "$database" "SELECT partman.run_maintenance()"
  fi
  sees_work "$database" "SELECT * FROM maintain_all_partitions()"
}

note "making a cluster"
# preloaded, as it is in production, but without a worker that comes in between
cluster_create primary 5432 "shared_preload_libraries = 'sagaz_ha'" "sagaz_ha.enabled = off" \
  "autovacuum = off" "shared_buffers = 2GB" "max_wal_size = 8GB" "fsync = off" "max_locks_per_transaction = 1024"
{
  echo "what|warm session, ms|new session, ms|times faster, warm|times faster, new"
  for shape in "${shapes[@]}"; do
    note "making $shape"
    compare "$shape"
  done
} >"$dir/table"
table <"$dir/table"
echo
echo "Medians of $calls calls in one session after its first, and of the first call of $sessions new sessions."
say_conditions pg_partman
