#!/usr/bin/env bash
# Builds the image of deploy/Dockerfile and lays its files out in a folder, for the
# tests of make test-full. With Docker where one runs, else with Debian's buildah,
# which needs no daemon.
#
#   scripts/image.sh FOLDER          the folder must not exist
#
# Where the registry with the Go image cannot be reached, the build's first stage is
# this machine's own Go: the second one, which is the image, holds nothing of it.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?a folder to lay the image out in}
tag=ops-center:test
say() { echo "image: $*" >&2; }

if docker info >/dev/null 2>&1; then
  docker build -q -f deploy/Dockerfile -t "$tag" . >&2
  made=$(docker create "$tag")
  trap 'docker rm -f "$made" >/dev/null; docker rmi -f "$tag" >/dev/null' EXIT
  mkdir "$out"
  docker export "$made" | tar -x -C "$out"
  exit
fi

command -v buildah >/dev/null || {
  say "neither docker nor buildah is here: installing buildah"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah >/dev/null
}
work=$(mktemp -d)
export BUILDAH_ISOLATION=chroot STORAGE_OPTS=
store=(--root "$work/store" --runroot "$work/run" --storage-driver vfs)
b() { buildah "${store[@]}" "$@"; }
trap 'b rm --all >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

# own_go NAME makes an image of that name out of this machine's Go and the shell that
# the build's commands run in.
own_go() {
  local c root f lib
  c=$(b from --pull-never scratch)
  root=$(b mount "$c")
  mkdir -p "$root"/{bin,tmp,root,usr/local,etc/ssl/certs}
  cp -a "$(go env GOROOT)" "$root/usr/local/go"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  for f in sh mkdir cp; do
    cp -L "$(command -v "$f")" "$root/bin/$f"
    ldd "$root/bin/$f" | grep -oE '/[^ ]+' | while read -r lib; do
      mkdir -p "$root$(dirname "$lib")" && cp -L "$lib" "$root$lib"
    done
  done
  b umount "$c" >/dev/null
  b config --env PATH=/usr/local/go/bin:/bin --env HOME=/root --env GOTOOLCHAIN=local --env GOPROXY="$(go env GOPROXY)" --env GOFLAGS=-buildvcs=false "$c"
  b commit -q "$c" "$1" >/dev/null
}

from=()
wanted=golang:$(sed -n 's/^ARG GO_VERSION=//p' deploy/Dockerfile)
if ! timeout 60 buildah "${store[@]}" pull -q "docker.io/library/$wanted" >/dev/null 2>&1; then
  say "$wanted is out of reach: building with this machine's $(go env GOVERSION)"
  own_go "localhost/$wanted"
  from=(--from "localhost/$wanted")
fi
b build -q --format docker "${from[@]}" -f deploy/Dockerfile -t "$tag" . >&2
c=$(b from --pull-never "$tag")
cp -a "$(b mount "$c")" "$out"
