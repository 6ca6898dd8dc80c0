#!/usr/bin/env bash
# Writes everything that is generated from proto/ anew. It is wiped first, so that
# nothing stays of a message that is gone.
set -euo pipefail
cd "$(dirname "$0")/.."

buf=tools/node_modules/.bin/buf
es=web/node_modules/.bin/protoc-gen-es
[ -x "$buf" ] && [ -x "$es" ] || scripts/setup.sh node

"$buf" format --exit-code >/dev/null || { echo "gen: proto/ is not formatted: run $buf format -w" >&2; exit 1; }
"$buf" lint

rm -rf gen web/src/gen examples/colorgame/internal/pb
"$buf" generate --template proto/buf.gen.agent.yaml
"$buf" generate --template proto/buf.gen.api.yaml
"$buf" generate --template proto/buf.gen.colorgame.yaml
