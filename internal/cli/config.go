package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/ops"
)

const configLong = `The centre's configuration is one YAML file. Every flag of serve is a key of the
same name, and OPS_ with the name in capitals is its place in the environment; a
flag beats the environment, which beats the file. What has no flag is a section:
sources, projects and so on. ` + "`ops config init`" + ` shows all of them.

Without --config or OPS_CONFIG, ops.yaml in the working directory is used, or else
/etc/ops/ops.yaml. A running centre takes a changed file by itself, or on SIGHUP.`

func (p *program) configCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check, show or begin the centre's configuration",
		Long:  configLong,
		Args:  atMost(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.configCheckCmd(), p.configPrintCmd(), p.configInitCmd())
	return cmd
}

func (p *program) sections() []config.Section {
	if p.Sections == nil {
		return nil
	}
	return p.Sections()
}

// checked loads a configuration and lets the centre's parts look at it.
func (p *program) checked(cmd *cobra.Command, file string) (ServeOptions, error) {
	o, err := p.loader(cmd, file)(p.sections())
	if err == nil && p.CheckConfig != nil {
		o.Load = p.loader(cmd, file)
		err = p.CheckConfig(o)
	}
	return o, err
}

func (p *program) configCheckCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say what is wrong with a configuration, with file, line and column",
		Long: `Check reads a configuration as serve would, with the environment as it is here,
and starts nothing. It ends with 0 when all is well, 2 when something is wrong and 5
when there is no file to check.`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			named := p.Getenv("OPS_CONFIG")
			if len(args) > 0 {
				named = args[0]
			}
			file, err := config.Find(named)
			if named != "" && errors.Is(err, os.ErrNotExist) || err == nil && file == "" {
				return ops.Errorf(ops.NotFound, "there is no %s: name the file, or write one with `ops config init`", cmp.Or(named, "ops.yaml here and no /etc/ops/ops.yaml"))
			}
			o, err := p.checked(cmd, file)
			if p.json {
				answer := struct {
					File     string          `json:"file"`
					OK       bool            `json:"ok"`
					Problems []configProblem `json:"problems"`
				}{File: file, OK: err == nil, Problems: problemsOf(err)}
				return errors.Join(p.printJSON(answer), err)
			}
			if err != nil {
				return err
			}
			said := 0
			for _, v := range o.Config.Values {
				if v.Origin != config.FromDefault {
					said++
				}
			}
			_, err = fmt.Fprintf(p.Stdout, "%s is right: %s said\n", file, count(said, "value", "values"))
			return err
		},
	}
}

type configProblem = config.Problem

// problemsOf lists what an error says; one without a place has none.
func problemsOf(err error) []config.Problem {
	out := []config.Problem{}
	var all config.Problems
	switch {
	case errors.As(err, &all):
		for _, one := range all {
			out = append(out, *one)
		}
	case err != nil:
		out = append(out, config.Problem{Message: err.Error()})
	}
	return out
}

func (p *program) configPrintCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "print [flags of serve]",
		Short: "Print every value and where it came from; secrets are masked",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := p.loader(cmd, file)(p.sections())
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(struct {
					File   string         `json:"file"`
					Values []config.Value `json:"values"`
				}{o.Config.File, o.Config.Values})
			}
			rows := make([][]string, 0, len(o.Config.Values))
			for _, v := range o.Config.Values {
				rows = append(rows, []string{v.Key, v.Text, cmp.Or(v.Where, string(v.Origin))})
			}
			return table(p.Stdout, []string{"KEY", "VALUE", "FROM"}, rows)
		},
	}
	configFlag(cmd, &file)
	p.newServeSettings().declare(cmd.Flags())
	return cmd
}

func (p *program) configInitCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a configuration to start from, every key explained (default: to standard output)",
		Args:  atMost(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text := config.Schema{Settings: settings(p.newServeSettings().flags()), Sections: p.sections()}.Example()
			if len(args) == 0 {
				_, err := fmt.Fprint(p.Stdout, text)
				return err
			}
			// Nobody's configuration is overwritten.
			f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return ops.Errorf(ops.Conflict, "%w: choose another name", err)
			}
			_, err = f.WriteString(text)
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
			p.note("wrote %s: check it with `ops config check %s`", args[0], filepath.ToSlash(args[0]))
			return nil
		},
	}
}
