# shellcheck shell=bash
# What the tests of failover share: TAP, conditions with a deadline, and processes
# in a directory of their own. Sourced by them.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=test/deploy/port.sh
source "$repo/test/deploy/port.sh"

# Makes the directory, and what is started in it goes with it. Servers have their
# data in NAME/data.
# prepare NAME
prepare() {
  dir=$(mktemp -d "${TMPDIR:-/tmp}/sagaz_ha-$1.XXXXXX")
  pids=()
  trap cleanup EXIT
  trap 'exit 130' INT TERM
  PG_BIN=$("${PG_CONFIG:-pg_config}" --bindir)
  export PG_BIN PATH=$PG_BIN:$PATH:/usr/sbin PGCONNECT_TIMEOUT=5
  export LISTEN_ADDRESSES=127.0.0.1 POSTGRES_DB=sagaz CONFIG_DIR=$repo/deploy/config
  export POSTGRES_PASSWORD=test-postgres REPLICATION_PASSWORD=test-replicator MONITOR_PASSWORD=test-monitor
  export PGPASSWORD=$POSTGRES_PASSWORD PGUSER=postgres PGDATABASE=$POSTGRES_DB
}

# Everything that was started here, and what these started.
cleanup() {
  local pid file
  touch "$dir/stop"
  for pid in "${pids[@]}"; do
    signal_tree CONT "$pid"
    kill -KILL "$pid" 2>/dev/null || true
  done
  for file in "$dir"/*/data/postmaster.pid; do
    [[ -f $file ]] || continue
    pid=$(head -n 1 "$file")
    [[ $(readlink "/proc/$pid/cwd") == "${file%/*}" ]] || continue
    signal_tree CONT "$pid"
    kill -QUIT "$pid" 2>/dev/null || true
  done
  for file in "$dir"/*/data/postmaster.pid; do
    poll 10 server_is_gone "$file" || true
  done
  [[ -n ${SAGAZ_KEEP:-} ]] || rm -rf "$dir"
}

# A killed server leaves its file.
server_is_gone() {
  [[ ! -e $1 || ! -d /proc/$(head -n 1 "$1") ]]
}

sql() {
  psql --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 --host=127.0.0.1 "$@"
}

tests=0
failures=0

# ok CONDITION WHAT: CONDITION is an exit status
ok() {
  tests=$((tests + 1))
  if (($1 == 0)); then
    echo "ok $tests - $2"
  else
    failures=$((failures + 1))
    echo "not ok $tests - $2"
  fi
}

# is GOT EXPECTED WHAT
is() {
  if [[ $1 == "$2" ]]; then
    ok 0 "$3"
  else
    ok 1 "$3"
    echo "#   got: $1, expected: $2"
  fi
}

say() {
  echo "# $*"
}

# Polls until a command succeeds, SECONDS at most.
# poll SECONDS COMMAND...
poll() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# As poll, for what nothing can go on without.
must() {
  local what=$1
  shift
  if ! poll "$@"; then
    echo "Bail out! $what did not come about"
    tail -n 30 "$dir"/*.log 2>/dev/null | sed 's/^/# /'
    exit 1
  fi
}

# The shell shall not tell when one of them is killed.
started_here() {
  pids+=("$1")
  disown "$1"
}

# signal_tree SIGNAL PID
signal_tree() {
  local child children=()
  read -ra children 2>/dev/null <"/proc/$2/task/$2/children" || true
  for child in "${children[@]}"; do
    signal_tree "$1" "$child"
  done
  kill "-$1" "$2" 2>/dev/null || true
}
