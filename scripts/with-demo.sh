#!/usr/bin/env bash
# with-demo.sh DIR COMMAND… builds and starts the whole demo on ports and in a
# directory of its own, runs the command against its centre, whose URL it finds
# in OPS_URL and the game's file in COLORGAME_STACK, and ends the demo. Fails as
# the command does.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$1
shift
mkdir -p "$dir"

go build -o "$dir/ops" ./cmd/ops
go build -o "$dir/colorgame" ./examples/colorgame
# One that systems do not give out by themselves: nobody is given it meanwhile.
port=$(node -e '
  const s = require("net").createServer(), listen = () => s.listen(20000 + Math.floor(Math.random() * 10000), "127.0.0.1");
  s.on("error", listen).on("listening", () => { console.log(s.address().port); s.close() }); listen()')
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)}
PATH=$dir:$PATH
# What is free on this disk is not what is tested.
export OPS_DISK_RESERVE=${OPS_DISK_RESERVE:-64MiB}
export OPS_URL=http://127.0.0.1:$port OPS_SERVER=http://127.0.0.1:$port COLORGAME_STACK=$dir/stack.json CHROMIUM PATH

# A small crowd: what is tested here is the page, not the game.
colorgame demo --ops "$dir/ops" --listen "127.0.0.1:$port" --data "$dir/data" --players "${PLAYERS:-20}" --stack "$dir/stack.json" >"$dir/demo.log" 2>&1 &
demo=$!
end() {
  kill -INT $demo 2>/dev/null || true
  wait $demo || true
}
trap end EXIT

up() { ops services --project color-game --json 2>/dev/null | node -e '
  let s = ""; process.stdin.on("data", d => s += d).on("end", () => {
    try { console.log(JSON.parse(s).services.filter(r => r.up > 0).length) } catch { console.log(0) }
  })'; }
for _ in $(seq 180); do
  kill -0 $demo 2>/dev/null || { echo "with-demo: the demo ended:"; cat "$dir/demo.log"; exit 1; }
  [ "$(up)" -ge 4 ] && break
  sleep 1
done
[ "$(up)" -ge 4 ] || { echo "with-demo: the game did not come up within 180 s:"; cat "$dir/demo.log"; exit 1; }

status=0
"$@" || status=$?
if [ $status -ne 0 ]; then
  echo "with-demo: what the demo said:"
  tail -n 40 "$dir/demo.log"
fi
exit $status
