#!/bin/bash
# Runs every suite and says how many tests passed and failed, in a last line
# "N passed, N failed". A suite that can't run is a failed test.
#
# usage: test/run.sh [suite...]
#   suites: compile shell docs unit regress isolation tap pgtap demo matrix
#   timed matrix_timed deploy compose package; all of them by default. matrix and
#   matrix_timed are for those of PostgreSQL 15, 17 and 18 that this one isn't.
#   And soak, which is in tap as well; upgrade, which needs PostgreSQL 15 beside a
#   newer one; sanitize, valgrind.
#   PG_CONFIG chooses one of several PostgreSQL installations.
#
# The extension is installed into that PostgreSQL, as root. Everything else
# happens on a copy of the tree, as an unprivileged user: initdb refuses root.
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
pg_config=$(command -v "${PG_CONFIG:-pg_config}")
# The user that runs the suites may not be allowed to be where we are.
cd /
all_suites=(compile shell docs unit regress isolation tap pgtap demo matrix
  timed matrix_timed deploy compose package)
# run only when they are asked for
more_suites=(soak upgrade sanitize valgrind)
# What the server's own headers do is no error of ours.
warnings='-Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers'
# No suite may take longer than this many seconds: it would be hanging.
limit=600
# but for those of many servers one after the other.
tap_limit=3600
deploy_limit=2400

# TAP tests that measure closely: they want the machine for themselves.
timed=(test/t/14_performance.pl test/t/310_no_stall.pl test/t/401_replication_standby.pl
  test/t/403_replication_clocks.pl test/t/404_replication_scale.pl test/t/500_replicas.pl
  test/t/772_client_plans.pl)
# Those that do the same at every point, or again and again: BRIEF=yes leaves them out.
repeating=(test/t/20_no_harm.pl test/t/320_kill.pl test/t/330_in_nobodys_way.pl
  test/t/600_random_ddl.pl test/t/701_taken_back.pl test/t/720_restore.pl test/t/741_convert_kill.pl
  test/t/742_convert_race.pl test/t/743_convert_locks.pl test/t/745_convert_changed.pl
  test/t/781_moving_in.pl)

passed=0
failed=0
report=()
failures=()
suite_began=0

# -------- who runs what, and where

user=$(id -un)
if [[ $EUID == 0 ]]; then
  user=nobody
  if id postgres >/dev/null 2>&1; then
    user=postgres
  fi
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/sagaz_ha-test.XXXXXX")
tree=$work/tree
log=$work/log

# Stops what a suite that was cut short may have left running, and only that.
stop_servers() {
  local pid_file
  find "$work" -name postmaster.pid -print 2>/dev/null | while read -r pid_file; do
    as_user "$("$pg_config" --bindir)/pg_ctl" -D "${pid_file%/*}" -m immediate stop \
      >/dev/null 2>&1 || true
  done
}

cleanup() {
  [[ -z $matrix_pid ]] || as_root kill -KILL -- "-$matrix_pid" 2>/dev/null || true
  stop_servers
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Locale and time zone are the same everywhere, and nothing else is inherited.
more_env=()
as_user() {
  local clean=(env -i "HOME=$work" "PATH=$PATH" "TMPDIR=${TMPDIR:-/tmp}" LC_ALL=C.UTF-8 "${more_env[@]}")
  if [[ $EUID == 0 ]]; then
    runuser -u "$user" -- "${clean[@]}" "$@"
  else
    "${clean[@]}" "$@"
  fi
}

as_root() {
  if [[ $EUID == 0 || -w $("$pg_config" --pkglibdir) ]]; then
    "$@"
  else
    sudo "$@"
  fi
}

pgxs() {
  as_user timeout --kill-after=30 "$limit" make -C "$tree" --no-print-directory \
    PG_CONFIG="$pg_config" "$@"
}

copy_tree() {
  mkdir -p "$1"
  tar -C "$repo" --exclude=./.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' \
    --exclude=./tmp_check --exclude=./tmp_check_iso --exclude=./results --exclude=./log \
    --exclude=./output_iso --exclude=./test/unit/build -cf - . | tar -C "$1" -xf -
  [[ $EUID != 0 ]] || chown -R "$user" "$1"
}

# -------- counting

# tally SUITE PASSED FAILED: and keeps what the log says of failures, for the end.
tally() {
  local line
  report+=("$(printf '%-10s %5d s %5d passed, %d failed' "$1" $((SECONDS - suite_began)) "$2" "$3")")
  passed=$((passed + $2))
  failed=$((failed + $3))
  (($3 == 0)) || while read -r line; do
    failures+=("$1: $line")
  done < <(grep -aE '^not ok [0-9]+|^test .* FAILED|\(Wstat: ' "$log" | tail -n 20)
}

# Counts the test points of a log in TAP, as prove --verbose or a bare program
# writes it, without subtests: they are indented. What broke without a failed
# point is a failure too: a file that prove lists for another reason, a point
# that was planned and never came, or an exit status that nothing accounts for.
# tally_tap SUITE STATUS
tally_tap() {
  local good bad planned broken
  good=$(grep -Ec '^(ok [0-9]+|not ok [0-9]+.*# TODO)' "$log" || true)
  bad=$(grep -E '^not ok [0-9]+' "$log" | grep -vc '# TODO' || true)
  if grep -q '^Files=' "$log"; then
    broken=$(grep -c ' Failed: 0)$' "$log" || true)
    broken=$((broken - $(grep -c '^  TODO passed' "$log" || true)))
  else
    planned=$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$log" | paste -sd+)
    broken=$((${planned:-0} - good - bad))
  fi
  bad=$((bad + (broken > 0 ? broken : 0)))
  if ((bad == 0 && ($2 != 0 || good == 0))); then
    bad=1
  fi
  tally "$1" "$good" "$bad"
}

# Counts what pg_regress reports, before PostgreSQL 16 and since. A test that
# isn't reported as passed has failed.
# tally_regress SUITE EXPECTED
tally_regress() {
  local ok
  ok=$(grep -Ec '^(test )? *[^ ]+ +\.\.\. ok |^ok [0-9]+ +[-+] ' "$log" || true)
  if (($2 == 0)); then
    tally "$1" 0 1
  else
    tally "$1" "$ok" $(($2 - ok))
  fi
}

# Runs a command with its output in $log and on the screen; its exit status.
logged() {
  local status=0
  "$@" </dev/null >"$log" 2>&1 || status=$?
  cat "$log"
  return "$status"
}

# -------- suites

build_and_install() {
  copy_tree "$tree"
  logged pgxs -j2 all || return 1
  logged as_root make -C "$tree" --no-print-directory PG_CONFIG="$pg_config" install
}

# What is built here is what the checks of the source read. Make doesn't build the
# SQL script: the one that was committed is compared.
compile_and_check() {
  local status=0
  echo 1..1
  as_user make -C "$work/warnings" --no-print-directory PG_CONFIG="$pg_config" \
    with_llvm=no COPT="$warnings" -j2 all-lib || status=$?
  if ((status != 0)); then
    echo 'not ok 1 - no warnings'
    return "$status"
  fi
  echo 'ok 1 - no warnings'
  as_user perl "$work/warnings/test/rooms.pl" "$work/warnings/src" "$work/warnings/src" || status=$?
  as_user env PG_CONFIG="$pg_config" "$work/warnings/test/style.sh" || status=$?
  return "$status"
}

suite_compile() {
  local status=0
  copy_tree "$work/warnings"
  logged compile_and_check || status=$?
  tally_tap compile "$status"
}

suite_shell() {
  local script good=0 bad=0
  while read -r script; do
    if (cd "$tree" && logged shellcheck --external-sources --source-path=. "$script"); then
      good=$((good + 1))
    else
      bad=$((bad + 1))
    fi
  done < <(cd "$tree" && grep -rlIE '^#! ?/(usr/)?bin/(env )?(ba)?sh' . | sort)
  tally shell "$good" "$bad"
}

suite_docs() {
  local status=0
  logged as_user env "PG_CONFIG=$pg_config" "$tree/test/docs.sh" || status=$?
  tally_tap docs "$status"
}

suite_unit() {
  local status=0
  logged as_user timeout --kill-after=30 "$limit" make -C "$tree/test/unit" \
    --no-print-directory PG_CONFIG="$pg_config" PROVE='prove --verbose' check || status=$?
  tally_tap unit "$status"
}

# count_files DIRECTORY SUFFIX
count_files() {
  find "$tree/$1" -maxdepth 1 -name "*.$2" 2>/dev/null | wc -l
}

show_diffs() {
  find "$tree" -name regression.diffs -size +0 -exec tail -n 200 {} +
  find "$tree" -name regression.diffs -delete
}

suite_regress() {
  logged pgxs installcheck ISOLATION= TAP_TESTS= || show_diffs
  tally_regress regress "$(count_files test/sql sql)"
}

suite_isolation() {
  logged pgxs installcheck REGRESS= TAP_TESTS= || show_diffs
  tally_regress isolation "$(count_files test/specs spec)"
}

# prove_files SUITE FILE...: TAP tests, by their names in the tree, $jobs at a time.
prove_files() {
  local limit=$tap_limit
  local status=0
  logged pgxs installcheck REGRESS= ISOLATION= \
    "PROVE_FLAGS=--verbose --timer --jobs=${jobs:-1}" "PROVE_TESTS=${*:2}" || status=$?
  if ((status != 0)); then
    find "$tree/tmp_check/log" -name 'regress_log_*' -exec tail -n 50 {} + 2>/dev/null || true
  fi
  tally_tap "$1" "$status"
}

# They wait most of the time, so two run at once; the longest one begins.
suite_tap() {
  local jobs=2 soak=test/t/610_soak.pl files without
  without=("${timed[@]}" "$soak")
  [[ ${BRIEF:-} != yes ]] || without+=("${repeating[@]}")
  mapfile -t files < <(cd "$tree" && printf '%s\n' test/t/*.pl |
    grep -vxFf <(printf '%s\n' "${without[@]}"))
  more_env=("SAGAZ_SOAK_SECONDS=${SAGAZ_SOAK_SECONDS:-300}")
  prove_files tap "$soak" "${files[@]}"
  more_env=()
}

suite_timed() {
  more_env=("SAGAZ_CHURN=${SAGAZ_CHURN:-1000}")
  prove_files timed "${timed[@]}"
  more_env=()
}

suite_soak() {
  more_env=("SAGAZ_SOAK_SECONDS=${SAGAZ_SOAK_SECONDS:-300}")
  prove_files soak test/t/610_soak.pl
  more_env=()
}

# From PostgreSQL 15, which is beside this one, to this one.
suite_upgrade() {
  local old
  old=$(dirname "$(dirname "$("$pg_config" --bindir)")")/15/bin/pg_config
  copy_tree "$work/old"
  # its headers are no C23, which new compilers take by default
  logged as_user make -C "$work/old" --no-print-directory PG_CONFIG="$old" with_llvm=no \
    COPT=-std=gnu17 -j2 all &&
    logged as_root make -C "$work/old" --no-print-directory PG_CONFIG="$old" with_llvm=no install || return 1
  prove_files upgrade test/upgrade/pg_upgrade.pl
}

# With AddressSanitizer and UndefinedBehaviorSanitizer in the extension. They
# have to be in the server first; what they find ends the process.
suite_sanitize() {
  local asan report
  asan=$(cc -print-file-name=libasan.so)
  logged pgxs clean && logged pgxs -j2 with_llvm=no \
    COPT='-fsanitize=address,undefined -fno-sanitize-recover=all' all &&
    logged as_root make -C "$tree" --no-print-directory PG_CONFIG="$pg_config" with_llvm=no install ||
    return 1
  # the server frees little before it ends, which is no leak
  more_env=("LD_PRELOAD=$asan" "UBSAN_OPTIONS=print_stacktrace=1"
    "ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:log_path=$work/asan.report")
  suite_regress
  suite_isolation
  prove_files sanitize test/t/{13_transactions,300_worker,330_in_nobodys_way,380_upkeep,400_replication_primary,540_reattach}.pl
  more_env=()
  for report in "$work"/asan.report.*; do
    [[ ! -f $report ]] || { cat "$report"; tally "$(basename "$report")" 0 1; }
  done
  pgxs clean && build_and_install
}

# A cluster for the suites that bring none of their own.
make_cluster() {
  as_user "$("$pg_config" --bindir)/initdb" --pgdata="$work/$1" --auth=trust --username=postgres \
    --encoding=UTF8 --no-sync >/dev/null &&
    as_user tee -a "$work/$1/postgresql.conf" <"$tree/test/regress.conf" >/dev/null &&
    as_user tee -a "$work/$1/postgresql.conf" >/dev/null <<EOF
listen_addresses = ''
unix_socket_directories = '$work'
port = 5432
EOF
}

start_server() {
  make_cluster pgtap &&
    as_user "$("$pg_config" --bindir)/pg_ctl" --pgdata="$work/pgtap" --log="$work/pgtap.log" \
      --silent --wait start
}

# A pass of the worker under valgrind. What counts is what has our source in its
# stack, and isn't one of the server's own ways that the suppressions list.
suite_valgrind() {
  local bin status=0
  bin=$("$pg_config" --bindir)
  make_cluster valgrind || return 1
  as_user tee "$work/under_valgrind" >/dev/null <<EOF
#!/bin/sh
exec valgrind --trace-children=yes --quiet --fullpath-after= --num-callers=40 \\
  --suppressions='$tree/test/valgrind.supp' \\
  --log-file='$work/valgrind.%p' '$bin/postgres' -c shared_preload_libraries=sagaz_ha \\
  -c sagaz_ha.clock='2026-03-10 12:00+00' "\$@"
EOF
  as_user chmod +x "$work/under_valgrind"
  logged as_user "$bin/pg_ctl" --pgdata="$work/valgrind" -p "$work/under_valgrind" \
    --log="$work/valgrind.log" --wait --timeout="$limit" start &&
    logged as_user timeout "$limit" "$bin/psql" -Xq -h "$work" -U postgres -d postgres \
      -f "$tree/test/valgrind.sql" &&
    logged as_user "$bin/pg_ctl" --pgdata="$work/valgrind" --mode=fast --wait --timeout="$limit" stop ||
    status=$?
  # none at all would mean that valgrind didn't run
  cat "$work"/valgrind.[0-9]* >"$log" || status=1
  if ((status != 0)) || grep -F -B 20 -A 20 "$tree/src/" "$log"; then
    stop_servers
    cat "$work/valgrind.log" "$log"
    tally valgrind 0 1
  else
    tally valgrind 1 0
  fi
}

suite_pgtap() {
  local status=0 psql
  psql=("$("$pg_config" --bindir)/psql" -X -q -h "$work" -U postgres)
  logged start_server || status=$?
  logged as_user "${psql[@]}" -d postgres -c 'CREATE DATABASE pgtap' || status=$?
  logged as_user timeout --kill-after=30 "$limit" pg_prove --verbose \
    --psql-bin "${psql[0]}" --host "$work" --username postgres --dbname pgtap \
    --ext .sql --recurse "$tree/test/pgtap" || status=$?
  stop_servers
  tally_tap pgtap "$status"
}

suite_demo() {
  if logged as_user timeout --kill-after=30 "$limit" env PG_CONFIG="$pg_config" \
    "$tree/deploy/demo/demo.sh"; then
    tally demo 1 0
  else
    tally demo 0 1
  fi
}

# What deploy/ brings, on servers that the tests start by themselves.
suite_deploy() {
  local status=0
  logged as_user timeout --kill-after=30 "$deploy_limit" env --chdir="$tree" \
    PG_CONFIG="$pg_config" prove --verbose test/deploy || status=$?
  tally_tap deploy "$status"
}

# The same in containers: as root, for that is what starts a Docker daemon, and
# from a tree in which nothing was built.
suite_compose() {
  local status=0 become_root=()
  copy_tree "$work/checkout"
  [[ $EUID == 0 ]] || become_root=(sudo)
  logged "${become_root[@]}" timeout --kill-after=30 "$deploy_limit" \
    env --chdir="$work/checkout" prove --verbose test/deploy/root || status=$?
  tally_tap compose "$status"
}

# What is released: of the last commit, unlike the other suites.
suite_package() {
  local status=0
  logged make -C "$repo" --no-print-directory PG_CONFIG="$pg_config" DISTDIR="$work" pgxn || return 1
  logged as_user timeout --kill-after=30 "$limit" env PG_CONFIG="$pg_config" \
    "$tree/test/package.sh" "$work"/sagaz_ha-*.zip || status=$?
  tally_tap package "$status"
}

# The other versions: their tests mostly wait, as ours do, so they begin before
# ours and run beside them. Those that measure come after.
matrix_pid=
start_matrix() {
  # a process group of its own, which can be ended as a whole
  set -m
  matrix -u SUITES SUITES_ALONE= >"$work/matrix.log" 2>&1 &
  matrix_pid=$!
  set +m
}

# matrix VARIABLE=VALUE...: on the other versions, with these for test/matrix.sh. The
# whole has to end within an hour, so whole servers are of the oldest version, the newest,
# and this one, and what repeats is of this one.
matrix() {
  local sudo=() version others=()
  [[ $EUID == 0 ]] || sudo=(sudo)
  for version in 15 17 18; do
    [[ $("$pg_config" --version) == "PostgreSQL $version"* ]] || others+=("$version")
  done
  "${sudo[@]}" env "$@" WITHOUT_TAP=17 BRIEF=yes PG_CONFIG="$pg_config" "$repo/test/matrix.sh" "${others[@]}"
}

# tally_matrix SUITE: what the log of a run on other versions says.
tally_matrix() {
  local version good bad
  while read -r _ version good _ bad _; do
    tally "$1 $version" "$good" "$bad"
  done < <(grep -E '^PostgreSQL [0-9]+ +[0-9]+ passed, [0-9]+ failed$' "$log" || echo '- others 0 passed, 1 failed')
}

suite_matrix() {
  wait "$matrix_pid" || true
  matrix_pid=
  logged cat "$work/matrix.log"
  tally_matrix matrix
}

suite_matrix_timed() {
  logged matrix SUITES= SUITES_ALONE=timed || true
  tally_matrix timed
}

# --------

suites=("$@")
[[ $# -gt 0 ]] || suites=("${all_suites[@]}")
for suite in "${suites[@]}"; do
  if [[ " ${all_suites[*]} ${more_suites[*]} " != *" $suite "* ]]; then
    echo "no such suite: $suite; there are: ${all_suites[*]} ${more_suites[*]}" >&2
    exit 2
  fi
done

[[ $EUID != 0 ]] || chown "$user" "$work"
echo "== build and install for $("$pg_config" --version)"
built=true
build_and_install || built=false
[[ $built == false || " ${suites[*]} " != *' matrix '* ]] || start_matrix
for suite in "${suites[@]}"; do
  suite_began=$SECONDS
  echo "== $suite, after $SECONDS s"
  # without a build, an older installation would be tested
  if [[ $built == false && ! $suite =~ ^(compile|shell|docs|unit|package)$ ]]; then
    echo "not built, so not run"
    tally "$suite" 0 1
  else
    "suite_$suite" || tally "$suite" 0 1
  fi
done

echo "== $("$pg_config" --version)"
printf '%s\n' "${report[@]}" "${failures[@]}"
echo "$passed passed, $failed failed"
((failed == 0))
