#!/usr/bin/env bash
# Takes pictures of every page, from a demo of its own: screenshots.sh [DIR]
# (default docs/screenshots).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
dir=$(realpath -m "${1:-docs/screenshots}")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# shellcheck disable=SC2016
scripts/with-demo.sh "$tmp/demo" bash -euc '
  sleep 10 # the logins of the start are out of the way
  healthy=$(ops capture gateway-service --project color-game -d 5s)
  colorgame fault 1 on --stack "$COLORGAME_STACK"
  sleep 5
  capture=$(ops capture user-service --project color-game -d 10s)
  instance=$(ops captures --json --limit 1 | node -pe "JSON.parse(require(\"fs\").readFileSync(0)).captures[0].targets[0].instance.id")
  node scripts/screenshots.mjs "$1" "$capture" "$instance" "$healthy"' -- "$dir"
