#!/usr/bin/env bash
# fresh.sh DIR… -- COMMAND… runs a command that writes the directories anew, and
# fails if that changed them: what is generated is committed as generated. The
# new content stays, ready to be committed.
set -euo pipefail
cd "$(dirname "$0")/.."
dirs=()
while [ "$1" != -- ]; do dirs+=("$1"); shift; done
shift

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
for d in "${dirs[@]}"; do
  mkdir -p "$before/$d"
  [ ! -d "$d" ] || cp -a "$d/." "$before/$d/"
done
"$@"
stale=0
for d in "${dirs[@]}"; do
  diff -rq "$before/$d" "$d" || stale=1
done
if [ $stale = 1 ]; then
  echo "fresh: ${dirs[*]} had not been written anew by '$*': it is now, commit it" >&2
  exit 1
fi
