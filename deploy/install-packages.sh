#!/bin/bash
# Installs what building (build), building and testing (test), or testing with
# sanitizers and valgrind (sanitize) sagaz_ha needs, on Debian and its
# relatives. Does nothing when everything is there already, wherever it came
# from.
#
# usage: deploy/install-packages.sh build|test|sanitize
# PG_CONFIG chooses one of several PostgreSQL installations.
set -euo pipefail

pg_config=${PG_CONFIG:-pg_config}
want=${1:?usage: install-packages.sh build|test|sanitize}

has_server() {
  [[ -f $("$pg_config" --pgxs 2>/dev/null) && -x $("$pg_config" --bindir)/initdb ]]
}

# What is missing, one word each.
missing() {
  command -v cc >/dev/null || echo compiler
  has_server || echo postgresql
  [[ $want != build ]] || return 0
  perl -MIPC::Run -e 1 2>/dev/null || echo IPC::Run
  command -v prove >/dev/null || echo prove
  command -v pg_prove >/dev/null || echo pg_prove
  command -v shellcheck >/dev/null || echo shellcheck
  [[ -f $("$pg_config" --sharedir 2>/dev/null)/extension/pgtap.control ]] || echo pgtap
  [[ -f $("$pg_config" --sharedir 2>/dev/null)/extension/pg_cron.control ]] || echo pg_cron
  [[ -x /usr/sbin/pgbouncer ]] || command -v pgbouncer >/dev/null || echo pgbouncer
  command -v faketime >/dev/null || echo faketime
  command -v debootstrap >/dev/null || echo debootstrap
  [[ $want == test ]] || command -v valgrind >/dev/null || echo valgrind
}

as_root() {
  if [[ $EUID == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "install-packages: not root, and there is no sudo; run as root: $*" >&2
    exit 1
  fi
}

# The major version to install: the one that can be built for already, or else
# the distribution's own.
major_version() {
  local version
  if [[ -f $("$pg_config" --pgxs 2>/dev/null) ]]; then
    version=$("$pg_config" --version)
    version=${version#PostgreSQL }
  else
    version=$(LC_ALL=C apt-cache policy postgresql | sed -n 's/^ *Candidate: //p')
  fi
  version=${version%%[!0-9]*}
  if ((${version:-0} < 15)); then
    echo "install-packages: sagaz_ha needs PostgreSQL 15 or newer, not ${version:-none}" >&2
    return 1
  fi
  echo "$version"
}

install_packages() {
  local major packages
  # one source that fails is no reason to stop: apt-get install finds out
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update ||
    echo "install-packages: going on with the package lists that there are" >&2
  major=$(major_version)
  packages=(build-essential "postgresql-$major" "postgresql-server-dev-$major")
  if [[ $want != build ]]; then
    packages+=("postgresql-$major-pgtap" libtap-parser-sourcehandler-pgtap-perl
      libipc-run-perl shellcheck "postgresql-$major-cron" pgbouncer faketime
      debootstrap)
  fi
  [[ $want != sanitize ]] || packages+=(valgrind)
  # The package would make and start a cluster of its own, which nobody asked
  # for. This file is there only while it is installed.
  local no_cluster=/etc/postgresql-common/createcluster.d/sagaz_ha.conf
  as_root mkdir -p "${no_cluster%/*}"
  echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
  # shellcheck disable=SC2064  # the name is known now
  trap "as_root rm -f '$no_cluster'; as_root rmdir --ignore-fail-on-non-empty '${no_cluster%/*}'" EXIT
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes \
    --no-install-recommends -o DPkg::Lock::Timeout=300 "${packages[@]}" </dev/null
}

if [[ -z $(missing) ]]; then
  exit 0
fi
echo "install-packages: missing: $(missing | xargs)"
if ! command -v apt-get >/dev/null; then
  echo "install-packages: this is no Debian; please install these yourself" >&2
  exit 1
fi
install_packages
if [[ -n $(missing) ]]; then
  echo "install-packages: still missing: $(missing | xargs)" >&2
  exit 1
fi
