#!/bin/bash
# The Kubernetes manifests, without a cluster: all kinds are built with kubectl,
# each object is checked against its schema, and all together against each other
# (selectors, ports, references, network, pool sizes). The rules are in k8s/.
#
# usage: prove test/deploy/70_k8s.t
# needs kubectl (1.20 or newer) and npm, which fetches the schemas; KUBECTL names
# another kubectl.
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
kubectl=${KUBECTL:-kubectl}
kinds=(cloudnative-pg patroni patroni-tls)
work=$(mktemp -d "${TMPDIR:-/tmp}/k8s.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "1..$((${#kinds[@]} * 16))"
cp -r "$tree/test/deploy/k8s" "$work/check"
npm_said=$(cd "$work/check" && HOME=$work npm ci --fetch-retries=5 --no-audit --no-fund --loglevel=error 2>&1) || {
  echo "Bail out! npm can't fetch the schemas: $npm_said"
  exit 1
}
for kind in "${kinds[@]}"; do
  # The warning is about `bases`, which kubectl before 1.21 needs.
  if "$kubectl" kustomize "$tree/deploy/k8s/$kind" >"$work/$kind.yaml" 2>"$work/said"; then
    echo "ok - $kind: built by $kubectl"
  else
    echo "not ok - $kind: built by $kubectl"
    sed 's/^/# /' "$work/said"
  fi
  node "$work/check/check.mjs" "$tree" "$kind" "$work/$kind.yaml"
done
