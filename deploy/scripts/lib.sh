# shellcheck shell=bash
# What the scripts beside this file share. Sourced by them, not run.
# deploy/README.md lists the environment variables.

# shellcheck disable=SC2034  # used by those who source this
CONFIG_DIR=${CONFIG_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../config" && pwd)}
POSTGRES_DB=${POSTGRES_DB:-sagaz}
PGPORT=${PGPORT:-5432}
SOCKET_DIR=${SOCKET_DIR:-/var/run/postgresql}
LISTEN_ADDRESSES=${LISTEN_ADDRESSES:-*}
# Seconds that a script waits for another server before it gives up.
WAIT_SECONDS=${WAIT_SECONDS:-120}

say() {
  echo "${0##*/}: $*"
}

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Fails unless every variable has a value.
# need NAME...
need() {
  local name
  for name; do
    [[ -n ${!name:-} ]] || die "$name is not set; deploy/README.md says what it is"
  done
}

# With TLS_DIR (scripts/certificates says what is in it) every server and pool wants
# TLS, and every client checks the server's name.
# shellcheck disable=SC2034  # used by render
SSL=off SSL_CERT_FILE=server.crt SSL_KEY_FILE=server.key HBA_FILE=$CONFIG_DIR/postgresql/pg_hba.conf
if [[ -n ${TLS_DIR:-} ]]; then
  SSL=on SSL_CERT_FILE=$TLS_DIR/server.crt SSL_KEY_FILE=$TLS_DIR/server.key
  HBA_FILE=$CONFIG_DIR/postgresql/pg_hba_tls.conf
  export PGSSLMODE=verify-full PGSSLROOTCERT=$TLS_DIR/ca.crt
fi

# Prints a secret: the contents of the file that NAME_FILE names, or else $NAME.
# secret NAME
secret() {
  local file=${1}_FILE
  if [[ -n ${!file:-} ]]; then
    [[ -r ${!file} ]] || die "$file names ${!file}, which can't be read"
    printf '%s' "$(<"${!file}")"
  else
    [[ -n ${!1:-} ]] || die "set $1, or $file to the name of a file that has it"
    printf '%s' "${!1}"
  fi
}

# The same in quotes of SQL.
secret_literal() {
  local value
  value=$(secret "$1")
  [[ $value != *$'\n'* ]] || die "$1 has more than one line"
  printf "'%s'" "${value//\'/\'\'}"
}

# A server must not inherit the passwords: whoever may run a program in it
# (COPY … PROGRAM, archive_command) could read them.
forget_secrets() {
  unset POSTGRES_PASSWORD REPLICATION_PASSWORD MONITOR_PASSWORD PGPASSWORD
}

# Sets bin to the directory of the server's programs.
find_bin() {
  bin=${PG_BIN:-$("${PG_CONFIG:-pg_config}" --bindir 2>/dev/null || true)}
  if [[ ! -x $bin/postgres ]]; then
    bin=$(find /usr/lib/postgresql/*/bin -name postgres -printf '%h\n' 2>/dev/null | sort -V | tail -n 1)
  fi
  [[ -x $bin/postgres ]] || die "there is no PostgreSQL server; install one, or name its directory of programs with PG_BIN"
}

# Polls a command until it succeeds. What it said at last is shown otherwise.
# wait_for WHAT COMMAND...
wait_for() {
  local what=$1 deadline=$((SECONDS + WAIT_SECONDS)) said
  shift
  until said=$("$@" 2>&1 >/dev/null); do
    ((SECONDS < deadline)) || die "gave up waiting for $what after $WAIT_SECONDS s (WAIT_SECONDS): $said"
    sleep 0.2
  done
}

# Sets new to a directory beside PGDATA, to make a cluster in. What killed
# scripts have left is removed, as often as it takes: a program that such a
# script has started may still be writing there, until it finds its files gone.
new_directory() {
  mkdir -p "$(dirname "$PGDATA")"
  wait_for "$PGDATA.new.* to be removed" rm -rf "$PGDATA".new.*
  new=$(mktemp -d "$PGDATA.new.XXXXXX")
}

# From now on PGDATA is there.
finish_directory() {
  mv --no-target-directory "$new" "$PGDATA"
  sync "$PGDATA" "$(dirname "$PGDATA")"
}

# Copies a file to stdout with @NAME@ replaced by the value of NAME.
# render FILE
render() {
  local text name
  text=$(<"$1")
  while [[ $text =~ @([A-Z_]+)@ ]]; do
    name=${BASH_REMATCH[1]}
    need "$name"
    text=${text//"@$name@"/"${!name}"}
  done
  printf '%s\n' "$text"
}

# What pgBackRest has to know of this node; config/pgbackrest/pgbackrest.conf has
# the rest. Backups go to PGBACKREST_REPO1_PATH; any other of its options can be
# set the same way.
backup_environment() {
  export PGBACKREST_CONFIG=${PGBACKREST_CONFIG:-$CONFIG_DIR/pgbackrest/pgbackrest.conf}
  export PGBACKREST_STANZA=${PGBACKREST_STANZA:-sagaz} PGBACKREST_REPO1_PATH
  export PGBACKREST_PG1_PATH=$PGDATA PGBACKREST_PG1_PORT=$PGPORT
  export PGBACKREST_PG1_SOCKET_PATH=$SOCKET_DIR
}

# The libraries that every node preloads: pg_cron where it is installed.
preload_libraries() {
  local library preload=sagaz_ha
  for library in "$bin/../lib/pg_cron.so" "$bin/../lib/postgresql/pg_cron.so"; do
    [[ ! -e $library ]] || preload=sagaz_ha,pg_cron
  done
  echo "$preload"
}

# Sets server_options to what is not the same on every node. All else is in
# config/postgresql/postgresql.conf.
server_options() {
  server_options=(
    -c "config_file=$CONFIG_DIR/postgresql/postgresql.conf"
    -c "hba_file=$HBA_FILE"
    -c "ssl=$SSL"
    -c "ssl_cert_file=$SSL_CERT_FILE"
    -c "ssl_key_file=$SSL_KEY_FILE"
    -c "listen_addresses=$LISTEN_ADDRESSES"
    -c "port=$PGPORT"
    -c "unix_socket_directories=$SOCKET_DIR"
    -c "cluster_name=$NODE_NAME"
    -c "shared_preload_libraries=$(preload_libraries)"
    -c "cron.database_name=$POSTGRES_DB"
  )
  if [[ -n ${PGBACKREST_REPO1_PATH:-} ]]; then
    backup_environment
    server_options+=(-c "archive_command=pgbackrest archive-push %p")
  fi
}

# Becomes the server.
run_server() {
  server_options
  forget_secrets
  exec "$bin/postgres" -D "$PGDATA" "${server_options[@]}"
}
