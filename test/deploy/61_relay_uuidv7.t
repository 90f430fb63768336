#!/bin/bash
# The outbox keyed by UUIDv7, made by the statements of doc/partitioning.md, and the
# relay on it: an id is there once, and all events are published in order.
#
# usage: prove -v test/deploy/61_relay_uuidv7.t
# as an unprivileged user, with the extension installed. PG_CONFIG chooses one of
# several PostgreSQL installations.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=test/deploy/port.sh
source test/deploy/port.sh

dir=$(mktemp -d "${TMPDIR:-/tmp}/relay.XXXXXX")
bin=$("${PG_CONFIG:-pg_config}" --bindir)
redis_pid=
tests=0

cleanup() {
  [[ -z $redis_pid ]] || kill "$redis_pid" 2>/dev/null || true
  [[ -z $redis_pid ]] || wait "$redis_pid" 2>/dev/null || true
  "$bin/pg_ctl" --pgdata="$dir/data" --mode=immediate --silent stop >/dev/null 2>&1 || true
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

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

sql() {
  "$bin/psql" --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 --command="$1"
}

# The statements of the page's section, as they are
layout() {
  awk '/^### An outbox keyed by UUIDv7/ { in_section = 1 }
    in_section && /^```$/ { exit }
    in_block { print }
    in_section && /^```sql$/ { in_block = 1 }' doc/partitioning.md
}

redis() {
  redis-cli -h 127.0.0.1 -p "$REDIS_PORT" -e --raw "$@"
}

# What the streams have of each key, in order: none is missing, none before its turn
order_of() {
  redis XRANGE outbox:t - + | awk -v key="$1" '
    $0 == "partition_key" { getline; is_key = $0 == key }
    $0 == "payload" { getline; if (is_key) { gsub(/[^0-9]/, ""); printf "%s ", $0 } }'
}

make --no-print-directory -s -C deploy/relay || bail_out "the relay can't be built"
PGPORT=$(free_port) REDIS_PORT=$(free_port)
export PGPORT REDIS_PORT PGHOST=$dir PGUSER=postgres PGDATABASE=postgres DATABASE_URL='connect_timeout=2'
"$bin/initdb" --pgdata="$dir/data" --username=postgres --auth=trust --no-sync >"$dir/initdb.log" 2>&1 || bail_out "initdb"
cat >>"$dir/data/postgresql.conf" <<EOF2
listen_addresses = ''
unix_socket_directories = '$dir'
fsync = off
EOF2
"$bin/pg_ctl" --pgdata="$dir/data" --log="$dir/server.log" --wait --silent start >/dev/null || bail_out "the server doesn't start"
redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --dir "$dir" >"$dir/redis.log" 2>&1 &
redis_pid=$!
for _ in {1..200}; do
  redis PING >/dev/null 2>&1 && break
  sleep 0.05
done

sql "CREATE EXTENSION sagaz_ha"
layout >"$dir/layout.sql"
"$bin/psql" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --file="$dir/layout.sql" >"$dir/layout.log" 2>&1 || bail_out "the page's layout"
is "the page's outbox gets its partitions" "$(sql "SELECT count(*) FROM maintain_all_partitions() WHERE action = 'CREATE'")" 8
is "and its key is the id alone" \
  "$(sql "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'saga_outbox'::regclass AND contype = 'p'")" \
  'PRIMARY KEY (event_id)'

# a UUIDv7 of a time, as a client makes it
sql "CREATE FUNCTION uuidv7_of(t timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS \$\$
  SELECT (left(sagaz_ha.uuidv7_at(t)::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid \$\$"
sql "INSERT INTO saga_outbox (event_id, topic, partition_key, payload)
  SELECT uuidv7_of(now() + (i % 3) * interval '1 day'), 't', 'k' || i % 5, jsonb_build_object('n', i / 5 + 1)
  FROM generate_series(0, 499) AS i"
is "events are in the partitions of their ids" "$(sql "SELECT count(DISTINCT tableoid) FROM saga_outbox")" 3

id=$(sql "SELECT uuidv7_of(now())")
for _ in 1 2; do
  sql "INSERT INTO saga_outbox (event_id, topic, payload) VALUES ('$id', 'once', '{}') ON CONFLICT (event_id) DO NOTHING"
done
is "a retry of an insert is harmless" "$(sql "SELECT count(*) FROM saga_outbox WHERE event_id = '$id'")" 1
sql "CREATE TABLE receipts (event uuid REFERENCES saga_outbox (event_id))"
is "other tables can reference an event" \
  "$(sql "INSERT INTO receipts VALUES ('$id') RETURNING 1")" 1
is "a UUID of another version is refused by the CHECK" \
  "$(sql "INSERT INTO saga_outbox (event_id, topic, payload) VALUES (overlay('$id' placing '4' from 15)::uuid, 't', '{}')" 2>&1 |
    grep -c event_id_is_uuidv7)" 1

ok "the relay publishes" deploy/relay/relay --once
is "every event is marked" "$(sql "SELECT string_agg(DISTINCT status, ' ') FROM saga_outbox")" PUBLISHED
is "each was published once" "$(redis XLEN outbox:t) $(redis XLEN outbox:once)" '500 1'
for key in k0 k1 k2 k3 k4; do
  is "those of key $key in order" "$(order_of $key)" "$(seq -s ' ' 1 100) "
done
is "an event that is pending keeps its partition" \
  "$(sql "INSERT INTO saga_outbox (event_id, topic, payload) VALUES (uuidv7_of(now()), 't', '{}');
    SET sagaz_ha.clock = '$(date -u -d '+60 days' +%Y-%m-%d)';
    SELECT count(*) FROM maintain_all_partitions() WHERE action = 'KEEP'")" 1
echo "1..$tests"
