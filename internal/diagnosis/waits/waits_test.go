package waits

import (
	"testing"

	"github.com/opscenter/opscenter/internal/diagnosis/rule/ruletest"
)

func TestRules(t *testing.T) { ruletest.Run(t, Rules()) }
