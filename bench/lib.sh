#!/bin/bash
# What the benchmarks share: throwaway clusters, the outbox of each contender,
# and numbers. Sourced, after `set -euo pipefail`.
#
# PG_CONFIG chooses one of several PostgreSQL installations. KEEP=1 leaves the
# directory with data, logs and raw measurements behind.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pg_config=${PG_CONFIG:-pg_config}
bin=$("$pg_config" --bindir)
sharedir=$("$pg_config" --sharedir)
dir=$(mktemp -d "${TMPDIR:-/tmp}/sagaz_ha-bench.XXXXXX")
clusters=()
command_line="${BENCH_SETTINGS:+$BENCH_SETTINGS }bench/${0##*/} $*"

# initdb and the server refuse to be root
server_user=()
if [[ $EUID == 0 ]]; then
  server_user=(runuser -u postgres --)
  chown postgres "$dir"
fi

server() {
  (cd "$dir" && "${server_user[@]}" env LC_ALL=C.UTF-8 "$@")
}

# For what reads it, such as run.sh: RESULTS is a directory for the table as lines
# of fields separated by |.
keep_table() {
  if [[ -n ${RESULTS:-} && -f $dir/table ]]; then
    cp "$dir/table" "$RESULTS/$(basename "$0" .sh).table"
  fi
}

cleanup() {
  local cluster
  keep_table
  # what runs in the background first, so that nobody complains of a server that is gone
  jobs -p | xargs -r kill 2>/dev/null || true
  for cluster in "${clusters[@]}"; do
    if [[ -f $dir/$cluster/postmaster.pid ]]; then
      server "$bin/pg_ctl" --pgdata="$dir/$cluster" --mode=immediate --silent stop || true
    fi
  done
  if [[ -n ${KEEP:-} ]]; then
    echo "Left behind: $dir" >&2
  else
    rm -rf "$dir"
  fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

note() {
  printf '%s %s\n' "$(date +%T)" "$*" >&2
}

now_ms() {
  echo $((${EPOCHREALTIME/[.,]/} / 1000))
}

is_available() {
  [[ -f $sharedir/extension/$1.control ]]
}

# --- clusters. The port is the number behind the socket only: no network.

# cluster_start NAME PORT: the postmaster is there when this returns
cluster_start() {
  if ! server "$bin/pg_ctl" --pgdata="$dir/$1" --silent --wait --timeout=120 --log="$dir/$1.log" \
    --options="-c port=$2" start; then
    tail -n 20 "$dir/$1.log" >&2
    die "server $1 does not start"
  fi
}

# cluster_create NAME PORT [SETTING]...
cluster_create() {
  local name=$1 port=$2
  clusters+=("$name")
  server "$bin/initdb" --pgdata="$dir/$name" --auth=trust --username=postgres \
    --encoding=UTF8 --no-sync >"$dir/$name.initdb.log" 2>&1 ||
    { cat "$dir/$name.initdb.log" >&2; die "initdb failed"; }
  {
    echo "listen_addresses = ''"
    echo "unix_socket_directories = '$dir'"
    echo "timezone = 'UTC'"
    echo "log_timezone = 'UTC'"
    printf '%s\n' "${@:3}"
  } >>"$dir/$name/postgresql.conf"
  cluster_start "$name" "$port"
}

client() {
  local port=$1
  shift
  "$bin/psql" --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 \
    --host="$dir" --port="$port" --username=postgres "$@"
}

# sql DATABASE [psql argument]...: on the first server
sql() {
  PGOPTIONS='-c client_min_messages=warning' client 5432 --dbname="$1" "${@:2}"
}

# wait_until SECONDS COMMAND...: fails when it doesn't come true in time
wait_until() {
  local deadline=$(($(now_ms) + $1 * 1000))
  shift
  until "$@"; do
    (($(now_ms) < deadline)) || return 1
    sleep 0.1
  done
}

is_true() {
  [[ $(sql "$1" --command="$2") == t ]]
}

database_create() {
  "$bin/createdb" --host="$dir" --port=5432 --username=postgres "$@"
}

drop_database() {
  sql postgres --command="DROP DATABASE $1" 2>/dev/null
}

# --- contenders

# is_contender NAME: false if its package isn't installed
is_contender() {
  [[ $1 != pg_* && $1 != timescaledb ]] || is_available "$1"
}

# preload_with LIBRARY CONTENDER...: sagaz_ha, and the library if a contender needs it
preload_with() {
  if [[ " ${*:2} " == *" $1 "* ]] && is_available "$1"; then
    echo "sagaz_ha,$1"
  else
    echo sagaz_ha
  fi
}

# pg_partman names things differently since version 5
partman_major() {
  local version
  version=$(version_of pg_partman)
  echo "${version%%.*}"
}

# --- tables of noop.sql
# shellcheck disable=SC2034  # for those that source this
BARE_COLUMNS='at timestamptz NOT NULL DEFAULT now(), n int'

# What a new session needs to know a table's bounds at all: the server reads them
# for the first query of each table, here for one that needs a single partition.
# shellcheck disable=SC2034
ONLY_BOUNDS="DO \$\$DECLARE t regclass; BEGIN
  FOR t IN SELECT parent FROM sagaz_ha.partition_policy LOOP
    EXECUTE format('EXPLAIN SELECT FROM %s WHERE at = %L', t, now());
  END LOOP; END\$\$"

# --- saga_outbox with daily partitions from OUTBOX_PAST days ago to 4 days ahead.
# What a pass then has to do: 3 new ones, to 7 days ahead, and 10 to drop, those
# that are older than 30 days.
OUTBOX_PAST=40

# outbox_create DATABASE sagaz_ha|pg_partman|timescaledb|sql
outbox_create() {
  local files
  is_true postgres "SELECT count(*) = 1 FROM pg_database WHERE datname = '$1'" || database_create "$1"
  # the table is the extension's own for all of them
  sql "$1" --command="CREATE EXTENSION sagaz_ha; SELECT sagaz_ha.create_saga_tables();" >/dev/null
  [[ $2 == sagaz_ha ]] || sql "$1" --command="DROP EXTENSION sagaz_ha"
  case $2 in
    sagaz_ha) files=("$here/outbox.sql" "$here/outbox_sagaz_ha.sql") ;;
    pg_partman) files=("$here/outbox_pg_partman.sql") ;;
    timescaledb) files=("$here/outbox_timescaledb.sql") ;;
    sql) files=("$here/outbox.sql") ;;
  esac
  sql "$1" --set=past="$OUTBOX_PAST" --set=timescaledb="$([[ $2 == timescaledb ]] && echo 1 || echo 0)" \
    --set=partman_5="$(($(partman_major) >= 5))" "${files[@]/#/--file=}" --file="$here/outbox_rows.sql" >/dev/null
}

# outbox_watch DATABASE FILE: what is there each 20 ms, until it is killed:
# time in ms | new partitions | expired partitions that still exist
outbox_watch() {
  local query
  query=$(sql "$1" --command="SELECT bench.watch_query()")
  exec "$bin/psql" --no-psqlrc --quiet --no-align --tuples-only --host="$dir" --port=5432 \
    --username=postgres --dbname="$1" --output="$2" <<<"$query \\watch 0.02"
}

# outbox_time FILE START created|dropped: ms from START on; empty if never
outbox_time() {
  awk -F'|' -v start="$2" -v what="$3" 'NF == 3 && $1 >= start {
    if (what == "created" ? $2 >= 3 : $3 == 0) { print $1 - start; exit }
  }' "$1"
}

# outbox_is_finished FILE CONTENDER: TimescaleDB makes nothing ahead
outbox_is_finished() {
  awk -F'|' -v ahead="$([[ $2 == timescaledb ]] && echo 0 || echo 3)" '
    NF == 3 { new = $2; old = $3; seen = 1 } END { exit !(seen && new >= ahead && old == 0) }' "$1"
}

# --- numbers

# distribution < one number per line: count p50 p99 p99.9 max
distribution() {
  sort -n | awk '
    { value[NR] = $1 }
    function percentile(p,  i) { i = int(NR * p); return value[i < NR * p ? i + 1 : i] }
    END {
      if (NR == 0) print "0 - - - -"
      else print NR, percentile(0.5), percentile(0.99), percentile(0.999), value[NR]
    }'
}

# ratio A B: how many times B is A
ratio() {
  awk -v a="$1" -v b="$2" 'BEGIN { if (b + 0 > 0) printf "%.2f", a / b; else print "-" }'
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

# measure DATABASE STATEMENT: median ms in a session that has done it before, of
# $calls, and as the first statement of a new session, of $sessions
measure() {
  local cold i
  cold=$(for ((i = 0; i < ${sessions:?}; i++)); do times "$1" "$2" 1; done | median)
  echo "$(times "$1" "$2" $((${calls:?} + 1)) | tail -n +2 | median) $cold"
}

# table < lines of fields separated by |; the first line is the heading. With aims.
table() {
  awk -F'|' -v script="$(basename "$0" .sh)" -v aims="$here/aims.tsv" -f "$here/table.awk"
}

version_of() {
  sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" "$sharedir/extension/$1.control" 2>/dev/null
}

# Machine, versions, command and load: a number without them says nothing.
say_conditions() {
  local peer commit
  commit=$(git -C "$here" describe --always --dirty 2>/dev/null || echo unknown)
  echo
  echo "command   ${command_line% }"
  echo "machine   $(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)," \
    "$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1048576 }' /proc/meminfo), $(uname -sr | sed "s/-.*//")"
  echo "load      $(cut -d' ' -f1-3 /proc/loadavg) (1, 5 and 15 minutes, at the end)"
  echo "versions  $("$bin/postgres" --version), sagaz_ha $(version_of sagaz_ha) ($commit)"
  for peer in "$@"; do
    if is_available "$peer"; then
      echo "          $peer $(version_of "$peer")"
    else
      echo "skipped   $peer: its package is not installed"
    fi
  done
}

is_available sagaz_ha || die "sagaz_ha is not installed in $("$pg_config" --version)"
