#!/bin/bash
# Alerts reach somebody: what is provoked on the native stack, with a second replica
# and TLS, fires in Prometheus, and comes out of the webhook by way of Alertmanager.
# The rules are the product's, but for how long a thing has to last.
#
# usage: prove -v test/deploy/52_alerts.t
# environment: PG_CONFIG chooses one of several PostgreSQL installations
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=test/deploy/lib.sh
source test/deploy/lib.sh

dir=$(mktemp -d /tmp/sagaz_ha-alerts.XXXXXX)
cp -r deploy "$dir"
sed -i -E 's/^( +for): .*/\1: 1s/' "$dir"/deploy/config/prometheus/rules/*.yml
sed -i -E 's/(scrape_interval|evaluation_interval): .*/\1: 1s/; s/scrape_timeout: .*/scrape_timeout: 1s/' \
  "$dir/deploy/config/prometheus/prometheus.yml"
export ALERT_GROUP_WAIT=1s
stack=$dir/deploy/demo/stack.sh
SAGAZ_PORT_OFFSET=$("$stack" free-offset)
SAGAZ_STATE_DIR=$dir/state
export SAGAZ_PORT_OFFSET SAGAZ_STATE_DIR
clients=()

stop_stack() {
  kill "${clients[@]}" 2>/dev/null || true
  "$stack" down >&2
  rm -rf "$dir"
}
trap stop_stack EXIT
trap 'exit 130' INT TERM

# psql HOST PORT STATEMENT
psql() {
  PGPASSWORD=$POSTGRES_PASSWORD "$PG_BIN/psql" -XAtqw -v ON_ERROR_STOP=1 -h "$1" -p "$2" -U postgres -d sagaz -c "$3"
}

# on_primary STATEMENT
on_primary() {
  psql 127.0.0.1 "$POSTGRES_PRIMARY_PORT" "$1"
}

# holds CONDITION: on the primary
holds() {
  [[ $(on_primary "SELECT $1") == t ]]
}

# check WHAT COMMAND...
check() {
  local status=0
  "${@:2}" || status=$?
  ok "$status" "$1"
}

# fails COMMAND...
fails() {
  ! "$@" 2>/dev/null
}

# prometheus_has COUNT PATTERN: in the answer about its targets, once a line
prometheus_has() {
  [[ $(page "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/targets" | grep -oE "$2" | wc -l) == "$1" ]]
}

# page URL
page() {
  python3 -c 'import ssl, sys, urllib.request as r
print(r.urlopen(sys.argv[1], context=ssl.create_default_context(cafile=sys.argv[2])).read().decode())' \
    "$1" "$SAGAZ_STATE_DIR/tls/ca.crt"
}

# refused_by_exporter PORT: it says that its server is down, and why
refused_by_exporter() {
  page "https://127.0.0.1:$1/metrics" | grep -qx 'pg_up 0' &&
    grep -q 'does not match host name "0.0.0.0"' "$dir/exporter.log"
}

# told_of ALERT [LABEL]: by the webhook
told_of() {
  "$stack" logs alert-log | grep -E "^firing $1 .*${2:-}"
}

# Sessions that stay open until there are more than the pool has had so far.
pool_reaches() {
  local i
  for ((i = 0; i < 15; i++)); do
    psql 127.0.0.1 "$PGBOUNCER_RO_PORT" "SELECT current_setting('cluster_name') FROM pg_sleep(2)" &
  done >"$dir/nodes"
  wait
  [[ $(sort -u "$dir/nodes" | xargs) == "$*" ]]
}

check "the stack comes up with two replicas and TLS" env REPLICAS=2 TLS=1 "$stack" up
eval "$("$stack" env)"

# -------- two replicas, TLS

check "both replicas stream" poll 60 holds "count(*) = 2 FROM pg_stat_replication WHERE state = 'streaming'"
check "the pool of the replicas reaches both" poll 60 pool_reaches postgres-replica postgres-replica-2
is "$(on_primary "SELECT bool_and(ssl) AND count(*) >= 4 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
  WHERE client_addr IS NOT NULL")" t "replication, pools and exporters are encrypted"
is "$(PGSSLMODE=disable psql 127.0.0.1 "$POSTGRES_PRIMARY_PORT" 'SELECT 1' 2>&1 | grep -o 'no encryption')" \
  'no encryption' "a server takes nothing else"
is "$(PGSSLMODE=disable psql 127.0.0.1 "$PGBOUNCER_RW_PORT" 'SELECT 1' 2>&1 | grep -o 'SSL required')" \
  'SSL required' "... nor does a pool"
is "$(PGHOSTADDR=127.0.0.1 psql other "$POSTGRES_PRIMARY_PORT" 'SELECT 1' 2>&1 | grep -o 'does not match host name')" \
  'does not match host name' "a certificate of another name is refused"

check "every exporter's page is asked by TLS" poll 60 prometheus_has 5 '"scrapeUrl":"https:[^"]*","globalUrl":"[^"]*","lastError":""'
check "... and by nothing else" fails "$dir/deploy/scripts/healthcheck" http "http://127.0.0.1:$EXPORTER_PRIMARY_PORT/healthz"
check "... which does it no harm" \
  env TLS_DIR="$SAGAZ_STATE_DIR/tls" "$dir/deploy/scripts/healthcheck" http "https://127.0.0.1:$EXPORTER_PRIMARY_PORT/healthz"
# 0.0.0.0 is this machine, and in no certificate
echo "- targets: ['0.0.0.0:$EXPORTER_PRIMARY_PORT']" >>"$SAGAZ_STATE_DIR/prometheus/targets/postgresql.yml"
check "Prometheus refuses an exporter of another name" poll 60 prometheus_has 1 'not 0\.0\.0\.0'
asked_by=$("$dir/deploy/demo/stack.sh" free-offset)
TLS_DIR=$SAGAZ_STATE_DIR/tls TARGET_HOST=0.0.0.0 TARGET_PORT=$POSTGRES_PRIMARY_PORT EXPORTER_PORT=$asked_by \
  "$dir/deploy/scripts/exporter" postgresql >"$dir/exporter.log" 2>&1 &
clients+=($!)
check "an exporter refuses a server of another name" poll 60 refused_by_exporter "$asked_by"
sed "s|^|# |" "$dir/exporter.log"

# -------- what is provoked, all at once: a kind that has been told of before comes after group_interval

# a standby that doesn't replay any more
psql 127.0.0.2 "$POSTGRES_REPLICA_PORT" 'SELECT pg_wal_replay_pause()' >/dev/null
# a slot of nobody
on_primary "SELECT pg_create_physical_replication_slot('of_nobody', true)" >/dev/null
# an unfinished event in a partition that has expired, made in one transaction
on_primary "SELECT create_saga_outbox_partition('2020-01-01');
  INSERT INTO saga_outbox (topic, payload, created_at) VALUES ('alert', '{}', '2020-01-01')" >/dev/null
on_primary "SELECT maintain_all_partitions()" >/dev/null
# a table into which nothing can be written, and no worker that would mend it
on_primary "ALTER SYSTEM SET sagaz_ha.enabled = off"
on_primary "SELECT pg_reload_conf()" >/dev/null
on_primary "CREATE TABLE uncovered (at timestamptz NOT NULL) PARTITION BY RANGE (at);
  CREATE TABLE uncovered_old PARTITION OF uncovered FOR VALUES FROM ('2020-01-01') TO ('2020-01-02');
  SELECT sagaz_ha.manage_partitions('uncovered', interval '1 day')" >/dev/null
# every server connection of the write pool in use
for ((i = 0; i < 25; i++)); do
  psql 127.0.0.1 "$PGBOUNCER_RW_PORT" 'SELECT pg_sleep(300)' >/dev/null 2>&1 &
  clients+=($!)
done

check "told of a kept partition" poll 420 told_of SagazPartitionsKept 'table="saga_outbox"'
check "... of coverage that has run out" poll 420 told_of SagazInsertsFail 'table="uncovered"'
check "... of a slot at risk" poll 420 told_of SagazSlotAtRisk 'slot="of_nobody"'
check "... of a saturated pool" poll 420 told_of SagazPoolSaturated 'node="pgbouncer-rw"'
check "... of a standby that lags" poll 420 told_of SagazReplicationLag 'standby="postgres-replica-2"'
kill "${clients[@]}" 2>/dev/null || true
((failures == 0)) || "$stack" logs alert-log | sed 's/^/# /'
echo "1..$tests"
((failures == 0))
