#!/bin/bash
# Failover by Patroni, for real: three nodes, each of etcd, Patroni and a server,
# with synchronous replication, HAProxy and the rw pool before them, and load.
# Round by round the primary's node is lost in another way. Each time writes must
# go on within 30 s, no acknowledged row may be lost, the worker has to run on the
# new primary and finish the detach that was under way, and the old one comes back.
#
# usage: prove -v test/deploy/30_failover.t
# environment:
#   SAGAZ_ROUNDS   how many rounds (2)
#   SAGAZ_KINDS    what is done to the primary, in turn: see lose_node
#   SAGAZ_SYNC     false: without synchronous replication, to see this test fail
#   PG_CONFIG      chooses one of several PostgreSQL installations
set -euo pipefail

# shellcheck source=test/deploy/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
rounds=${SAGAZ_ROUNDS:-2}
read -ra kinds <<<"${SAGAZ_KINDS:-node frozen server patroni host planned}"
limit=30
checks_per_round=8

prepare failover

# -------- the cluster

declare -A port rest client peer etcd_pid patroni_pid

start_etcd() {
  etcd --name "node$1" --data-dir "$dir/node$1/etcd" --logger zap --log-level warn "${etcd_options[@]}" \
    --listen-client-urls "http://127.0.0.1:${client[$1]}" \
    --advertise-client-urls "http://127.0.0.1:${client[$1]}" \
    --listen-peer-urls "http://127.0.0.1:${peer[$1]}" \
    --initial-advertise-peer-urls "http://127.0.0.1:${peer[$1]}" \
    --initial-cluster "$initial_cluster" >>"$dir/etcd$1.log" 2>&1 &
  etcd_pid[$1]=$!
  started_here $!
}

start_patroni() {
  PGDATA=$dir/node$1/data PGPORT=${port[$1]} SOCKET_DIR=$dir/node$1 RUN_DIR=$dir/node$1/run \
    NODE_NAME=node$1 NODE_ADDRESS=127.0.0.1 PATRONI_PORT=${rest[$1]} \
    ETCD_HOSTS=$etcd_hosts PGPASSWORD='' \
    "$repo/deploy/scripts/patroni" >>"$dir/patroni$1.log" 2>&1 &
  patroni_pid[$1]=$!
  started_here $!
}

start_cluster() {
  local i balancer_rw balancer_ro nodes='' separator=''
  initial_cluster='' etcd_hosts=''
  for i in 1 2 3; do
    mkdir -p "$dir/node$i"
    port[$i]=$(free_port) rest[$i]=$(free_port) client[$i]=$(free_port) peer[$i]=$(free_port)
    initial_cluster+=${separator}node$i=http://127.0.0.1:${peer[$i]}
    etcd_hosts+=${separator}127.0.0.1:${client[$i]}
    nodes+=" node$i:127.0.0.1:${port[$i]}:${rest[$i]}"
    separator=,
  done
  for i in 1 2 3; do start_etcd "$i"; done
  for i in 1 2 3; do start_patroni "$i"; done
  balancer_rw=$(free_port) balancer_ro=$(free_port) rw=$(free_port)
  NODES=$nodes BALANCER_ADDRESS=127.0.0.1 BALANCER_RW_PORT=$balancer_rw \
    BALANCER_RO_PORT=$balancer_ro TMPDIR=$dir "$repo/deploy/scripts/balancer" >"$dir/haproxy.log" 2>&1 &
  started_here $!
  PRIMARY_HOST=127.0.0.1 PRIMARY_PORT=$balancer_rw POOL_PORT=$rw RUN_DIR=$dir/pool \
    "$repo/deploy/scripts/pool" rw >"$dir/pool.log" 2>&1 &
  started_here $!
}

# on NODE STATEMENT
on() {
  sql --port="${port[$1]}" --command="$2"
}

# through the pool
pool() {
  sql --port="$rw" --command="$1"
}

# holds NODE CONDITION
holds() {
  [[ $(on "$1" "SELECT $2") == t ]]
}

# rest NODE PATH: whether Patroni says yes
rest() {
  curl --silent --fail --max-time 3 --output /dev/null "http://127.0.0.1:${rest[$1]}/$2"
}

# Sets leader to the node that is the primary now.
find_leader() {
  local i
  for i in 1 2 3; do
    if rest "$i" primary; then
      leader=$i
      return 0
    fi
  done
  return 1
}

# Whether the leader has both others as standbys, one of them synchronous.
complete() {
  find_leader && holds "$leader" "count(*) = 2
    AND ($([[ ${SAGAZ_SYNC:-} == false ]] && echo true || echo false) OR bool_or(sync_state = 'sync'))
    FROM pg_stat_replication WHERE state = 'streaming' AND application_name LIKE 'node%'" &&
    sync_key_is_set
}

# Patroni notes in etcd who is synchronous after the server has made it so.
sync_key_is_set() {
  [[ ${SAGAZ_SYNC:-} == false ]] ||
    curl --silent --max-time 3 "http://127.0.0.1:${rest[$leader]}/cluster" | grep -q '"sync_standby"'
}

# patch JSON: changes Patroni's dynamic configuration
patch() {
  curl --silent --fail --max-time 5 --output /dev/null --user "replicator:$REPLICATION_PASSWORD" \
    --request PATCH --data "$1" "http://127.0.0.1:${rest[$leader]}/config"
}

# -------- load

# Inserts without end, and writes down when each row was acknowledged, by which
# server, and its event_id.
writer() {
  local insert="INSERT INTO saga_outbox (topic, payload, status)
    SELECT 'failover', '{}', 'PENDING' FROM pg_sleep(0.005)
    RETURNING event_id, extract(epoch FROM pg_postmaster_start_time());"
  insert=${insert//$'\n'/ }
  while [[ ! -e $dir/stop ]]; do
    { yes "$insert" 2>/dev/null || true; } | sql --port="$rw" --set=ON_ERROR_STOP=0 2>>"$dir/writer$1.log" |
      perl -MTime::HiRes=time -ne 'BEGIN { $| = 1 } printf "%.3f|%s", time, $_' >>"$dir/acked.$1" || true
    sleep 0.1   # or it would do nothing but connect while there is no primary
  done
}

background_load() {
  echo "INSERT INTO saga_executions (saga_name, status) VALUES ('load', 'SUCCESS');" >"$dir/load.sql"
  while [[ ! -e $dir/stop ]]; do
    pgbench --no-vacuum --client=4 --jobs=1 --rate=200 --time=3600 --file="$dir/load.sql" \
      --host=127.0.0.1 --port="$rw" >>"$dir/pgbench.log" 2>&1 || true
    sleep 0.1
  done
}

# How many rows were acknowledged so far.
acked() {
  cat "$dir"/acked.* | grep -c '^[0-9.]*|[0-9a-f-]*|[0-9.]*$' || true
}

acked_more_than() {
  (($(acked) > $1))
}

# Prints when the first row was acknowledged after TIME by a server other than
# the one that started at STARTED.
# first_ack TIME STARTED
first_ack() {
  awk -F'|' -v since="$1" -v old="$2" '
    NF == 3 && $1 > since && $3 != old && (first == "" || $1 < first) { first = $1 }
    END { if (first == "") exit 1; print first }' "$dir"/acked.*
}

# Notes which rows were acknowledged so far, to look for them: in this order,
# because more come in all the time.
note_acked() {
  awk -F'|' 'NF == 3 { print $2 }' "$dir"/acked.* | sort >"$dir/noted"
}

# How many of the noted rows a node doesn't have.
lost_on() {
  on "$1" 'SELECT event_id FROM saga_outbox' | sort >"$dir/there" || return 1
  comm -23 "$dir/noted" "$dir/there" | wc -l
}

# Whether a standby has replayed what the leader had written when it was asked.
# caught_up NODE LSN
caught_up() {
  holds "$1" "pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= '$2'"
}

# -------- what is lost, and how

# Sets walsenders: those of the leader to its standbys. While they are stopped
# nothing is sent: a commit that is acknowledged meanwhile will be lost, so with
# synchronous replication none is.
stop_senders() {
  local before
  before=$(acked)
  mapfile -t walsenders < <(on "$leader" 'SELECT pid FROM pg_stat_replication')
  kill -STOP "${walsenders[@]}"
  poll 20 senders_are_missed "$before" || true
}

senders_are_missed() {
  holds "$leader" "count(*) >= 4 FROM pg_stat_activity WHERE wait_event = 'SyncRep'" ||
    acked_more_than $(($1 + 100))
}

# node: Patroni and server are gone, and what wasn't sent with them;
# host: the same, and its etcd; server: the server crashes, and Patroni lives;
# patroni: Patroni is gone, and its server doesn't notice; frozen: both stand still;
# planned: somebody asks for another primary.
# lose_node KIND NODE
lose_node() {
  local server
  server=$(head -n 1 "$dir/node$2/data/postmaster.pid")
  walsenders=()
  [[ ! $1 =~ ^(node|host)$ ]] || stop_senders
  killed_at=$EPOCHREALTIME
  case $1 in
  node) kill -KILL "${patroni_pid[$2]}" "$server" "${walsenders[@]}" ;;
  host) kill -KILL "${patroni_pid[$2]}" "$server" "${etcd_pid[$2]}" "${walsenders[@]}" ;;
  server) kill -KILL "$server" ;;
  patroni) kill -KILL "${patroni_pid[$2]}" ;;
  frozen)
    kill -STOP "${patroni_pid[$2]}"
    signal_tree STOP "$server"
    ;;
  planned)
    curl --silent --fail --max-time 60 --output /dev/null --user "replicator:$REPLICATION_PASSWORD" \
      --data "{\"leader\": \"node$2\"}" "http://127.0.0.1:${rest[$2]}/switchover"
    ;;
  *)
    echo "Bail out! no such kind: $1"
    exit 2
    ;;
  esac
}

# bring_back KIND NODE
bring_back() {
  case $1 in
  node | patroni) start_patroni "$2" ;;
  host)
    start_etcd "$2"
    start_patroni "$2"
    ;;
  frozen)
    kill -CONT "${patroni_pid[$2]}"
    signal_tree CONT "$(head -n 1 "$dir/node$2/data/postmaster.pid")"
    ;;
  esac
}

# -------- partitions

# Makes a partition of DAYS ago with finished rows, at once, which the worker
# begins to retire, and a session that still sees it, so that the detach can't be finished.
# begin_drain DAYS
begin_drain() {
  drained=$(on "$leader" "SELECT sagaz_ha.create_partition('saga_outbox', now() - interval '$1 days');
    INSERT INTO saga_outbox (topic, payload, status, created_at)
    SELECT 'old', '{}', 'PUBLISHED', now() - interval '$1 days' FROM generate_series(1, 100)")
  must "a detach of $drained under way, on the standbys too" 60 is_draining
}

hold_snapshot() {
  mkfifo "$dir/holder$1"
  sql --port="${port[$leader]}" <"$dir/holder$1" >"$dir/holder$1.out" 2>&1 &
  started_here $!
  exec {holder}>"$dir/holder$1"
  echo 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM saga_outbox;' >&"$holder"
  must "a session with a snapshot" 20 test -s "$dir/holder$1.out"
}

is_draining() {
  local i
  for i in 1 2 3; do
    holds "$i" "EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending
      AND inhrelid::regclass::text = '$drained')" || return 1
  done
}

worker_runs() {
  holds "$leader" "bool_or(process = 'launcher' AND pid IS NOT NULL)
    AND bool_or(database = '$POSTGRES_DB' AND passes > 0 AND phase <> 'overdue')
    FROM sagaz_ha.maintenance_status()"
}

drain_is_finished() {
  holds "$leader" "to_regclass('$drained') IS NULL AND EXISTS (
    SELECT FROM sagaz_ha.partition_history WHERE action = 'DROP' AND partition_name = '$drained')"
}

kept_row_is_seen() {
  holds "$leader" "EXISTS (SELECT FROM saga_outbox WHERE topic = 'unfinished')"
}

# -------- a round

# play ROUND KIND
play() {
  local old started first lsn i back=0
  old=$leader
  hold_snapshot "$1"
  begin_drain $((40 + $1))
  started=$(on "$leader" 'SELECT extract(epoch FROM pg_postmaster_start_time())')
  lose_node "$2" "$old"
  poll $((limit + 30)) first_ack "$killed_at" "$started" || true
  first=$(first_ack "$killed_at" "$started" || echo "$((${killed_at%.*} + 999))")
  took=$(awk -v a="$first" -v b="$killed_at" 'BEGIN { printf "%.1f", a - b }')
  ok "$(awk -v t="$took" -v l="$limit" 'BEGIN { print !(t <= l) }')" \
    "round $1, $2: writes go on after $took s, within $limit s"
  exec {holder}>&-
  must "a leader" 30 find_leader
  if [[ $2 == server ]]; then
    ok 0 "round $1, $2: node$leader is the primary, node$old was"
  else
    is "$([[ $leader == "$old" ]] || echo another)" another "round $1, $2: node$leader is the primary, node$old was"
  fi
  ok "$(poll 30 worker_runs; echo $?)" "round $1, $2: the worker runs on it"
  ok "$(poll 120 drain_is_finished; echo $?)" "round $1, $2: the detach that was under way is finished"
  ok "$(kept_row_is_seen; echo $?)" "round $1, $2: a partition with an unfinished row is kept"
  bring_back "$2" "$old"
  poll 90 complete || back=$?
  ok "$back" "round $1, $2: node$old is back as a standby"
  ((back == 0)) || tail -n 100 "$dir/patroni$old.log" | sed 's/^/# /'
  note_acked
  is "$(lost_on "$leader")" 0 "round $1, $2: no acknowledged row is lost of $(wc -l <"$dir/noted")"
  lsn=$(on "$leader" 'SELECT pg_current_wal_lsn()')
  for i in 1 2 3; do
    [[ $i == "$leader" ]] || poll 90 caught_up "$i" "$lsn" || true
  done
  is "$(lost_on "$old")" 0 "round $1, $2: node$old has them all"
  times+=("$2 $took")
}

# --------

for program in etcd patroni haproxy pgbouncer curl; do
  command -v "$program" >/dev/null || {
    echo "Bail out! $program is missing: deploy/install-packages.sh test"
    exit 1
  }
done
# scripts/patroni says what for
etcd_options=()
if etcd --help 2>&1 | grep -q enable-v2; then
  etcd_options=(--enable-v2)
fi
echo "1..$((rounds * checks_per_round + 1))"
start_cluster
must "a primary with two standbys" 240 complete
say "three nodes after $SECONDS s"
PRIMARY_HOST=127.0.0.1 PRIMARY_PORT=$rw "$repo/deploy/scripts/init" >"$dir/init.log" 2>&1 ||
  { cat "$dir/init.log"; exit 1; }
must "a naptime of 1 s" 60 patch '{"postgresql": {"parameters": {"sagaz_ha.naptime": 1}}}'
if [[ ${SAGAZ_SYNC:-} == false ]]; then
  must "a mode" 60 patch '{"synchronous_mode": false}'
  must "asynchronous replication" 20 holds "$leader" "current_setting('synchronous_standby_names') = ''"
fi
pool "SELECT sagaz_ha.create_partition('saga_outbox', now() - interval '60 days');
  INSERT INTO saga_outbox (topic, payload, status, created_at)
  VALUES ('unfinished', '{}', 'PENDING', now() - interval '60 days')" >/dev/null
for i in 1 2 3 4; do
  writer "$i" &
  started_here $!
done
background_load &
started_here $!
must "acknowledged rows" 30 acked_more_than 100

times=()
for ((round = 1; round <= rounds; round++)); do
  play "$round" "${kinds[(round - 1) % ${#kinds[@]}]}"
done
touch "$dir/stop"
ok "$(acked_more_than $((rounds * 100)); echo $?)" "the load went on: $(acked) rows acknowledged"
say "seconds from the loss to the first acknowledged write: ${times[*]}"
say "took $SECONDS s"
((failures == 0))
