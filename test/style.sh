#!/bin/bash
# What the source must keep to besides its structure (test/rooms.pl), and what is
# built from it, in TAP. What is wrong is listed. Needs the built sagaz_ha.so.
set -euo pipefail
cd "$(dirname "$0")/.."

pg_config=${PG_CONFIG:-pg_config}
version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" sagaz_ha.control)
script=sagaz_ha--$version.sql
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Where our C has something, but for comments that begin a line.
# code PATTERN
code() {
  grep -rnE --include='*.[ch]' "$1" src | grep -vE '^[^:]+:[0-9]+:[[:space:]]*(/\*|\*[[:space:]/])' || true
}

# Drops what is in one of these files.
# not_in FILE...
not_in() {
  grep -vE "^($(IFS='|' && echo "$*")):" || true
}

versions() {
  code 'PG_(MAJOR)?VERSION(_NUM)?\b' | not_in src/base/compat.h
}

spi() {
  code 'SPI_connect(_ext)?\(' | not_in src/base/sql.c
}

catching() {
  code 'PG_TRY\(' | not_in src/base/attempt.c src/process/own_database.c
  code 'PG_CATCH\(' | not_in src/base/attempt.c
}

wording() {
  grep -rnE 'details[[:space:]]+(NOT[[:space:]]+)?I?LIKE' --include='*.[ch]' --include='*.sql' src "$script" || true
}

# Make's own rule builds another one. A part is what that depends on.
sql_script() {
  local built=$scratch/built.sql part
  make --silent --no-print-directory PG_CONFIG="$pg_config" SCRIPT="$built" "$built" 2>&1 || echo 'make failed'
  diff -u "$script" "$built" 2>&1 || true
  for part in src/sql/*.sql; do
    if make --question --no-print-directory PG_CONFIG="$pg_config" SCRIPT="$built" --what-if="$part" "$built" >/dev/null 2>&1; then
      echo "$part is not in SQL_PARTS"
    fi
  done
}

exports() {
  [[ -f sagaz_ha.so ]] || echo 'there is no sagaz_ha.so'
  nm --dynamic --defined-only --format=posix sagaz_ha.so | cut -d' ' -f1 |
    grep -vxE 'Pg_magic_func|_PG_init|(pg_finfo_)?sagaz_[a-z0-9_]+' || true
}

indentation() {
  PG_CONFIG=$pg_config test/indent.sh --check 2>&1 || echo "pgindent's status: $?"
}

checks=(
  'versions: src/base/compat.h alone looks at the version of PostgreSQL'
  'spi: src/base/sql.c alone connects to SPI'
  'catching: src/base/attempt.c alone catches errors'
  'wording: no code reads the details of history'
  'sql_script: the SQL script is what make builds from src/sql'
  'exports: the library exports what SQL and the server call, and nothing else'
)
# Another version's pgindent indents in another way. A server from source may
# have none; Debian's has.
bin=$("$pg_config" --bindir)
if [[ $("$pg_config" --version) == 'PostgreSQL 18'* ]] &&
  [[ -f $bin/pgindent || $bin == /usr/lib/postgresql/* ]]; then
  checks+=('indentation: the source is indented as pgindent does it')
fi

echo "1..${#checks[@]}"
number=0
failed=0
for check in "${checks[@]}"; do
  number=$((number + 1))
  if wrong=$("${check%%:*}") && [[ -z $wrong ]]; then
    echo "ok $number - $check"
  else
    echo "not ok $number - $check"
    echo "# ${wrong//$'\n'/$'\n'# }"
    failed=$((failed + 1))
  fi
done

# Not wrong, but to be looked at: time enters as an argument.
for word in GetCurrentTimestamp settings_now; do
  echo "# $word():" "$(code "\b$word\(" | cut -d: -f1 | sort | uniq -c | awk '{ print $2, $1 }' | paste -sd, | sed 's/,/, /g')"
done
((failed == 0))
