// Package cli is the verbs of ops: it reads arguments, talks to a centre over
// its public API as any other client would, and prints. It knows nothing of how
// a centre works inside; starting one is a function that the caller hands in.
//
// Standard output carries the answer or nothing; progress and errors go to
// standard error. docs/cli.md is the contract with scripts.
package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/ops"
)

// The exit codes. ExitVerdict is the one of a diagnosis.
const (
	ExitOK          = 0
	ExitError       = 1
	ExitUsage       = 2 // the command, or a value in it, cannot be right
	ExitPartial     = 4 // the answer is there, and states what it lacks
	ExitNotFound    = 5
	ExitUnavailable = 6   // the centre is away, or at a limit: try again later
	ExitInterrupted = 130 // as shells report SIGINT
)

// ChildVerb is the first argument of a process that ops starts itself.
const ChildVerb = "tool-ui-child"

// Config is what the verbs need from the world. Its zero value is a client in
// the process's own environment that cannot serve.
type Config struct {
	// Serve runs a centre until ctx ends. nil = this program has none.
	Serve func(ctx context.Context, o ServeOptions) error
	// Sections returns the sections that the configuration file may have, empty, each
	// time anew; nil = none.
	Sections func() []config.Section
	// CheckConfig looks at what only the parts of a centre can judge, without
	// starting any; nil = nothing more is looked at.
	CheckConfig func(o ServeOptions) error
	// Accounts opens the users of a centre's data directory; nil = this program
	// cannot.
	Accounts func(ctx context.Context, dataDir string) (Accounts, error)
	// Authority shows a data directory's certificate authority, or changes it; nil =
	// this program is a client only.
	Authority func(ctx context.Context, dataDir, by string, change AuthorityChange) (Authority, error)
	// Diagnose diagnoses files and running programs; nil = this program cannot.
	Diagnose DiagnoseFunc
	// Child runs what `ops tool-ui-child ARGS…` was started for and returns the
	// exit code.
	Child func(args []string) int
	// Version of the program; empty = what the build says.
	Version string

	Stdin          io.Reader           // nil = os.Stdin
	Stdout, Stderr io.Writer           // nil = the process's
	Getenv         func(string) string // nil = os.Getenv
	Now            func() time.Time    // nil = time.Now
	// OpenBrowser shows a URL to the user; nil = the desktop's way.
	OpenBrowser func(ctx context.Context, url string) error
	// Signals delivers interrupts; nil = the process's SIGINT and SIGTERM.
	Signals <-chan os.Signal
	// PollEvery is the time between two looks at a running capture; 0 = 500 ms,
	// twice as often as its progress changes.
	PollEvery time.Duration
}

// Main runs ops with args (without the program's name) and returns the exit
// code. It handles SIGINT and SIGTERM itself: a verb may give them a meaning of
// its own, so ctx should not end on them.
func Main(ctx context.Context, args []string, cfg Config) int {
	if len(args) > 0 && args[0] == ChildVerb {
		if cfg.Child == nil {
			return ExitUsage
		}
		return cfg.Child(args[1:])
	}
	p := newProgram(cfg)
	if cfg.Signals == nil {
		ch := make(chan os.Signal, 4)
		signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(ch)
		// Whoever interrupts an orderly end once more wants a disorderly one.
		p.signals, p.release = ch, func() { signal.Stop(ch) }
	}
	root := p.root()
	// `ops` and `ops --listen …` are the centre.
	cmd, _, err := root.Find(args)
	verbless := len(args) == 0 || strings.HasPrefix(args[0], "-") && !asksForHelp(args)
	if err == nil && cmd == root && verbless {
		args = append([]string{"serve"}, args...)
	}
	root.SetArgs(args)
	p.args = args
	return p.report(root.ExecuteContext(ctx))
}

// program is one run of ops.
type program struct {
	Config
	signals <-chan os.Signal
	release func() // gives the signals back their own meaning
	args    []string

	// loginNow is what `ops login` is about to keep.
	loginNow *credential

	// Global flags.
	server, project, tokenFile string
	json                       bool
}

func newProgram(cfg Config) *program {
	p := &program{Config: cfg, signals: cfg.Signals, release: func() {}}
	if p.Stdin == nil {
		p.Stdin = os.Stdin
	}
	if p.Stdout == nil {
		p.Stdout = os.Stdout
	}
	if p.Stderr == nil {
		p.Stderr = os.Stderr
	}
	if p.Getenv == nil {
		p.Getenv = os.Getenv
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.OpenBrowser == nil {
		p.OpenBrowser = openBrowser
	}
	p.PollEvery = cmp.Or(p.PollEvery, 500*time.Millisecond)
	p.Version = cmp.Or(p.Version, buildVersion())
	return p
}

const rootLong = `OPS Center finds out why Go services are slow: it sees the running instances of
your services, captures CPU, heap, block and mutex profiles and execution traces
from many of them at once, keeps them, and shows them in the browser.

Without a verb, ops is the centre itself.`

const rootExample = `  ops                                     start the centre on http://127.0.0.1:8080
  ops instances                           see what is out there
  ops capture user-service -d 30s         capture everything for 30 seconds
  ops open "$(ops capture user-service)"  capture, and look at it in the browser
  ops diagnose http://host/debug/pprof    say what is wrong with any Go program`

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:               "ops",
		Short:             "The operations centre for Go services",
		Long:              rootLong,
		Example:           rootExample,
		Version:           p.Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		Args:              func(_ *cobra.Command, args []string) error { return p.unknownVerb(args) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return ops.Errorf(ops.Invalid, "%w: see `%s --help`", err, cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&p.server, "server", "", "the centre's `URL`, with its base path if it has one (env OPS_SERVER; default "+defaultServer+")")
	f.StringVar(&p.project, "project", "", "only this `project` (env OPS_PROJECT; default all)")
	f.StringVar(&p.tokenFile, "token-file", "", "`file` with the centre's shared token; serve asks it of every caller, the other verbs send it (env OPS_TOKEN: the token itself, not for serve)")
	f.BoolVar(&p.json, "json", false, "answer in JSON, with field names that stay")

	root.AddGroup(
		&cobra.Group{ID: "centre", Title: "The centre:"},
		&cobra.Group{ID: "fleet", Title: "What is out there:"},
		&cobra.Group{ID: "capture", Title: "Captures and what they say:"},
		&cobra.Group{ID: "act", Title: "Acting on instances:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("centre", p.serveCmd(), p.configCmd(), p.healthcheckCmd(), p.userCmd(), p.caCmd(), p.loginCmd(), p.logoutCmd(), p.tokenCmd(), p.joinTokenCmd())
	add("fleet", p.servicesCmd(), p.instancesCmd(), p.sourcesCmd())
	add("capture", p.diagnoseCmd(), p.captureCmd(), p.capturesCmd(), p.openCmd(), p.exportCmd(), p.importCmd(),
		p.stopCmd(), p.cancelCmd(), p.pinCmd(true), p.pinCmd(false), p.deleteCmd())
	add("act", p.callCmd(), p.controlCmd(), p.auditCmd(), p.notifyCmd(), p.rulesCmd())
	root.AddCommand(p.versionCmd())
	return root
}

// unknownVerb is the error for `ops WORD` where WORD is no verb.
func (p *program) unknownVerb(args []string) error {
	if len(args) == 0 {
		return nil
	}
	verbs := []string{"serve", "user", "login", "logout", "token", "join-token", "config", "services", "instances", "sources", "diagnose", "call", "control", "audit", "notify", "rules", "capture", "captures", "open", "export", "import", "stop", "cancel", "pin", "unpin", "delete", "version", "completion"}
	if near := nearest(args[0], verbs); len(near) > 0 {
		return ops.Errorf(ops.Invalid, "%q is not a verb of ops: did you mean %s?", args[0], orList(near))
	}
	return ops.Errorf(ops.Invalid, "%q is not a verb of ops: see `ops --help`", args[0])
}

func asksForHelp(args []string) bool {
	for _, a := range args {
		switch a {
		case "-h", "--help", "-v", "--version":
			return true
		case "--":
			return false
		}
	}
	return false
}

// takes returns an argument check for a verb that needs exactly the named ones.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return ops.Errorf(ops.Invalid, "ops %s needs %s: `%s`", cmd.Name(), names[len(args)], cmd.UseLine())
		}
		return atMost(len(names))(cmd, args)
	}
}

func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return ops.Errorf(ops.Invalid, "ops %s does not know what to do with %q: see `%s --help`", cmd.Name(), args[n], cmd.CommandPath())
		}
		return nil
	}
}

// partialError ends a run whose answer is there but not whole.
type partialError struct{ message string }

func (e *partialError) Error() string { return e.message }

// report prints an error once and turns it into the exit code.
func (p *program) report(err error) int {
	if err == nil {
		return ExitOK
	}
	kind, code := string(ops.KindOf(err)), ExitError
	switch ops.KindOf(err) {
	case ops.Invalid:
		code = ExitUsage
	case ops.NotFound:
		code = ExitNotFound
	case ops.Unavailable, ops.Exhausted:
		code = ExitUnavailable
	case ops.Cancelled:
		code = ExitInterrupted
	}
	if pe := (*partialError)(nil); errors.As(err, &pe) {
		kind, code = "partial", ExitPartial
	}
	if ve := (*verdictError)(nil); errors.As(err, &ve) {
		kind, code = "verdict", ExitVerdict
	}
	if p.json {
		b, merr := json.Marshal(map[string]any{"error": map[string]string{"kind": kind, "message": err.Error()}})
		if merr == nil {
			fmt.Fprintf(p.Stderr, "%s\n", b)
			return code
		}
	}
	p.note("%s", cleanLines(err.Error()))
	return code
}

// note tells the user something that is not the answer.
func (p *program) note(format string, args ...any) {
	fmt.Fprintf(p.Stderr, "ops: "+format+"\n", args...)
}

// interruptible returns a context that ends at the next interrupt, and what
// ends the watching: call it before anyone else reads p.signals.
func (p *program) interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-p.signals:
			p.release()
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled); <-done }
}

var errInterrupted = ops.Errorf(ops.Cancelled, "interrupted")

// isTerminal reports whether v is a terminal. What is no file may say so itself.
func isTerminal(v any) bool {
	switch v := v.(type) {
	case *os.File:
		return term.IsTerminal(int(v.Fd()))
	case interface{ IsTerminal() bool }:
		return v.IsTerminal()
	}
	return false
}

// buildVersion reads the module's version, or else the revision it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+modified"
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + modified
}

func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
