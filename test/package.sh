#!/bin/bash
# Checks what is released: the metadata, PGXN's zip, and Debian's package. In TAP.
#
# usage: test/package.sh ZIP    what `make pgxn` made
# PG_CONFIG chooses one of several PostgreSQL installations.
set -euo pipefail

zip=$(realpath "${1:?usage: package.sh ZIP}")
pg_config=$(command -v "${PG_CONFIG:-pg_config}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/sagaz_ha-package.XXXXXX")
trap 'rm -rf "$dir"' EXIT
count=0 bad=0

# check NAME COMMAND...
check() {
  count=$((count + 1))
  if "${@:2}" >"$dir/log" 2>&1; then
    echo "ok $count - $1"
  else
    echo "not ok $count - $1"
    sed 's/^/# /' "$dir/log" | tail -n 60
    bad=$((bad + 1))
  fi
}

meta() {
  jq --exit-status --raw-output "$1" "$tree/META.json"
}

# What the PGXN Meta Spec 1.0.0 asks for, and that the files which it names are there.
meta_is_complete() {
  meta '[.name, .version, .abstract, .maintainer, .license, ."meta-spec".version] | all(type == "string" and . != "")' &&
    meta '.name | test("^[^\\s/\\\\]{2,}$")' &&
    meta '.license == "postgresql" and (.release_status | IN("stable", "testing", "unstable"))' &&
    meta '[.version, ."meta-spec".version, .provides[].version] | all(test("^[0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?$"))' &&
    meta '.tags | all(length <= 256 and (test("[/\\\\]") | not))' &&
    meta 'keys - ["name", "version", "abstract", "description", "maintainer", "generated_by", "license",
      "provides", "prereqs", "resources", "meta-spec", "tags", "release_status", "no_index"] | . == []' || return 1
  local file
  while read -r file; do
    test -f "$tree/$file" || { echo "META.json names $file, which isn't in the zip"; return 1; }
  done < <(meta '.provides[] | .file, .docfile')
}

versions_agree() {
  local version
  version=$(meta .version)
  grep -qx "default_version = '${version%.*}'" "$tree/sagaz_ha.control" &&
    grep -q "^## $version" "$tree/CHANGELOG.md" &&
    head -n 1 "$tree/debian/changelog" | grep -qF "($version-"
}

nothing_built_in_it() {
  ! find "$tree" -name '*.o' -o -name '*.so' -o -name '*.bc' -o -name .git | grep .
}

# As a user of PGXN gets it, by its own client; but it asks for no root if it is
# told of a program like sudo.
pgxn_installs() {
  DESTDIR=$dir/root HOME=$dir pgxn install --sudo env --pg_config="$pg_config" "$zip" </dev/null &&
    test -f "$dir/root$("$pg_config" --pkglibdir)/sagaz_ha.so"
}

debian_builds() {
  local version
  version=$(meta .version)
  cp -R "$tree" "$dir/sagaz-ha-$version"
  tar -C "$dir" --exclude=debian -czf "$dir/sagaz-ha_$version.orig.tar.gz" "sagaz-ha-$version"
  (cd "$dir/sagaz-ha-$version" && HOME=$dir dpkg-buildpackage --no-sign)
}

debian_package_is_clean() {
  lintian --fail-on error "$dir"/*.changes
}

debian_package_has_the_extension() {
  dpkg-deb --contents "$dir"/postgresql-"$major"-sagaz-ha_*.deb >"$dir/contents" &&
    grep -q "/lib/sagaz_ha.so$" "$dir/contents" && grep -q '/sagaz_ha.control$' "$dir/contents"
}

unzip -q "$zip" -d "$dir"
tree=$(echo "$dir"/sagaz_ha-*)
major=$("$pg_config" --version)
major=${major#PostgreSQL }
major=${major%%[!0-9]*}
check "META.json is complete" meta_is_complete
check "versions agree" versions_agree
check "nothing that was built is in the zip" nothing_built_in_it
check "pgxn installs it" pgxn_installs
check "Debian's package builds, and its SQL tests pass" debian_builds
check "lintian finds no error" debian_package_is_clean
check "the package has the extension" debian_package_has_the_extension
echo "1..$count"
((bad == 0))
