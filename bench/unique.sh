#!/bin/bash
# What uniqueness across partitions costs an insert, beside a plain table with a
# primary key, an advisory lock and a lookup in PL/pgSQL, and a side table of keys.
#
# usage: bench/unique.sh [PARTITIONS]...   (1 8 40 400)
# CLIENTS    at the same time (8)
# SECONDS_EACH  of each measurement (10)
# ROWS       in each table beforehand, spread over its partitions (400000)
# FSYNC      of the server (on: a commit is durable, as in production)
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

clients=${CLIENTS:-8} seconds=${SECONDS_EACH:-10} rows=${ROWS:-400000}
counts=("$@")
[[ $# -gt 0 ]] || counts=(1 8 40 400)

# partitioned NAME COUNT: a table by day, each day with its share of the rows
partitioned() {
  sql bench >/dev/null <<SQL
CREATE TABLE $1 (event_id uuid NOT NULL, at timestamptz NOT NULL, payload text) PARTITION BY RANGE (at);
SELECT format('CREATE TABLE $1_%s PARTITION OF $1 FOR VALUES FROM (%L) TO (%L)', n,
    '2026-01-01'::timestamptz + n * interval '1 day', '2026-01-02'::timestamptz + n * interval '1 day')
  FROM generate_series(1, $2) AS n \gexec
INSERT INTO $1 SELECT gen_random_uuid(), '2026-01-02'::timestamptz + (n % $2) * interval '1 day', 'payload'
  FROM generate_series(1, $rows) AS n;
SQL
}

# make CONTENDER COUNT: table t, into whose newest partition rows are inserted
make_table() {
  sql bench --command="DROP TABLE IF EXISTS t, keys CASCADE" >/dev/null
  case $1 in
    plain)
      sql bench --command="CREATE TABLE t (event_id uuid PRIMARY KEY, at timestamptz NOT NULL, payload text);
        INSERT INTO t SELECT gen_random_uuid(), '2026-01-02', 'payload' FROM generate_series(1, $rows)" >/dev/null
      return ;;
    *) partitioned t "$2" ;;
  esac
  case $1 in
    partitioned)
      sql bench --command="CREATE UNIQUE INDEX ON t (event_id, at)" >/dev/null ;;
    add_unique)
      sql bench >/dev/null <<SQL
SELECT format('CREATE UNIQUE INDEX ON t_%s (event_id)', n) FROM generate_series(1, $2) AS n \gexec
SELECT sagaz_ha.add_unique('t', ARRAY['event_id']);
SELECT sagaz_ha.add_unique('t', ARRAY['event_id']);
SQL
      is_true bench "SELECT phase = 'in_force' FROM sagaz_ha.unique_key" || die "the key is not in force" ;;
    advisory)
      sql bench >/dev/null <<'SQL'
CREATE INDEX ON t (event_id);
CREATE OR REPLACE FUNCTION lookup() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(NEW.event_id::text, 0));
  IF EXISTS (SELECT FROM t WHERE event_id = NEW.event_id) THEN
    RAISE unique_violation;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER lookup BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION lookup();
SQL
      ;;
    side_table)
      sql bench >/dev/null <<'SQL'
CREATE UNIQUE INDEX ON t (event_id, at);
CREATE TABLE keys (event_id uuid PRIMARY KEY);
INSERT INTO keys SELECT event_id FROM t;
CREATE OR REPLACE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO keys VALUES (NEW.event_id);
  RETURN NEW;
END $$;
CREATE TRIGGER remember BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION remember();
SQL
      ;;
  esac
}

# p99 of the latencies in pgbench's log, in ms
p99() {
  cat "$dir"/log.* | awk '{ print $3 / 1000 }' | distribution | cut -d' ' -f3
}

# insert: inserts per second and p99
insert() {
  rm -f "$dir"/log.*
  server "$bin/pgbench" --host="$dir" --port=5432 --username=postgres --no-vacuum --protocol=prepared \
    --client="$clients" --jobs=2 --time="$seconds" --log --log-prefix="$dir/log" \
    --file="$dir/insert.sql" bench 2>&1 | sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}

# CPU time, in ticks, that the server's sessions have used that ended by now
ended_ticks() {
  awk '{ print $16 + $17 }' "/proc/$(head -n 1 "$dir/primary/postmaster.pid")/stat"
}

# first insert of a new session, in ms: it has nothing cached
cold() {
  local i
  for ((i = 0; i < 7; i++)); do
    times bench "INSERT INTO t VALUES (gen_random_uuid(), '2026-01-02', 'payload')" 1
  done | median
}

note "making a cluster"
cluster_create primary 5432 "shared_preload_libraries = 'sagaz_ha'" "sagaz_ha.enabled = off" \
  "autovacuum = off" "shared_buffers = 1GB" "max_wal_size = 8GB" "fsync = ${FSYNC:-on}"
database_create bench
sql bench --command="CREATE EXTENSION sagaz_ha" >/dev/null
echo "INSERT INTO t VALUES (gen_random_uuid(), '2026-01-02', 'payload');" >"$dir/insert.sql"
plain=
{
  echo "what|partitions|inserts/s|of plain, %|CPU each, us|p99, ms|first insert of a session, ms"
  for count in plain "${counts[@]}"; do
    if [[ $count == plain ]]; then contenders=(plain); else contenders=(partitioned add_unique advisory side_table); fi
    for contender in "${contenders[@]}"; do
      note "$contender, $count"
      make_table "$contender" "$count"
      sql bench --command="VACUUM ANALYZE t" --command="CHECKPOINT"
      first=$(cold)
      before=$(ended_ticks)
      rate=$(insert)
      # the last sessions end after pgbench
      sleep 0.5
      cpu=$(awk -v t="$(($(ended_ticks) - before))" -v hz="$(getconf CLK_TCK)" -v n="$rate" -v s="$seconds" \
        'BEGIN { printf "%.0f", t * 1000000 / hz / (n * s) }')
      [[ $contender != plain ]] || plain=$rate
      echo "$contender|${count/plain/}|${rate%.*}|$(awk -v a="$rate" -v b="$plain" 'BEGIN { printf "%.0f", 100 * a / b }')|$cpu|$(p99)|$first"
    done
  done
} >"$dir/table"
table <"$dir/table"
echo
echo "CPU each: of the server's sessions, which a busy machine changes less than the rate."
echo "$clients clients for $seconds s each; $rows rows beforehand; event_id is a random UUID; fsync ${FSYNC:-on}."
# shellcheck disable=SC2119  # no peers
say_conditions
