#!/bin/bash
# Whether the documents keep up with the code, in TAP. What is wrong is listed.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" sagaz_ha.control)
script=sagaz_ha--$version.sql

# The names that come in but are not in the reference as code. A name that
# begins with _ is for the extension's own functions only.
undocumented() {
  local name
  sort -u | grep -v '^_' | while read -r name; do
    grep -Eq "([\`.]|^#+ )${name}[\`( ]" doc/reference.md doc/replication.md || echo "$name"
  done
}

objects() {
  sed -nE 's/^CREATE (OR REPLACE )?(FUNCTION|PROCEDURE|TABLE|VIEW) (@extschema@|sagaz_ha)\.([a-z0-9_]+).*/\4/p' \
    "$script" | undocumented
}

columns() {
  sed -nE 's/^COMMENT ON COLUMN [^ ]*\.([a-z0-9_]+) IS.*/\1/p' "$script" | undocumented
}

settings() {
  cat src/*/*.c | tr -d '\n' |
    grep -oE 'DefineCustom[A-Za-z]+Variable\([[:space:]]*"sagaz_ha\.[a-z0-9_]+"' |
    sed -E 's/.*"sagaz_ha\.(.*)"/\1/' | undocumented
}

links() {
  local file target
  for file in *.md doc/*.md bench/*.md deploy/*.md deploy/*/*.md; do
    { grep -oE '\]\([^)#]+' "$file" || true; } | cut -c3- | while read -r target; do
      [[ $target == *://* || -e $(dirname "$file")/$target ]] || echo "$file: $target"
    done
  done
}

# Headings that links point to, as GitHub names them.
anchors() {
  # shellcheck disable=SC2016  # it is Perl that expands these
  perl -CSD -Mutf8 -MFile::Basename=dirname -e '
    my %anchors;
    sub anchors_of {
      my $file = shift;
      return $anchors{$file} if $anchors{$file};
      open my $page, "<", $file or return {};
      my (%found, $code);
      while (<$page>) {
        $code = !$code if /^```/;
        next if $code || !/^#+ (.*?)\s*$/;
        my $name = lc $1;
        $name =~ s/\[([^]]*)\]\([^)]*\)/$1/g;
        $name =~ s/[^\w\- ]//g;
        $name =~ tr/ /-/;
        $found{ $name . ($found{"$name "}++ ? "-" . ($found{"$name "} - 1) : "") } = 1;
      }
      return $anchors{$file} = \%found;
    }
    foreach my $file (@ARGV) {
      open my $page, "<", $file or die "$file: $!";
      my $text = do { local $/; <$page> };
      while ($text =~ /(?:\]\(|^\[\w+\]: )([^)#\s]*)#([^)\s]+)/gm) {
        my ($to, $anchor) = ($1, $2);
        next if $to =~ m{://};
        $to = $to eq "" ? $file : dirname($file) . "/$to";
        print "$file: $to#$anchor\n" if $to =~ /\.md$/ && !anchors_of($to)->{$anchor};
      }
    }
  ' -- *.md doc/*.md bench/*.md deploy/*.md deploy/*/*.md
}

messages() {
  local errcodes
  errcodes=$("${PG_CONFIG:-pg_config}" --includedir-server)/utils/errcodes.h
  # shellcheck disable=SC2016  # the backticks are the page's
  diff <(perl test/messages.pl "$errcodes") \
    <(sed -nE 's/^\| ([^|]+) \| `([^`]+)` \|.*/\1\t\2/p' doc/troubleshooting.md | LC_ALL=C sort) |
    sed -n 's/^</not on the page:/p; s/^>/not in the source:/p'
}

# What makes the README's first screen.
first_screen() {
  local made file lines
  lines=$(wc -l <README.md)
  ((lines <= 150)) || echo "README.md has $lines lines"
  made=$(mktemp -d)
  bench/picture.pl "$made"
  for file in "$made"/*.svg; do
    cmp -s "$file" "bench/${file##*/}" || echo "${file##*/} isn't what bench/picture.pl makes of bench/RESULTS.md"
  done
  rm -r "$made"
  grep -ohE '>[0-9.]+ m?s<' bench/picture-light.svg | tr -d '<>' | sort -u | while read -r value; do
    grep -qF " $value" README.md || echo "README.md doesn't say $value"
  done
}

# The map leads to every page.
map() {
  local file
  for file in doc/*.md; do
    [[ $file == doc/README.md ]] || grep -q "](${file#doc/}" doc/README.md || echo "$file"
  done
}

meta() {
  # shellcheck disable=SC2016  # it is Perl that expands these
  perl -MJSON::PP -e '
    my ($version, $script) = splice(@ARGV, 0, 2);
    my $meta = decode_json(do { local $/; <> });
    my $provides = $meta->{provides}{sagaz_ha};
    print "no $_\n"
      for grep { !$meta->{$_} } qw(name abstract version maintainer license provides meta-spec);
    print "provides $provides->{file}, but the control file wants $script\n"
      if $provides->{file} ne $script;
    print "$_ is missing\n" for grep { !-e } @$provides{qw(file docfile)};
    print "version $_ is not $version.0\n"
      for grep { $_ ne "$version.0" } $meta->{version}, $provides->{version};
  ' "$version" "$script" META.json 2>&1
}

changelog() {
  grep -q "^## $version\." CHANGELOG.md || echo "no entry for $version"
}

checks=(
  'objects: the reference has every function, table and view'
  'columns: the reference has every column of tables and views'
  'settings: the reference has every setting'
  'links: links between documents lead somewhere'
  'anchors: links lead to headings that are there'
  'messages: doc/troubleshooting.md has every message with its SQLSTATE, and no other'
  'first_screen: the README is short, and its picture shows the numbers'
  'map: doc/README.md leads to every page'
  'meta: META.json is valid and fits sagaz_ha.control'
  'changelog: CHANGELOG.md has this version'
)

echo "1..${#checks[@]}"
number=0
failed=0
for check in "${checks[@]}"; do
  number=$((number + 1))
  if wrong=$("${check%%:*}") && [[ -z $wrong ]]; then
    echo "ok $number - ${check#*: }"
  else
    echo "not ok $number - ${check#*: }"
    echo "# ${wrong//$'\n'/$'\n'# }"
    failed=$((failed + 1))
  fi
done
((failed == 0))
