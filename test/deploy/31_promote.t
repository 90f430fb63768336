#!/bin/bash
# Without Patroni: deploy/scripts/promote, on a primary, a standby and the rw pool.
# What it refuses, a switchover under load without one failed transaction, a
# failover from a frozen primary that comes back, and one that has to be forced.
#
# usage: prove -v test/deploy/31_promote.t
# environment: PG_CONFIG chooses one of several PostgreSQL installations
set -euo pipefail

# shellcheck source=test/deploy/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
prepare promote
declare -A port

# start NODE primary|standby [PRIMARY_NODE]
start() {
  mkdir -p "$dir/$1"
  PGDATA=$dir/$1/data PGPORT=${port[$1]} SOCKET_DIR=$dir/$1 NODE_NAME=$1 PGPASSWORD='' \
    PRIMARY_HOST=127.0.0.1 PRIMARY_PORT=${port[${3:-$1}]} \
    "$repo/deploy/scripts/$2" >>"$dir/$1.log" 2>&1 &
  started_here $!
}

# start_pool rw|ro PORT
start_pool() {
  PRIMARY_HOST=127.0.0.1 PRIMARY_PORT=${port[one]} REPLICA_HOST=127.0.0.1 REPLICA_PORT=${port[two]} \
    POOL_PORT=$2 RUN_DIR=$dir/pool-$1 "$repo/deploy/scripts/pool" "$1" >"$dir/pool-$1.log" 2>&1 &
  started_here $!
}

# on NODE STATEMENT
on() {
  sql --port="${port[$1]}" --command="$2"
}

# holds NODE CONDITION
holds() {
  [[ $(on "$1" "SELECT $2") == t ]]
}

# Which server gets what is written through the pool now.
written_to() {
  sql --port="$pool" --command="INSERT INTO saga_outbox (topic, payload, status)
    VALUES ('promote', '{}', 'PUBLISHED') RETURNING inet_server_port()"
}

# promote OLD NEW ARGUMENT...: sets status and said
promote() {
  local old=$1 new=$2
  shift 2
  status=0
  said=$(PRIMARY_HOST=127.0.0.1 PRIMARY_PORT=${port[$old]} REPLICA_HOST=127.0.0.1 \
    REPLICA_PORT=${port[$new]} POOL_PORT=$pool WAIT_SECONDS=30 \
    "$repo/deploy/scripts/promote" "$@" 2>&1) || status=$?
  say "${said//$'\n'/$'\n# '}"
}

# says PATTERN WHAT: what promote said
says() {
  ok "$([[ $said =~ $1 ]]; echo $?)" "$2"
}

# refused WHAT PATTERN NODE: promote did nothing and said why
refused() {
  ok "$((status == 0))" "$1: refused"
  says "$2" "$1: says why"
  ok "$(holds "$3" 'pg_is_in_recovery()'; echo $?)" "$1: $3 is still a standby"
}

# follows OLD NEW: NEW streams from OLD, has all of it, and its sampler has heard
# from OLD. Without the last, which takes a second or two, nobody could say how old
# it is once OLD is gone.
follows() {
  local lsn
  lsn=$(on "$1" 'SELECT pg_current_wal_lsn()')
  poll 60 heard "$@" "$lsn"
}

# Something new each time: what was there at the first sample has no time.
heard() {
  on "$1" "SELECT pg_logical_emit_message(true, 'test', '')"
  holds "$2" "pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= '$3' AND upstream_in_contact
    AND sagaz_ha.lsn_timestamp(pg_last_wal_replay_lsn()) IS NOT NULL FROM sagaz_ha.standby_status()"
}

# reclone NODE PRIMARY: what promote says to do with the old primary
reclone() {
  mv "$dir/$1/data" "$dir/$1/data.old"
  start "$1" standby "$2"
  ok "$(follows "$2" "$1"; echo $?)" "$1 is cloned again and follows $2"
}

# Through both pools.
test_read_your_writes() {
  local token
  sql --port="$pool" --command="INSERT INTO saga_outbox (topic, payload, status) VALUES ('mine', '{}', 'PENDING')"
  token=$(sql --port="$pool" --command='SELECT sagaz_ha.commit_token()')
  is "$(sql --port="$ro_pool" --command="CALL sagaz_ha.wait_for_replay('$token', '10 s')" \
    --command="SELECT inet_server_port(), count(*) FROM saga_outbox WHERE topic = 'mine'")" \
    "${port[two]}|1" 'what was written through the rw pool is read through the ro pool'
}

test_refusals() {
  promote one two
  refused 'while the primary runs' 'still takes writes' two
  promote two one
  ok "$((status == 0))" 'the wrong way round: refused'
  says 'is a standby itself' 'the wrong way round: says why'
  promote one two --switchover
  says '^promote: usage' 'usage'
  on two 'SELECT pg_wal_replay_pause()' >/dev/null
  promote one two --switchover "touch $dir/stopped"
  refused 'replay is paused' 'replay_running is paused.*pg_wal_replay_resume' two
  is "$([[ -e $dir/stopped ]] || echo none)" none 'replay is paused: nothing was stopped'
  on two 'SELECT pg_wal_replay_resume()' >/dev/null
  promote one two --switchover false
  refused 'a command that fails' 'this failed: false' two
  is "$(written_to)" "${port[one]}" 'the pool still leads to one'
}

# Clients wait meanwhile; none sees an error.
test_switchover() {
  local load status_of_load=0
  echo "INSERT INTO saga_executions (saga_name, status) VALUES ('load', 'SUCCESS');" >"$dir/load.sql"
  pgbench --no-vacuum --client=8 --rate=200 --time=12 --file="$dir/load.sql" --host=127.0.0.1 --port="$pool" \
    >"$dir/pgbench.out" 2>&1 &
  load=$!
  must 'load' 10 holds one "count(*) > 100 FROM saga_executions WHERE saga_name = 'load'"
  promote one two --switchover "$PG_BIN/pg_ctl --pgdata='$dir/one/data' --mode=fast --silent stop"
  is "$status" 0 'switchover'
  is "$(written_to)" "${port[two]}" 'the pool leads to two'
  wait "$load" || status_of_load=$?
  is "$status_of_load" 0 'no transaction failed under load'
  is "$(on two "SELECT count(*) FROM saga_executions WHERE saga_name = 'load'")" \
    "$(sed -n 's/^number of transactions actually processed: //p' "$dir/pgbench.out")" 'and none is lost'
  ok "$(poll 20 holds two "bool_or(process = 'launcher' AND pid IS NOT NULL) FROM sagaz_ha.maintenance_status()"; echo $?)" \
    'the worker runs on two'
  reclone one two
}

test_frozen_primary() {
  local pid
  pid=$(head -n 1 "$dir/two/data/postmaster.pid")
  signal_tree STOP "$pid"
  promote two one
  is "$status" 0 'failover from a frozen primary'
  says 'may be lost: ' 'says what may be lost'
  is "$(written_to)" "${port[one]}" 'the pool leads to one'
  signal_tree CONT "$pid"
  ok "$(poll 10 holds two 'NOT pg_is_in_recovery()'; echo $?)" 'the frozen one is back as a second primary'
  is "$(written_to)" "${port[one]}" 'and gets nothing through the pool'
  "$PG_BIN/pg_ctl" --pgdata="$dir/two/data" --mode=fast --silent stop
  reclone two one
}

test_dead_primary() {
  kill -KILL "$(head -n 1 "$dir/one/data/postmaster.pid")"
  poll 60 holds two "NOT EXISTS (SELECT FROM pg_stat_wal_receiver)"
  promote one two
  is "$status" 0 'failover from a dead primary'
  is "$(written_to)" "${port[two]}" 'the pool leads to two'
  reclone one two
}

test_force() {
  on one 'SELECT pg_wal_replay_pause()' >/dev/null
  poll 60 holds one "pg_get_wal_replay_pause_state() = 'paused'"
  on two "INSERT INTO saga_outbox (topic, payload, status) VALUES ('received', '{}', 'PENDING')"
  poll 60 holds one "pg_last_wal_receive_lsn() >= '$(on two 'SELECT pg_current_wal_lsn()')'"
  kill -KILL "$(head -n 1 "$dir/two/data/postmaster.pid")"
  poll 60 server_is_gone "$dir/two/data/postmaster.pid"
  promote two one
  refused 'the primary is dead, and replay paused' 'replay_running' one
  promote two one --force
  is "$status" 0 'forced'
  says 'although these failed: .*replay_running' 'names what failed'
  says 'may be lost: ' 'says what may be lost'
  is "$(written_to)" "${port[one]}" 'the pool leads to one'
  is "$(on one "SELECT count(*) FROM saga_outbox WHERE topic = 'received'")" 1 'what was received is there'
}

port[one]=$(free_port) port[two]=$(free_port)
pool=$(free_port) ro_pool=$(free_port)
echo 1..39
start one primary
must 'a primary' 60 sql --port="${port[one]}" --command='SELECT 1'
start two standby one
start_pool rw "$pool"
start_pool ro "$ro_pool"
PRIMARY_HOST=127.0.0.1 PRIMARY_PORT=${port[one]} "$repo/deploy/scripts/init" >"$dir/init.log" 2>&1
ok "$(follows one two; echo $?)" 'two follows one'
test_read_your_writes
test_refusals
test_switchover
test_frozen_primary
test_dead_primary
test_force
say "took $SECONDS s"
((failures == 0))
