#!/usr/bin/env bash
# Builds the registry that no Debian package has, from its Go modules, for make
# test-full: Consul. It is built once, outside of the tree, and its folder is the
# line that is printed.
#
#   OPS_BACKENDS=folder   where; else .cache/opscenter-backends in the home folder
set -euo pipefail
cache=${OPS_BACKENDS:-${XDG_CACHE_HOME:-$HOME/.cache}/opscenter-backends}
# The last Consul under MPL-2.0 whose modules are all published.
consul=v1.12.9 consul_api=v1.13.1 consul_sdk=v0.10.0
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

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
[ -x "$cache/consul" ] || (make_consul)
echo "$cache"
