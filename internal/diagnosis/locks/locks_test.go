package locks_test

import (
	"testing"

	"github.com/opscenter/opscenter/internal/diagnosis/locks"
	"github.com/opscenter/opscenter/internal/diagnosis/rule/ruletest"
)

func TestRules(t *testing.T) { ruletest.Run(t, locks.Rules()) }
