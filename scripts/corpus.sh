#!/usr/bin/env bash
# Runs the diagnosis' corpus and says how good the diagnosis is: docs/corpus.md.
#
#   RUN=regexp       only programs whose names match
#   DIR=folder       other programs, each NAME/main.go with NAME/expect.json
#   KEEP=folder      keep the captures there
#   REPLAY=folder    diagnose the captures that were kept there: no program runs
#   WAY=agent        only with the agent; WAY=agentless: only without
#   NOISE=1          beside a busy neighbour
#   JOBS=2           programs at once
#   OPS=path         the ops to test, rather than one built from this tree
#   OUT=file.json    results as JSON (default bin/corpus.json)
set -euo pipefail
cd "$(dirname "$0")/.."
verb=run
[ -z "${REPLAY:-}" ] || verb=replay
mkdir -p bin
go build -o bin/corpus ./internal/diagnosis/corpus/cmd/corpus
exec bin/corpus "$verb" -run "${RUN:-}" -dir "${DIR:-}" -keep "${REPLAY:-${KEEP:-}}" -way "${WAY:-}" \
  -jobs "${JOBS:-2}" -ops "${OPS:-}" -out "${OUT:-bin/corpus.json}" ${NOISE:+-noise}
