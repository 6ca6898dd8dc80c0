package app

import (
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/discovery/filesd"
	"github.com/opscenter/opscenter/internal/discovery/httpsd"
	"github.com/opscenter/opscenter/internal/discovery/static"
)

// sections is what the configuration file may hold besides the settings that are
// flags. A part of the centre gets its section by a field here and a row in list;
// package config says what its struct has to look like.
type sections struct {
	Sources sourcesSection
	Access  auth.Settings
	Join    joinSection
}

func (s *sections) list() []config.Section {
	return []config.Section{
		{Key: "sources", Into: &s.Sources, About: "Where instances are that no agent joins for. Each kind is a list.", Example: sourcesExample},
		{Key: "access", Into: &s.Access, About: "Who may come in, and how. Users and tokens: `ops user`, `ops token`.", Example: accessExample, Restart: true},
		{Key: "join", Into: &s.Join, About: "How agents get in over TLS. Tokens: `ops join-token`.", Example: joinExample, Restart: true},
	}
}

// sourcesSection is the sources by their kind.
type sourcesSection struct {
	Static staticTargets   `yaml:"static"`
	FileSD []fileSource    `yaml:"file-sd"`
	HTTPSD []httpsd.Config `yaml:"http-sd"`
}

const accessExample = `
access:
  login: required
  session_idle: 12h
  trusted_proxies: [10.0.0.0/8]
  groups:
    sre: [admin]
    game-devs: ["operator@color-game"]
  oidc:
    issuer: https://login.example.com/realms/games
    client_id: ops-center
    client_secret: ${file:/etc/ops/oidc.secret}
    url: https://ops.example.com
`

const sourcesExample = `
sources:
  static:
    - {project: color-game, service: user-service, url: "http://10.0.0.7:6060/debug/pprof"}
  file-sd:
    - {paths: [targets/*.json], refresh: 30s}
  http-sd:
    - {url: "https://registry.example.com/targets", refresh: 30s}
`

// staticTargets are checked as a whole: an address may be there once.
type staticTargets []static.Target

// Validate is what New says.
func (s *staticTargets) Validate() error {
	_, err := static.New(*s)
	return err
}

// fileSource is filesd's, with files that start at the configuration's directory.
type fileSource struct {
	filesd.Config `yaml:",inline"`
}

// ResolvePaths makes its files absolute.
func (f *fileSource) ResolvePaths(abs func(string) string) {
	for i := range f.Paths {
		f.Paths[i] = abs(f.Paths[i])
	}
}
