package archive

import (
	"context"

	"github.com/opscenter/opscenter/internal/ops"
)

// PutFindings keeps what was said of a capture with it. NotFound if it was
// deleted meanwhile.
func (a *Archive) PutFindings(ctx context.Context, id ops.CaptureID, f ops.Findings) error {
	_, release, err := a.use(id)
	if err != nil {
		return err
	}
	defer release()
	return a.change(ctx, "put findings", func() error { return a.rows.PutFindings(ctx, id, f) })
}

// Findings returns what was kept last; NotFound if nothing was yet.
func (a *Archive) Findings(ctx context.Context, id ops.CaptureID) (ops.Findings, error) {
	f, err := a.rows.Findings(ctx, id)
	return f, a.judge(ctx, "read findings", err)
}
