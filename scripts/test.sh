#!/usr/bin/env bash
# Everything that CI checks, in the order in which it fails fastest. Goes on
# after a failure, so that one run tells all of them; needs no configuration, no
# standard input and no network but loopback and the package registries.
#
#   scripts/test.sh           all stages
#   scripts/test.sh STAGE…    only these: format gen vet web unit plain corpus e2e browser
set -uo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
export CI=true NO_COLOR=1

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
results=$tmp/results
: >"$results"
began=$SECONDS

# note OUTCOME SECONDS NAME keeps a line for the last word.
note() { printf '%s\t%s\t%s\t\n' "$1" "$2" "$3" >>"$results"; }

# check NAME COMMAND… runs a command that succeeds or fails as a whole.
check() {
  local name=$1 at=$SECONDS
  shift
  if "$@" >"$tmp/log" 2>&1; then
    echo "ok    $name  $((SECONDS - at))s"
    note pass $((SECONDS - at)) "$name"
  else
    cat "$tmp/log"
    echo "FAIL  $name  $((SECONDS - at))s"
    note fail $((SECONDS - at)) "$name"
  fi
}

# gotest NAME ARGS… runs go test and keeps a line for each of its tests.
gotest() {
  local name=$1 status
  shift
  go test -json "$@" 2>&1 | "$tmp/testreport" go "$results"
  status=("${PIPESTATUS[@]}")
  # A run that ended badly without a test that failed, such as one that was killed.
  if [ "${status[0]}" -ne 0 ] && [ "${status[1]}" -eq 0 ]; then note fail 0 "$name"; fi
}

# browsertests DIR ARGS… runs the browser tests against a demo of their own, with
# their report in DIR.xml.
browsertests() {
  local dir=$1
  shift
  scripts/with-demo.sh "$dir" node --test --test-concurrency=1 "$@" \
    --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=junit --test-reporter-destination="$dir.xml" web/e2e/*.test.mjs
}

# again runs alone what failed, a few at most: a crowded machine is no fault of the
# product. What passes then is reported as flaky, what fails stays failed.
again() {
  local kind pkg name race pattern
  while IFS=$'\t' read -r -u 3 kind pkg name; do
    echo
    echo "== again: $pkg $name (after $((SECONDS - began)) s)"
    if [ "$kind" = go ]; then
      race=-race
      if [[ "/$pkg" =~ $heavy ]]; then race=; fi
      go test -json $race -count 1 -timeout 8m -run "^$name\$" "./$pkg" 2>&1 | "$tmp/testreport" go-again "$results"
    else
      pattern=$(printf %s "$name" | sed 's/[][\.*^$+?(){}|/]/\\&/g')
      browsertests "$tmp/again" --test-name-pattern="^$pattern\$"
      "$tmp/testreport" junit-again "$results" "$tmp/again.xml"
      rm -rf "$tmp/again" "$tmp/again.xml"
    fi
  done 3< <("$tmp/testreport" failed "$results")
}

packages() { go list ./... | grep "$@"; }

# What carries load of its own, where the race detector would measure itself.
heavy='/(examples|bench|test/e2e)(/|$)'

formatted() {
  local files
  files=$(git ls-files -co --exclude-standard '*.go' | while read -r f; do [ -e "$f" ] && echo "$f"; done | xargs gofmt -l)
  [ -z "$files" ] || { echo "not formatted, run gofmt -w on:"; echo "$files"; return 1; }
}

tidy() {
  go mod tidy -diff >"$tmp/tidy" || { head -n 40 "$tmp/tidy"; echo "go.mod or go.sum is not tidy: run go mod tidy"; return 1; }
}

vitest() {
  (cd web && npx --no-install vitest run --testTimeout=60000 --hookTimeout=60000 --reporter=dot --reporter=junit --outputFile.junit="$tmp/vitest.xml") >"$tmp/log" 2>&1
  local status=$?
  [ $status -eq 0 ] || cat "$tmp/log"
  if [ -s "$tmp/vitest.xml" ]; then
    "$tmp/testreport" junit "$results" "$tmp/vitest.xml" || return
    [ $status -eq 0 ] && return
  fi
  note fail 0 "vitest"
}

stages=${*:-format gen vet web unit plain corpus e2e browser}

scripts/setup.sh || exit 1
go build -o "$tmp/testreport" ./scripts/testreport || exit 1
for stage in $stages; do
  echo
  echo "== $stage (after $((SECONDS - began)) s)"
  case $stage in
    format)
      check "gofmt" formatted
      check "go.mod is tidy" tidy
      ;;
    gen) check "generated code is fresh" scripts/fresh.sh gen web/src/gen examples/colorgame/internal/pb -- scripts/gen.sh ;;
    vet) check "go vet" go vet ./... ;;
    web)
      # The build checks the types first.
      check "web: types, build, and web/dist is fresh" scripts/fresh.sh web/dist -- npm --prefix web run build
      vitest
      ;;
    unit)
      # shellcheck disable=SC2046
      gotest "go test -race" -race -timeout 10m $(packages -vE "$heavy")
      ;;
    plain)
      # shellcheck disable=SC2046
      gotest "go test" -timeout 10m $(packages -E "$heavy" | grep -v /test/e2e)
      ;;
    corpus)
      # Type-checks them all; linking them would take ten times as long.
      check "corpus: every program compiles" go vet -directive ./internal/diagnosis/corpus/testdata/programs/...
      check "corpus: the quick programs are diagnosed" go run ./internal/diagnosis/corpus/cmd/corpus run -quick -jobs 3 -d 3s
      ;;
    e2e) gotest "go test ./test/e2e" -timeout 12m -count 1 -p 1 ./test/e2e/... ;;
    browser)
      browsertests "$tmp/browser"
      status=$?
      if ! [ -s "$tmp/browser.xml" ]; then
        note fail 0 "browser tests"
      elif "$tmp/testreport" junit "$results" "$tmp/browser.xml" && [ $status -ne 0 ]; then
        note fail 0 "browser tests"
      fi
      ;;
    *) echo "test: unknown stage '$stage'" >&2; exit 2 ;;
  esac
done
again
echo
echo "took $((SECONDS - began)) s"
"$tmp/testreport" summary "$results"
