package app

import (
	"context"
	"encoding/json"
	"io"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/speedscope"
)

// captured is a capture as the views of it need it: without its progress.
func (c *center) captured(ctx context.Context, id ops.CaptureID) (ops.Capture, error) {
	s, err := c.captures.Capture(ctx, id)
	return s.Capture, err
}

// runtimeSeries reads a runtime.json and writes it again: what a foreign process
// put into the file beyond the format does not reach the page.
func (c *center) runtimeSeries(ctx context.Context, ref ops.ArtifactRef) ([]byte, error) {
	blob, _, err := c.archive.OpenArtifact(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer blob.Close() //nolint:errcheck // it was only read
	r, err := evidence.ReadRuntime(io.NewSectionReader(blob, 0, blob.Size()))
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// speedscope writes a profile in the format of another viewer.
func (c *center) speedscope(ctx context.Context, ref ops.ArtifactRef, w io.Writer) error {
	blob, _, err := c.archive.OpenArtifact(ctx, ref)
	if err != nil {
		return err
	}
	defer blob.Close() //nolint:errcheck // it was only read
	p, err := profile.Read(io.NewSectionReader(blob, 0, blob.Size()), profile.Limits{})
	if err != nil {
		return err
	}
	return speedscope.Write(w, p, ref.Name)
}

// guideArchive is where the guide's samples go.
type guideArchive struct{ c *center }

func (a guideArchive) Capture(ctx context.Context, id ops.CaptureID) (ops.Capture, error) {
	return a.c.captured(ctx, id)
}

func (a guideArchive) Import(ctx context.Context, bundle io.ReaderAt, size int64, actor string) (ops.Capture, error) {
	return a.c.captures.Import(ctx, bundle, size, actor)
}
