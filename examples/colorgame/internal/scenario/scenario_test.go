package scenario

import (
	"slices"
	"testing"
)

func TestScenariosAreNumberedOneToSeven(t *testing.T) {
	for i, sc := range All() {
		if int(sc) != i+1 {
			t.Errorf("scenario at place %d has number %d", i+1, int(sc))
		}
		if sc.Service() == "" || sc.Symptom() == "unknown" {
			t.Errorf("scenario %d has no service or symptom", int(sc))
		}
	}
	if got, err := Parse("4"); err != nil || got != LockAcrossQuery {
		t.Errorf("Parse(4) = %v, %v", got, err)
	}
	for _, s := range []string{"", "0", "8", "four", "-1", "04"} {
		_, err := Parse(s)
		if want := `unknown scenario "` + s + `": use 1 to 7`; err == nil || err.Error() != want {
			t.Errorf("Parse(%q): %v, want %s", s, err, want)
		}
	}
}

func TestWatchersHearOnlyOfChanges(t *testing.T) {
	var s Switches
	s.Set(SlowRecords, true)
	type change struct {
		Scenario
		on bool
	}
	var heard []change
	s.Watch(func(sc Scenario, on bool) { heard = append(heard, change{sc, on}) })
	s.Set(SlowRecords, true)
	s.Set(SlowRecords, false)
	s.Set(SlowRecords, false)
	s.Set(LoginStorm, true)
	if want := []change{{SlowRecords, false}, {LoginStorm, true}}; !slices.Equal(heard, want) {
		t.Errorf("heard %v, want %v", heard, want)
	}
	if s.On(SlowRecords) || !s.On(LoginStorm) || s.On(SessionLeak) {
		t.Error("the switches are not as they were set")
	}
}
