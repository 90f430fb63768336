#!/bin/bash
# Indents the source in place, as pgindent of PostgreSQL 18 does.
#
# usage: test/indent.sh [--check]
#   --check changes nothing: it shows what would change, and fails if anything would
#
# pgindent is that of PG_CONFIG's PostgreSQL if this is an 18; otherwise, that of
# the folder that test/matrix.sh keeps for 18 (SAGAZ_MATRIX_DIR).
set -euo pipefail
# pgindent leaves its files where it is started, until it ends
cd "$(dirname "$0")/.."

options=()
if [[ ${1-} == --check ]]; then
  options=(--check --diff)
fi

# What our own source defines, without what is in braces: a name is the last word before the semicolon, or
# the first one in parentheses, if it is a pointer to a function; and those of hash tables by simplehash.h.
typedefs() {
  cat src/*.c src/*/*.[ch] | perl -0777 -ne '
    s{/\*.*?\*/}{}gs;
    print "$1_hash\n$1_iterator\n" while /^#define SH_PREFIX (\w+)/gm;
    s/^\{.*?^\}//gms;
    while (/^typedef\b[^;]*;/gm) {
      my $text = $&;
      print "$1\n" if $text =~ /\(\s*\*\s*(\w+)/ || $text =~ /(\w+)\s*;$/;
    }' | sort -u
}

pg_config=${PG_CONFIG:-pg_config}
if [[ $("$pg_config" --version) == 'PostgreSQL 18'* ]]; then
  bin=$("$pg_config" --bindir)
  share=$("$pg_config" --sharedir)
  run=
else
  root=${SAGAZ_MATRIX_DIR:-/var/tmp/sagaz_ha-matrix}/forky
  bin=$root/usr/lib/postgresql/18/bin
  share=$root/usr/share/postgresql/18
  # a program of another Debian needs the libraries of that one, and no root
  run=$(find "$root"/lib*/ -maxdepth 1 -name 'ld-linux*' 2>/dev/null | head -n 1)
  libraries=$(find "$root"/usr/lib/ -maxdepth 2 -name libc.so.6 -printf '%h' -quit 2>/dev/null || true)
  run="$run --library-path $libraries"
fi
if [[ ! -f $bin/pgindent ]]; then
  echo "indent: there is no $bin/pgindent: PG_CONFIG names no PostgreSQL 18 of Debian, and test/matrix.sh 18 has made no folder" >&2
  exit 1
fi

exec perl "$bin/pgindent" "${options[@]}" --indent="$run $bin/pg_bsd_indent" \
  --typedefs="$share/typedefs.list" --list-of-typedefs="$(typedefs | xargs)" src
