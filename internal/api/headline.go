package api

import (
	"context"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/ops"
)

// captureProto adds to a capture that has ended what the rules said of it. A
// capture is told without its headline rather than not at all.
func (s *server) captureProto(ctx context.Context, st capture.Status, withArtifacts bool) *apiv1.Capture {
	out := captureProto(st, s.keeps(st.Project), withArtifacts)
	if !st.Capture.State.Ended() {
		return out
	}
	h, err := s.Headline(ctx, st.Capture.ID)
	if err != nil {
		if ops.KindOf(err) != ops.NotFound && ctx.Err() == nil {
			s.Logger.WarnContext(ctx, "headline not read", "capture", st.Capture.ID, "err", err)
		}
		return out
	}
	out.Headline = &apiv1.Headline{
		Severity: string(h.Severity), Rule: string(h.Rule), Title: map[string]string{},
		Critical: int32(h.Critical), Warning: int32(h.Warning), Notice: int32(h.Notice), Unchecked: int32(h.Unchecked),
	}
	for lang, title := range h.Title {
		out.Headline.Title[string(lang)] = title
	}
	return out
}
