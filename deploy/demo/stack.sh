#!/bin/bash
# The whole stack natively, on loopback ports: what compose.yaml has in
# containers, from the same scripts and configuration.
#
# usage: stack.sh up [SERVICE...]       starts what doesn't run, and waits until it works:
#                                       all but outbox-relay, which is only started by name
#        stack.sh status                one screen: processes, partitions, health
#        stack.sh stop|restart [SERVICE...]
#        stack.sh logs SERVICE          the log so far
#        stack.sh env                   variables to reach it by, for a shell to read
#        stack.sh free-offset           a SAGAZ_PORT_OFFSET at which nobody listens
#        stack.sh down                  stops everything and removes it, data included
# environment:
#   SAGAZ_PORT_OFFSET  added to the ports of the specification (10000: 15432 …)
#   SAGAZ_STATE_DIR    where its data is (/tmp/sagaz_ha-stack.OFFSET)
#   PG_CONFIG          chooses one of several PostgreSQL installations
#   REPLICAS           how many there are from this `up` on; the second one has the
#                      ports of the first, at 127.0.0.2, and so on
#   TLS                anything: certificates are made, and from this `up` on every
#                      server, pool and exporter wants them and every client checks names
# As root, the servers run as user postgres.
set -euo pipefail
deploy=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/scripts/lib.sh
source "$deploy/scripts/lib.sh"

offset=${SAGAZ_PORT_OFFSET:-10000}
[[ $offset =~ ^[0-9]{1,5}$ ]] || die "SAGAZ_PORT_OFFSET has to be a number, not $offset"
dir=${SAGAZ_STATE_DIR:-/tmp/sagaz_ha-stack.$offset}
export SAGAZ_PORT_OFFSET=$offset SAGAZ_STATE_DIR=$dir
# in the order of starting
services=(
  postgres-primary postgres-replica pgbouncer-rw pgbouncer-ro redis
  exporter-primary exporter-replica exporter-rw exporter-ro alert-log alertmanager prometheus
)
# Not started by itself: nobody's events are published that were put there to
# play with. It listens nowhere.
on_request=(outbox-relay)
declare -A port=(
  [postgres-primary]=$((5432 + offset)) [postgres-replica]=$((5433 + offset))
  [pgbouncer-rw]=$((6432 + offset)) [pgbouncer-ro]=$((6433 + offset))
  [redis]=$((6379 + offset)) [prometheus]=$((9090 + offset))
  [alertmanager]=$((9093 + offset)) [alert-log]=$((9095 + offset))
  [exporter-primary]=$((9187 + offset)) [exporter-replica]=$((9188 + offset))
  [exporter-rw]=$((9127 + offset)) [exporter-ro]=$((9128 + offset)) [outbox-relay]=-
)
user=$(id -un)
[[ $EUID != 0 ]] || user=postgres

# What an earlier `up` was asked for stays.
replicas=$(cat "$dir/replicas" 2>/dev/null || echo 1)
had_replicas=$replicas
tls=
if [[ ${1:-} == up ]]; then
  replicas=${REPLICAS:-$replicas} tls=${TLS:-}
  [[ $replicas =~ ^[1-9]$ ]] || die "REPLICAS has to be a number from 1 to 9, not $replicas"
  ((replicas >= had_replicas)) || die "there are $had_replicas replicas already; fewer need a new stack: stack.sh down"
fi
for ((i = 2; i <= replicas; i++)); do
  services+=("postgres-replica-$i" "exporter-replica-$i")
  port[postgres-replica-$i]=${port[postgres-replica]} port[exporter-replica-$i]=${port[exporter-replica]}
done

# address SERVICE: another replica is at an address of its own
address() {
  if [[ $1 == *-replica-* ]]; then
    echo "127.0.0.${1##*-}"
  else
    echo 127.0.0.1
  fi
}

# socket_of SERVICE: the directory; a name in it is made of the port alone
socket_of() {
  if [[ $1 == *-replica-* ]]; then
    echo "$dir/socket.${1##*-}"
  else
    echo "$dir/socket"
  fi
}

# -------- processes

# What a service is: replaces the shell that calls it.
# become SERVICE
become() {
  export NODE_NAME=$1 PGDATA=$dir/$1 PGPORT=${port[$1]} POOL_PORT=${port[$1]} RUN_DIR=$dir/$1
  LISTEN_ADDRESSES=$(address "$1") SOCKET_DIR=$(socket_of "$1")
  case $1 in
  postgres-primary) exec "$dir/deploy/scripts/primary" ;;
  postgres-replica*) exec "$dir/deploy/scripts/standby" ;;
  exporter-*) become_exporter "${1#exporter-}" ;;
  prometheus)
    export PROMETHEUS_PORT=${port[$1]} EXPORTER_PRIMARY_PORT=${port[exporter-primary]} \
      EXPORTER_REPLICA_PORT=${port[exporter-replica]} EXPORTER_RW_PORT=${port[exporter-rw]} \
      EXPORTER_RO_PORT=${port[exporter-ro]} REPLICAS=$replicas ALERTMANAGER=127.0.0.1:${port[alertmanager]}
    exec "$dir/deploy/scripts/prometheus" native
    ;;
  alertmanager)
    export ALERTMANAGER_PORT=${port[$1]} ALERT_WEBHOOK=http://127.0.0.1:${port[alert-log]}
    exec "$dir/deploy/scripts/alertmanager"
    ;;
  alert-log) ALERT_LOG_PORT=${port[$1]} exec "$dir/deploy/scripts/alert-log" ;;
  pgbouncer-*) exec "$dir/deploy/scripts/pool" "${1#pgbouncer-}" ;;
  outbox-relay)
    export DATABASE_URL="host=127.0.0.1 port=${port[pgbouncer-rw]} user=postgres dbname=$POSTGRES_DB"
    export PGPASSWORD=$POSTGRES_PASSWORD REDIS_PORT=${port[redis]}
    make --silent --directory="$dir/deploy/relay" PG_CONFIG="$PG_BIN/pg_config"
    exec "$dir/deploy/relay/relay"
    ;;
  redis)
    mkdir -p "$dir/redis"
    exec redis-server "$dir/deploy/config/redis/redis.conf" --bind 127.0.0.1 --port "${port[$1]}" --dir "$dir/redis"
    ;;
  esac
}

# become_exporter primary|replica|replica-N|rw|ro
become_exporter() {
  local kind=postgresql target=postgres-$1
  if [[ $1 == r? ]]; then
    kind=pgbouncer target=pgbouncer-$1
  fi
  export EXPORTER_PORT=${port[exporter-$1]} EXPORTER_ADDRESS=$LISTEN_ADDRESSES
  export TARGET_HOST=$LISTEN_ADDRESSES TARGET_PORT=${port[$target]}
  exec "$dir/deploy/scripts/exporter" "$kind"
}

# healthy SERVICE
healthy() {
  local check=("$1")
  case $1 in
  outbox-relay) return 0 ;; # it logs what it can't do, and tries again
  postgres-replica*) check=(replica) ;;
  postgres-*) check=("${1#postgres-}") ;;
  pgbouncer-*) check=(pool) ;;
  exporter-*) check=(http "http${TLS_DIR:+s}://$(address "$1"):${port[$1]}/healthz") ;;
  alert-log) check=(http "http://127.0.0.1:${port[$1]}/healthz") ;;
  prometheus | alertmanager) check=(http "http://127.0.0.1:${port[$1]}/-/ready") ;;
  esac
  SOCKET_DIR=$(socket_of "$1") PGPORT=${port[$1]} POOL_PORT=${port[$1]} REDIS_PORT=${port[$1]} \
    "$dir/deploy/scripts/healthcheck" "${check[@]}"
}

# Everything inside of the stack sees these and nothing of the caller's, whose
# PGHOST or PGDATABASE would lead elsewhere.
clean_environment() {
  unset "${!PG@}"
  set -a
  # shellcheck source=deploy/.env
  source "$deploy/.env"
  set +a
  export PG_BIN=$bin CONFIG_DIR=$dir/deploy/config SOCKET_DIR=$dir/socket LISTEN_ADDRESSES=127.0.0.1
  export PRIMARY_HOST=127.0.0.1 PRIMARY_PORT=${port[postgres-primary]}
  REPLICA_HOST=$(seq -s, -f 127.0.0.%g "$replicas")
  export REPLICA_HOST REPLICA_PORT=${port[postgres-replica]}
  unset REPLICAS TLS
  if [[ -n $tls || -d $dir/tls ]]; then
    export TLS_DIR=$dir/tls PGSSLMODE=verify-full PGSSLROOTCERT=$dir/tls/ca.crt
  fi
  export PATH=$PATH:/usr/sbin LC_ALL=C.UTF-8 HOME=$dir TMPDIR=/tmp WAIT_SECONDS=${WAIT_SECONDS:-120}
}

as_user() {
  if [[ $EUID == 0 ]]; then
    exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups "$@"
  else
    exec "$@"
  fi
}

# Prints the process id, if it runs. Another process may have the number by now;
# ours are in our directory.
# pid_of SERVICE
pid_of() {
  local pid stat
  pid=$(cat "$dir/run/$1" 2>/dev/null) || return 1
  # not by $(<), which ends this shell when there is no such file any more
  stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
  [[ $(readlink "/proc/$pid/cwd") == "$dir"* && $stat != *') Z '* ]] || return 1
  echo "$pid"
}

# listens ADDRESS PORT
listens() {
  [[ $2 != - ]] && (: <"/dev/tcp/$1/$2") 2>/dev/null
}

# Below the ports that the kernel gives to clients. At random, because several
# may be asking at the same time.
free_offset() {
  local service try
  while read -r try; do
    for service in "${services[@]}"; do
      ! listens 127.0.0.1 $((port[$service] - offset + try)) || continue 2
    done
    echo "$try"
    return
  done < <(seq 10000 150 22000 | shuf)
  die "no free ports; set SAGAZ_PORT_OFFSET"
}

start() {
  if listens "$(address "$1")" "${port[$1]}"; then
    die "port ${port[$1]} for $1 is in use: end what listens there, or set SAGAZ_PORT_OFFSET to something else than $offset"
  fi
  (
    # where pid_of knows it by, from its first moment on
    cd "$dir"
    as_user setsid "$dir/deploy/demo/stack.sh" become "$1" >>"$dir/log/$1" 2>&1 </dev/null &
    echo $! >"$dir/run/$1"
  )
}

# wait_healthy SERVICE
wait_healthy() {
  local deadline=$((SECONDS + WAIT_SECONDS)) said
  until said=$(healthy "$1" 2>&1); do
    if ! pid_of "$1" >/dev/null || ((SECONDS >= deadline)); then
      tail -n 15 "$dir/log/$1" >&2
      die "$1 doesn't work: ${said:-}; its log is $dir/log/$1"
    fi
    sleep 0.1
  done
}

# PostgreSQL ends at once with INT, and waits for its clients with TERM.
# PgBouncer the other way round.
stop() {
  local pid signal=TERM deadline=$((SECONDS + 30))
  pid=$(pid_of "$1") || return 0
  [[ $1 != postgres-* ]] || signal=INT
  # again and again: a script that is about to become a server ignores it
  while pid_of "$1" >/dev/null; do
    if ((SECONDS >= deadline)); then
      say "$1 doesn't stop: killed"
      signal=KILL
    fi
    kill -"$signal" "$pid" 2>/dev/null || true
    sleep 0.1
  done
}

# -------- commands

# The copy is what runs: the servers' user may not be allowed to read the tree.
prepare() {
  if [[ -e $dir && ! -O $dir/run && ! ( -O $dir && -z $(ls -A "$dir") ) ]]; then
    die "$dir is not a stack of yours: set SAGAZ_STATE_DIR to something else"
  fi
  mkdir -p "$dir"/{run,log,socket,deploy}
  for ((i = 2; i <= replicas; i++)); do
    mkdir -p "$dir/socket.$i"
  done
  cp -r "$deploy"/{config,scripts,demo,relay,.env} "$dir/deploy"
  chmod 0700 "$dir" "$dir"/socket*
  echo "$replicas" >"$dir/replicas"
  if [[ -n $tls && ! -d $dir/tls ]]; then
    [[ ! -e $dir/run/postgres-primary ]] || die "TLS needs a new stack: stack.sh down"
    "$dir/deploy/scripts/certificates" "$dir/tls" 127.0.0.{2..9}
  fi
  if [[ $EUID == 0 ]]; then
    chown "$user" "$dir" "$dir"/log "$dir"/socket*
    chown -R "$user" "$dir/deploy"
    [[ ! -d $dir/tls ]] || chown -R "$user" "$dir/tls"
  fi
}

# Clients find their servers there, so the primary works before the rest starts.
up() {
  local service
  prepare
  # they read of new replicas when they start
  ((replicas == had_replicas)) || stop_all pgbouncer-ro prometheus
  for service; do
    pid_of "$service" >/dev/null || start "$service"
    if [[ $service == postgres-primary ]]; then
      wait_healthy "$service"
      init
    fi
  done
  for service; do
    wait_healthy "$service"
    if [[ ${port[$service]} == - ]]; then
      echo "  $service"
    else
      printf '  %-18s %s:%s\n' "$service" "$(address "$service")" "${port[$service]}"
    fi
  done
}

init() {
  "$dir/deploy/scripts/init" >>"$dir/log/postgres-init" 2>&1 ||
    die "postgres-init failed: $(tail -n 3 "$dir/log/postgres-init")"
}

# What a human wants to type next.
how_to_connect() {
  printf '  PGPASSWORD=%q psql -h 127.0.0.1 -p %s -U postgres %s\n' "$POSTGRES_PASSWORD" "${port[pgbouncer-rw]}" "$POSTGRES_DB"
}

# stop_all SERVICE...: in the order opposite to that of starting
stop_all() {
  local i
  for ((i = $#; i > 0; i--)); do
    stop "${!i}"
  done
}

down() {
  [[ -e $dir ]] || return 0
  [[ -O $dir/run ]] || die "$dir is not a stack of yours"
  stop_all "${services[@]}" "${on_request[@]}"
  rm -rf "$dir"
}

# -------- status

# Two in a line, for the rest of the screen.
show_processes() {
  local service pid state all=0 end='  '
  for service in "${services[@]}" "${on_request[@]}"; do
    [[ -e $dir/run/$service ]] || continue
    state=ok
    if ! pid=$(pid_of "$service"); then
      state='NOT RUNNING' all=1
    elif ! healthy "$service" >/dev/null 2>&1; then
      state='NOT WORKING' all=1
    fi
    printf '%-18s %5s %-15s%s' "$service" "${port[$service]}" "$state ${pid:-}" "$end"
    [[ $end == '  ' ]] && end=$'\n' || end='  '
  done
  [[ $end == '  ' ]] || echo
  return "$all"
}

# The console has no SELECT, and each version its columns.
show_pools() {
  local pool
  printf '%-13s %-14s %7s %7s %7s %5s  %s\n' pool user clients waiting servers idle mode
  for pool in rw ro; do
    sql "pgbouncer-$pool" pgbouncer --no-align --command='SHOW POOLS' 2>/dev/null |
      awk -F'|' -v pool="pgbouncer-$pool" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
        NR > 1 && NF > 1 && $1 != "pgbouncer" {
          printf "%-13s %-14s %7d %7d %7d %5d  %s\n", pool, $2, $at["cl_active"], $at["cl_waiting"],
            $at["sv_active"] + $at["sv_idle"], $at["sv_idle"], $at["pool_mode"] }' ||
      echo "pgbouncer-$pool doesn't answer"
  done
}

# sql SERVICE DATABASE OPTION...
sql() {
  PGPASSWORD=$POSTGRES_PASSWORD "$bin/psql" --no-psqlrc --quiet --pset=pager=off --host="$(address "$1")" \
    --port="${port[$1]}" --username=postgres --dbname="$2" "${@:3}"
}

# One screen. Fails if anything doesn't work.
status() {
  local broken=0 node picture=true
  [[ -e $dir/run ]] || die "no stack runs in $dir; make demo-up starts one"
  show_processes || broken=1
  for node in "${services[@]}"; do
    if [[ $node == postgres-* ]] && pid_of "$node" >/dev/null; then
      sql "$node" "$POSTGRES_DB" --set=picture="$picture" --file="$dir/deploy/demo/status.sql" || broken=1
      picture=false
    fi
  done
  show_pools
  return "$broken"
}

# --------

print_env() {
  local service name
  for service in "${services[@]}"; do
    name=${service//-/_}
    printf 'export %s_PORT=%q\n' "${name^^}" "${port[$service]}"
  done
  printf 'export %s=%q\n' SAGAZ_STATE_DIR "$dir" SAGAZ_PORT_OFFSET "$offset" SOCKET_DIR "$SOCKET_DIR" PG_BIN "$bin" \
    POSTGRES_PASSWORD "$POSTGRES_PASSWORD" MONITOR_PASSWORD "$MONITOR_PASSWORD"
  # for psql and other clients that connect to it
  [[ -z ${TLS_DIR:-} ]] || printf 'export %s=%q\n' PGSSLMODE verify-full PGSSLROOTCERT "$PGSSLROOTCERT"
}

# usage_error
usage_error() {
  sed -n '5,12s/^# //p' "$0" >&2
  exit 2
}

command=${1:-}
shift || true
chosen=("$@")
if [[ $# == 0 ]]; then
  chosen=("${services[@]}")
  [[ $command != stop ]] || chosen+=("${on_request[@]}")
fi
for service in "${chosen[@]}"; do
  [[ -n ${port[$service]:-} || $command/$service == logs/postgres-init ]] ||
    die "no such service: $service; there are: ${services[*]} ${on_request[*]}"
done
find_bin
clean_environment
case $command in
up)
  up "${chosen[@]}"
  [[ $# != 0 ]] || how_to_connect
  ;;
stop) stop_all "${chosen[@]}" ;;
restart)
  stop_all "${chosen[@]}"
  up "${chosen[@]}"
  ;;
logs) cat "$dir/log/${1:-postgres-init}" ;;
env) print_env ;;
free-offset) free_offset ;;
status) status ;;
down) down ;;
become) become "$1" ;;
*) usage_error ;;
esac
