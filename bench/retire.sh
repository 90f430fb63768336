#!/bin/bash
# How long it takes to retire 100 expired partitions of saga_outbox while nobody
# reads it: what waiting for readers costs when there are none.
#
# usage: bench/retire.sh [CONTENDER]...
# CONTENDER  worker, foreground, pg_partman, timescaledb, sql; all when none is named
# PARTITIONS (100)
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

OUTBOX_PAST=$((${PARTITIONS:-100} + 30))
contenders=("$@")
[[ $# -gt 0 ]] || contenders=(sql worker foreground pg_partman timescaledb)
declare -A titles=(
  [worker]='sagaz_ha worker' [foreground]='sagaz_ha maintain_all_partitions()' [sql]='plain DROP TABLE'
  [pg_partman]='pg_partman run_maintenance()' [timescaledb]='TimescaleDB drop_chunks()'
)
declare -A outboxes=(
  [worker]=sagaz_ha [foreground]=sagaz_ha [sql]=sql [pg_partman]=pg_partman [timescaledb]=timescaledb
)

retire() {
  case $1 in
    worker)
      sql postgres --command="ALTER SYSTEM SET sagaz_ha.enabled = on" --command="SELECT pg_reload_conf()"
      wait_until 300 is_true "$1" "SELECT count(*) = 0 FROM pg_class JOIN bench.expired USING (oid)"
      sql postgres --command="ALTER SYSTEM RESET sagaz_ha.enabled" --command="SELECT pg_reload_conf()"
      ;;
    foreground) sql "$1" --command="SELECT * FROM maintain_all_partitions()" ;;
    pg_partman) sql "$1" --command="SELECT partman.run_maintenance()" ;;
    timescaledb) sql "$1" --command="SELECT drop_chunks('saga_outbox', interval '30 days')" ;;
    sql) sql "$1" <<<"SELECT bench.statements() \\gexec" ;;
  esac >/dev/null
}

note "making a cluster"
cluster_create primary 5432 "shared_preload_libraries = '$(preload_with timescaledb "${contenders[@]}")'" \
  "sagaz_ha.enabled = off" "sagaz_ha.databases = 'worker'" "autovacuum = off" "max_wal_size = 4GB" \
  "timescaledb.telemetry_level = off" "max_locks_per_transaction = 512"
sql=''
{
  echo "contender|partitions|ms|ms each|of plain DROP"
  for contender in "${contenders[@]}"; do
    [[ -n ${titles[$contender]:-} ]] || die "there is no contender $contender"
    is_contender "$contender" || continue
    note "${titles[$contender]}"
    outbox_create "$contender" "${outboxes[$contender]}"
    expired=$(sql "$contender" --command="SELECT count(*) FROM bench.expired")
    sql "$contender" --command="CHECKPOINT"
    started=$(now_ms)
    retire "$contender"
    ms=$(($(now_ms) - started))
    is_true "$contender" "SELECT count(*) = 0 FROM pg_class JOIN bench.expired USING (oid)" ||
      die "$contender left expired partitions behind"
    sql=${sql:-$ms}
    echo "${titles[$contender]}|$expired|$ms|$(ratio "$ms" "$expired")|$(ratio "$ms" "$sql")"
  done
} >"$dir/table"
table <"$dir/table"
cat <<EXPLANATION

Each partition has 1,000 rows. The worker commits each step of each partition, and looks for
readers here and on standbys before it takes a lock; what it makes ahead is in its time, too.
EXPLANATION
say_conditions pg_partman timescaledb
