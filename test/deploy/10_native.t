#!/bin/bash
# The native stack, deploy/demo/stack.sh: what its servers are, that it comes
# back from whatever is killed, and that nothing of it stays behind. As any user
# but root; the extension has to be installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d /tmp/sagaz_ha-native.XXXXXX)
# Passwords that break what isn't quoted, and that can be searched for.
cp -r deploy "$work"
cat >"$work/deploy/.env" <<'ENV'
POSTGRES_PASSWORD="super'\"se cret"
REPLICATION_PASSWORD="repl'\\ se cret"
MONITOR_PASSWORD="moni'\"se cret"
ENV
stack=$work/deploy/demo/stack.sh
SAGAZ_PORT_OFFSET=${SAGAZ_PORT_OFFSET:-$("$stack" free-offset)}
SAGAZ_STATE_DIR=$work/state
export SAGAZ_PORT_OFFSET SAGAZ_STATE_DIR
orphans=()

cleanup() {
  trap '' INT TERM
  kill -KILL "${orphans[@]}" 2>/dev/null || true
  "$stack" down >&2
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

count=0
# is NAME GOT WANTED
is() {
  count=$((count + 1))
  if [[ $2 == "$3" ]]; then
    echo "ok $count - $1"
  else
    echo "not ok $count - $1"
    printf '#     got: %s\n#  wanted: %s\n' "${2//$'\n'/$'\n'#}" "$3"
  fi
}

# exit_status COMMAND...: its output is in $output
exit_status() {
  local status=0
  output=$("$@" 2>&1) || status=$?
  echo "$status" >"$work/status"
}

# succeeds NAME COMMAND...
succeeds() {
  exit_status "${@:2}"
  is "$1" "$(<"$work/status")" 0
  [[ $(<"$work/status") == 0 ]] || printf '%s\n' "$output" | sed 's/^/# /'
}

# fails NAME PATTERN COMMAND...: and says so
fails() {
  exit_status "${@:3}"
  is "$1" "$([[ $(<"$work/status") != 0 && $output =~ $2 ]] && echo "says it" || echo "$output")" "says it"
}

# sql PORT STATEMENT [USER [PASSWORD [DATABASE]]]
sql() {
  PGPASSWORD=${4-$POSTGRES_PASSWORD} timeout 60 "$PG_BIN/psql" -XAtqw -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$1" \
    -U "${3:-postgres}" -d "${5:-sagaz}" -c "$2"
}

# becomes NAME WANTED COMMAND...: within a minute
becomes() {
  local deadline=$((SECONDS + 60)) got
  until got=$("${@:3}" 2>&1) && [[ $got == "$2" ]] || ((SECONDS >= deadline)); do
    sleep 0.2
  done
  is "$1" "$got" "$2"
}

# until_true COMMAND...
until_true() {
  local deadline=$((SECONDS + 60))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || return 0
  done
}

streaming="SELECT application_name || ' ' || state FROM pg_stat_replication WHERE application_name = 'postgres-replica'"
slots="SELECT string_agg(slot_name || ' ' || active, ', ') FROM pg_replication_slots"

# -------- what its servers are

test_servers() {
  local port
  for port in "$POSTGRES_PRIMARY_PORT" "$POSTGRES_REPLICA_PORT"; do
    is "$port: settings" "$(sql "$port" "SELECT string_agg(setting, ' ' ORDER BY name) FROM pg_settings
      WHERE name IN ('data_checksums', 'hot_standby_feedback', 'wal_level', 'password_encryption')")" \
      'on on scram-sha-256 replica'
    is "$port: a slot doesn't fill the disk" "$(sql "$port" "SELECT setting::int > 0 FROM pg_settings
      WHERE name = 'max_slot_wal_keep_size'")" t
    is "$port: the extension is preloaded" "$(sql "$port" "SELECT setting ~ '\msagaz_ha\M' FROM pg_settings
      WHERE name = 'shared_preload_libraries'")" t
    is "$port: nobody is trusted but on the socket, which is private" "$(sql "$port" "SELECT
      string_agg(DISTINCT type || ' ' || auth_method, ', '), current_setting('unix_socket_permissions')
      FROM pg_hba_file_rules")" 'host scram-sha-256, local trust|0700'
    fails "$port: a wrong password" 'password authentication failed' sql "$port" 'SELECT 1' postgres wrong
    fails "$port: no password" 'no password supplied' sql "$port" 'SELECT 1' postgres ''
  done
  is 'roles' "$(sql "$POSTGRES_PRIMARY_PORT" "SELECT string_agg(concat_ws(' ', rolname, rolsuper, rolreplication,
    left(rolpassword, 13)), ', ' ORDER BY rolname) FROM pg_authid WHERE rolcanlogin")" \
    'postgres t t SCRAM-SHA-256, replicator f t SCRAM-SHA-256, sagaz_monitor f f SCRAM-SHA-256'
  becomes 'the replica streams' 'postgres-replica streaming' sql "$POSTGRES_PRIMARY_PORT" "$streaming"
  becomes 'from a slot of its own' 'postgres_replica true' sql "$POSTGRES_PRIMARY_PORT" "$slots"
  is 'locale and encoding' "$(sql "$POSTGRES_PRIMARY_PORT" "SELECT datcollate, pg_encoding_to_char(encoding)
    FROM pg_database WHERE datname = 'sagaz'")" 'C.UTF-8|UTF8'
}

# What a query on the replica can see is kept on the primary, as long as it
# runs, and no longer.
test_feedback() {
  local xmin="SELECT count(*) FROM pg_replication_slots WHERE xmin IS NOT NULL AND age(xmin) > 3"
  coproc reader { PGPASSWORD=$POSTGRES_PASSWORD "$PG_BIN/psql" -XAtqw -h 127.0.0.1 -p "$PGBOUNCER_RO_PORT" -U postgres -d sagaz; }
  echo "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM saga_outbox;" >&"${reader[1]}"
  read -r -t 60 <&"${reader[0]}"
  for _ in 1 2 3 4 5; do
    sql "$POSTGRES_PRIMARY_PORT" 'SELECT txid_current()' >/dev/null
  done
  becomes 'the primary knows of a query on the replica' 1 sql "$POSTGRES_PRIMARY_PORT" "$xmin"
  echo 'COMMIT; \q' >&"${reader[1]}"
  becomes 'and that it ended' 0 sql "$POSTGRES_PRIMARY_PORT" "$xmin"
}

test_init() {
  local partitions="SELECT count(*) FROM partition_metadata" before
  before=$(sql "$POSTGRES_PRIMARY_PORT" "$partitions")
  is 'partitions of all saga tables' "$(sql "$POSTGRES_PRIMARY_PORT" "SELECT count(*) FROM get_partition_statistics()
    WHERE covered_until > now()")" 3
  is 'the worker is at work' "$(sql "$POSTGRES_PRIMARY_PORT" "SELECT phase FROM sagaz_ha.maintenance_status()
    WHERE process = 'launcher'")" running
  succeeds 'init once more' "$stack" up
  is 'changes nothing' "$(sql "$POSTGRES_PRIMARY_PORT" "$partitions")" "$before"
  if [[ $(sql "$POSTGRES_PRIMARY_PORT" "SHOW shared_preload_libraries") == *pg_cron* ]]; then
    is 'one nightly job' "$(sql "$POSTGRES_PRIMARY_PORT" "SELECT string_agg(schedule || ' ' || command, ', ') FROM cron.job")" \
      '0 2 * * * SELECT maintain_all_partitions();'
  fi
}

test_pools() {
  local modes="SHOW POOLS" user
  is 'the write pool leads to the primary' "$(sql "$PGBOUNCER_RW_PORT" 'SELECT pg_is_in_recovery()')" f
  is 'the read pool to the replica' "$(sql "$PGBOUNCER_RO_PORT" 'SELECT pg_is_in_recovery()')" t
  is 'modes' "$(sql "$PGBOUNCER_RW_PORT" "$modes" sagaz_monitor "$MONITOR_PASSWORD" pgbouncer | grep '^sagaz|postgres' | grep -c transaction
    sql "$PGBOUNCER_RO_PORT" "$modes" sagaz_monitor "$MONITOR_PASSWORD" pgbouncer | grep '^sagaz|postgres' | grep -c session)" $'1\n1'
  sql "$PGBOUNCER_RW_PORT" "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE ROLE late LOGIN PASSWORD 'late' VALID UNTIL '2020-01-01'"
  is 'a role made later can use the pool' "$(sql "$PGBOUNCER_RW_PORT" 'SELECT current_user' app app)" app
  becomes 'and the one of the replica' app sql "$PGBOUNCER_RO_PORT" 'SELECT current_user' app app
  fails 'with its password' 'authentication failed' sql "$PGBOUNCER_RW_PORT" 'SELECT 1' app wrong
  fails 'that has not expired' 'no such user|authentication failed' sql "$PGBOUNCER_RW_PORT" 'SELECT 1' late late
  for user in app nobody; do
    fails "the console is not for $user" 'not allowed|permission|authentication failed|no such user' \
      sql "$PGBOUNCER_RW_PORT" 'SHOW POOLS' "$user" app pgbouncer
  done
}

# Process ids of everything that runs in the stack's directory.
processes() {
  local link
  for link in /proc/[0-9]*/cwd; do
    [[ $(readlink "$link" 2>/dev/null) != "$SAGAZ_STATE_DIR"* ]] || basename "${link%/cwd}"
  done
}

test_secrets() {
  local pid leaked=
  for pid in $(processes); do
    ! tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q 'se cret' || leaked+="arguments of $pid "
    if [[ $(readlink "/proc/$pid/exe") =~ (postgres|pgbouncer)$ ]]; then
      ! grep -q 'se cret' "/proc/$pid/environ" 2>/dev/null || leaked+="environment of $pid "
    fi
  done
  ! grep -rl 'se cret' "$SAGAZ_STATE_DIR/log" || leaked+=log
  is 'no password in arguments, logs, and the environment of servers' "$leaked" ''
  is 'files with passwords are private' "$(grep -rl 'se cret' "$SAGAZ_STATE_DIR"/{postgres,pgbouncer}* |
    xargs stat -c %a | sort -u)" 600
}

# -------- what it does when something is killed

pid_of() {
  cat "$SAGAZ_STATE_DIR/run/$1"
}

# no process is left in the service's directory
gone() {
  local link
  for link in /proc/[0-9]*/cwd; do
    [[ $(readlink "$link" 2>/dev/null) != "$SAGAZ_STATE_DIR/$1"* ]] || return 1
  done
}

test_kill() {
  local before
  before=$(cat "$SAGAZ_STATE_DIR"/run/*)
  succeeds 'up while it is up' "$stack" up
  is 'starts nothing' "$(cat "$SAGAZ_STATE_DIR"/run/*)" "$before"
  succeeds 'status while all is well' "$stack" status
  kill -KILL "$(pid_of redis)" "$(pid_of postgres-primary)"
  until_true gone redis
  until_true gone postgres-primary
  fails 'status sees what was killed' 'postgres-primary.*NOT RUNNING.*redis.*NOT RUNNING' "$stack" status
  is 'and that the pool leads nowhere' "$([[ $output =~ pgbouncer-rw\ +[0-9]+\ NOT\ WORKING ]] && echo yes)" yes
  succeeds 'up starts them again' "$stack" up
  becomes 'the replica comes back' 'postgres-replica streaming' sql "$POSTGRES_PRIMARY_PORT" "$streaming"
  fails 'a second stack on the same ports' "port $POSTGRES_PRIMARY_PORT .*SAGAZ_PORT_OFFSET" \
    env SAGAZ_STATE_DIR="$work/second" "$stack" up
}

# The replica's data is lost; the slot is still there, or has lost its WAL.
test_clone_again() {
  "$stack" stop postgres-replica
  rm -rf "$SAGAZ_STATE_DIR/postgres-replica"
  succeeds 'a replica without data is cloned again' "$stack" up postgres-replica
  becomes 'with the same slot' 'postgres_replica true' sql "$POSTGRES_PRIMARY_PORT" "$slots"

  "$stack" stop postgres-replica
  sql "$POSTGRES_PRIMARY_PORT" "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'"
  sql "$POSTGRES_PRIMARY_PORT" 'SELECT pg_reload_conf()' >/dev/null
  for _ in 1 2 3 4; do
    sql "$POSTGRES_PRIMARY_PORT" 'SELECT pg_switch_wal(), txid_current()' >/dev/null
    sql "$POSTGRES_PRIMARY_PORT" 'CHECKPOINT'
  done
  is 'the slot is lost' "$(sql "$POSTGRES_PRIMARY_PORT" 'SELECT wal_status FROM pg_replication_slots')" lost
  sql "$POSTGRES_PRIMARY_PORT" 'ALTER SYSTEM RESET max_slot_wal_keep_size'
  sql "$POSTGRES_PRIMARY_PORT" 'SELECT pg_reload_conf()' >/dev/null
  rm -rf "$SAGAZ_STATE_DIR/postgres-replica"
  succeeds 'a clone after that' "$stack" up postgres-replica
  becomes 'streams' 'postgres-replica streaming' sql "$POSTGRES_PRIMARY_PORT" "$streaming"

  "$stack" stop postgres-replica
  # its walsender may have yet to notice that the replica is gone
  until_true sql "$POSTGRES_PRIMARY_PORT" "SELECT pg_drop_replication_slot('postgres_replica')"
  succeeds 'a replica whose slot is gone' "$stack" up postgres-replica
  becomes 'makes it again' 'postgres_replica true' sql "$POSTGRES_PRIMARY_PORT" "$slots"
}

# Starts a script of its own, beside the stack, kills it when a file of the
# cluster that it makes is there, and starts it again.
# kill_half_way SCRIPT FILE
kill_half_way() {
  local data=$work/half/$1 pid
  export PGDATA=$data NODE_NAME=half-way PGPORT=$((SAGAZ_PORT_OFFSET + 5499)) SOCKET_DIR=$work/half \
    LISTEN_ADDRESSES=127.0.0.1 PRIMARY_HOST=127.0.0.1 PRIMARY_PORT=$POSTGRES_PRIMARY_PORT \
    POSTGRES_PASSWORD REPLICATION_PASSWORD MONITOR_PASSWORD PG_BIN
  for _ in 1 2 3 4 5; do
    until_true rm -rf "$work/half"
    mkdir -p "$work/half"
    "$work/deploy/scripts/$1" >"$work/half.log" 2>&1 &
    pid=$!
    # shellcheck disable=SC2016  # the inner shell expands it
    until_true bash -c 'compgen -G "$1"' _ "$data.new.*/$2"
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || true
    # else it was finished before it was killed
    ! compgen -G "$data.new.*" >/dev/null || break
  done
  is "$1 killed with $2: there is no cluster" "$(ls -d "$data" 2>/dev/null)" ''
  "$work/deploy/scripts/$1" >"$work/half.log" 2>&1 &
  orphans=("$!")
}

test_half_way() {
  local file
  for file in PG_VERSION base/4/PG_VERSION; do
    kill_half_way primary "$file"
    becomes 'the next one makes it' 'postgres t, replicator f, sagaz_monitor f' sql "$PGPORT" \
      "SELECT string_agg(rolname || ' ' || rolsuper::text::char, ', ' ORDER BY rolname) FROM pg_authid WHERE rolcanlogin"
    stop_half_way
  done
  kill_half_way standby base
  becomes 'the next one clones' t sql "$PGPORT" 'SELECT pg_is_in_recovery()'
  is 'with one slot' "$(sql "$POSTGRES_PRIMARY_PORT" "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'half_way'")" 1
  stop_half_way
  is 'nothing is left of the first try' "$(ls -d "$work"/half/*.new.* 2>/dev/null)" ''
}

stop_half_way() {
  kill -INT "${orphans[@]}" || true
  wait "${orphans[@]}" || true
  orphans=()
}

# Redis ends just when somebody has looked at its directory for the second time.
ends_when_looked_at() {
  mkdir "$work/shim"
  cat >"$work/shim/readlink" <<'EOF'
#!/bin/bash
/usr/bin/readlink "$@" || exit
is_redis() {
  [[ $1 == /proc/*/cwd && $(cat "${1%/cwd}/comm" 2>/dev/null) == redis-server ]]
}
is_redis "$1" || exit 0
echo looked >>"$0.log"
[[ $(wc -l <"$0.log") -gt 1 ]] || exit 0
pid=${1//[^0-9]/}
kill -KILL "$pid"
for ((i = 0; i < 100; i++)); do
  is_redis "$1" || exit 0
  sleep 0.1
done
EOF
  chmod +x "$work/shim/readlink"
}

test_down() {
  ends_when_looked_at
  succeeds 'down, beside a process that ends by itself' env PATH="$work/shim:$PATH" "$stack" down
  is 'leaves no directory' "$(ls -d "$SAGAZ_STATE_DIR" 2>/dev/null)" ''
  is 'and no process' "$(processes)" ''
  succeeds 'down again' "$stack" down
  fails 'status says what to do' 'make demo-up' "$stack" status
}

eval "$("$stack" env)"
succeeds 'up' "$stack" up
test_servers
test_feedback
test_init
test_pools
test_secrets
test_kill
test_clone_again
# shellcheck source=/dev/null
source "$work/deploy/.env"
test_half_way
test_down
echo "1..$count"
