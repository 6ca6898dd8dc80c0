#!/usr/bin/env bash
# What make test leaves out because it takes hours: torture and fuzzing at
# length, and the tests that look at OPS_TEST_FULL. Adds what came of it, with
# commit and date, to docs/verification.md.
#
#   FUZZTIME=10m TORTURE=1h scripts/test-full.sh
set -uo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
scripts/setup.sh || exit 1
export OPS_TEST_FULL=1
OPS_BACKENDS=$(scripts/backends.sh) || exit 1 # a real Consul, in the folder that it names
export OPS_BACKENDS
fuzztime=${FUZZTIME:-10m}
export TORTURE=${TORTURE:-1h}
commit=$(git describe --always --dirty)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
rows=()

# stage NAME COMMAND… runs one part and keeps its row.
stage() {
  local name=$1 at=$SECONDS outcome=passed
  shift
  echo "== $name"
  "$@" 2>&1 | tee "$log"
  [ "${PIPESTATUS[0]}" -eq 0 ] || { outcome=FAILED; failed=1; }
  rows+=("| $(date -u +%F) | $commit | $name | $outcome in $((SECONDS - at)) s | $(grep -vE '^(ok|FAIL|PASS|exit status)' "$log" | tail -n 1 | tr '|' '/' | cut -c1-160) |")
}

stage "everything, at full length" go test -count=1 -timeout 4h ./...
while read -r file fuzz; do
  stage "$fuzz for $fuzztime" go test -run '^$' -fuzz "^$fuzz\$" -fuzztime "$fuzztime" -fuzzminimizetime 20x "$(dirname "$file")"
done < <(grep -rHoE --include='*_test.go' 'func Fuzz[A-Za-z0-9_]+' . | sed 's/:func / /' | sort)
# Real agents over mTLS lose their centre, and the network where that can be taken
# away: as root in a network of its own.
storm="go run ./bench/agents -storm -n 3000"
if unshare -n true 2>/dev/null; then
  stage "3,000 agents lose their centre, then the network for 60 s" unshare -n sh -c "ip link set lo up && $storm -cut 60s"
else
  stage "3,000 agents lose their centre" $storm
fi
stage "torture for $TORTURE" scripts/torture.sh

[ -s docs/verification.md ] || printf '# Verification\n\nWhat `make test-full` found, and when.\n\n| date | commit | what | outcome | last words |\n|---|---|---|---|---|\n' >docs/verification.md
printf '%s\n' "${rows[@]}" | tee -a docs/verification.md
exit $failed
