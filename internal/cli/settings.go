package cli

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/ops"
)

// live are the settings whose change holds at once, without a restart.
var live = []string{
	"target", "static", "file-sd", "http-sd", "retention", "retention-bytes", "disk-reserve",
	"control-policy", "health", "notify", "log-level", "undeclared-projects",
}

// paths are the settings that name files.
var paths = []string{
	"data", "tls-cert", "tls-key", "token-file", "static", "file-sd", "control-policy", "health", "notify", "rules", "trace-viewer",
}

// watched are those whose files count when they change, without a word to anyone.
var watched = []string{"static", "control-policy", "health", "notify"}

// serveSettings is what is said to serve, before it is checked.
type serveSettings struct {
	o                       ServeOptions
	targets                 []string
	logLevel                string
	retention, heartbeat    config.Duration
	retentionBytes, reserve config.Size
}

func (p *program) newServeSettings() *serveSettings {
	return &serveSettings{
		o: ServeOptions{Version: p.Version}, retention: config.Duration(defaultRetention), retentionBytes: defaultRetentionBytes,
		heartbeat: config.Duration(ops.HeartbeatEvery),
	}
}

// flags returns flags of its own that write to s, in the order of their declaration.
func (s *serveSettings) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	f.SortFlags = false
	s.declare(f)
	f.StringVar(&s.o.TokenFile, "token-file", "", "`file` with the centre's shared token, asked of every caller")
	return f
}

// settings makes a setting of every flag.
func settings(f *pflag.FlagSet) (out []config.Setting) {
	f.VisitAll(func(flag *pflag.Flag) {
		list, isList := flag.Value.(pflag.SliceValue)
		about := strings.TrimSuffix(strings.ReplaceAll(flag.Usage, "`", ""), " (repeatable)")
		set := config.Setting{
			Key: flag.Name, About: about, Default: flag.DefValue, List: isList,
			Path: slices.Contains(paths, flag.Name), Restart: !slices.Contains(live, flag.Name),
			Set: func(values []string) error {
				if isList {
					return list.Replace(values)
				}
				if len(values) != 1 {
					return errors.New("must be one word")
				}
				return flag.Value.Set(values[0])
			},
		}
		if isList {
			set.Default = ""
		}
		out = append(out, set)
	})
	return out
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "`file` with the configuration in YAML (env OPS_CONFIG; default "+strings.Join(config.Places(), ", else ")+", if there is one)")
}

// loader returns a function that reads file, or the one that is found, the
// environment and the flags that cmd was given, and fills the sections.
func (p *program) loader(cmd *cobra.Command, file string) func([]config.Section) (ServeOptions, error) {
	given := map[string][]string{}
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			given[flag.Name] = list.GetSlice()
		} else {
			text := flag.Value.String()
			if text == "" && flag.Value.Type() != "string" {
				text = "0" // of durations and sizes, whose zero does not show in the help
			}
			given[flag.Name] = []string{text}
		}
	})
	if file == "" {
		file = p.Getenv("OPS_CONFIG")
	}
	return func(sections []config.Section) (ServeOptions, error) { return p.load(file, given, sections) }
}

func (p *program) load(file string, given map[string][]string, sections []config.Section) (ServeOptions, error) {
	s := p.newServeSettings()
	in := config.Inputs{Flags: given, Getenv: p.Getenv}
	name, err := config.Find(file)
	if err != nil {
		return s.o, err
	}
	var files []string
	if name != "" {
		if in.File, err = config.Read(name, p.Getenv); err != nil {
			return s.o, err
		}
		files = append(append(files, name), in.File.Reads...)
	}
	flags := s.flags()
	effective, err := config.Schema{Settings: settings(flags), Sections: sections}.Load(in)
	if err != nil {
		return s.o, err
	}
	o, err := s.options()
	if err != nil {
		return o, effective.Place(err)
	}
	for _, key := range watched {
		switch v := flags.Lookup(key).Value.(type) {
		case pflag.SliceValue:
			files = append(files, v.GetSlice()...)
		default:
			if v.String() != "" {
				files = append(files, v.String())
			}
		}
	}
	o.Config, o.Files = effective, files
	if in.File != nil {
		o.Seen = config.Sums(files)
		o.Seen[in.File.Name] = in.File.Sum
	}
	return o, nil
}
