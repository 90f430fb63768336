#!/bin/bash
# Installs what building sagaz_ha (build), showing the stack around it too (demo),
# testing the extension (suites) or everything (test), testing with sanitizers and
# valgrind (sanitize), or the benchmarks and their peers (bench) need, on Debian
# and its relatives. Installs only what isn't there already, wherever that came from.
#
# usage: deploy/install-packages.sh build|demo|suites|test|sanitize|bench
# PG_CONFIG chooses one of several PostgreSQL installations.
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
pg_config=${PG_CONFIG:-pg_config}
want=${1:?usage: install-packages.sh build|demo|suites|test|sanitize|bench}
case $want in
  build) levels='build' ;;
  demo) levels='build demo' ;;
  bench) levels='build demo bench' ;;
  suites | test | sanitize) levels="build demo suites $want" ;;
  *) echo "install-packages: there is no $want" >&2; exit 2 ;;
esac

# For whom, what, and Debian's packages of it: %v is PostgreSQL's major version,
# and a package with ? is one that not every release has. What begins with / is
# a file, %s being PostgreSQL's sharedir; with - a question asked below; anything
# else is a program.
needs() {
  cat <<'NEEDS'
build cc                                     build-essential
build -server                                postgresql-%v postgresql-server-dev-%v
demo  /%s/extension/pg_cron.control          postgresql-%v-cron
demo  pgbouncer                              pgbouncer
demo  redis-server                           redis-server
demo  prometheus                             prometheus
demo  prometheus-alertmanager                prometheus-alertmanager
demo  openssl                                openssl
demo  python3                                python3
demo  curl                                   curl
demo  -hiredis                               libhiredis-dev
demo  -libpq                                 libpq-dev
suites -IPC::Run                              libipc-run-perl
suites prove                                  perl
suites pg_prove                               libtap-parser-sourcehandler-pgtap-perl
suites /%s/extension/pgtap.control            postgresql-%v-pgtap
suites shellcheck                             shellcheck
suites faketime                               faketime
suites -asyncpg                               python3-asyncpg
suites /%s/extension/pg_partman.control       postgresql-%v-partman
test  alembic                                alembic python3-psycopg2
test  django-admin                           python3-django
test  -ActiveRecord                          ruby-activerecord ruby-pg ruby
test  jq                                     jq
test  unzip                                  unzip
test  pgxn                                   pgxnclient
test  fakeroot                               fakeroot
test  lintian                                lintian
test  -Build-Depends                         debhelper postgresql-server-dev-all postgresql-all
test  patroni                                patroni
test  -etcd                                  python3-etcd
test  etcd                                   etcd-server
test  haproxy                                haproxy
test  pgbackrest                             pgbackrest
test  kubectl                                kubernetes-client
test  npm                                    npm
test  dockerd                                docker.io
test  docker                                 docker.io docker-cli?
test  docker-compose                         docker-compose
test  iptables                               iptables
test  debootstrap                            debootstrap
sanitize valgrind                            valgrind
bench gnuplot                                gnuplot-nox
bench /%s/extension/pg_partman.control       postgresql-%v-partman postgresql-%v-timescaledb?
NEEDS
}

is_there() {
  case $1 in
    -server) [[ -f $("$pg_config" --pgxs 2>/dev/null) && -x $("$pg_config" --bindir)/initdb ]] ;;
    -hiredis) echo '#include <hiredis/hiredis.h>' | cc -E - >/dev/null 2>&1 ;;
    -libpq) [[ -f $("$pg_config" --includedir 2>/dev/null)/libpq-fe.h ]] ;;
    -asyncpg) /usr/bin/python3 -c 'import asyncpg' 2>/dev/null ;;
    # Patroni's client; Debian 13's Patroni brings Consul's instead
    -etcd) /usr/bin/python3 -c 'import etcd' 2>/dev/null ;;
    -ActiveRecord) ruby -e 'require "active_record"; require "pg"' 2>/dev/null ;;
    -IPC::Run) perl -MIPC::Run -e 1 2>/dev/null ;;
    -Build-Depends) dpkg-checkbuilddeps "$repo/debian/control" 2>/dev/null ;;
    /*) [[ -f ${1/\/%s/$("$pg_config" --sharedir 2>/dev/null)} ]] ;;
    # a daemon may be where only root looks for programs
    *) PATH=$PATH:/usr/sbin command -v "$1" >/dev/null ;;
  esac
}

# The lines of what is missing.
missing() {
  local whom what packages
  while read -r whom what packages; do
    [[ " $levels " != *" $whom "* ]] || is_there "$what" || echo "$what $packages"
  done < <(needs)
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
  local major what words word packages=() daemons=()
  # one source that fails is no reason to stop: apt-get install finds out
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update ||
    echo "install-packages: going on with the package lists that there are" >&2
  major=$(major_version)
  while read -r what words; do
    for word in ${words//%v/$major}; do
      # apt-cache knows what only others depend on, too, but has no version of it
      if [[ $word != *\? ]] || [[ -n $(apt-cache madison "${word%\?}") ]]; then
        packages+=("${word%\?}")
      fi
    done
    case $what in
      pgbouncer | redis-server | prometheus | prometheus-alertmanager | patroni | etcd | haproxy) daemons+=("$what") ;;
      dockerd) daemons+=(docker.socket docker containerd) ;;
    esac
  done < <(missing)
  keep_quiet
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes \
    --no-install-recommends -o DPkg::Lock::Timeout=300 "${packages[@]}" </dev/null
  for word in "${daemons[@]}"; do
    as_root systemctl --quiet disable "$word" 2>/dev/null || true
  done
}

names_of_missing() {
  missing | cut -d' ' -f1 | sed 's/^-//; s/^.*\/\(.*\)\.control$/\1/' | xargs
}

if [[ -z $(missing) ]]; then
  exit 0
fi
echo "install-packages: missing: $(names_of_missing)"
if ! command -v apt-get >/dev/null; then
  echo "install-packages: this is no Debian; please install these yourself" >&2
  exit 1
fi
install_packages
if [[ -n $(missing) ]]; then
  echo "install-packages: still missing: $(names_of_missing)" >&2
  exit 1
fi
