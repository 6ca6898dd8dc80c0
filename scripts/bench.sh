#!/usr/bin/env bash
# Runs the benchmarks: go test's, then each program of bench/, which compares us
# with its peers side by side and prints its own table. BENCH chooses by name.
set -euo pipefail
cd "$(dirname "$0")/.."
only=${BENCH:-.}
packages=$({ grep -rlE --include='*_test.go' 'func Benchmark' . || true; } | xargs -r -n1 dirname | sort -u)
# shellcheck disable=SC2086
[ -z "$packages" ] || go test -run '^$' -bench "$only" -benchmem $packages
for main in bench/*/main.go; do
  [ -e "$main" ] || continue
  program=$(dirname "$main")
  [[ $program =~ $only ]] || continue
  echo
  echo "== $program"
  go run "./$program"
done
