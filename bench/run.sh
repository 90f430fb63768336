#!/bin/bash
# Runs every benchmark, one after the other, and writes RESULTS.md and the
# pictures: all numbers from one run on one machine. Takes about 35 minutes;
# nothing else should run meanwhile.
#
# usage: bench/run.sh [SCRIPT]...   (all but those that lack a program)
# PG_CONFIG chooses one of several PostgreSQL installations. The pictures need
# gnuplot. The peers are Debian's packages of that PostgreSQL's version:
# postgresql-NN-partman, postgresql-NN-cron, postgresql-NN-timescaledb.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
scripts=("$@")
if [[ $# -eq 0 ]]; then
  scripts=(stall patience convert standby noop create retire stats replication idle unique)
  if command -v redis-server >/dev/null && PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null; then
    scripts+=(relay)
  fi
fi
declare -A arguments=([stats]=37 [idle]='1 200')
# what is measured often enough with less
declare -A settings=([noop]='CALLS=4 SESSIONS=2' [unique]='SECONDS_EACH=4')
# about how long each takes
declare -A minutes=([stall]=3 [patience]=1 [convert]=3 [standby]=2 [noop]=7 [create]=4 [retire]=1 [stats]=2
  [replication]=1 [idle]=6 [unique]=5 [relay]=3)
declare -A questions=(
  [stall]='Do writers wait while partitions are made and dropped, beside an 8 s reader?'
  [patience]='Do writers of a referenced table wait while partitions are made, beside a transaction of 4 s?'
  [convert]='What do clients notice while a plain table becomes partitioned?'
  [standby]='How stale do standbys get while 10 partitions are retired, beside a 15 s transaction there?'
  [noop]='What does a pass cost that has nothing to do?'
  [create]='How long does it take to make partitions?'
  [retire]='How long does it take to retire 100 partitions that nobody reads?'
  [stats]='What do statistics cost with thousands of partitions?'
  [replication]='What does replication health cost with many receivers?'
  [unique]='What does uniqueness across partitions cost an insert?'
  [relay]='How many events per second does the outbox relay publish?'
  [idle]='What does the worker cost in a day without work?'
)
command -v gnuplot >/dev/null || { echo "run: gnuplot is not installed; on Debian: gnuplot-nox" >&2; exit 1; }
RESULTS=$(mktemp -d "${TMPDIR:-/tmp}/sagaz_ha-results.XXXXXX")
export RESULTS
trap 'rm -rf "$RESULTS"' EXIT

# Latency of each insert over time, one graph below the other: the same scale
# for all, or the stalls would not be seen.
draw_latency() {
  local series plots='' count=0
  for series in baseline worker foreground pg_partman timescaledb ddl pg_cron; do
    [[ -s $RESULTS/stall.$series.series ]] || continue
    count=$((count + 1))
    plots+="set title '$series' offset 0,-0.8; plot '$RESULTS/stall.$series.series' using 1:2 with dots lc rgb '#b03030' notitle;"
  done
  [[ $count != 0 ]] || return 0
  gnuplot <<PLOT
set terminal svg size 800,$((count * 130 + 40)) font 'sans-serif,11' background 'white' noenhanced
set output '$RESULTS/latency.svg'
set multiplot layout $count,1 title 'INSERT latency (ms, logarithmic) over seconds since the pass began'
set logscale y
set yrange [0.2:20000]
set xrange [0:12]
set ytics (1, 10, 100, 1000, 10000)
set grid ytics lc rgb '#dddddd'
set lmargin 8
set tmargin 1.6
set bmargin 1.6
$plots
PLOT
  # thousands of dots are one path, each pixel once: a tenth of the size
  awk "/gpDot' x=/"' {
      split($0, at, "\x27"); x = int(at[4] + 0.5); y = int(at[6] + 0.5)
      if (!seen[x, y]++) dots = dots "M" x " " y "h1"
      next
    }
    NF == 0 { next }
    dots != "" { print "<path stroke=\x27#b03030\x27 d=\x27" dots "\x27/>"; dots = "" }
    { print }' "$RESULTS/latency.svg" >"$here/latency.svg"
}

# measure SCRIPT: its output is kept beside
measure() {
  local begun=$SECONDS
  echo "$(date +%T) $1, about ${minutes[$1]} min" >&2
  # shellcheck disable=SC2086  # none, or several
  env BENCH_SETTINGS="${settings[$1]:-}" ${settings[$1]:-} "$here/$1.sh" ${arguments[$1]:-} >"$RESULTS/$1.output" ||
    failed+=("$1")
  cat "$RESULTS/$1.output" >&2
  echo "$(date +%T) $1 took $((SECONDS - begun)) s" >&2
}

# Rows that miss an aim, as a list.
list_missed() {
  local script
  for script in "${scripts[@]}"; do
    awk -v script="$script" '/: missed/ {
      n = split($0, cell, /  +/)
      count = split(cell[n - 1], aim, ", ")
      for (i = 1; i <= count; i++)
        if (sub(/: missed$/, "", aim[i])) print "- " script ", " cell[1] ": " aim[i]
    }' "$RESULTS/$script.output"
  done
}

failed=()
for script in "${scripts[@]}"; do
  measure "$script"
done
{
  echo "# Results"
  echo
  echo "Written by \`bench/run.sh\`; what the columns mean is in [README.md](README.md). $(date --utc +%F)."
  echo
  echo "Aims that are missed:"
  echo
  list_missed | grep . || echo "- none"
  for script in "${scripts[@]}"; do
    echo
    echo "## ${questions[$script]}"
    echo
    echo '```'
    cat "$RESULTS/$script.output"
    echo '```'
    if [[ $script == stall ]]; then
      draw_latency
      printf '\n![Latency of inserts over time, for each contender](latency.svg)\n'
    fi
  done
} >"$RESULTS/RESULTS.md"
mv "$RESULTS/RESULTS.md" "$here/RESULTS.md"
"$here/picture.pl"
[[ ${#failed[@]} == 0 ]] || { echo "run: failed: ${failed[*]}" >&2; exit 1; }
