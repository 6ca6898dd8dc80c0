package memory_test

import (
	"testing"

	"github.com/opscenter/opscenter/internal/diagnosis/memory"
	"github.com/opscenter/opscenter/internal/diagnosis/rule/ruletest"
)

func TestRules(t *testing.T) { ruletest.Run(t, memory.Rules()) }
