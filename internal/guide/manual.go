package guide

import (
	"maps"

	"github.com/opscenter/opscenter/internal/ops"
)

// manuals are the pages of all rules, by family.
func manuals() map[ops.RuleID]Manual {
	all := map[ops.RuleID]Manual{}
	for _, family := range []map[ops.RuleID]Manual{cpuManual(), locksManual(), waitsManual(), memoryManual()} {
		maps.Copy(all, family)
	}
	return all
}

func say(en, zh string) ops.Text { return ops.Text{EN: en, ZH: zh} }
