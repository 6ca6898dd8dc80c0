package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/url"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/ops"
)

// ServeOptions is what `ops serve` was told, checked for form: whether files
// exist and addresses are free shows when they are used.
type ServeOptions struct {
	Listen  string // host:port
	DataDir string
	// BasePath is "" or begins with a slash and does not end with one.
	BasePath        string
	TLSCert, TLSKey string // both or neither
	// TLS "auto" has the centre make its certificate; empty = TLSCert or none.
	TLS string
	// Login is auto, required or off; empty = what the configuration says, else auto.
	Login     string
	TokenFile string
	// Program is how this program was started, and Command the whole line, quoted
	// for a shell: for telling people what to type.
	Program, Command string
	// Targets, StaticFiles and FileSD are where instances without a dialling agent
	// are learned from.
	Targets     []ops.Target
	StaticFiles []string
	FileSD      []string
	HTTPSD      []string // URLs
	// Retention and RetentionBytes bound what is kept; 0 = no bound.
	Retention      time.Duration
	RetentionBytes int64
	// DiskReserveBytes stay free; 0 = the archive's default.
	DiskReserveBytes int64
	AllowHosts       []string
	ControlPolicy    string // file that bounds what may be changed; empty = no bound
	// Heartbeat is how often agents are asked to beat; 0 = the fleet's default.
	Heartbeat  time.Duration
	HealthFile string // thresholds of health; empty = the defaults
	// RulesDir holds the files of rules; empty = "rules" in the data directory.
	RulesDir   string
	NotifyFile string // channels of notifications; empty = those that people add
	// PublicURL is the address that links in notifications begin with; empty = the
	// one that the centre serves on.
	PublicURL   string
	TraceViewer string // path of the program; empty = found by itself
	// Logger is for the operator; LogLevel is the least that it tells, LogFormat
	// text or json.
	Logger    *slog.Logger
	LogLevel  slog.Level
	LogFormat string
	// SetLogLevel changes what Logger tells; nil = it cannot be changed.
	SetLogLevel func(slog.Level)
	// UndeclaredProjects is AcceptProjects or RefuseProjects: what becomes of
	// instances that claim a project which the configuration does not know.
	UndeclaredProjects string
	// Config says where each value came from, and Files which files were read for
	// it: when one of them changes, Load reads them all anew and fills the sections.
	// nil = there is nothing to read again.
	Config config.Effective
	Files  []string
	Seen   map[string]config.Sum
	Load   func(sections []config.Section) (ServeOptions, error)
	// Out is where the centre says its address, once it listens.
	Out     io.Writer
	Version string
}

// DefaultDataDir is where a centre keeps what it has.
const DefaultDataDir = "./ops-data"

// What is kept unless told otherwise.
const (
	defaultRetention      = 30 * 24 * time.Hour
	defaultRetentionBytes = 50 << 30
)

// What may be said of undeclared projects.
const (
	AcceptProjects = "accept"
	RefuseProjects = "refuse"
)

const serveLong = `Serve runs the centre: the web page, the API and the agents' door on one port,
with everything it keeps in one directory. It needs no configuration on the
machine where the services run; agents find it at http://127.0.0.1:8080.

Beyond loopback it wants TLS and a login, and says which two commands make them.`

const serveExample = `  ops serve                                          this machine only
  ops user add admin --admin
  ops serve --listen :8443 --tls auto                for a whole network
  ops serve --target color-game/user-service=http://10.0.0.7:6060/debug/pprof
                                                     a service without an agent
  ops serve --file-sd /etc/prometheus/targets.json   what Prometheus scrapes
  ops serve --base-path /ops --allow-host ops.example.com
                                                     behind a reverse proxy
  ops serve --retention 7d --retention-bytes 10GiB   keep less`

func (p *program) serveCmd() *cobra.Command {
	given := p.newServeSettings()
	var file string
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Run the centre (what ops does without a verb)",
		Long:    serveLong,
		Example: serveExample,
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.Serve == nil {
				return ops.Errorf(ops.Invalid, "this ops is a client only: run the centre where the full program is")
			}
			load := p.loader(cmd, file)
			var sections []config.Section
			if p.Sections != nil {
				sections = p.Sections()
			}
			o, err := load(sections)
			if err != nil {
				return err
			}
			var level slog.LevelVar
			level.Set(o.LogLevel)
			if o.Logger, err = newLogger(p.Stderr, &level, o.LogFormat); err != nil {
				return err
			}
			o.Load, o.Out, o.SetLogLevel = load, p.Stdout, level.Set
			o.Program, o.Command = p.programName(), p.commandLine()
			ctx, done := p.interruptible(cmd.Context())
			defer done()
			err = p.Serve(ctx, o)
			if errors.Is(context.Cause(ctx), errInterrupted) && ops.KindOf(err) == ops.Cancelled {
				return nil // asked to end, and ended
			}
			return err
		},
	}
	configFlag(cmd, &file)
	given.declare(cmd.Flags())
	return cmd
}

// declare says which flags there are: a flag is also a key of the file and a
// name in the environment. Those that a running centre takes without a restart
// are in live, names of files in paths.
func (s *serveSettings) declare(f *pflag.FlagSet) {
	o := &s.o
	f.StringVar(&o.Listen, "listen", "127.0.0.1:8080", "`host:port` to serve on")
	f.StringVar(&o.DataDir, "data", DefaultDataDir, "`directory` for captures and the catalogue")
	f.StringVar(&o.BasePath, "base-path", "", "`path` under which a reverse proxy shows the centre, such as /ops")
	f.StringVar(&o.TLS, "tls", "", "auto = make a certificate authority in the data directory and a certificate from it (`mode`)")
	f.StringVar(&o.TLSCert, "tls-cert", "", "`file` with the certificate chain (PEM)")
	f.StringVar(&o.TLSKey, "tls-key", "", "`file` with its key (PEM)")
	f.StringVar(&o.Login, "login", "", "who has to log in: auto = everybody who is not on this machine, required, off = the proxy in front sees to it (`mode`; default auto)")
	f.StringArrayVar(&s.targets, "target", nil, "an instance to add, as `project/service=URL`: http(s)://…/debug/pprof, or grpc(s)://host:port of an agent that listens (repeatable)")
	f.StringArrayVar(&o.StaticFiles, "static", nil, "`file` with a list of instances in YAML or JSON (repeatable)")
	f.StringArrayVar(&o.FileSD, "file-sd", nil, "`file` of Prometheus file_sd targets, globs allowed (repeatable)")
	f.StringArrayVar(&o.HTTPSD, "http-sd", nil, "`URL` that answers with Prometheus http_sd targets (repeatable)")
	f.Var(&s.retention, "retention", "delete captures older than this, such as 30d or 12h; 0 keeps them for ever")
	f.Var(&s.retentionBytes, "retention-bytes", "delete the oldest captures beyond this `size`; 0 = no limit")
	f.Var(&s.reserve, "disk-reserve", "take no capture when less than this `size` is free (default 1 GiB or 5 % of the disk)")
	f.StringArrayVar(&o.AllowHosts, "allow-host", nil, "`name` by which browsers may address the centre, besides loopback and the certificate's; * = any (repeatable)")
	f.StringVar(&o.ControlPolicy, "control-policy", "", "`file` in YAML that says which controls and methods each project allows (docs/control.md)")
	f.Var(&s.heartbeat, "heartbeat", "how often agents tell how they are, from 1s on: as often do the rows of the page change")
	f.StringVar(&o.RulesDir, "rules", "", "`directory` of the rules that instances watch themselves by (default rules in the data directory; docs/rules.md)")
	f.StringVar(&o.NotifyFile, "notify", "", "`file` in YAML with the chats that are told of trouble (docs/notifications.md)")
	f.StringVar(&o.PublicURL, "public-url", "", "`URL` by which people reach the centre, for links in notifications (default the one it serves on)")
	f.StringVar(&o.HealthFile, "health", "", "`file` with the thresholds of health, for all services or one, in YAML or JSON")
	f.StringVar(&o.TraceViewer, "trace-viewer", "", "`path` of the trace program of a Go installation, if it is not found by itself")
	f.StringVar(&o.UndeclaredProjects, "undeclared-projects", AcceptProjects, "`what` to do with instances of projects that the configuration does not declare, once it declares any: accept or refuse")
	f.StringVar(&s.logLevel, "log-level", "info", "least `level` to log: debug, info, warn or error")
	f.StringVar(&o.LogFormat, "log-format", "text", "`format` of the log: text or json")
}

// options puts what was said together and checks its form.
func (s *serveSettings) options() (o ServeOptions, err error) {
	o = s.o
	if o.BasePath, err = cleanBasePath(o.BasePath); err != nil {
		return o, err
	}
	if _, port, err := net.SplitHostPort(o.Listen); err != nil || !validPort(port) {
		return o, ops.Errorf(ops.Invalid, "--listen %q is no address: use host:port, such as 127.0.0.1:8080 or :8443", o.Listen)
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return o, ops.Errorf(ops.Invalid, "--tls-cert and --tls-key belong together: give both or neither")
	}
	if o.TLS != "" && o.TLS != "auto" {
		return o, ops.Errorf(ops.Invalid, "--tls %q is unknown: use auto, or --tls-cert and --tls-key for a certificate of your own", o.TLS)
	}
	if o.TLS != "" && o.TLSCert != "" {
		return o, ops.Errorf(ops.Invalid, "--tls auto makes a certificate and --tls-cert gives one: use either")
	}
	for _, t := range s.targets {
		target, err := parseTarget(t)
		if err != nil {
			return o, err
		}
		o.Targets = append(o.Targets, target)
	}
	for _, h := range o.AllowHosts {
		if h == "" || strings.ContainsAny(h, "/ :") && net.ParseIP(h) == nil {
			return o, ops.Errorf(ops.Invalid, "--allow-host %q is no host name: use one without scheme and port, such as ops.example.com", h)
		}
	}
	if o.UndeclaredProjects != AcceptProjects && o.UndeclaredProjects != RefuseProjects {
		return o, ops.Errorf(ops.Invalid, "--undeclared-projects %q is unknown: use accept or refuse", o.UndeclaredProjects)
	}
	if o.LogLevel, err = logLevel(s.logLevel); err != nil {
		return o, err
	}
	if o.Heartbeat = time.Duration(s.heartbeat); o.Heartbeat < time.Second || o.Heartbeat > ops.HeartbeatEvery {
		return o, ops.Errorf(ops.Invalid, "--heartbeat %v is out of bounds: use 1s to %v", o.Heartbeat, ops.HeartbeatEvery)
	}
	o.Retention, o.RetentionBytes, o.DiskReserveBytes = time.Duration(s.retention), int64(s.retentionBytes), int64(s.reserve)
	return o, nil
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n <= math.MaxUint16
}

func cleanBasePath(s string) (string, error) {
	if s == "" || s == "/" {
		return "", nil
	}
	cleaned := path.Clean(s)
	if s[0] != '/' || strings.TrimSuffix(s, "/") != cleaned || strings.ContainsAny(s, "?#%{}\"'<>\\ ") {
		return "", ops.Errorf(ops.Invalid, "--base-path %q is no path: use one such as /ops", s)
	}
	return cleaned, nil
}

// parseTarget reads project/service=URL.
func parseTarget(s string) (ops.Target, error) {
	bad := func(why string) (ops.Target, error) {
		return ops.Target{}, ops.Errorf(ops.Invalid, "--target %q %s: use project/service=URL, such as color-game/user-service=http://10.0.0.7:6060/debug/pprof", s, why)
	}
	name, address, ok := strings.Cut(s, "=")
	project, service, ok2 := strings.Cut(name, "/")
	if !ok || !ok2 {
		return bad("is incomplete")
	}
	if !ops.ValidName(project) || !ops.ValidName(service) {
		return bad("has a name with other characters than letters, digits, dot, underscore and hyphen")
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return bad("has no URL")
	}
	switch u.Scheme {
	case "http", "https", "grpc", "grpcs":
	default:
		return bad("has a URL of an unknown scheme")
	}
	return ops.Target{Project: ops.ProjectName(project), Service: ops.ServiceName(service), Source: "static", URL: address}, nil
}

func logLevel(level string) (l slog.Level, err error) {
	switch level {
	case "debug", "info", "warn", "error":
		return l, l.UnmarshalText([]byte(level))
	}
	return l, ops.Errorf(ops.Invalid, "--log-level %q is unknown: use debug, info, warn or error", level)
}

func newLogger(w io.Writer, level slog.Leveler, format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})), nil
	}
	return nil, ops.Errorf(ops.Invalid, "--log-format %q is unknown: use text or json", format)
}

// durationValue is a flag that takes Go's durations and days: 30s, 12h, 30d.
type durationValue struct {
	d   time.Duration
	set bool // the user said it
}

func (v *durationValue) String() string { return config.Duration(v.d).String() }

func (v *durationValue) Set(s string) error {
	d := config.Duration(v.d)
	if err := d.Set(s); err != nil {
		return err
	}
	v.d, v.set = time.Duration(d), true
	return nil
}

func (v *durationValue) Type() string { return "duration" }

func (p *program) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  atMost(0),
		RunE: func(*cobra.Command, []string) error {
			if p.json {
				return p.printJSON(struct {
					Version string `json:"version"`
					Go      string `json:"go"`
					OS      string `json:"os"`
					Arch    string `json:"arch"`
				}{p.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH})
			}
			_, err := fmt.Fprintf(p.Stdout, "ops %s (%s, %s/%s)\n", p.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
