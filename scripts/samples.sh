#!/usr/bin/env bash
# Records the guide's sample captures anew, from a Color Game of its own:
# samples.sh [DIR [NAME…]] (default internal/guide/samples, and all: healthy 1 2 3 4 5
# 6). Each is a whole capture of a short window; internal/guide has tests that hold
# them to what the guide says and to the tree's lines.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath -m "${1:-internal/guide/samples}")
shift || true
[ $# -gt 0 ] || set -- healthy 1 2 3 4 5 6
# The programs' paths end up in the captures: without those of this machine.
tmp=${TMPDIR:-/tmp}/color-game
rm -rf "$tmp"
mkdir -p "$dir"
trap 'rm -rf "$tmp"' EXIT
# shellcheck disable=SC2016
GOFLAGS=-trimpath PLAYERS=30 scripts/with-demo.sh "$tmp" bash -euc '
  dir=$1
  shift
  # record NAME SERVICE NOTE; that nothing is lost but the leak profile is usual, hence exit code 4.
  record() {
    local id status=0
    id=$(ops capture "$2" --project color-game -d 4s --trace-window 1s --note "$3") || status=$?
    [ $status -eq 0 ] || [ $status -eq 4 ]
    rm -f "$dir/$1.zip"
    ops export "$id" -o "$dir/$1.zip"
  }
  fault() { colorgame fault "$1" "$2" --stack "$COLORGAME_STACK"; }
  # of_rule lists what the rule has taken of the game.
  of_rule() { ops captures --json | node -e "
    let s = \"\"; process.stdin.on(\"data\", d => s += d).on(\"end\", () => {
      for (const c of JSON.parse(s).captures ?? []) if (c.actor === \"rule:stall\" && c.state === \"done\" && c.targets[0].instance.service === \"game-service\") console.log(c.id)
    })"; }
  # Nobody can click in time for the sixth: its rule takes the capture. On a crowded
  # machine an ordinary bet can be what it takes first.
  caught() {
    local id
    ops rules enable stall
    for _ in $(seq 300); do
      for id in $(of_rule); do
        if ops diagnose "$id" | grep -q "took .* because of .game\.(\*Room)\.audit"; then
          ops rules disable stall
          rm -f "$dir/6.zip"
          ops export "$id" -o "$dir/6.zip"
          return
        fi
      done
      sleep 1
    done
    echo "samples: no capture of the rule names the audit" >&2
    ops rules history stall >&2
    return 1
  }
  sleep 30 # the logins of the start are out of the way
  services=(game-service user-service game-record-service gateway-service game-service gateway-service)
  for n in "$@"; do
    if [ "$n" = healthy ]; then
      record healthy game-service "sample of the guide: all is well"
      continue
    fi
    fault "$n" on
    if [ "$n" = 6 ]; then
      caught
    else
      sleep $([ "$n" = 5 ] && echo 40 || echo 15) # the leak ends at a thousand sessions, and beyond that nothing grows
      record "$n" "${services[$n]}" "sample of the guide: scenario $n"
    fi
    fault "$n" off
    sleep 10
  done' -- "$dir" "$@"
ls -l "$dir"
