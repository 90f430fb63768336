#!/bin/bash
# What the background worker costs when there is nothing to do: CPU and WAL, for
# a day, by extrapolation. Fails if a pass with nothing to do writes WAL.
#
# usage: bench/idle.sh [DATABASES]...   (1 10 100)
# WINDOW     seconds that are measured at rest (60)
#
# A day has 24 passes of each database, one run of upkeep, one of conversions, and the
# launcher at rest. What a process costs is measured by a reload, which starts all of them.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

window=${WINDOW:-60}
counts=("$@")
[[ $# -gt 0 ]] || counts=(1 10 100)
ticks=$(getconf CLK_TCK)

# CPU of a process itself, in ms
cpu_of() {
  awk '{ print $1 / 1000000 }' "/proc/$1/schedstat"
}

# CPU of its children that have ended, in ms: fields 16 and 17, but the name,
# in brackets, may have blanks in it
cpu_of_children() {
  sed 's/.*) //' "/proc/$1/stat" | awk -v ticks="$ticks" '{ print ($14 + $15) * 1000 / ticks }'
}

# What a process has for itself, in kB
private_memory_of() {
  awk '/^Private_/ { kb += $2 } END { print kb }' "/proc/$1/smaps_rollup"
}

# The workers are the postmaster's children, and starting them is its work.
cpu_of_workers() {
  awk -v own="$(cpu_of "$postmaster")" -v children="$(cpu_of_children "$postmaster")" \
    'BEGIN { print own + children }'
}

# Asks in a session that stays: what a session has used is counted as the workers' when
# it ends.
# ask STATEMENT: with a line for an answer
ask() {
  local answer
  echo "$1;" >&"${watch[1]}"
  read -r answer <&"${watch[0]}"
  echo "$answer"
}

# whether a condition holds
holds() {
  [[ $(ask "SELECT $1") == t ]]
}

# passes and upkeep runs that have ended, and where the WAL ends
state_of_server() {
  ask "SELECT coalesce(sum(passes), 0) || ' ' || pg_current_wal_insert_lsn()
    FROM sagaz_ha.maintenance_status() WHERE process <> 'launcher'"
}

# wal_bytes FROM TO: but for what the background writer logs by itself. What is
# between has to be on disk for pg_waldump.
wal_bytes() {
  sql postgres --command="CHECKPOINT"
  if [[ $1 == "$2" ]]; then
    echo 0
  else
    server "$bin/pg_waldump" --path="$dir/primary/pg_wal" --start="$1" --end="$2" |
      awk '!/RUNNING_XACTS/ { sub(/.*\(rec\/tot\): */, ""); split($0, len, /[\/,]/); n += len[2] }
        END { print n + 0 }'
  fi
}

have_passed() {
  holds "count(*) = $1 FROM (SELECT database FROM sagaz_ha.maintenance_status()
    WHERE process <> 'launcher' AND passes >= 1 GROUP BY database HAVING count(*) = 3) AS d"
}

# The background writer writes a record within 15 s after there was WAL, or
# later when it hibernates; so what still comes after that comes from passes.
is_quiet() {
  wal_quiet=$(sql postgres --command="SELECT pg_current_wal_insert_lsn()")
  sleep 17
  [[ $wal_quiet == "$(sql postgres --command="SELECT pg_current_wal_insert_lsn()")" ]]
}

# What was written since it was looked at last; the bytes in it are few.
die_of_wal() {
  sql postgres --command="CHECKPOINT"
  server "$bin/pg_waldump" --path="$dir/primary/pg_wal" --start="$wal_quiet" --limit=20 >&2 || true
  die "passes with nothing to do wrote WAL: above are its first records"
}

have_rested() {
  holds "NOT EXISTS (SELECT FROM sagaz_ha.maintenance_status() WHERE process <> 'launcher'
    AND (pid IS NOT NULL OR next_pass IS NULL OR next_pass < clock_timestamp() + interval '10 minutes'))"
}

have_run_again() {
  holds "sum(passes) >= $1 FROM sagaz_ha.maintenance_status() WHERE process <> 'launcher'"
}

# measure DATABASES: a line of the table
measure() {
  local launcher launcher_then workers workers_then passes passes_then wal wal_then
  read -r passes wal < <(state_of_server)
  launcher=$(cpu_of "$launcher_pid")
  sleep "$window"
  launcher_then=$(cpu_of "$launcher_pid")
  read -r passes_then _ < <(state_of_server)
  [[ $passes == "$passes_then" ]] || die "processes were started though nothing was due"
  workers=$(cpu_of_workers)
  ask "SELECT pg_reload_conf()" >/dev/null
  wait_until 120 have_run_again $((passes + 3 * $1)) || die "not every database had its processes"
  wait_until 60 have_rested || die "no rest after a reload"
  workers_then=$(cpu_of_workers)
  read -r passes_then wal_then < <(state_of_server)
  wal=$(wal_bytes "$wal" "$wal_then")
  awk -v databases="$1" -v passes=$((passes_then - passes)) -v wal="$wal" \
    -v launcher="$launcher" -v launcher_then="$launcher_then" \
    -v workers="$workers" -v workers_then="$workers_then" -v memory="$(private_memory_of "$launcher_pid")" \
    -v window="$window" 'BEGIN {
    launcher = (launcher_then - launcher) / window
    each = (workers_then - workers) / passes
    day = databases * 26 * each / 1000 + launcher * 86.4
    printf "%d|%d|%.1f|%.3f|%.2f|%.1f|%.4f %%|%d|%d\n", databases, passes, each, launcher,
           day / 24, day, day / 864, wal, memory
  }'
}

note "making a cluster"
# autovacuum off: its workers are the postmaster's children too
cluster_create primary 5432 "shared_preload_libraries = 'sagaz_ha'" \
  "autovacuum = off" "checkpoint_timeout = 1h" "max_wal_size = 8GB" "bgwriter_delay = 20ms" \
  "max_worker_processes = 20" "wal_keep_size = 1GB"
postmaster=$(head -n 1 "$dir/primary/postmaster.pid")
# the launcher leaves templates alone
database_create idle_template
sql postgres --command="ALTER DATABASE idle_template IS_TEMPLATE true" >/dev/null
sql idle_template --command="CREATE EXTENSION sagaz_ha" \
  --command="SELECT * FROM maintain_all_partitions()" --command="VACUUM ANALYZE" >/dev/null
# only for its functions: the launcher is limited to the others below
sql postgres --command="CREATE EXTENSION sagaz_ha" >/dev/null
launcher_pid=$(sql postgres --command="SELECT pid FROM sagaz_ha.maintenance_status()
  WHERE process = 'launcher'")
[[ -n $launcher_pid ]] || die "the launcher does not run"
coproc watch { sql postgres; }

have=0
wal_quiet=''
names=''
{
  echo "databases|processes|CPU ms/process|launcher ms/s|CPU s/hour|CPU s/day|of a core|WAL bytes|launcher kB"
  for databases in "${counts[@]}"; do
    note "$databases databases"
    while ((have < databases)); do
      have=$((have + 1))
      database_create --template=idle_template "idle$have"
      names+="${names:+, }idle$have"
    done
    sql postgres --command="ALTER SYSTEM SET sagaz_ha.databases = $names" \
      --command="SELECT pg_reload_conf()" --command="CHECKPOINT" >/dev/null
    wait_until 120 have_passed "$databases" || die "not every database had its passes"
    wait_until 120 have_rested || die "no rest"
    wait_until 60 is_quiet || die_of_wal
    measure "$databases"
  done
} >"$dir/table"

# the same in the foreground
before=$(sql idle1 --command="SELECT * FROM maintain_all_partitions()" \
  --command="SELECT pg_current_wal_insert_lsn()")
after=$(sql idle1 --command="SELECT * FROM maintain_all_partitions()" \
  --command="SELECT pg_current_wal_insert_lsn()")

table <"$dir/table"
cat <<EXPLANATION

The launcher over $window s at rest, in which no process was started; the others by a reload, which
starts three for each database: partitions, upkeep, conversions. A day has 24, 1 and 1 of them.
EXPLANATION
[[ $before == "$after" ]] || die "maintain_all_partitions() with nothing to do wrote WAL: $before, $after"
awk -F'|' 'NR > 1 && $8 > 0 { bad = 1 } END { exit bad }' "$dir/table" || die_of_wal
echo "No WAL was written by passes, neither in the background nor in the foreground."
# shellcheck disable=SC2119  # no peers
say_conditions
