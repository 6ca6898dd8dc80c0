#!/usr/bin/env bash
# Records the guide's sample captures anew, from a Color Game of its own:
# samples.sh [DIR] (default internal/guide/samples). Each is a whole capture of a
# short window; internal/guide has a test that holds them to what the guide says.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath -m "${1:-internal/guide/samples}")
# The programs' paths end up in the captures: without those of this machine.
tmp=${TMPDIR:-/tmp}/color-game
rm -rf "$tmp"
mkdir -p "$dir"
trap 'rm -rf "$tmp"' EXIT
# shellcheck disable=SC2016
GOFLAGS=-trimpath PLAYERS=30 scripts/with-demo.sh "$tmp" bash -euc '
  dir=$1
  # record NAME SERVICE NOTE; that nothing is lost but the leak profile is usual, hence exit code 4.
  record() {
    local id status=0
    id=$(ops capture "$2" --project color-game -d 4s --trace-window 1s --note "$3") || status=$?
    [ $status -eq 0 ] || [ $status -eq 4 ]
    ops export "$id" -o "$dir/$1.zip"
  }
  fault() { colorgame fault "$1" "$2" --stack "$COLORGAME_STACK"; }
  rm -f "$dir"/*.zip
  sleep 30 # the logins of the start are out of the way
  record healthy game-service "sample of the guide: all is well"
  n=0
  for service in user-service game-record-service gateway-service game-service gateway-service; do
    n=$((n + 1))
    fault $n on
    sleep $([ $n = 5 ] && echo 40 || echo 15) # the leak ends at a thousand sessions, and beyond that nothing grows
    record "$n" "$service" "sample of the guide: scenario $n"
    fault $n off
    sleep 10
  done
  # Nobody can click in time for the sixth: its rule takes the capture. On a crowded
  # machine an ordinary bet can be what it takes first.
  of_rule() { ops captures --json | node -e "
    let s = \"\"; process.stdin.on(\"data\", d => s += d).on(\"end\", () => {
      for (const c of JSON.parse(s).captures ?? []) if (c.actor === \"rule:stall\" && c.state === \"done\" && c.targets[0].instance.service === \"game-service\") console.log(c.id)
    })"; }
  fault 6 on
  ops rules enable stall
  caught=
  for _ in $(seq 200); do
    for id in $(of_rule); do
      if ops diagnose "$id" | grep -q "because of .game.(\*Room).audit"; then caught=$id; fi
    done
    [ -z "$caught" ] || break
    sleep 1
  done
  fault 6 off
  [ -n "$caught" ] || { echo "samples: no capture of the rule names the audit" >&2; exit 1; }
  ops export "$caught" -o "$dir/6.zip"' -- "$dir"
ls -l "$dir"
