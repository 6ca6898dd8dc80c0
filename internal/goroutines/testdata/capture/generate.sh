#!/usr/bin/env bash
# Makes the captures beside this folder again, one folder for each toolchain. The
# Go command downloads what is missing. Two of them wait until the runtime states
# ages, which it does from a minute on.
set -euo pipefail
cd "$(dirname "$0")"
for v in ${VERSIONS:-1.22.12 1.23.12 1.24.11 1.25.5 1.26.8 1.27.0}; do
  wait=300ms
  [[ $v == 1.22.12 || $v == 1.26.8 ]] && wait=75s
  program=$(mktemp)
  GOTOOLCHAIN=go$v GOWORK=off go build -trimpath -o "$program" .
  "$program" "../go$v" "$wait" &
done
wait
