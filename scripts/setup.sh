#!/usr/bin/env bash
# Installs what the tests need and is missing: Debian packages (as root, through
# apt-get) and the npm packages of web/ and tools/. Installs nothing twice.
#
#   scripts/setup.sh            everything
#   scripts/setup.sh node       npm packages alone
#   scripts/setup.sh system     Debian packages alone
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}

die() { echo "setup: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

system() {
  local missing=()
  have chromium || have chromium-browser || have google-chrome || missing+=(chromium)
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || have postgres || missing+=(postgresql)
  have dot || missing+=(graphviz)
  have etcd || missing+=(etcd-server)
  [ -n "$(fc-list :lang=zh-tw 2>/dev/null | head -n 1)" ] || missing+=(fonts-noto-cjk)
  [ ${#missing[@]} -eq 0 ] && return

  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if have sudo && sudo -n true 2>/dev/null; then as_root=(sudo -n); else
      die "the tests need ${missing[*]}, and only root can install that: run 'sudo apt-get install ${missing[*]}' (or your system's equivalent), then this again"
    fi
  fi
  have apt-get || die "the tests need ${missing[*]} and there is no apt-get here: install them your system's way, then run this again"
  echo "setup: installing ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 update >/dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "${missing[@]}" >/dev/null
}

node_packages() {
  have node && have npm || die "Node.js 20.19 or later with npm is missing: install it, then run this again"
  local dir
  for dir in tools web; do
    # npm writes the second file last, so it is newer where the first is installed.
    [ "$dir/node_modules/.package-lock.json" -nt "$dir/package-lock.json" ] && continue
    echo "setup: npm ci in $dir/"
    (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    touch "$dir/node_modules/.package-lock.json"
  done
}

have go || die "Go 1.26 or later is missing: install it, then run this again"
case $what in
  all) system; node_packages ;;
  node) node_packages ;;
  system) system ;;
  *) die "unknown part '$what': use node or system, or nothing for both" ;;
esac
