#!/bin/bash
# How long it takes to make daily partitions of saga_outbox, with its indexes: they
# are made as partitions at once; of a table with rows, sagaz_ha attaches tables,
# which needs the weaker lock.
#
# usage: bench/create.sh [PARTITIONS]...   (365 3650)
# ROUNDS     runs of each, of which the median counts (3); more than 1,000 partitions have one
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

rounds=${ROUNDS:-3}
counts=("$@")
[[ $# -gt 0 ]] || counts=(365 3650)
contenders=(ddl foreground worker foreground_used worker_used pg_partman)
declare -A titles=(
  [ddl]='plain PARTITION OF, one DO block' [foreground]='sagaz_ha maintain_partitions()'
  [worker]='sagaz_ha worker' [foreground_used]='sagaz_ha maintain_partitions(), table with rows'
  [worker_used]='sagaz_ha worker, table with rows' [pg_partman]='pg_partman create_parent()'
)

# The days that are to have a partition, COUNT of them: as many ahead as a policy
# may have, the others before today. sagaz_ha fills what is missing since the first.
days_ahead() {
  echo $(($1 > 900 ? 900 : $1 - 1))
}

# first_day COUNT
first_day() {
  echo "date_trunc('day', now(), 'UTC') - interval '$(($1 - 1 - $(days_ahead "$1"))) days'"
}

# prepare DATABASE CONTENDER COUNT
prepare() {
  database_create "$1"
  sql "$1" --command="CREATE EXTENSION sagaz_ha" --command="SELECT sagaz_ha.create_saga_tables()" \
    --command="SELECT sagaz_ha.stop_managing_partitions(t) FROM unnest('{saga_executions,saga_outbox,saga_audit_log}'::regclass[]) t" >/dev/null
  case $2 in
    foreground* | worker*)
      # where to begin; without it, today. In the foreground, one that has today keeps
      # the other partitions from being made in bulk.
      if (($(days_ahead "$3") < $3 - 1)) || [[ $2 == *_used ]]; then
        sql "$1" --command="CREATE TABLE first_day PARTITION OF saga_outbox
          FOR VALUES FROM ('$(sql "$1" --command="SELECT $(first_day "$3")")')
                       TO ('$(sql "$1" --command="SELECT $(first_day "$3") + interval '1 day'")')"
      fi
      sql "$1" --command="SELECT sagaz_ha.manage_partitions('saga_outbox', '1 day', premake => $(days_ahead "$3"))"
      if [[ $2 == *_used ]]; then
        sql "$1" --command="INSERT INTO saga_outbox (topic, payload, status, created_at)
          VALUES ('t', '{}', 'PUBLISHED', $(first_day "$3"))"
      fi
      ;;
    pg_partman) sql "$1" --command="CREATE SCHEMA partman" --command="CREATE EXTENSION pg_partman SCHEMA partman" ;;
  esac >/dev/null
}

partition_count() {
  sql "$1" --command="SELECT count(*) FROM pg_inherits WHERE inhparent = 'saga_outbox'::regclass"
}

has_partitions() {
  [[ $(partition_count "$1") -ge $2 ]]
}

# make_partitions DATABASE CONTENDER COUNT
make_partitions() {
  local how
  case $2 in
    ddl)
      sql "$1" --command="DO \$\$DECLARE day timestamptz; BEGIN
        FOR day IN SELECT generate_series($(first_day "$3"), date_trunc('day', now(), 'UTC') + interval '$(days_ahead "$3") days', '1 day') LOOP
          EXECUTE format('CREATE TABLE saga_outbox_%s PARTITION OF saga_outbox FOR VALUES FROM (%L) TO (%L)',
                         to_char(day, '\"y\"YYYY\"m\"MM\"d\"DD'), day, day + interval '1 day');
        END LOOP; END\$\$"
      ;;
    foreground*) sql "$1" --command="SELECT * FROM sagaz_ha.maintain_partitions('saga_outbox')" ;;
    worker*)
      sql postgres --command="ALTER SYSTEM SET sagaz_ha.databases = '$1'" --command="SELECT pg_reload_conf()"
      # in one session: a hundredth of a second late, not a tenth and a psql
      sql "$1" --command="SET statement_timeout = '300s'" --command="DO \$\$BEGIN
        WHILE (SELECT count(*) < $3 FROM pg_inherits WHERE inhparent = 'saga_outbox'::regclass) LOOP
          COMMIT;
          PERFORM pg_sleep(0.01);
        END LOOP; END\$\$"
      ;;
    pg_partman)
      if (($(partman_major) >= 5)); then
        how="'1 day', p_default_table => false"
      else
        how="'native', 'daily'"
      fi
      sql "$1" --command="SELECT partman.create_parent('public.saga_outbox', 'created_at', $how,
        p_premake => $(days_ahead "$3"), p_start_partition => ($(first_day "$3"))::text)"
      ;;
  esac >/dev/null
}

note "making a cluster"
cluster_create primary 5432 "shared_preload_libraries = 'sagaz_ha'" "sagaz_ha.databases = 'none'" \
  "autovacuum = off" "shared_buffers = 512MB" "max_wal_size = 8GB" "max_locks_per_transaction = 2048" \
  "max_connections = 20"
{
  echo "contender|partitions|ms|ms each|of plain DDL"
  for count in "${counts[@]}"; do
    ddl=''
    for contender in "${contenders[@]}"; do
      is_contender "$contender" || continue
      note "$count: ${titles[$contender]}"
      # what takes a minute is measured once
      ms=$(for ((round = 1; round <= (count > 1000 ? 1 : rounds); round++)); do
        database=${contender}_${count}_$round
        prepare "$database" "$contender" "$count"
        started=$(now_ms)
        make_partitions "$database" "$contender" "$count"
        echo $(($(now_ms) - started))
        # pg_partman may begin a day earlier
        has_partitions "$database" "$count" || die "$database has $(partition_count "$database") partitions, not $count"
        sql postgres --command="ALTER SYSTEM RESET sagaz_ha.databases" --command="SELECT pg_reload_conf()" >/dev/null
        wait_until 30 drop_database "$database" || die "cannot drop database $database"
      done | distribution | cut -d' ' -f2)
      ddl=${ddl:-$ms}
      echo "${titles[$contender]}|$count|$ms|$(ratio "$ms" "$count")|$(ratio "$ms" "$ddl")"
    done
  done
} >"$dir/table"
table <"$dir/table"
echo
echo "Medians of $rounds runs (one of more than 1,000 partitions), each in a database of its own; with psql's start. The worker commits each partition, or 64 of a table without rows."
say_conditions pg_partman
