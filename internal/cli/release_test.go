package cli

import (
	"strings"
	"testing"
	"time"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
)

// A rolling deploy shows what runs side by side: version and revision, how many of
// each, and since when each is there.
func TestReleases(t *testing.T) {
	const oldRevision, newRevision = "0123456789abcdef0123", "fedcba9876543210fedc"
	type process struct {
		version, revision string
		modified          bool
		age               time.Duration
	}
	for _, c := range []struct {
		name string
		all  []process
		want string
	}{
		{"nobody", nil, ""},
		{"nobody says", []process{{age: time.Hour}}, ""},
		{"one version", []process{{version: "v1.4.2", age: time.Hour}, {version: "v1.4.2", age: 3 * time.Hour}}, "v1.4.2 x2 for 3h"},
		{"a rollout", []process{{"v1.4.2", oldRevision, false, 72 * time.Hour}, {"v1.5.0", newRevision, false, 4 * time.Minute}, {"v1.5.0", newRevision, false, 2 * time.Minute}},
			"v1.5.0 fedcba9876 x2 for 4m, v1.4.2 0123456789 x1 for 3d"},
		{"the same version of two revisions", []process{{"v1.4.2", oldRevision, false, time.Hour}, {"v1.4.2", newRevision, false, time.Minute}},
			"v1.4.2 0123456789 x1 for 1h, v1.4.2 fedcba9876 x1 for 1m"},
		{"from work trees", []process{{"(devel)", oldRevision, false, time.Hour}, {"(devel)", oldRevision, true, time.Minute}},
			"0123456789 x1 for 1h, 0123456789+ x1 for 1m"},
		{"a version that Go made up is the revision", []process{{"v0.0.0-20260102030405-0123456789ab+dirty", oldRevision, true, time.Hour}}, "0123456789+ x1 for 1h"},
		{"some do not say", []process{{version: "v1", age: time.Hour}, {age: time.Minute}}, "unknown x1 for 1m, v1 x1 for 1h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []*apiv1.Instance
			for _, p := range c.all {
				all = append(all, &apiv1.Instance{
					Build:   &apiv1.Build{ModuleVersion: p.version, VcsRevision: p.revision, VcsModified: p.modified},
					Process: &apiv1.Process{StartTime: before(p.age)},
				})
			}
			if got := releasesText(releasesOf(all), testNow); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func TestWhoSaysThatAnInstanceIsDown(t *testing.T) {
	const up, suspect, gone = apiv1.InstanceState_INSTANCE_STATE_UP, apiv1.InstanceState_INSTANCE_STATE_SUSPECT, apiv1.InstanceState_INSTANCE_STATE_GONE
	for _, c := range []struct {
		state        apiv1.InstanceState
		reason, says string
		want         string
	}{
		{up, "", "", "up"},
		{suspect, "connection lost", "centre", "suspect for 1h (connection lost, says the centre)"},
		{gone, "clean exit", "process", "gone for 1h (clean exit, says the process)"},
		{gone, "no longer listed by etcd", "etcd", "gone for 1h (no longer listed by etcd)"},
		{gone, "moved", "consul", "gone for 1h (moved, says consul)"},
		{gone, "vanished", "", "gone for 1h (vanished)"}, // of an older centre
		{gone, "", "centre", "gone for 1h (says the centre)"},
	} {
		i := instance("b00t-a1", "p", "s", "a", c.state)
		i.StateReason, i.StateSays = c.reason, c.says
		if got := stateText(i, testNow); got != c.want {
			t.Errorf("%s, want %s", strings.TrimSpace(got), c.want)
		}
	}
}
