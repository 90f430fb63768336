#!/bin/bash
# Runs the suites on every PostgreSQL version: on this system's own, and on
# others in Debian folders made by debootstrap. The last line is
# "N passed, N failed".
#
# usage: test/matrix.sh [15|17|18|19]...     all of them by default; as root
#   SUITES, SUITES_ALONE  which suites of test/run.sh; the defaults are below
#   BRIEF=yes    without the TAP tests that repeat, which test/run.sh lists
#   WITHOUT_TAP  a version without the suites of whole servers: tap, timed
#   SAGAZ_MATRIX_DIR  where the folders are kept (/var/tmp/sagaz_ha-matrix).
#                     Remove one, and it is made anew with today's packages.
#
# Debian's mirror and apt's settings are those of this system.
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
cache=${SAGAZ_MATRIX_DIR:-/var/tmp/sagaz_ha-matrix}
all_versions=(15 17 18 19)
# Most of the time tests wait, so these run on all versions at the same time.
# shell and docs are the same for every version.
together=${SUITES-compile unit regress isolation tap pgtap demo upgrade}
# These measure: one version after the other, when the first are through.
alone=${SUITES_ALONE-timed}
host_version=$("${PG_CONFIG:-pg_config}" --version 2>/dev/null | sed 's/^PostgreSQL \([0-9]*\).*/\1/' || true)

die() {
  echo "matrix: $*" >&2
  exit 1
}

# One script fits every distribution; an old debootstrap lacks the new names.
any_suite=/usr/share/debootstrap/scripts/sid

# Debian's distribution that has a version of PostgreSQL.
distribution() {
  case $1 in
    15) echo bookworm ;;
    17) echo trixie ;;
    18) echo forky ;;
    19) echo sid ;; # with experimental
    *) die "no such version: $1; there are: ${all_versions[*]}" ;;
  esac
}

# Where apt gets Debian from. Nothing, if this is no Debian: debootstrap knows.
mirror() {
  # apt expands these
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
    'Origin: Debian' 'Label: Debian' 2>/dev/null | sed -n 1p
}

# Runs a program with mounts of its own. In a chroot whose root is no mount point
# the root can't be made private, so the program has to keep its mounts to itself.
own_mounts() {
  if unshare --mount true 2>/dev/null; then
    unshare --mount "$@"
  else
    unshare --mount --propagation unchanged "$@"
  fi
}

# Runs a command in a folder, with this tree as /mnt. Its mounts and its
# processes are its own: nothing is left of either when it ends.
# in_root FOLDER COMMAND...
in_root() {
  # shellcheck disable=SC2016  # $0 and $1 are of the inner shell
  own_mounts --pid --fork --kill-child bash -c '
    set -e
    # private, whatever the mount is that the folder is in; and before anything
    # is unmounted, for /dev and /sys are mounts of this system
    mount --bind "$0" "$0"
    mount --make-private "$0"
    mount --rbind /dev "$0/dev"
    mount --rbind /sys "$0/sys"
    mount --make-rprivate "$0"
    trap "umount --lazy \"$0\"" EXIT
    mount -t proc proc "$0/proc"
    mount --bind "$1" "$0/mnt"
    mount -o remount,bind,ro "$0/mnt"
    chroot "$0" env -i HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
      PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${@:2}"
    exit $?' "$1" "$repo" "${@:2}" </dev/null
}

# make_root VERSION: the distribution's folder, unless there is a complete one.
make_root() {
  local suite root mirror
  suite=$(distribution "$1")
  root=$cache/$suite
  [[ ! -d $root ]] || return 0
  echo "matrix: making $root"
  mirror=$(mirror)
  rm -rf --one-file-system "$root.new"
  # in mounts of its own as well: it would leave them when it is killed
  own_mounts debootstrap --variant=minbase "$suite" "$root.new" \
    ${mirror:+"$mirror"} "$any_suite"
  apt-config dump | grep '^Acquire::' | grep -Ev '^Acquire::(IndexTargets|Changelogs)' \
    >"$root.new/etc/apt/apt.conf.d/00host"
  # what isn't complete is made anew, so nothing need be synced
  echo force-unsafe-io >"$root.new/etc/dpkg/dpkg.cfg.d/unsafe-io"
  # PostgreSQL's packages would make a cluster each
  mkdir -p "$root.new/etc/postgresql-common/createcluster.d"
  echo 'create_main_cluster = false' >"$root.new/etc/postgresql-common/createcluster.d/matrix.conf"
  cp /etc/resolv.conf "$root.new/etc/resolv.conf"
  if [[ $1 == 19 ]]; then
    install_experimental "$root.new"
  else
    in_root "$root.new" /mnt/deploy/install-packages.sh sanitize
    install_old "$root.new"
  fi
  in_root "$root.new" apt-get clean
  mv "$root.new" "$root"
}

# add_source FOLDER DISTRIBUTION
add_source() {
  sed -n "s/^\(deb [^ ]*\) .*/\1 $2 main/p" "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/$2.list"
  in_root "$1" apt-get update
}

# A version that isn't in a distribution yet, with what builds and checks it.
install_experimental() {
  add_source "$1" experimental
  in_root "$1" apt-get install --yes --no-install-recommends \
    build-essential postgresql-19 postgresql-server-dev-19 libpq-dev/experimental libpq5/experimental
}

# PostgreSQL 15 beside the newer one, as it is after an upgrade of Debian.
install_old() {
  add_source "$1" "$(distribution 15)"
  in_root "$1" apt-get install --yes --no-install-recommends postgresql-15
  # headers only: the package needs compilers of its distribution
  # shellcheck disable=SC2016  # $d is of the inner shell
  in_root "$1" sh -c 'd=$(mktemp -d) && cd "$d" && apt-get download postgresql-server-dev-15 &&
    dpkg -x postgresql-server-dev-15_*.deb / && rm -r "$d"'
}

# Which of some suites a version has.
# suites_of VERSION SUITE...
suites_of() {
  local suite
  for suite in "${@:2}"; do
    case $1:$suite in
      "${WITHOUT_TAP:-}":tap | "${WITHOUT_TAP:-}":timed) ;;
      # from 15 to a newer one beside it
      15:upgrade | "$host_version":upgrade) ;;
      # no pgTAP, pg_cron or Perl modules for a version that isn't out
      19:tap | 19:timed | 19:pgtap | 19:demo | 19:upgrade) ;;
      *) echo "$suite" ;;
    esac
  done
}

# Runs suites on a version, the way test/run.sh does it.
# run_version VERSION SUITE...
run_version() {
  local root
  if [[ $1 == "$host_version" ]]; then
    "$repo/test/run.sh" "${@:2}"
    return
  fi
  root=$cache/$(distribution "$1")
  mkdir -p "$cache"
  exec 9>"$root.lock"
  flock 9
  make_root "$1"
  # the folder may be older than what the tests need
  [[ $1 == 19 ]] || in_root "$root" /mnt/deploy/install-packages.sh sanitize
  # the long soak and the thousand receivers are this system's
  in_root "$root" PG_CONFIG="/usr/lib/postgresql/$1/bin/pg_config" SAGAZ_SOAK_SECONDS=60 \
    SAGAZ_CHURN=200 BRIEF="${BRIEF:-}" /mnt/test/run.sh "${@:2}"
}

# Starts a run with its output in a file, unless the version has none of these.
# start VERSION SUITE...
start() {
  local chosen
  mapfile -t chosen < <(suites_of "$@")
  if [[ ${#chosen[@]} != 0 ]]; then
    echo "==== PostgreSQL $1: ${chosen[*]}"
    run_version "$1" "${chosen[@]}" >"$logs/$1-${chosen[0]}" 2>&1 &
  fi
}

# Shows what the runs of a version wrote, and counts.
# finish VERSION
finish() {
  local log good bad sum_good=0 sum_bad=0
  # it has none of these suites
  compgen -G "$logs/$1-*" >/dev/null || return 0
  for log in "$logs/$1"-*; do
    echo "==== PostgreSQL $1: from ${log##*-} on"
    cat "$log"
    # a run that didn't get as far as counting is a failed one
    read -r good _ bad _ < <(grep -Ex '[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1 |
      grep . || echo '0 passed, 1 failed')
    sum_good=$((sum_good + good))
    sum_bad=$((sum_bad + bad))
  done
  report+=("$(printf 'PostgreSQL %s %4d passed, %d failed' "$1" "$sum_good" "$sum_bad")")
  passed=$((passed + sum_good))
  failed=$((failed + sum_bad))
}

# --------

[[ $EUID == 0 ]] || die "only root can make folders with debootstrap; run it as root"
versions=("$@")
[[ $# -gt 0 ]] || versions=("${all_versions[@]}")
for version in "${versions[@]}"; do
  distribution "$version" >/dev/null
done

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
report=()
passed=0
failed=0

# shellcheck disable=SC2086  # lists
for version in "${versions[@]}"; do
  start "$version" $together
done
wait
# shellcheck disable=SC2086
for version in "${versions[@]}"; do
  start "$version" $alone
  wait
done
for version in "${versions[@]}"; do
  finish "$version"
done
echo "==== all versions, after $SECONDS s"
printf '%s\n' "${report[@]}"
echo "$passed passed, $failed failed"
((failed == 0))
