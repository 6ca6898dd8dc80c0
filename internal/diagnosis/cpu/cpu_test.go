package cpu

import (
	"testing"

	"github.com/opscenter/opscenter/internal/diagnosis/rule/ruletest"
)

func TestRules(t *testing.T) { ruletest.Run(t, Rules()) }

func TestClosuresBelongToTheirFunction(t *testing.T) {
	for name, want := range map[string]string{
		"main.(*Hub).run.func2.1":            "main.(*Hub).run",
		"main.(*Hub).run-fm":                 "main.(*Hub).run",
		"main.(*Hub).run-range1":             "main.(*Hub).run",
		"main.main.gowrap1":                  "main.main",
		"main.main.loader.func4":             "main.main.loader",
		"main.main.func1.(*bank).transfer.1": "main.main.func1.(*bank).transfer",
		"main.parallel[...].func1":           "main.parallel[...]",
		"example.com/a-2/b.Run":              "example.com/a-2/b.Run",
		"main.function":                      "main.function",
	} {
		if got := outer(name); got != want {
			t.Errorf("%s is in %s, want %s", name, got, want)
		}
	}
}
