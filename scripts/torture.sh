#!/usr/bin/env bash
# Runs every test named TestTorture… for a long time: they kill -9 what they
# test, over and over, and count what was lost. TORTURE says for how long each.
set -euo pipefail
cd "$(dirname "$0")/.."
export OPS_TORTURE=${TORTURE:-10m}
packages=$({ grep -rlE --include='*_test.go' 'func TestTorture' . || true; } | xargs -r -n1 dirname | sort -u)
[ -n "$packages" ] || { echo "torture: there is no TestTorture… in the tree" >&2; exit 1; }
# shellcheck disable=SC2086
go test -count=1 -timeout 0 -v -run '^TestTorture' $packages
