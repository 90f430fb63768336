#!/bin/bash
# The compose stack for real: built, started, broken, and every command of the
# specification's page run on it; then profile failover, of which the primary is
# killed. Needs root, docker-compose, and a Docker daemon: the one that answers
# already, or else one of its own. Writes TAP.
#
# usage: prove -v test/deploy/root/80_compose.t      with docker.io, docker-compose,
#   debootstrap, iptables, psql and redis-tools
# environment: DOCKER_HOST, to use that daemon, which must not have this stack
set -euo pipefail
cd "$(dirname "$0")/../../.."

work=$(mktemp -d "${TMPDIR:-/tmp}/sagaz_ha-compose.XXXXXX")
log=$work/log
project=local-postgres
daemon=
count=0
failures=0

# -------- TAP

# ok NAME COMMAND...: runs it; what it said is shown if it fails
ok() {
  local name=$1
  shift
  if "$@" >"$log" 2>&1; then
    point ok "$name"
  else
    point 'not ok' "$name"
    tail -n 40 "$log" | sed 's/^/# /'
  fi
}

point() {
  count=$((count + 1))
  [[ $1 == ok ]] || failures=$((failures + 1))
  echo "$1 $count - $2"
}

# Ends here, with the reason: without a daemon, say, there is nothing to test.
give_up() {
  point 'not ok' "$1"
  sed 's/^/# /' "$log"
  exit 1
}

# Another program's TAP, as a part of ours.
# include COMMAND...
include() {
  local line status=0
  "$@" >"$work/tap" 2>&1 || status=$?
  while IFS= read -r line; do
    if [[ $line =~ ^(ok|not\ ok)\ [0-9]+\ -\ (.*) ]]; then
      point "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    elif [[ ! $line =~ ^1\.\. ]]; then
      echo "# ${line#\# }"
    fi
  done <"$work/tap"
  ok "${*: -1} ends with 0" test "$status" = 0
}

# Polls a command until it succeeds, for so many seconds.
# within SECONDS COMMAND...
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    if ((SECONDS >= deadline)); then
      echo "not in time: $*"
      return 1
    fi
    sleep 0.3
  done
}

# -------- the daemon

# A daemon that shares nothing with one that may be started here later.
start_daemon() {
  export DOCKER_HOST=unix://$work/docker.sock
  # health checks enter containers, from this root
  has_root_of_mounts >"$log" 2>&1 ||
    give_up "the root is that of the mounts (in a chroot nobody can enter a container; take pivot_root)"
  [[ ! -e /sys/class/net/docker0 ]] || had_bridge=yes
  dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" \
    --host "$DOCKER_HOST" >"$work/dockerd.log" 2>&1 &
  daemon=$!
  if ! within 60 answers_or_died || ! docker info >"$log" 2>&1; then
    tail -n 20 "$work/dockerd.log" >>"$log"
    give_up "dockerd runs (as root, with cgroups mounted)"
  fi
}

# Who enters a namespace of mounts is at its root, which a chroot hides.
has_root_of_mounts() {
  [[ $(nsenter --mount=/proc/self/ns/mnt stat --format=%d:%i /) == "$(stat --format=%d:%i /)" ]]
}

answers_or_died() {
  docker info >/dev/null 2>&1 || ! kill -0 "$daemon" 2>/dev/null
}

stop_daemon() {
  kill "$daemon" 2>/dev/null || true
  wait "$daemon" || true
  # the daemon's own, where the mounts around it aren't shared
  ! mountpoint -q "$work/data" || umount -R "$work/data"
  [[ -n ${had_bridge:-} ]] || ip link delete docker0 2>/dev/null || true
}

cleanup() {
  rm -f "$work/load"
  [[ -z ${started:-} ]] ||
    compose --profile pair --profile replica-2 --profile failover down --volumes --timeout 5 >/dev/null 2>&1 || true
  [[ -z $daemon ]] || stop_daemon
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# -------- the stack

compose() {
  (cd deploy && docker-compose "$@" </dev/null)
}

# docker ps, of the stack's containers only
containers() {
  docker ps --filter "label=com.docker.compose.project=$project" "$@"
}

container() {
  containers --all --quiet --filter "label=com.docker.compose.service=$1"
}

# inspect SERVICE TEMPLATE
inspect() {
  docker inspect --format "$2" "$(container "$1")"
}

# Sets services to those that were started, but for init, which ends.
list_services() {
  mapfile -t services < <(containers --all --format '{{.Label "com.docker.compose.service"}}' |
    grep -v '^postgres-init$' | sort)
}

healthy() {
  [[ $(inspect "$1" '{{if .State.Health}}{{.State.Health.Status}}{{end}}') == healthy ]]
}

all_healthy() {
  local service
  for service in "${services[@]}"; do
    healthy "$service" || return 1
  done
  [[ $(inspect postgres-init '{{.State.Status}} {{.State.ExitCode}}') == 'exited 0' ]]
}

# of what runs
none_unhealthy() {
  # not even one failed check: another, already under way, could be the last
  containers --quiet | xargs docker inspect --format '{{if .State.Health}}{{.State.Health.FailingStreak}}{{end}}' |
    awk '$1 > 0 { failing = 1 } END { exit failing }'
}

# What a test that waits for health shows when it doesn't come.
show_health() {
  containers --all --format '{{.Names}} {{.Status}}'
  containers --all --quiet --filter health=unhealthy |
    xargs --no-run-if-empty docker inspect --format '{{.Name}} {{json .State.Health.Log}}'
  compose logs --tail 15 --no-color
}

all_healthy_within() {
  within "$1" all_healthy || { show_health; return 1; }
}

# Runs SQL in a service, and prints what it returns.
# sql SERVICE STATEMENT
sql() {
  compose exec -T "$1" psql -X -At -v ON_ERROR_STOP=1 -U postgres -d sagaz -c "$2"
}

# sql_is EXPECTED SERVICE STATEMENT
sql_is() {
  local got
  got=$(sql "$2" "$3")
  [[ $got == "$1" ]] || { echo "expected $1, got $got"; return 1; }
}

# From outside, as an application: through a published port.
# through PORT STATEMENT
through() {
  psql -X -At -v ON_ERROR_STOP=1 -w "host=127.0.0.1 port=$(($1 + offset)) user=postgres dbname=sagaz connect_timeout=5" -c "$2"
}

through_is() {
  [[ $(through "$2" "$3") == "$1" ]]
}

# fails_with PATTERN COMMAND...: it has to fail, and to say so
fails_with() {
  local pattern=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "it succeeded: $output"
    return 1
  fi
  grep -E "$pattern" <<<"$output" || { echo "$output"; return 1; }
}

# -------- what is tested

prepare() {
  if ! docker info >/dev/null 2>&1; then
    start_daemon
  elif [[ -n $(containers --all --quiet; docker volume ls --quiet --filter "label=com.docker.compose.project=$project") ]]; then
    echo "this Docker daemon has a stack $project, which the test would remove" >"$log"
    give_up "a daemon without this stack"
  fi
  if ! docker image inspect debian:trixie-slim >/dev/null 2>&1; then
    ok "base-image makes the base" deploy/scripts/base-image
  fi
  offset=$(deploy/demo/stack.sh free-offset)
  export POSTGRES_PRIMARY_PORT=$((5432 + offset)) POSTGRES_REPLICA_PORT=$((5433 + offset)) \
    PGBOUNCER_RW_PORT=$((6432 + offset)) PGBOUNCER_RO_PORT=$((6433 + offset)) \
    REDIS_PORT=$((6379 + offset)) PROMETHEUS_PORT=$((9090 + offset)) PGPASSWORD=postgres \
    POSTGRES_REPLICA_2_PORT=$((5434 + offset)) ALERTMANAGER_PORT=$((9093 + offset)) \
    ALERT_GROUP_WAIT=1s COMPOSE_HTTP_TIMEOUT=300
}

test_start() {
  started=yes
  # an image of before may be there, in a daemon that is not ours
  ok "up -d builds the image and starts the stack" compose up -d --build
  list_services
  ok "all ${#services[@]} services get healthy, and init ends" all_healthy_within 180
  ok "init's log tells what it made" bash -c "cd deploy && docker-compose logs --no-color postgres-init |
    grep -c 'CREATE.*saga_outbox_y' && docker-compose logs --no-color postgres-init | grep 'init: done'"
  containers --all --quiet --no-trunc | sort >"$work/before"
  ok "a second up -d" compose up -d
  containers --all --quiet --no-trunc | sort >"$work/after"
  ok "... starts nothing anew" diff "$work/before" "$work/after"
  ok "no password, no start" fails_with 'POSTGRES_PASSWORD.*deploy/.env' \
    env POSTGRES_PASSWORD= bash -c 'cd deploy && docker-compose config'
}

test_image() {
  ok "every container is of our image" test "$(containers --format '{{.Image}}' | sort -u)" = sagaz-ha
  ok "... and runs as postgres" test "$(containers --quiet | xargs -I{} docker exec {} id -un | sort -u)" = postgres
  ok "... without a compiler" fails_with '' docker exec "$(container redis)" bash -c 'type -P cc gcc g++ make | grep .'
  ok "ports are published on this machine only" test "$(containers --format '{{.Ports}}' | tr ',' '\n' |
    sed -n 's/^ *\(.*\):.*->.*/\1/p' | sort -u)" = 127.0.0.1
}

test_replication() {
  ok "the replica streams by its slot, as replicator" sql_is 'postgres_replica|replicator|streaming|reserved' \
    postgres-primary "SELECT slot_name, usename, state, wal_status
      FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid"
  ok "hot_standby_feedback is on, and reaches the primary" within 30 sql_is 't' postgres-primary \
    "SELECT xmin IS NOT NULL FROM pg_replication_slots"
  ok "WAL kept for a slot has a limit" sql_is 't' postgres-primary \
    "SELECT setting::bigint > 0 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'"
  local server
  for server in postgres-primary postgres-replica; do
    ok "$server has the extension preloaded" sql_is 'sagaz_ha,pg_cron' "$server" 'SHOW shared_preload_libraries'
    ok "... and the same hot_standby_feedback" sql_is on "$server" 'SHOW hot_standby_feedback'
  done
  ok "the worker has done a pass" within 90 sql_is t postgres-primary \
    "SELECT passes > 0 AND errors = 0 FROM sagaz_ha.maintenance_status() WHERE process = 'worker'"
  ok "the replica is ready to be read" sql_is t postgres-replica "SELECT sagaz_ha.node_ready('read')"
  ok "what is written through one pool" through 6432 \
    "INSERT INTO saga_executions (saga_name, status) VALUES ('seen', 'SUCCESS')"
  ok "... is read through the other" within 30 through_is 1 6433 \
    "SELECT count(*) FROM saga_executions WHERE saga_name = 'seen'"
}

test_passwords() {
  local port server
  for port in 5432 5433 6432 6433; do
    ok "the page's password is right at $port" through_is 1 "$port" 'SELECT 1'
    ok "... and another one is wrong" fails_with 'authentication failed' \
      env PGPASSWORD=wrong psql -w "host=127.0.0.1 port=$((port + offset)) user=postgres dbname=sagaz" -c 'SELECT 1'
  done
  for server in postgres-primary postgres-replica; do
    ok "no way into $server from another container without one" fails_with 'no password supplied' \
      compose exec -T redis psql -w -h "$server" -U postgres -d sagaz -c 'SELECT 1'
    ok "... nor for replication" fails_with 'no password supplied' \
      compose exec -T redis psql -w "host=$server user=replicator replication=true" -c IDENTIFY_SYSTEM
    ok "... and none in its own by TCP" fails_with 'no password supplied' \
      compose exec -T -e PGPASSWORD= "$server" psql -w -h 127.0.0.1 -U postgres -d sagaz -c 'SELECT 1'
    ok "... trusted are its own sockets only" sql_is 'local trust, host scram-sha-256' "$server" \
      "SELECT string_agg(DISTINCT type || ' ' || auth_method, ', ' ORDER BY type || ' ' || auth_method DESC)
       FROM pg_hba_file_rules"
  done
  ok "all passwords are kept as SCRAM" sql_is t postgres-primary \
    "SELECT bool_and(rolpassword ^@ 'SCRAM-SHA-256') AND count(*) = 3 FROM pg_authid WHERE rolcanlogin"
  ok "no password is in a log" fails_with '' bash -c \
    "cd deploy && docker-compose logs --no-color 2>&1 | grep -E 'PASSWORD |md5|SCRAM-SHA-256\\$'"
}

# targets_up COUNT
targets_up() {
  [[ $(perl -MHTTP::Tiny -e 'print HTTP::Tiny->new->get(shift)->{content}' \
    "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/query?query=count(up==1)" | sed -n 's/.*"value":\[[^,]*,"\([0-9]*\)"\].*/\1/p') == "$1" ]]
}

# knows_alertmanager: Prometheus does
knows_alertmanager() {
  perl -MHTTP::Tiny -e 'print HTTP::Tiny->new->get(shift)->{content}' \
    "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/alertmanagers" | grep -F '"url":"http://alertmanager:9093'
}

send_alert() {
  perl -MHTTP::Tiny -e 'my $r = HTTP::Tiny->new->post(shift, { headers => { "Content-Type" => "application/json" },
    content => q([{"labels":{"alertname":"ComposeTest","severity":"warning"}}]) }); exit !$r->{success}' \
    "http://127.0.0.1:$ALERTMANAGER_PORT/api/v2/alerts"
}

# What fires for real is tested natively (52_alerts.t).
test_alerts() {
  ok "Prometheus has an Alertmanager to tell" within 60 knows_alertmanager
  ok "what that is told" send_alert
  ok "... gets to the webhook" within 60 bash -c \
    "cd deploy && docker-compose logs --no-color alert-log | grep 'firing ComposeTest severity=\"warning\"'"
}

test_neighbours() {
  ok "Prometheus scrapes two servers, two pools and itself" within 60 targets_up 5
  through 6432 "INSERT INTO saga_outbox (topic, payload) VALUES ('compose.test', '{}')" >/dev/null
  ok "the relay takes an event to Redis" within 30 bash -c \
    "redis-cli -p '$REDIS_PORT' --scan --pattern '*compose.test*' | grep ."
  ok "... and says so in the outbox" within 30 through_is PUBLISHED 6432 \
    "SELECT status FROM saga_outbox WHERE topic = 'compose.test'"
}

# The pool's settings in compose.yaml, and its passwords from files.
test_changes() {
  printf postgres >"$work/postgres_password"
  chmod 755 "$work"
  cat >"$work/override.yaml" <<YAML
services:
  pgbouncer-rw:
    command: [scripts/pool, rw, default_pool_size=26]
    environment: {POSTGRES_PASSWORD: '', POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password}
    secrets: [postgres_password]
secrets:
  postgres_password: {file: $work/postgres_password}
YAML
  ok "up -d pgbouncer-rw after an edit" env COMPOSE_FILE="compose.yaml:$work/override.yaml" \
    bash -c 'cd deploy && docker-compose up -d pgbouncer-rw'
  ok "... works, with a secret of a file" within 60 healthy pgbouncer-rw
  ok "... and has the new pool size" bash -c \
    "psql -X -At -w -h 127.0.0.1 -p $PGBOUNCER_RW_PORT -U postgres pgbouncer -c 'SHOW CONFIG' | grep '^default_pool_size|26|'"
  ok "up -d pgbouncer-rw takes it back" compose up -d pgbouncer-rw
  ok "... and all is healthy" all_healthy_within 60
}

restarted() {
  [[ $(inspect "$1" '{{.RestartCount}}') -gt $2 ]]
}

test_failures() {
  local before
  ok "restart of the replica" compose restart postgres-replica
  ok "... brings it back" within 60 healthy postgres-replica
  ok "... streaming" within 30 sql_is streaming postgres-primary 'SELECT state FROM pg_stat_replication'
  before=$(inspect postgres-primary '{{.RestartCount}}')
  # shellcheck disable=SC2016  # the container's PGDATA
  ok "kill -9 of the primary's postmaster" compose exec --detach postgres-primary \
    bash -c 'kill -9 "$(head -n 1 "$PGDATA/postmaster.pid")"'
  ok "... has it restarted" within 60 restarted postgres-primary "$before"
  ok "... and all is healthy again" all_healthy_within 120
  ok "... nothing is lost" sql_is 1 postgres-primary "SELECT count(*) FROM saga_executions WHERE saga_name = 'seen'"
  ok "... writes go on" within 30 through 6432 \
    "INSERT INTO saga_executions (saga_name, status) VALUES ('after the crash', 'SUCCESS')"
  ok "... and reach the replica" within 60 through_is 1 6433 \
    "SELECT count(*) FROM saga_executions WHERE saga_name = 'after the crash'"
}

# New sessions on new connections, while all of them stay open.
pool_reaches() {
  local i sessions=()
  psql -X -q -w -h 127.0.0.1 -p "$PGBOUNCER_RO_PORT" -U postgres -d pgbouncer -c RECONNECT
  : >"$work/nodes"
  for ((i = 0; i < 25; i++)); do
    through 6433 "SELECT current_setting('cluster_name') FROM pg_sleep(3)" >>"$work/nodes" &
    sessions+=($!)
  done
  # not for the daemon, which is a child as well
  wait "${sessions[@]}"
  [[ $(sort -u "$work/nodes" | xargs) == "$*" ]] ||
    { compose exec -T pgbouncer-ro getent ahostsv4 postgres-replica; sort "$work/nodes" | uniq -c; return 1; }
}

test_replica_2() {
  ok "a second replica is one step" env REPLICAS=2 bash -c \
    'cd deploy && docker-compose --profile pair --profile replica-2 up -d'
  ok "... gets healthy" within 120 healthy postgres-replica-2
  ok "... streams by a slot of its own" within 30 sql_is 'postgres_replica, postgres_replica_2' postgres-primary \
    "SELECT string_agg(slot_name, ', ' ORDER BY slot_name) FROM pg_replication_slots WHERE active"
  ok "... the pool finds it" within 60 pool_reaches postgres-replica postgres-replica-2
  ok "... and Prometheus" within 60 targets_up 6
  ok "down" compose --profile replica-2 --profile pair down
}

test_page() {
  local page=test/deploy/spec
  ok "up -d with the data of before" compose up -d
  ok "... is healthy" all_healthy_within 180
  # the page's last commands are down and down -v
  include env PATH="$PWD/$page/compose:$PATH" DEPLOY="$PWD/deploy" \
    SAGAZ_PORT_OFFSET="$offset" PG_BIN="$(dirname "$(command -v psql)")" perl "$page/page.pl"
  nothing_left
}

nothing_left() {
  ok "nothing is left of the stack" fails_with '' bash -c "
    docker ps --all --quiet --filter label=com.docker.compose.project=$project | grep . ||
    docker volume ls --quiet | grep '^${project}_'"
}

# -------- failover

# Writes row after row, and notes when each was acknowledged, its id, and by which
# server. It ends when $work/load is gone.
writer() {
  local row
  while [[ -e $work/load ]]; do
    if row=$(through 6432 "INSERT INTO saga_executions (saga_name, status) VALUES ('failover', 'SUCCESS')
        RETURNING id, host(inet_server_addr())" 2>>"$work/writer.log"); then
      echo "$EPOCHREALTIME|${row%%$'\n'*}" >>"$work/acked"
    fi
  done
}

acked_more_than() {
  (($(wc -l <"$work/acked") > $1))
}

# Prints when the first row was acknowledged after TIME by a server other than ADDRESS.
# first_ack TIME ADDRESS
first_ack() {
  awk -F'|' -v since="$1" -v old="$2" '
    $1 > since && $3 != old { print $1; found = 1; exit } END { exit !found }' "$work/acked"
}

# no_row_lost SERVICE: it has every row that was acknowledged before it was asked
no_row_lost() {
  cut -d'|' -f2 "$work/acked" | sort >"$work/noted"
  sql "$1" "SELECT id FROM saga_executions WHERE saga_name = 'failover'" | sort >"$work/there"
  comm -23 "$work/noted" "$work/there" >"$work/lost"
  echo "lost: $(wc -l <"$work/lost") of $(wc -l <"$work/noted")"
  [[ ! -s $work/lost ]]
}

leads() {
  docker exec "$(container "$1")" scripts/healthcheck http http://localhost:8008/primary 2>/dev/null
}

# Sets leader.
find_leader() {
  for leader in patroni-1 patroni-2 patroni-3; do
    if leads "$leader"; then
      return 0
    fi
  done
  return 1
}

# A leader, a synchronous standby, and another one.
three_nodes() {
  compose exec -T patroni-1 patronictl list >"$work/list" 2>&1 || compose exec -T patroni-2 patronictl list >"$work/list"
  cat "$work/list"
  [[ $(grep -cE 'Leader +\| running|Sync Standby +\| streaming|Replica +\| streaming' "$work/list") == 3 ]] &&
    grep -q Sync "$work/list"
}

# Nothing is sent to the standbys any more. A commit that is acknowledged after
# that would be lost with the leader, so none may be.
stop_senders() {
  local before
  docker exec "$(container "$leader")" bash -c 'psql -XAt -U postgres -d sagaz -c "SELECT pid FROM pg_stat_replication" |
    xargs kill -STOP'
  before=$(wc -l <"$work/acked")
  within 20 senders_are_missed "$before"
}

senders_are_missed() {
  sql_is t "$leader" "SELECT count(*) > 0 FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND query LIKE 'INSERT INTO saga_executions%'" || acked_more_than $(($1 + 20))
}

# Patroni 4 would keep slots on standbys that nobody reads (config/patroni).
no_slot_warning() {
  local node
  for node in patroni-1 patroni-2 patroni-3; do
    sql_is 0 "$node" "SELECT count(*) FROM sagaz_ha.replication_health() WHERE summary ~ 'slot'" || return 1
  done
}

# exporters_up COUNT: as the published Prometheus sees them
exporters_up() {
  [[ $(curl -fsS "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/targets" |
    grep -oE '"scrapeUrl":"https:[^"]*","globalUrl":"[^"]*","lastError":""' | wc -l) == "$1" ]]
}

# The same with TLS, which so is tested with Patroni as well.
test_failover_start() {
  ok "certificates" deploy/scripts/certificates "$work/tls" postgres-primary postgres-replica \
    pgbouncer-rw pgbouncer-ro patroni-1 patroni-2 patroni-3 \
    exporter-primary exporter-replica exporter-rw exporter-ro
  chown -R 999 "$work/tls"
  # a volume of somebody else, as deploy/README.md has it
  echo "volumes: {patroni_1_data: {external: true, name: ${project}_external}}" >"$work/volumes.yaml"
  ok "a volume outside of compose" docker volume create "${project}_external"
  export TLS_FILES=$work/tls COMPOSE_FILE=compose.yaml:compose.tls.yaml:$work/volumes.yaml
  ok "profile failover starts" compose --profile failover up -d
  list_services
  ok "... its ${#services[@]} services get healthy, and init ends" all_healthy_within 240
  ok "... with three nodes, one of them synchronous" within 60 three_nodes
  ok "... and without the pair" test -z "$(container postgres-primary)$(container postgres-replica)"
  ok "the pair can't be started beside it" fails_with 'already allocated' \
    compose --profile pair up -d postgres-primary
  ok "... and leaves nothing" compose --profile pair rm --force --stop postgres-primary
  ok "every connection to the primary is encrypted" through_is t 5432 "SELECT bool_and(ssl) AND count(*) > 4
    FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL"
  ok "... and no other is taken" fails_with 'no encryption' env PGSSLMODE=disable \
    psql -w "host=127.0.0.1 port=$POSTGRES_PRIMARY_PORT user=postgres dbname=sagaz" -c 'SELECT 1'
  ok "... nor by the pool" fails_with 'SSL required' env PGSSLMODE=disable \
    psql -w "host=127.0.0.1 port=$PGBOUNCER_RW_PORT user=postgres dbname=sagaz" -c 'SELECT 1'
  ok "Prometheus asks the four exporters by TLS, and knows their names" within 60 exporters_up 4
  ok "only Patroni reaches etcd" fails_with '' compose exec -T redis bash -c '</dev/tcp/etcd-1/2379'
  ok "what is written by its primary's port" through 5432 \
    "INSERT INTO saga_executions (saga_name, status) VALUES ('seen', 'SUCCESS')"
  ok "... is read by that of its standbys" within 30 through_is '1|t' 5433 \
    "SELECT count(*), pg_is_in_recovery() FROM saga_executions WHERE saga_name = 'seen'"
}

test_failover() {
  local old address killed_at first writer
  touch "$work/load" "$work/acked"
  writer &
  writer=$!
  ok "the rw pool takes writes" within 30 acked_more_than 20
  within 30 find_leader || true
  old=$leader
  address=$(tail -n 1 "$work/acked" | cut -d'|' -f3)
  ok "$old sends nothing any more to its standbys" stop_senders
  killed_at=$EPOCHREALTIME
  ok "docker kill $old, the primary" docker kill "$(container "$old")"
  within 60 first_ack "$killed_at" "$address" >"$work/first" || true
  first=$(first_ack "$killed_at" "$address" || echo "$((${killed_at%.*} + 999))")
  ok "... writes go on after $(awk -v a="$first" -v b="$killed_at" 'BEGIN { printf "%.1f", a - b }') s, within 30" \
    awk -v a="$first" -v b="$killed_at" 'BEGIN { exit a - b > 30 }'
  ok "... on another node" within 10 find_leader
  ok "... no acknowledged row is lost" no_row_lost "$leader"
  # 1.29 fails when what others depend on hasn't recovered yet
  ok "... and what is left is healthy again" within 60 none_unhealthy
  ok "up -d brings $old back" compose --profile failover up -d
  ok "... as a standby" within 120 three_nodes
  ok "... with every row" within 30 no_row_lost "$old"
  ok "... and all is healthy" all_healthy_within 60
  ok "... and no node warns of a slot" within 30 no_slot_warning
  rm "$work/load"
  wait "$writer"
  ok "none is lost of all $(wc -l <"$work/acked")" no_row_lost "$leader"
  ok "down" compose --profile failover down --volumes
  ok "... leaves the volume that isn't compose's" docker volume inspect "${project}_external"
  ok "... which goes by hand" docker volume rm "${project}_external"
  nothing_left
}

prepare
test_start
test_image
test_replication
test_passwords
test_neighbours
test_alerts
test_changes
test_failures
test_replica_2
test_page
test_failover_start
test_failover
echo "1..$count"
((failures == 0))
