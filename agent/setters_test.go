package agent

import "testing"

// What the environment says is the runtime's to read: its forms and its defaults.
func TestWhatTheEnvironmentSetsOfTheCollector(t *testing.T) {
	for env, want := range map[string]int64{"": 0, "off": 0, "1048576": 1 << 20, "512MiB": 512 << 20, "2GiB": 2 << 30, "100B": 100} {
		if got := memoryLimitOf(env); got != want {
			t.Errorf("GOMEMLIMIT=%q: %d, want %d", env, got, want)
		}
	}
	for env, want := range map[string]int32{"": 100, "off": -1, "50": 50, "-5": -1, "none": 100} {
		if got := gogcOf(env); got != want {
			t.Errorf("GOGC=%q: %d, want %d", env, got, want)
		}
	}
}
