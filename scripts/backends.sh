#!/usr/bin/env bash
# Builds the registries that no Debian package has, from their Go modules, for
# make test-full: Consul and Kubernetes' API server. Each is built once, outside
# of the tree, and its folder is the line that is printed.
#
#   OPS_BACKENDS=folder   where; else .cache/opscenter-backends in the home folder
#   scripts/backends.sh consul | kube-apiserver     one alone
set -euo pipefail
cache=${OPS_BACKENDS:-${XDG_CACHE_HOME:-$HOME/.cache}/opscenter-backends}
# The last Consul under MPL-2.0 whose modules are all published, and the Kubernetes
# of our client.
consul=v1.12.9 consul_api=v1.13.1 consul_sdk=v0.10.0
kubernetes=v1.36.3 staging=v0.36.3
patience=${BUILD_PATIENCE:-25m} # of one build; with nothing cached it takes some minutes on two cores

# build NAME makes NAME from the throw-away module that lies in the current folder.
build() {
  echo "backends: building $1, once, in $PWD" >&2
  timeout "$patience" nice env GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0 GOMAXPROCS="${GOMAXPROCS:-2}" \
    bash -c 'go build -trimpath -ldflags "-s -w" -o "$0.new" .' "$cache/$1" >build.log 2>&1 ||
    { tail -n 20 build.log >&2; echo "backends: $1 could not be built: the words above say why" >&2; return 1; }
  mv "$cache/$1.new" "$cache/$1"
}

module() { # a fresh folder to build NAME in
  rm -rf "$cache/src/$1" && mkdir -p "$cache/src/$1" && cd "$cache/src/$1"
}

make_consul() {
  module consul
  cat >go.mod <<MOD
module consulserver

go 1.26

require github.com/hashicorp/consul $consul

replace github.com/hashicorp/consul/api => github.com/hashicorp/consul/api $consul_api

replace github.com/hashicorp/consul/sdk => github.com/hashicorp/consul/sdk $consul_sdk
MOD
  # What a module replaces counts only where it is the main one.
  local theirs
  theirs=$(go mod download -json "github.com/hashicorp/consul@$consul" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
  grep '^replace ' "$theirs" | grep -v ' => \./' >>go.mod
  cat >main.go <<'GO'
package main

import (
	"os"

	"github.com/hashicorp/consul/command"
	"github.com/hashicorp/consul/command/cli"
	_ "github.com/hashicorp/consul/service_os"
	mcli "github.com/mitchellh/cli"
)

func main() {
	ui := &cli.BasicUI{BasicUi: mcli.BasicUi{Writer: os.Stdout, ErrorWriter: os.Stderr}}
	c := &mcli.CLI{Name: "consul", Args: os.Args[1:], Commands: command.CommandsFromRegistry(ui)}
	code, err := c.Run()
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}
GO
  build consul
}

make_kube_apiserver() {
  module kube-apiserver
  printf 'module apiserver\n\ngo 1.26\n\nrequire k8s.io/kubernetes %s\n\n' "$kubernetes" >go.mod
  local theirs
  theirs=$(go mod download -json "k8s.io/kubernetes@$kubernetes" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
  # Its parts are published as modules of their own.
  sed -nE "s,^\s*(replace )?(k8s\.io/[a-z0-9-]+) => \./staging/.*,replace \2 => \2 $staging,p" "$theirs" >>go.mod
  cat >main.go <<'GO'
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
GO
  build kube-apiserver
}

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
failed=0
for name in ${*:-consul kube-apiserver}; do
  [ -x "$cache/$name" ] && continue
  ("make_${name//-/_}") || failed=1
done
echo "$cache"
exit $failed
