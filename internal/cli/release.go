package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
)

// release is a version that instances of a service run, as `ops services --json`
// shows it.
type release struct {
	Version string `json:"version"`
	// Revision is the VCS's, with a "+" where the work tree was changed.
	Revision  string `json:"revision"`
	Instances int    `json:"instances"`
	// Since is when the first of them that still live was started.
	Since time.Time `json:"since,omitzero"`
}

// unversioned is what Go calls a module that was built from a work tree.
const unversioned = "(devel)"

// releaseOf is what an instance runs.
func releaseOf(i *apiv1.Instance) release {
	b := i.GetBuild()
	r := release{Version: b.GetModuleVersion(), Revision: b.GetVcsRevision(), Instances: 1}
	if r.Version == unversioned {
		r.Version = ""
	}
	if r.Revision != "" && b.GetVcsModified() {
		r.Revision += "+"
	}
	if began := cmp.Or(i.GetProcess().GetStartTime(), i.GetJoined()); began != nil {
		r.Since = began.AsTime()
	}
	return r
}

// releasesOf are the versions of a service's living instances, the most frequent
// first: more than one while something is rolled out.
func releasesOf(living []*apiv1.Instance) []release {
	out := []release{}
	for _, i := range living {
		r := releaseOf(i)
		at := slices.IndexFunc(out, func(o release) bool { return o.Version == r.Version && o.Revision == r.Revision })
		if at < 0 {
			out = append(out, r)
			continue
		}
		o := &out[at]
		o.Instances++
		if o.Since.IsZero() || (!r.Since.IsZero() && r.Since.Before(o.Since)) {
			o.Since = r.Since
		}
	}
	slices.SortFunc(out, func(a, b release) int {
		return cmp.Or(cmp.Compare(b.Instances, a.Instances), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Revision, b.Revision))
	})
	return out
}

// inPseudoVersion is how much of the revision Go puts into a version that nobody
// tagged: v0.0.0-20260102030405-0123456789ab.
const inPseudoVersion = 12

// name is what people call it: the version, and as much of the revision as tells two
// apart. A version that Go made of the revision says no more than that.
func (r release) name() string {
	version, revision := r.Version, r.Revision
	if len(revision) >= inPseudoVersion && strings.Contains(version, revision[:inPseudoVersion]) {
		version = ""
	}
	if plus := strings.HasSuffix(revision, "+"); len(revision) > 10 {
		revision = revision[:10]
		if plus {
			revision += "+"
		}
	}
	return clean(strings.TrimSpace(version + " " + revision))
}

func versionText(b *apiv1.Build) string { return releaseOf(&apiv1.Instance{Build: b}).name() }

// releasesText says how many run what, and since when.
func releasesText(all []release, now time.Time) string {
	var out []string
	for _, r := range all {
		name := r.name()
		switch {
		case name == "" && len(all) == 1:
			continue // nobody says
		case name == "":
			name = "unknown"
		}
		s := fmt.Sprintf("%s x%d", name, r.Instances)
		if !r.Since.IsZero() {
			s += " for " + ago(now, timestamppb.New(r.Since))
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}
