package app

import (
	"log/slog"

	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/guard"
)

// checkConfig is what `ops config check` asks of the centre's parts: everything
// that a start would refuse, but for what only the machine can say.
func checkConfig(o cli.ServeOptions) error {
	var sec sections
	loaded, err := o.Load(sec.list())
	if err != nil {
		return err
	}
	loaded.Logger = slog.New(slog.DiscardHandler)
	if _, err := new(keptSources).sources(loaded, sec.Sources); err != nil {
		return err
	}
	if loaded.ControlPolicy != "" {
		if _, err := guard.LoadPolicy(loaded.ControlPolicy); err != nil {
			return err
		}
	}
	if loaded.HealthFile != "" {
		if _, err := fleet.LoadHealth(loaded.HealthFile); err != nil {
			return err
		}
	}
	return nil
}
