package app

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/discovery/consul"
	"github.com/opscenter/opscenter/internal/discovery/dnssrv"
	"github.com/opscenter/opscenter/internal/discovery/etcd"
	"github.com/opscenter/opscenter/internal/discovery/filesd"
	"github.com/opscenter/opscenter/internal/discovery/httpsd"
	"github.com/opscenter/opscenter/internal/discovery/kubernetes"
	"github.com/opscenter/opscenter/internal/discovery/nacos"
	"github.com/opscenter/opscenter/internal/discovery/static"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/project"
)

// sections is what the configuration file may hold besides the settings that are
// flags. A part of the centre gets its section by a field here and a row in list;
// package config says what its struct has to look like.
type sections struct {
	Sources  sourcesSection
	Projects projectsSection
	Access   auth.Settings
	Join     joinSection
	Limits   limitsSection
}

func (s *sections) list() []config.Section {
	return []config.Section{
		{Key: "sources", Into: &s.Sources, About: "Where instances are that no agent joins for. Each kind is a list.", Example: sourcesExample},
		{Key: "access", Into: &s.Access, About: "Who may come in, and how. Users and tokens: `ops user`, `ops token`.", Example: accessExample, Restart: true},
		{Key: "join", Into: &s.Join, About: "How agents get in over TLS. Tokens: `ops join-token`.", Example: joinExample, Restart: true},
		{Key: "limits", Into: &s.Limits, About: "How much is captured at once, and how large a fleet may become. What a caller may ask for: access.limits.", Example: limitsExample, Restart: true},
		{Key: "projects", Into: &s.Projects, About: "The games that share this centre. What a project does not say is as everywhere; its sources give their instances its name.", Example: projectsExample},
	}
}

// sourcesSection is the sources by their kind.
type sourcesSection struct {
	Static staticTargets   `yaml:"static"`
	FileSD []fileSource    `yaml:"file-sd"`
	HTTPSD []httpsd.Config `yaml:"http-sd"`
	DNS    []dnssrv.Config `yaml:"dns"`
	Etcd   []etcd.Config   `yaml:"etcd"`
	Consul []consul.Config `yaml:"consul"`
	Nacos  []nacos.Config  `yaml:"nacos"`
	// Kubernetes' kubeconfig is a path like any other.
	Kubernetes []kubernetesSource `yaml:"kubernetes"`
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
  dns:
    - {name: _pprof._tcp.user-service.example.com, project: color-game, service: user-service}
  etcd:
    - {endpoints: ["10.0.0.1:2379"], prefix: /services/}
  consul:
    - {address: "127.0.0.1:8500", services: [user-service]}
  nacos:
    - {addresses: ["127.0.0.1:8848"], services: [user-service]}
  kubernetes:
    - {namespaces: [games]}
`

// limitsSection bounds what the centre asks of its fleet, and the fleet.
type limitsSection struct {
	Captures capture.Limits `yaml:"captures"`
	Fleet    fleet.Bounds   `yaml:"fleet"`
}

const limitsExample = `
limits:
  captures:
    per_instance: 2
    per_service: 10
    per_center: 32
    per_hour: 60
    cooldown: 10s
  fleet:
    agents: 5000
    services: 2000
    instances: 20000
`

// projectsSection is the projects by their name.
type projectsSection map[ops.ProjectName]projectSection

// projectSection is a project, and where its instances are.
type projectSection struct {
	project.Project `yaml:",inline"`
	Sources         sourcesSection `yaml:"sources"`
}

const projectsExample = `
projects:
  color-game:
    title: {en: Color Game, zh-TW: 顏色遊戲}
    labels: {team: core}
    retention: 14d
    retention-bytes: 20GiB
    roles: {operator: [game-oncall], viewer: ["user:ann"]}
    expect: {user-service: 3}
    sources:
      static:
        - {service: user-service, url: "http://10.0.0.7:6060/debug/pprof"}
`

// Validate adds who may hold which role, which package project does not know.
func (p projectSection) Validate() error {
	for _, role := range slices.Sorted(maps.Keys(p.Roles)) {
		if _, err := auth.ParseGrant(role + "@project"); err != nil {
			return ops.Errorf(ops.Invalid, "roles: %w", err)
		}
		for _, who := range p.Roles[role] {
			if _, err := holder(who); err != nil {
				return err
			}
		}
	}
	return p.Project.Validate()
}

// holder reads who holds a role: a word alone is a group. Names of people say which
// people are meant, because at a provider somebody may choose their own.
func holder(text string) (auth.Holder, error) {
	kind, name, ok := strings.Cut(text, ":")
	switch {
	case !ok && text != "":
		return auth.Holder("group:" + text), nil
	case (kind == "group" || kind == "user" || kind == "oidc") && name != "":
		return auth.Holder(text), nil
	}
	return "", ops.Errorf(ops.Invalid, "roles: %.80q cannot hold a role: use a group's name, or user:NAME, group:NAME, oidc:NAME", text)
}

// grants is who may do what in the projects that say so.
func (s *projectsSection) grants() map[auth.Holder][]auth.Grant {
	out := map[auth.Holder][]auth.Grant{}
	for name, p := range *s {
		for role, all := range p.Roles {
			grant, err := auth.ParseGrant(role + "@" + string(name))
			if err != nil {
				continue // Validate said so
			}
			for _, who := range all {
				if h, err := holder(who); err == nil {
					out[h] = append(out[h], grant)
				}
			}
		}
	}
	return out
}

// Validate looks at the names.
func (s *projectsSection) Validate() error { return s.declared().Validate() }

func (s *projectsSection) declared() project.Declared {
	out := project.Declared{}
	for name, p := range *s {
		out[name] = p.Project
	}
	return out
}

// retention is the centre's, with the bounds of the projects that have their own.
func (s *projectsSection) retention(o cli.ServeOptions) archive.Retention {
	out := archive.Retention{MaxAge: orForever(o.Retention), MaxBytes: orForever(o.RetentionBytes), Projects: map[ops.ProjectName]archive.Retention{}}
	for name, p := range *s {
		if p.Retention != 0 || p.RetentionBytes != 0 {
			out.Projects[name] = archive.Retention{MaxAge: time.Duration(p.Retention), MaxBytes: int64(p.RetentionBytes)}
		}
	}
	return out
}

// expect is how many instances of each service there should be.
func (s *projectsSection) expect() map[ops.ServiceKey]ops.Expectation {
	out := map[ops.ServiceKey]ops.Expectation{}
	for name, p := range *s {
		for service, n := range p.Expect {
			out[ops.ServiceKey{Project: name, Service: service}] = ops.Expectation{Count: n, Says: "projects." + string(name) + ".expect"}
		}
	}
	return out
}

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

// kubernetesSource is kubernetes', with a kubeconfig that starts at the
// configuration's directory.
type kubernetesSource struct {
	kubernetes.Config `yaml:",inline"`
}

// ResolvePaths makes its file absolute.
func (k *kubernetesSource) ResolvePaths(abs func(string) string) { k.Kubeconfig = abs(k.Kubeconfig) }

// ResolvePaths makes its files absolute.
func (f *fileSource) ResolvePaths(abs func(string) string) {
	for i := range f.Paths {
		f.Paths[i] = abs(f.Paths[i])
	}
}
