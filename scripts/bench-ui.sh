#!/usr/bin/env bash
# The page's benchmarks, each in a headless Chromium against a centre of its own,
# next to what it replaces where there is such a thing. BENCH chooses by name;
# PEER=0 leaves out the peers, which take up to 14 GB.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh node
free=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
if [ "${PEER:-1}" != 0 ] && [ "$free" -lt 16 ]; then
  echo "bench-ui: the peers need 16 GB of free memory, there are $free: without them" >&2
  export PEER=0
fi
failed=0
for program in bench/ui/*.mjs; do
  case $program in
    */lib.mjs) continue ;;
  esac
  [[ $program =~ ${BENCH:-.} ]] || continue
  echo
  echo "== $program"
  node "$program" || failed=1
done
exit $failed
