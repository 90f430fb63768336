#!/bin/bash
# The outbox relay with a real primary, rw pool and Redis: nothing is lost,
# and the first deliveries of each key are in order, with four relays that are
# killed all the time, and servers that are killed too.
#
# usage: prove -v test/deploy/60_relay.t
# as an unprivileged user, with the extension installed. PG_CONFIG chooses one of
# several PostgreSQL installations. KILLS=20 is how many relays are killed.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=test/deploy/port.sh
source test/deploy/port.sh

dir=$(mktemp -d "${TMPDIR:-/tmp}/relay.XXXXXX")
kills=${KILLS:-20}
bin=$("${PG_CONFIG:-pg_config}" --bindir)
declare -A pids=()
tests=0

cleanup() {
  touch "$dir/stop" # the writers
  # a process that was started with setsid leads a group of its own
  for pid in "${pids[@]}"; do
    kill -KILL -- "-$pid" 2>/dev/null || true
  done
  # not one of its directories may be written to any more
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# -------- TAP

# ok WHAT COMMAND...
ok() {
  local what=$1 verdict='ok'
  shift
  tests=$((tests + 1))
  "$@" || verdict='not ok'
  echo "$verdict $tests - $what"
}

# is WHAT GOT WANTED
is() {
  ok "$1" test "$2" == "$3"
  [[ $2 == "$3" ]] || printf '# got: %s\n# wanted: %s\n' "$2" "$3"
}

bail_out() {
  echo "Bail out! $*"
  tail -n 20 "$dir"/*.log | sed 's/^/# /'
  exit 1
}

# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || bail_out "gave up waiting: $what"
    sleep 0.05
  done
}

# -------- servers

# start NAME COMMAND...: in the background, as leader of a group
start() {
  local name=$1
  shift
  setsid "$@" >>"$dir/$name.log" 2>&1 &
  pids[$name]=$!
}

# stop NAME SIGNAL: what it ended with is in $status
stop() {
  status=0
  kill -"$2" "${pids[$1]}"
  wait "${pids[$1]}" 2>/dev/null || status=$?
  unset "pids[$1]"
}

export POSTGRES_PASSWORD=sesame REPLICATION_PASSWORD=r MONITOR_PASSWORD=m LISTEN_ADDRESSES=127.0.0.1
export PGPASSWORD=$POSTGRES_PASSWORD PRIMARY_HOST=127.0.0.1 PGHOST=127.0.0.1 PGUSER=postgres PGDATABASE=sagaz
PRIMARY_PORT=$(free_port) POOL_PORT=$(free_port) REDIS_PORT=$(free_port)
export PRIMARY_PORT POOL_PORT REDIS_PORT DATABASE_URL="port=$POOL_PORT connect_timeout=2"
mkdir "$dir/socket" "$dir/redis" "$dir/pool"

start_primary() {
  PGDATA=$dir/data PGPORT=$PRIMARY_PORT SOCKET_DIR=$dir/socket NODE_NAME=primary \
    start primary deploy/scripts/primary
}

start_pool() {
  RUN_DIR=$dir/pool start pool deploy/scripts/pool rw
}

start_redis() {
  start redis redis-server "$PWD/deploy/config/redis/redis.conf" --bind 127.0.0.1 --port "$REDIS_PORT" \
    --dir "$dir/redis" --appendfsync always
  wait_for 20 "Redis" redis PING
}

start_relay() {
  start "relay$1" deploy/relay/relay
}

redis() {
  redis-cli -h 127.0.0.1 -p "$REDIS_PORT" -e --raw "$@"
}

sql() {
  "$bin/psql" --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 \
    --port="$PRIMARY_PORT" --command="$1"
}

is_true() {
  [[ $(sql "SELECT $1") == t ]]
}

none_pending() {
  is_true "NOT EXISTS (SELECT FROM saga_outbox WHERE status = 'PENDING')"
}

# event KEY N [TOPIC]: an INSERT
event() {
  echo "INSERT INTO saga_outbox (topic, partition_key, payload) VALUES ('${3:-t}', '$1', '{\"n\": $2}');"
}

# A session that stays open, for transactions that do
open_session() {
  local SESSION_PID # coproc sets it
  coproc SESSION { "$bin/psql" --no-psqlrc --quiet --no-align --tuples-only --port="$PRIMARY_PORT" 2>&1; }
  session_pid=$SESSION_PID
}

# session SQL: when it has run
session() {
  local line
  printf '%s\n\\echo done\n' "$1" >&"${SESSION[1]}"
  while read -r -t 20 line <&"${SESSION[0]}" && [[ $line != 'done' ]]; do :; done
}

close_session() {
  printf '\\q\n' >&"${SESSION[1]}"
  wait "$session_pid" || true
}

# Entries of a stream in their order: id, key, n, separated by blanks; - for no key
entries() {
  redis XRANGE "outbox:$1" - + | awk '
    name == "id" { id = $0; key = "-" }
    name == "partition_key" { key = $0 }
    name == "payload" { gsub(/[^0-9]/, ""); print id, key, $0 }
    { name = ($0 == "id" || $0 == "partition_key" || $0 == "payload") && name == "" ? $0 : "" }'
}

order_of() {
  entries "$1" | awk -v key="$2" '$2 == key && !seen[$1]++ { printf "%s ", $3 }'
}

# -------- tests

# While this transaction is open, others get later positions and are published;
# nobody may conclude that there is nothing before them.
test_late_commit() {
  local until=$((SECONDS + 3)) n=0
  open_session
  session "BEGIN; $(event late 1 late)"
  while ((SECONDS < until)); do
    n=$((n + 1))
    sql "$(event other $n late)"
    wait_for 20 "an event beside an open transaction" is_published other $n late
  done
  session "COMMIT;"
  # both before the relay looks, so that it has the choice
  sql "$(event late 2 late)"
  close_session
  wait_for 20 "the late event" none_pending
  is "an event that was committed late comes before the next of its key" "$(order_of late late)" "1 2 "
}

is_published() {
  is_true "EXISTS (SELECT FROM saga_outbox WHERE partition_key = '$1' AND payload = '{\"n\": $2}'
    AND topic = '$3' AND status = 'PUBLISHED')"
}

test_locked_row() {
  stop relay1 TERM
  sql "$(event busy 1 locked)"
  open_session
  session "BEGIN; SELECT FROM saga_outbox WHERE topic = 'locked' FOR UPDATE;"
  sql "$(event busy 2 locked) $(event free 1 locked)"
  start_relay 1
  wait_for 20 "an event beside a locked row" is_published free 1 locked
  is "events after one whose row somebody has locked wait for it" \
    "$(sql "SELECT count(*) FROM saga_outbox WHERE partition_key = 'busy' AND status = 'PENDING'")" 2
  session "COMMIT;"
  close_session
  wait_for 20 "the event whose row was locked" none_pending
  is "and come after it" "$(order_of locked busy)" "1 2 "
}

test_other_day() {
  sql "INSERT INTO saga_outbox (topic, payload, created_at) SELECT 'other', '{}', now() + interval '3 days'"
  wait_for 120 "an event of another day" none_pending
  is "an event of another day is found too" "$(redis XLEN outbox:other)" 1
}

test_refused() {
  redis SET outbox:no-stream value >/dev/null
  sql "$(event a 1 no-stream) $(event a 1 stream)"
  wait_for 20 "an event that Redis takes" is_published a 1 stream
  is "an event that Redis refuses for what it is has failed, and the next went on" \
    "$(sql "SELECT status, attempts, last_error ~ 'WRONGTYPE', published_at IS NULL FROM saga_outbox
      WHERE topic = 'no-stream'")" "FAILED|1|t|t"
}

# The client's events have no topic, statuses in lower case, and queries of their own.
test_client() {
  local columns="saga_id, aggregate_id, event_type, payload, status"
  redis SET outbox:no-stream value >/dev/null
  sql "INSERT INTO saga_outbox ($columns) SELECT 's', 'order-1', 'order.created', jsonb_build_object('n', i), 'pending'
      FROM generate_series(1, 3) AS i;
    INSERT INTO saga_outbox ($columns) VALUES ('s', 'order-2', 'no-stream', '{}', 'pending')"
  wait_for 20 "the client's events" is_true "NOT EXISTS (SELECT FROM saga_outbox WHERE status = 'pending')"
  is "the client sees its events as sent" "$(sql "SELECT status, count(*), count(sent_at), count(published_at) FROM saga_outbox
    WHERE event_type = 'order.created' GROUP BY 1")" "sent|3|3|3"
  is "they are published by their type, in the order of their aggregate" "$(order_of order.created order-1)" "1 2 3 "
  is "and as failed if Redis refuses them" "$(sql "SELECT status, retry_count, sent_at IS NULL FROM saga_outbox
    WHERE event_type = 'no-stream'")" "failed|1|t"
}

# The relay forgets what it knew when this changes, so it has to be there for any role.
test_ordinary_role() {
  local statements seen
  statements=$(printf '#include <stdio.h>\n#include "sql.h"\nint main(void) { return puts(begin_sql) < 0; }\n' |
    cc -x c -w -Ideploy/relay -o "$dir/begin" - && "$dir/begin")
  sql "CREATE ROLE ordinary"
  seen=$(sql "SET ROLE ordinary; $statements" | tail -n 1 | cut -d'|' -f3)
  ok "an ordinary role sees which server it is: $seen" test -n "$seen"
}

test_full() {
  redis CONFIG SET maxmemory 1 >/dev/null
  sql "$(event full 1 full) $(event full 2 full)"
  wait_for 20 "a relay that complains" grep -q OOM "$dir/relay1.log"
  is "while Redis is full, events stay as they are" \
    "$(sql "SELECT DISTINCT status, attempts, last_error IS NULL FROM saga_outbox WHERE topic = 'full'")" \
    "PENDING|0|t"
  redis CONFIG SET maxmemory 0 >/dev/null
  wait_for 20 "events after Redis was full" none_pending
  is "and are published when there is room again" "$(order_of full full)" "1 2 "
}

# The rows of a counter are locked before the event gets its number, as a saga's
# row is: so the numbers are the true order, whenever the transactions began.
write_events() {
  cat >"$dir/keyed.sql" <<'SQL'
\set key random(1, 20)
BEGIN;
UPDATE counters SET n = n + 2 WHERE key = 'k' || :key RETURNING n \gset
INSERT INTO saga_outbox (topic, partition_key, payload) VALUES ('t', 'k' || :key, jsonb_build_object('n', :n - 1));
INSERT INTO saga_outbox (topic, partition_key, payload) VALUES ('t', 'k' || :key, jsonb_build_object('n', :n));
COMMIT;
SQL
  echo "INSERT INTO saga_outbox (topic, payload) VALUES ('t', '{\"n\": 0}');" >"$dir/keyless.sql"
  until [[ -e $dir/stop ]]; do
    "$bin/pgbench" --no-vacuum --client=6 --jobs=1 --rate=500 --time=2 --port="$POOL_PORT" \
      --file="$dir/keyed.sql@9" --file="$dir/keyless.sql@1" >>"$dir/writers.log" 2>&1 || sleep 0.1
  done
}

# A relay that has come as far as publishing something is worth killing
kill_relays() {
  local round victim
  for ((round = 1; round <= kills; round++)); do
    case $round in
      $((kills / 4))) stop redis KILL; start_redis ;;
      $((kills / 2))) stop primary QUIT; start_primary ;;
      $((kills * 3 / 4))) stop pool KILL; start_pool ;;
    esac
    wait_for 90 "events that are published" published_more
    # somewhere within a batch
    sleep "0.0$((RANDOM % 10))"
    victim=$((RANDOM % 4 + 1))
    stop relay$victim KILL
    start_relay $victim
  done
}

length_before=0
published_more() {
  local length
  length=$(redis XLEN outbox:t)
  ((length > length_before + 100)) || return 1
  length_before=$length
}

test_kills() {
  local writers
  sql "CREATE TABLE counters (key text PRIMARY KEY, n bigint NOT NULL);
    INSERT INTO counters SELECT 'k' || i, 0 FROM generate_series(1, 20) AS i"
  write_events &
  writers=$!
  for relay in 2 3 4; do
    start_relay $relay
  done
  kill_relays
  touch "$dir/stop"
  wait "$writers"
  wait_for 60 "the last events" none_pending

  sql "CREATE TABLE delivered (seq bigint GENERATED ALWAYS AS IDENTITY, id uuid, key text, n bigint)"
  entries t | "$bin/psql" --no-psqlrc --quiet --port="$PRIMARY_PORT" \
    --command="COPY delivered (id, key, n) FROM STDIN (DELIMITER ' ', NULL '-')"
  echo "# $(sql "SELECT count(DISTINCT id) || ' events, ' || count(*) - count(DISTINCT id) || ' delivered twice, ' ||
    (SELECT count(*) FROM (SELECT created_at < max(created_at) OVER (PARTITION BY partition_key ORDER BY position
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS late FROM saga_outbox WHERE topic = 't') AS o WHERE late)
    || ' with a created_at that belies their order' FROM delivered")"
  ok "there was something to lose" is_true "count(*) > 1000 FROM saga_outbox WHERE topic = 't'"
  is "no event is lost" "$(sql "SELECT count(*) FROM saga_outbox AS o
    WHERE topic = 't' AND NOT EXISTS (SELECT FROM delivered AS d WHERE d.id = o.event_id)")" 0
  is "none was delivered that isn't there" "$(sql "SELECT count(*) FROM delivered AS d
    WHERE NOT EXISTS (SELECT FROM saga_outbox AS o WHERE d.id = o.event_id)")" 0
  is "all are marked as published" "$(sql "SELECT string_agg(DISTINCT status, ' ') FROM saga_outbox
    WHERE topic = 't'")" PUBLISHED
  is "the first deliveries of each key are in order" "$(sql "SELECT count(*) FROM (
      SELECT n, row_number() OVER (PARTITION BY key ORDER BY min(seq)) AS place
      FROM delivered WHERE key IS NOT NULL GROUP BY key, id, n) AS d WHERE n <> place")" 0
}

test_stop() {
  stop relay1 TERM
  is "a relay that is told to stop ends well" "$status" 0
  for relay in 2 3 4; do
    stop relay$relay TERM
  done
  sql "$(event once 1 once)"
  ok "relay --once publishes what there is" deploy/relay/relay --once
  is "and ends" "$(order_of once once)" "1 "
  stop redis TERM
  ok "relay --once fails without Redis" not deploy/relay/relay --once
}

not() {
  ! "$@" 2>/dev/null
}

make --no-print-directory -s -C deploy/relay || bail_out "the relay can't be built"
start_primary
start_pool
start_redis
PRIMARY_HOST=127.0.0.1 deploy/scripts/init >"$dir/init.log" 2>&1 || bail_out "the database can't be set up"
start_relay 1
test_late_commit
test_locked_row
test_other_day
test_refused
test_client
test_ordinary_role
test_full
test_kills
test_stop
echo "1..$tests"
