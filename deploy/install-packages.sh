#!/bin/bash
# Installs what building sagaz_ha (build), showing the stack around it too (demo),
# or testing it all too (test) needs, on Debian and its relatives. Does nothing
# when everything is there already, wherever it came from.
#
# usage: deploy/install-packages.sh build|demo|test
# PG_CONFIG chooses one of several PostgreSQL installations.
set -euo pipefail

pg_config=${PG_CONFIG:-pg_config}
want=${1:?usage: install-packages.sh build|demo|test}

has_server() {
  [[ -f $("$pg_config" --pgxs 2>/dev/null) && -x $("$pg_config" --bindir)/initdb ]]
}

# A daemon may be where only root looks for programs.
has_program() {
  PATH=$PATH:/usr/sbin command -v "$1" >/dev/null
}

# What is missing, one word each.
missing() {
  command -v cc >/dev/null || echo compiler
  has_server || echo postgresql
  [[ $want != build ]] || return 0
  [[ -f $("$pg_config" --sharedir 2>/dev/null)/extension/pg_cron.control ]] || echo pg_cron
  has_program pgbouncer || echo pgbouncer
  has_program redis-server || echo redis
  has_program prometheus || echo prometheus
  [[ -x /usr/bin/python3 ]] || echo python3
  [[ -f /usr/include/hiredis/hiredis.h ]] || echo hiredis
  [[ -f $("$pg_config" --includedir 2>/dev/null)/libpq-fe.h ]] || echo libpq
  [[ $want == test ]] || return 0
  perl -MIPC::Run -e 1 2>/dev/null || echo IPC::Run
  command -v prove >/dev/null || echo prove
  command -v pg_prove >/dev/null || echo pg_prove
  command -v shellcheck >/dev/null || echo shellcheck
  [[ -f $("$pg_config" --sharedir 2>/dev/null)/extension/pgtap.control ]] || echo pgtap
  command -v faketime >/dev/null || echo faketime
  has_program dockerd && has_program docker || echo docker
  has_program docker-compose || echo docker-compose
  has_program iptables || echo iptables
  has_program debootstrap || echo debootstrap
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

# Nobody asked for a cluster, or for a daemon that runs now or after the next
# boot: the stack starts its own. Both files are there only while packages are
# installed.
no_cluster=/etc/postgresql-common/createcluster.d/sagaz_ha.conf
no_daemon=/usr/sbin/policy-rc.d
keep_quiet() {
  as_root mkdir -p "${no_cluster%/*}"
  echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
  trap allow_daemons EXIT
  if [[ -e $no_daemon ]]; then
    no_daemon=
    return
  fi
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$no_daemon" >/dev/null
  as_root chmod +x "$no_daemon"
}

allow_daemons() {
  as_root rm -f "$no_cluster" ${no_daemon:+"$no_daemon"}
  as_root rmdir --ignore-fail-on-non-empty "${no_cluster%/*}"
}

install_packages() {
  local major packages daemon new=()
  # one source that fails is no reason to stop: apt-get install finds out
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update ||
    echo "install-packages: going on with the package lists that there are" >&2
  major=$(major_version)
  packages=(build-essential "postgresql-$major" "postgresql-server-dev-$major")
  if [[ $want != build ]]; then
    packages+=("postgresql-$major-cron" pgbouncer redis-server prometheus python3
      libhiredis-dev libpq-dev)
  fi
  if [[ $want == test ]]; then
    packages+=("postgresql-$major-pgtap" libtap-parser-sourcehandler-pgtap-perl
      libipc-run-perl shellcheck faketime
      docker.io docker-compose iptables debootstrap)
    has_program dockerd || new+=(docker.socket docker containerd)
    # a package of its own since trixie
    [[ -z $(apt-cache search --names-only '^docker-cli$') ]] || packages+=(docker-cli)
  fi
  for daemon in pgbouncer redis-server prometheus; do
    has_program "$daemon" || new+=("$daemon")
  done
  keep_quiet
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes \
    --no-install-recommends -o DPkg::Lock::Timeout=300 "${packages[@]}" </dev/null
  for daemon in "${new[@]}"; do
    as_root systemctl --quiet disable "$daemon" 2>/dev/null || true
  done
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
