package api

import (
	"context"
	"slices"
	"strings"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/ops"
)

const (
	// lookedAt bounds how many captures one call goes through for those that
	// match; the next page goes on from there.
	lookedAt = 2000
	// lookAtOnce is how many rows are read at a time where not all will match.
	lookAtOnce = 200
)

// ListCaptures pages through what the catalogue has. What a capture is called
// and what was said of it are not the catalogue's to search: captures are looked
// through here.
func (s *server) ListCaptures(ctx context.Context, req *connect.Request[apiv1.ListCapturesRequest]) (*connect.Response[apiv1.ListCapturesResponse], error) {
	m := req.Msg
	size := int(m.GetPageSize())
	switch {
	case size == 0:
		size = 50
	case size < 0 || size > 500:
		return nil, ops.Errorf(ops.Invalid, "page size %d is out of range: use 1 to 500", size)
	}
	if sev := m.GetSeverity(); sev != "" && !slices.Contains(severities, sev) {
		return nil, ops.Errorf(ops.Invalid, "severity %q is unknown: use one of %v", sev, severities)
	}
	f := ops.CaptureFilter{
		Project: ops.ProjectName(m.GetProject()), Service: ops.ServiceName(m.GetService()),
		Instance: ops.InstanceID(m.GetInstanceId()), Before: ops.CaptureID(m.GetPageToken()), Limit: size,
	}
	// One who does not see all that the filter selects gets what is left of it.
	partly := !sees(ctx, f.Project, f.Service)
	picky := len(m.GetStates()) > 0 || m.GetText() != "" || m.GetSeverity() != ""
	if picky || partly {
		f.Limit = max(size, lookAtOnce)
	}
	out := &apiv1.ListCapturesResponse{}
	for seen := 0; ; {
		list, err := s.Captures.Captures(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, st := range list {
			f.Before = st.ID
			if !sees(ctx, st.Project, st.Service) {
				continue
			}
			if c := s.captureProto(ctx, st, false); !picky || matches(m, st, c.GetHeadline()) {
				out.Captures = append(out.Captures, c)
			}
			if len(out.GetCaptures()) == size {
				break
			}
		}
		seen += len(list)
		full := len(out.GetCaptures()) == size
		if full || len(list) == f.Limit && seen >= lookedAt {
			out.NextPageToken = string(f.Before)
		}
		if full || len(list) < f.Limit || seen >= lookedAt {
			return connect.NewResponse(out), nil
		}
	}
}

// severities are what a list can be filtered by, worst first.
var severities = []string{string(ops.Critical), string(ops.Warning), string(ops.Notice), "none"}

// matches reports whether a capture is one of those that were asked for.
func matches(m *apiv1.ListCapturesRequest, st capture.Status, h *apiv1.Headline) bool {
	if states := m.GetStates(); len(states) > 0 && !slices.Contains(states, captureStates[st.State]) {
		return false
	}
	if want := m.GetSeverity(); want != "" {
		got := h.GetSeverity()
		if h != nil && got == "" {
			got = "none"
		}
		if got != want {
			return false
		}
	}
	if m.GetText() == "" {
		return true
	}
	parts := []string{string(st.ID), string(st.Project), string(st.Service), st.Actor, st.Note, st.Reason, h.GetRule()}
	for _, title := range h.GetTitle() {
		parts = append(parts, title)
	}
	for _, t := range st.Targets {
		parts = append(parts, string(t.Instance.ID), t.Instance.Address)
	}
	in := strings.ToLower(strings.Join(parts, "\n"))
	for _, word := range strings.Fields(strings.ToLower(m.GetText())) {
		if !strings.Contains(in, word) {
			return false
		}
	}
	return true
}
