package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Config says who the process is and where its centre is. The zero value works:
// every field that is empty is taken from the environment, and what is not
// there either has a default.
type Config struct {
	// Center is the centre's host:port or URL; https means TLS, and a path is
	// the base path of a centre behind a reverse proxy. Empty = OPS_CENTER, else
	// http://127.0.0.1:8080. "off" = do not dial, only answer through Register.
	Center string
	// Project is the game or product line. Empty = OPS_PROJECT, else "default".
	Project string
	// Service is the program's name within the project. Empty = OPS_SERVICE,
	// else the base name of argv[0].
	Service string
	// Labels tell instances apart: zone, version, shard. They are added to those
	// of OPS_INSTANCE_LABELS (k=v,k=v) and win over them.
	Labels map[string]string
	// TokenFile holds the bearer token that the centre asks of its agents. It is
	// read again before every dial. Empty = OPS_TOKEN_FILE, else no token.
	TokenFile string
	// CAPin is the SHA-256 of the SubjectPublicKeyInfo of the centre's
	// certificate or of a CA that it sends along, in hex or base64; several with
	// commas between them while one replaces another. With a pin the system's
	// roots are not asked. Empty = OPS_CA_PIN, else the roots.
	CAPin string
	// Join is "kubernetes" when TokenFile holds the pod's projected service account
	// token, with which the agent gets a certificate. Empty = OPS_JOIN, else it
	// depends on the token: a join token (opsj_…) buys a certificate, any other is
	// shown as it is.
	Join string
	// StateDir keeps the certificate and its key for the next start, so that a join
	// token is needed only once. Empty = OPS_AGENT_STATE, else they stay in memory.
	StateDir string
	// ListenToken is the bearer token that callers of Register's service must
	// bring when they are not on loopback and have no verified client
	// certificate. Empty = OPS_AGENT_TOKEN, else none is good enough.
	ListenToken string
	// SpoolDir takes the temporary files of a capture. Empty = OPS_SPOOL_DIR,
	// else the system's temporary directory.
	SpoolDir string
	// HeapTypes is "off" to never name the types of heap objects, for which the
	// agent reads the program's machine code. Empty = OPS_HEAP_TYPES, else on.
	HeapTypes string
	// Limits bound every capture, whatever the centre asks for.
	Limits Limits
	// Services are those of the service itself that the centre's console may call
	// over the agent's connection.
	Services Services
	// Controls is "off" to offer no controls at all. Empty = OPS_CONTROLS, else on.
	Controls string
	// AllowControls lets callers of Register's service use controls as well; the
	// centre that the agent dialled always may.
	AllowControls bool
	// LogLevel is the level of the service's logger, such as its *slog.LevelVar.
	// Nil = it cannot be changed from the centre.
	LogLevel LogLevel
	// Drain takes the instance out of service (true) or back in (false), for
	// example by what its readiness check says. Nil = it cannot be drained.
	Drain func(ctx context.Context, drain bool) error
	// FixedGOMAXPROCS says that the service has set GOMAXPROCS itself: a control
	// that ends then puts the number back. False = concluded from the number and
	// the environment; where they are the runtime's own choice, it is left to the
	// runtime again.
	FixedGOMAXPROCS bool
	// FlightRecorder keeps the last so much of the execution trace in memory from
	// the start, 1 s to 1 min, for captures of what is over. 0 =
	// OPS_FLIGHT_RECORDER, else off until a rule or a control wants it.
	FlightRecorder time.Duration
	// FlightRecorderBytes is the most memory that it takes. 0 = 16 MiB; never more
	// than a sixteenth of the memory limit, at most 128 MiB.
	FlightRecorderBytes int64
	// LastWords lets the process send what it holds before its end, without a rule:
	// goroutines and heap when it is at 90 % of its memory limit, and the same with
	// the flight recorder's last seconds when Close is called. "signal" does so on
	// SIGTERM as well, for programs without a handler of their own; the signal then
	// ends the process as ever. Empty = OPS_LAST_WORDS, else off.
	LastWords string
	// Logger takes what an operator of the service may want to know: joined,
	// lost, refused. Nil = silence.
	Logger *slog.Logger
}

// Limits bound every capture. A zero field means its default.
type Limits struct {
	MaxDuration           time.Duration // 0 = 10 min
	MaxTraceWindow        time.Duration // 0 = 30 s
	MaxTraceBytes         int64         // 0 = 512 MiB
	MaxCaptureBytes       int64         // of all artifacts together; 0 = 512 MiB
	MaxConcurrentCaptures int           // 0 = 2
}

const (
	defaultCenter  = "http://127.0.0.1:8080"
	defaultProject = "default"
	centerOff      = "off"
	tunnelPath     = "/opscenter.agent.v1/tunnel"

	// As many and as long as the centre takes.
	maxLabels     = 30
	maxLabelName  = 128
	maxLabelValue = 256

	minDuration          = time.Second
	defaultDuration      = 30 * time.Second
	defaultTraceWindow   = 5 * time.Second
	defaultTraceMaxBytes = 128 << 20
	minTraceMaxBytes     = 1 << 20
)

// settings is a Config with the environment and the defaults filled in.
type settings struct {
	center    *url.URL // of the tunnel; nil = do not dial
	project   string
	service   string
	labels    map[string]string
	tokenFile string
	pins      [][]byte
	joinBy    string // "" or joinByCluster
	stateDir  string
	token     string
	spoolDir  string
	limits    Limits
	services  Services
	log       *slog.Logger

	noHeapTypes bool

	noControls    bool
	allowControls bool
	logLevel      LogLevel
	drain         func(context.Context, bool) error
	fixedProcs    bool

	lastWords, onSignal bool

	flight      time.Duration
	flightBytes int64
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// resolve fills in what c leaves empty. off means that the environment asked
// for no agent at all.
func (c Config) resolve(getenv func(string) string) (s settings, off bool, err error) {
	if isOff(getenv("OPS_AGENT")) {
		return s, true, nil
	}
	s.log = c.Logger
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.project = cmp.Or(c.Project, getenv("OPS_PROJECT"), defaultProject)
	s.service = cmp.Or(c.Service, getenv("OPS_SERVICE"), programName(os.Args))
	for what, name := range map[string]string{"project": s.project, "service": s.service} {
		if !namePattern.MatchString(name) {
			return s, false, fmt.Errorf("agent: %s name %q is not valid: use up to 128 letters, digits, dots, underscores and hyphens, starting with a letter or digit", what, name)
		}
	}
	if s.labels, err = parseLabels(getenv("OPS_INSTANCE_LABELS")); err != nil {
		return s, false, err
	}
	maps.Copy(s.labels, c.Labels)
	if err := checkLabels(s.labels); err != nil {
		return s, false, err
	}
	if s.center, err = parseCenter(cmp.Or(c.Center, getenv("OPS_CENTER"), defaultCenter)); err != nil {
		return s, false, err
	}
	if s.pins, err = parsePins(cmp.Or(c.CAPin, getenv("OPS_CA_PIN"))); err != nil {
		return s, false, err
	}
	if len(s.pins) > 0 && s.center != nil && s.center.Scheme != "https" {
		return s, false, fmt.Errorf("agent: a CA pin is set but the centre %s is not https: use an https URL or drop the pin", s.center.Host)
	}
	if s.joinBy = cmp.Or(c.Join, getenv("OPS_JOIN")); s.joinBy != "" && s.joinBy != joinByCluster {
		return s, false, fmt.Errorf("agent: %.40q is no way to join: leave OPS_JOIN empty for a token, or use %s", s.joinBy, joinByCluster)
	}
	s.stateDir = cmp.Or(c.StateDir, getenv("OPS_AGENT_STATE"))
	s.tokenFile = cmp.Or(c.TokenFile, getenv("OPS_TOKEN_FILE"))
	s.token = cmp.Or(c.ListenToken, getenv("OPS_AGENT_TOKEN"))
	s.spoolDir = cmp.Or(c.SpoolDir, getenv("OPS_SPOOL_DIR"), os.TempDir())
	s.noHeapTypes = isOff(cmp.Or(c.HeapTypes, getenv("OPS_HEAP_TYPES")))
	s.services = c.Services
	s.noControls = isOff(cmp.Or(c.Controls, getenv("OPS_CONTROLS")))
	s.allowControls, s.logLevel, s.drain, s.fixedProcs = c.AllowControls, c.LogLevel, c.Drain, c.FixedGOMAXPROCS
	if s.flight, s.flightBytes, err = c.resolveFlight(getenv("OPS_FLIGHT_RECORDER")); err != nil {
		return s, false, err
	}
	switch words := strings.ToLower(cmp.Or(c.LastWords, getenv("OPS_LAST_WORDS"))); {
	case words == "" || isOff(words):
	case words == "on" || words == "signal":
		s.lastWords, s.onSignal = true, words == "signal"
	default:
		return s, false, fmt.Errorf("agent: last words %.40q: use on, signal or off", words)
	}
	s.limits, err = c.Limits.resolve()
	return s, false, err
}

func (c Config) resolveFlight(env string) (keep time.Duration, bytes int64, err error) {
	keep, bytes = c.FlightRecorder, cmp.Or(c.FlightRecorderBytes, defaultFlightBytes)
	if keep == 0 && env != "" && !isOff(env) {
		if keep, err = time.ParseDuration(env); err != nil || keep == 0 {
			return 0, 0, fmt.Errorf("agent: OPS_FLIGHT_RECORDER %.40q is no time: write one such as 10s, or off", env)
		}
	}
	switch {
	case keep != 0 && (keep < minFlight || keep > maxFlight):
		return 0, 0, fmt.Errorf("agent: the flight recorder cannot keep %v: use %v to %v", keep, minFlight, maxFlight)
	case bytes < 1<<20 || bytes > maxFlightBytes:
		return 0, 0, fmt.Errorf("agent: the flight recorder cannot take %d bytes: use 1 MiB to %d MiB", bytes, maxFlightBytes>>20)
	}
	return keep, bytes, nil
}

func isOff(s string) bool {
	switch strings.ToLower(s) {
	case "off", "0", "false", "no":
		return true
	}
	return false
}

func (l Limits) resolve() (Limits, error) {
	if l.MaxDuration < 0 || l.MaxTraceWindow < 0 || l.MaxTraceBytes < 0 || l.MaxCaptureBytes < 0 || l.MaxConcurrentCaptures < 0 {
		return l, fmt.Errorf("agent: a limit is negative: use zero for the default")
	}
	l.MaxDuration = cmp.Or(l.MaxDuration, 10*time.Minute)
	l.MaxTraceWindow = cmp.Or(l.MaxTraceWindow, 30*time.Second)
	l.MaxTraceBytes = cmp.Or(l.MaxTraceBytes, 512<<20)
	l.MaxCaptureBytes = cmp.Or(l.MaxCaptureBytes, 512<<20)
	l.MaxConcurrentCaptures = cmp.Or(l.MaxConcurrentCaptures, 2)
	return l, nil
}

// programName makes a service name of argv[0].
func programName(args []string) string {
	if len(args) == 0 {
		return "unknown"
	}
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	name = strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)) {
			return r
		}
		return '-'
	}, name)
	name = strings.TrimLeft(name, "._-")
	return cmp.Or(name[:min(len(name), 128)], "unknown")
}

// parseCenter returns the URL of the centre's tunnel, or nil for "off".
func parseCenter(s string) (*url.URL, error) {
	if s == centerOff {
		return nil, nil
	}
	bad := func(why string) error {
		return fmt.Errorf("agent: centre %q %s: use host:port, or a URL such as https://ops.example.com/ops", s, why)
	}
	full := s
	if !strings.Contains(s, "://") {
		full = "http://" + s
	}
	u, err := url.Parse(full)
	if err != nil {
		return nil, bad("is not an address")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, bad("has the scheme " + u.Scheme)
	case u.Hostname() == "":
		return nil, bad("has no host")
	case u.User != nil:
		return nil, bad("carries a password; put the token into a file and name it in OPS_TOKEN_FILE")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, bad("has a query or fragment")
	}
	if u.Port() == "" {
		port := "80"
		if u.Scheme == "https" {
			port = "443"
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	u.Path = strings.TrimRight(u.Path, "/") + tunnelPath
	u.RawPath = ""
	return u, nil
}

func parseLabels(s string) (map[string]string, error) {
	labels := map[string]string{}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		k, v, ok := strings.Cut(part, "=")
		if !ok || strings.TrimSpace(k) == "" {
			return nil, fmt.Errorf("agent: label %q of OPS_INSTANCE_LABELS is not valid: write key=value,key=value", part)
		}
		labels[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return labels, nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("agent: %d labels are too many: use at most %d", len(labels), maxLabels)
	}
	for k, v := range labels {
		if k == "" || len(k) > maxLabelName || len(v) > maxLabelValue {
			return fmt.Errorf("agent: label %.40q is too long or has no name: use a name of 1 to %d bytes and a value of at most %d", k, maxLabelName, maxLabelValue)
		}
	}
	return nil
}
