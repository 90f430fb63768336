#!/bin/bash
# What replication_health() and metrics() cost with many receivers of WAL:
# pg_receivewal with a slot each, so that each has a process here that sends.
#
# usage: bench/replication.sh [RECEIVERS]...   (1 10 50)
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

calls=${CALLS:-50} sessions=${SESSIONS:-3}
counts=("$@")
[[ $# -gt 0 ]] || counts=(1 10 50)

# receiver NUMBER
receiver() {
  server mkdir -p "$dir/wal$1"
  sql postgres --command="SELECT pg_create_physical_replication_slot('receiver$1', true)" >/dev/null
  # the name is that of a standby: archivers aren't counted as such
  PGAPPNAME=standby$1 server "$bin/pg_receivewal" --directory="$dir/wal$1" --host="$dir" --port=5432 \
    --username=postgres --slot="receiver$1" --synchronous >"$dir/receiver$1.log" 2>&1 &
}

note "making a cluster"
cluster_create primary 5432 "shared_preload_libraries = 'sagaz_ha'" "max_wal_senders = 60" \
  "max_replication_slots = 60" "autovacuum = off"
sql postgres --command="CREATE EXTENSION sagaz_ha" >/dev/null
have=0
{
  echo "receivers|function|warm session, ms|new session, ms"
  for count in "${counts[@]}"; do
    note "$count receivers"
    while ((have < count)); do
      have=$((have + 1))
      receiver "$have"
    done
    wait_until 60 is_true postgres "SELECT count(*) = $count FROM pg_stat_replication WHERE state = 'streaming'" ||
      die "not every receiver streams"
    for call in 'replication_health()' 'replication_standbys()' 'replication_slot_risk()' 'metrics()'; do
      read -r warm cold < <(measure postgres "SELECT * FROM sagaz_ha.$call")
      echo "$count|$call|$warm|$cold"
    done
  done
} >"$dir/table"
table <"$dir/table"
echo
echo "Medians of $calls calls in one session after its first, and of the first call of $sessions new sessions."
# shellcheck disable=SC2119  # no peers
say_conditions
