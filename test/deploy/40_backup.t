#!/bin/bash
# Backups, for real: pgBackRest archives the primary's WAL and makes a full and a
# differential backup; partitions expire and are dropped; and the server is
# restored to a time before, in place, as a standby, and from pg_basebackup. Every
# row has to be there, and no restored server may drop before somebody agrees.
#
# usage: prove -v test/deploy/40_backup.t
# PG_CONFIG chooses one of several PostgreSQL installations.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scripts=$repo/deploy/scripts
seconds=60

dir=$(mktemp -d "${TMPDIR:-/tmp}/sagaz_ha-backup.XXXXXX")
# shellcheck disable=SC2155  # fails below if there is none
export PG_BIN=$("${PG_CONFIG:-pg_config}" --bindir)
export PATH=$PG_BIN:$PATH PSQLRC=/dev/null PGOPTIONS='-c timezone=UTC'
export LISTEN_ADDRESSES=127.0.0.1 SOCKET_DIR=$dir POSTGRES_DB=sagaz
export POSTGRES_PASSWORD=test-postgres REPLICATION_PASSWORD=test-replicator MONITOR_PASSWORD=test-monitor
export PGBACKREST_REPO1_PATH=$dir/repository PGBACKREST_LOCK_PATH=$dir/lock
pids=()

tests=0
failures=0

# is GOT EXPECTED WHAT
is() {
  tests=$((tests + 1))
  if [[ $1 == "$2" ]]; then
    echo "ok $tests - $3"
  else
    failures=$((failures + 1))
    echo "not ok $tests - $3"
    echo "#   got: ${1//$'\n'/ }, expected: ${2//$'\n'/ }"
  fi
}

die() {
  echo "Bail out! $*"
  exit 1
}

cleanup() {
  local pid
  for pid in "${pids[@]}"; do
    kill -QUIT "$pid" 2>/dev/null || true
  done
  wait
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# -------- servers; each has its directory's name

free_port() {
  perl -MIO::Socket::INET -e \
    'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}

# Makes NAME the server that all that follows is about.
use_server() {
  export NODE_NAME=$1 PGDATA=$dir/$1
  [[ -s $dir/$1.port ]] || free_port >"$dir/$1.port"
  PGPORT=$(<"$dir/$1.port")
  export PGPORT
}

sql() {
  psql --no-align --tuples-only --quiet --set=ON_ERROR_STOP=1 \
    --host="$dir" --username=postgres --dbname=sagaz --command="$1"
}

# Polls until a query says t.
wait_until() {
  local deadline=$((SECONDS + seconds))
  until [[ $(sql "SELECT $1" 2>/dev/null) == t ]]; do
    ((SECONDS < deadline)) || die "$NODE_NAME: never came true: $1"
    sleep 0.1
  done
}

start() {
  "$scripts/primary" >>"$dir/$NODE_NAME.log" 2>&1 &
  echo $! >"$dir/$NODE_NAME.pid"
  pids+=($!)
  wait_until "${1:-NOT pg_is_in_recovery()}"
}

# kill -9, and waits until nothing of it is left.
kill_server() {
  local pid children deadline=$((SECONDS + seconds))
  pid=$(<"$dir/$NODE_NAME.pid")
  read -ra children <"/proc/$pid/task/$pid/children" || true
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null || true
  for pid in "${children[@]}"; do
    while kill -0 "$pid" 2>/dev/null; do
      ((SECONDS < deadline)) || die "$NODE_NAME: process $pid doesn't end"
      sleep 0.1
    done
  done
}

stop() {
  pg_ctl --mode=fast --silent stop
}

# The clock stands still, unless we move it.
set_clock() {
  sql "ALTER SYSTEM SET sagaz_ha.clock = '$1 12:00:00+00'"
  sql "ALTER SYSTEM SET sagaz_ha.naptime = '1s'"
  sql 'SELECT pg_reload_conf()' >/dev/null
}

# Name and number of rows of each partition that has any, and the sum of all.
rows_by_partition() {
  sql 'SELECT tableoid::regclass, count(*) FROM orders GROUP BY 1 ORDER BY 1' | cut -d_ -f2 | xargs
  sql 'SELECT sum(id) FROM orders'
}

# insert DAY ROWS
insert() {
  sql "INSERT INTO orders (at) SELECT '$1 01:00:00+00' FROM generate_series(1, $2)"
}

# run WHAT COMMAND...: what it says is shown if it fails
run() {
  local what=$1 log=$dir/command.log start=$EPOCHREALTIME
  shift
  "$@" >"$log" 2>&1 || { sed 's/^/# /' "$log"; die "failed: $*"; }
  echo "# $what: $(perl -e "printf '%.1f', $EPOCHREALTIME - $start") s"
}

# Moves the clock to where partitions have expired: two passes later none is
# gone, what was missing is there, and health says what to do.
is_held() {
  local passes
  set_clock 2026-03-12
  wait_until "sagaz_ha.clock()::date = '2026-03-12'"
  passes=$(sql "SELECT coalesce(max(passes), 0) FROM sagaz_ha.maintenance_status() WHERE process = 'worker' AND database = 'sagaz'")
  wait_until "max(passes) >= $passes + 2 FROM sagaz_ha.maintenance_status() WHERE process = 'worker' AND database = 'sagaz'"
  wait_until "to_regclass('orders_y2026m03d15') IS NOT NULL"
  is "$(rows_by_partition)" "$1" "$NODE_NAME: nothing is dropped, though it has expired"
  is "$(sql "SELECT status || ': ' || details FROM sagaz_ha.partition_health() WHERE check_name = 'drops'")" \
    'critical: held back, because the server was restored from a backup; sagaz_ha.resume_drops() lets them go on' \
    "$NODE_NAME: and health says why"
}

# The statement that restore names.
agree() {
  sql 'SELECT sagaz_ha.resume_drops(parent) FROM sagaz_ha.partition_policy' >/dev/null
  wait_until "coalesce(to_regclass('orders_y2026m03d07'), to_regclass('orders_y2026m03d08')) IS NULL"
  is "$(rows_by_partition)" "$1" "$NODE_NAME: once an operator agrees, drops go on"
}

# -------- a primary, its backups, and what happens afterwards

use_server primary
start
set_clock 2026-03-10
sql 'CREATE EXTENSION sagaz_ha'
wait_until "sagaz_ha.clock()::date = '2026-03-10'"
sql "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL) PARTITION BY RANGE (at)"
for day in 07 08 09 10; do
  sql "CREATE TABLE orders_y2026m03d$day PARTITION OF orders
       FOR VALUES FROM ('2026-03-$day 00:00+00') TO ('2026-03-$day 24:00+00')"
  insert "2026-03-$day" 1000
done
sql "SELECT sagaz_ha.manage_partitions('orders', '1 day', 3, '3 days')" >/dev/null
wait_until "to_regclass('orders_y2026m03d13') IS NOT NULL"

run 'full backup' "$scripts/backup" full
insert 2026-03-07 200
# as doc/high-availability.md has it for cron, whose environment has next to nothing
cron=$(sed -n 's/^ *0 1 \* \* 1-6 *//p' "$repo/doc/high-availability.md")
cron=${cron//\/opt\/sagaz-ha\/scripts/$scripts}
as_cron() {
  env -i PATH=/usr/bin:/bin HOME="$dir" PG_BIN="$PG_BIN" PGDATA="$PGDATA" PGPORT="$PGPORT" SOCKET_DIR="$SOCKET_DIR" \
    PGBACKREST_REPO1_PATH="$PGBACKREST_REPO1_PATH" PGBACKREST_LOCK_PATH="$PGBACKREST_LOCK_PATH" sh -c "$cron"
}
run 'differential backup, by cron' as_cron
is "$(pgbackrest --stanza=sagaz --output=json info | grep -o '"type":"[a-z]*"' | grep -c 'full\|diff')" 2 \
  'a full and a differential backup'
# only in the archive
insert 2026-03-07 30
before=$(rows_by_partition)
is "$before" $'y2026m03d07|1230 y2026m03d08|1000 y2026m03d09|1000 y2026m03d10|1000\n8948565' 'the rows before anything is dropped'
time=$(sql 'SELECT clock_timestamp()')
set_clock 2026-03-12
wait_until "coalesce(to_regclass('orders_y2026m03d07'), to_regclass('orders_y2026m03d08')) IS NULL"
insert 2026-03-12 4
after=$(rows_by_partition)
is "$after" $'y2026m03d09|1000 y2026m03d10|1000 y2026m03d12|4\n6017930' 'two partitions expire and are gone'
wal=$(sql 'SELECT pg_walfile_name(pg_switch_wal())')
wait_until "last_archived_wal >= '$wal' FROM pg_stat_archiver"
is "$(sql 'SELECT failed_count FROM pg_stat_archiver')" 0 'archiving never failed'

# -------- a copy to look at, as of before; the primary goes on

use_server copy
run 'restore to a time' "$scripts/restore" --type=time --target="$time" --archive-mode=off
start
is "$(sql 'SHOW archive_mode')" off 'copy: it does not archive'
is "$(rows_by_partition)" "$before" 'copy: every row of before the drop'
is_held "$before"
kill_server
start
is_held "$before"
agree $'y2026m03d09|1000 y2026m03d10|1000\n6001000'
stop
use_server primary
is "$(rows_by_partition)" "$after" 'primary: undisturbed'

# -------- a standby from the repository; promoted, it is no restored server

use_server standby
run 'restore of a standby' "$scripts/restore" --type=standby --archive-mode=off
start "coalesce(to_regclass('orders_y2026m03d07'), to_regclass('orders_y2026m03d08')) IS NULL AND pg_is_in_recovery()"
backups=$(pgbackrest --stanza=sagaz --output=json info)
is "$(as_cron >"$dir/command.log" 2>&1 || echo refused) $(grep -c 'not ready for write' "$dir/command.log")" 'refused 1' \
  'standby: cron makes no backup there'
is "$(pgbackrest --stanza=sagaz --output=json info)" "$backups" 'standby: nor anything else in the repository'
sql 'SELECT pg_promote()' >/dev/null
set_clock 2026-03-13
wait_until "to_regclass('orders_y2026m03d09') IS NULL"
is "$(rows_by_partition)" $'y2026m03d10|1000 y2026m03d12|4\n3517430' 'standby: once promoted, it goes on by itself'
stop

# -------- the primary's disk is lost

use_server primary
kill_server
rm -rf "$PGDATA"
run 'restore of the latest' "$scripts/restore"
status=0
timeout "$seconds" env --unset=PGBACKREST_REPO1_PATH "$scripts/primary" >"$dir/nameless.log" 2>&1 || status=$?
is "$status $(grep -c 'FATAL:  could not restore file' "$dir/nameless.log")" '1 1' \
  'primary: without the repository it does not start, rather than with less'
start
is "$(rows_by_partition)" "$after" 'primary: every row that was archived'
is "$(sql 'SELECT timeline_id FROM pg_control_checkpoint()')" 2 'primary: on a timeline of its own'
sql 'ALTER SYSTEM RESET sagaz_ha.clock'
set_clock 2026-03-13
wait_until "to_regclass('orders_y2026m03d16') IS NOT NULL"
is "$(sql "SELECT status FROM sagaz_ha.partition_health() WHERE check_name = 'drops'")" critical 'primary: its drops are held back'
run 'differential backup of the restored server' "$scripts/backup" diff
sql 'SELECT sagaz_ha.resume_drops(parent) FROM sagaz_ha.partition_policy' >/dev/null
wait_until "to_regclass('orders_y2026m03d09') IS NULL"
is "$(sql "SELECT status FROM sagaz_ha.partition_health() WHERE check_name = 'drops'")" ok 'primary: until an operator agrees'
run 'verify every file of the repository' pgbackrest --stanza=sagaz verify

# -------- without pgBackRest: pg_basebackup as role replicator

here=$(rows_by_partition)
PGPASSWORD=$REPLICATION_PASSWORD run 'pg_basebackup' pg_basebackup --pgdata="$dir/base" \
  --host=127.0.0.1 --port="$PGPORT" --username=replicator --no-password --checkpoint=fast --wal-method=stream
run 'pg_verifybackup' pg_verifybackup "$dir/base"
stop
use_server base
unset PGBACKREST_REPO1_PATH
start
is "$(rows_by_partition)" "$here" 'base: every row'
is "$(sql "SELECT status FROM sagaz_ha.partition_health() WHERE check_name = 'drops'")" critical 'base: its drops are held back again'
stop

echo "1..$tests"
((failures == 0))
