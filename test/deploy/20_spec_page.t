#!/bin/bash
# Every command of the specification's page, on the native stack: spec/page.pl
# runs them, spec/native/ has what the page expects to be installed.
set -euo pipefail
cd "$(dirname "$0")"

STACK=$(cd ../../deploy/demo && pwd)/stack.sh
SAGAZ_PORT_OFFSET=${SAGAZ_PORT_OFFSET:-$("$STACK" free-offset)}
SAGAZ_STATE_DIR=$(mktemp -d /tmp/sagaz_ha-page.XXXXXX)
export STACK SAGAZ_PORT_OFFSET SAGAZ_STATE_DIR
trap '"$STACK" down || true; rm -rf "$SAGAZ_STATE_DIR"' EXIT
trap 'exit 130' INT TERM

eval "$("$STACK" env)"
export PGPASSWORD=$POSTGRES_PASSWORD
PATH=$PWD/spec/native:$PATH perl spec/page.pl
