package agent

import (
	"context"
	"errors"
	"flag"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// masked stands where a secret was. Names and looks of secrets are few enough to
// be known here: the agent shares no code with the centre.
const masked = "[masked]"

var (
	secretName = regexp.MustCompile(`(?i)(pass(word|wd|phrase)|secret|token|authorization|credential|cookie|jwt|(api|access|private|signing)[._-]?key|^pwd$|_pwd$|^pin$|_pin$|dsn)`)
	// secretText finds passwords in URLs, tokens and keys in any value.
	secretText = regexp.MustCompile(`(?s)(://[^/\s:@]*:)[^/\s@]+(@)|-----BEGIN [A-Z ]*PRIVATE KEY-----.*|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*|(?i:\b(?:bearer|basic) )[A-Za-z0-9._~+/=-]{8,}|(?i:(?:password|passwd|pwd|secret|token)=)[^\s,;&"]+`)
)

// notSecret are variables whose names look like secrets' and are none.
var notSecret = []string{"PWD", "OLDPWD", "OPS_TOKEN_FILE"}

func maskValue(name, value string) string {
	if value != "" && secretName.MatchString(name) && !slices.Contains(notSecret, name) {
		return masked
	}
	return secretText.ReplaceAllString(value, "${1}"+masked+"${2}")
}

type variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// maxShown bounds what is said of one variable or flag.
const maxShown = 2000

func environment(environ []string) []variable {
	out := make([]variable, 0, len(environ))
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		out = append(out, variable{clip(name, maxShown), clip(maskValue(name, value), maxShown)})
	}
	slices.SortFunc(out, func(a, b variable) int { return strings.Compare(a.Name, b.Name) })
	return out
}

type shownFlag struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Default string `json:"default"`
	Set     bool   `json:"set"` // on the command line
	Usage   string `json:"usage"`
}

// commandLine shows the arguments, and the flags of package flag where the
// program uses it.
func commandLine(context.Context, Args) (any, error) {
	out := struct {
		Args  []string    `json:"args"`
		Flags []shownFlag `json:"flags"`
	}{maskArgs(os.Args), []shownFlag{}}
	set := map[string]bool{}
	flag.CommandLine.Visit(func(f *flag.Flag) { set[f.Name] = true })
	flag.CommandLine.VisitAll(func(f *flag.Flag) {
		out.Flags = append(out.Flags, shownFlag{
			Name: f.Name, Value: clip(maskValue(f.Name, f.Value.String()), maxShown), Default: clip(maskValue(f.Name, f.DefValue), maxShown),
			Set: set[f.Name], Usage: clip(f.Usage, maxShown),
		})
	})
	return out, nil
}

// maskArgs masks the values of options whose names are secret: "-token x",
// "--token=x".
func maskArgs(args []string) []string {
	out := make([]string, 0, len(args))
	secretNext := false
	for _, a := range args {
		name, value, has := strings.Cut(a, "=")
		option := strings.HasPrefix(a, "-")
		switch {
		case option && has:
			a = name + "=" + maskValue(strings.TrimLeft(name, "-"), value)
			secretNext = false
		case option:
			secretNext = secretName.MatchString(strings.TrimLeft(a, "-"))
		case secretNext:
			a, secretNext = masked, false
		default:
			a = maskValue("", a)
		}
		out = append(out, clip(a, maxShown))
	}
	return out
}

type shownModule struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Replace string `json:"replace,omitempty"`
}

func buildInfo(context.Context, Args) (any, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil, errors.New("the binary was built without module information")
	}
	out := struct {
		Go       string            `json:"go"`
		Path     string            `json:"path"`
		Main     shownModule       `json:"main"`
		Settings map[string]string `json:"settings"`
		Modules  []shownModule     `json:"modules"`
		Compiler string            `json:"compiler"`
	}{Go: info.GoVersion, Path: info.Path, Main: shown(&info.Main), Settings: map[string]string{}, Modules: []shownModule{}, Compiler: runtime.Compiler}
	for _, s := range info.Settings {
		out.Settings[s.Key] = maskValue("", s.Value)
	}
	for _, m := range info.Deps {
		out.Modules = append(out.Modules, shown(m))
	}
	return out, nil
}

func shown(m *debug.Module) shownModule {
	s := shownModule{Path: m.Path, Version: m.Version}
	if m.Replace != nil {
		s.Replace = strings.TrimSpace(m.Replace.Path + " " + m.Replace.Version)
	}
	return s
}
