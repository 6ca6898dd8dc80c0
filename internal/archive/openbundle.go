package archive

import (
	"context"
	"io"

	"github.com/opscenter/opscenter/internal/ops"
)

// Bundle is a capture as a zip that is read where it lies, without an archive.
type Bundle struct {
	// Capture with its targets and their artifacts.
	Capture ops.Capture
	b       *bundle
}

// OpenBundle reads what a bundle says it has. A hostile or damaged one is
// refused as by Import.
func OpenBundle(r io.ReaderAt, size int64) (*Bundle, error) {
	b, err := readBundle(r, size)
	if err != nil {
		return nil, err
	}
	out := &Bundle{Capture: b.manifest.capture(), b: b}
	for i, t := range b.manifest.Targets {
		for _, a := range t.Artifacts {
			artifact := a.artifact()
			artifact.SizeBytes, artifact.SHA256 = a.SizeBytes, a.SHA256
			out.Capture.Targets[i].Artifacts = append(out.Capture.Targets[i].Artifacts, artifact)
		}
	}
	return out, nil
}

// Extract writes an artifact and compares it with the manifest: Corrupt, after
// it was written, if they differ. NotFound if the bundle has no such artifact.
func (b *Bundle) Extract(ctx context.Context, instance ops.InstanceID, name string, w io.Writer) error {
	for _, t := range b.b.manifest.Targets {
		if t.Instance.ID != instance {
			continue
		}
		for _, a := range t.Artifacts {
			if a.Name == name {
				return checkFile(ctx, a.manifestFile, b.b.files[a.Path], w)
			}
		}
	}
	return ops.Errorf(ops.NotFound, "the bundle has no %s/%s", instance, name)
}
