package archive

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/flate"

	"github.com/opscenter/opscenter/internal/ops"
)

// Export writes a capture as a bundle: a zip of manifest.json, findings.json if
// it has been diagnosed, and <instance>/<artifact>. Nothing is held in memory. An error after the first
// byte leaves w with a zip that nobody can open; artifacts are checked against
// their SHA-256 on the way out. Conflict while the capture runs.
func (a *Archive) Export(ctx context.Context, id ops.CaptureID, w io.Writer) error {
	_, release, err := a.use(id)
	if err != nil {
		return err
	}
	defer release()
	c, err := a.Capture(ctx, id)
	if err != nil {
		return err
	}
	if !c.State.Ended() {
		return ops.Errorf(ops.Conflict, "capture %s is still running: export it when it has ended", id)
	}
	m := manifestOf(c)
	m.Exported = time.Now().UTC().Truncate(time.Millisecond)
	var refs []ops.ArtifactRef
	for i, t := range c.Targets {
		for _, art := range t.Artifacts {
			ref := ops.ArtifactRef{Capture: id, Instance: t.Instance.ID, Name: art.Name}
			if isMissing(art) {
				m.Targets[i].Losses = append(slices.Clone(m.Targets[i].Losses), ops.Loss{Kind: art.Kind, Reason: ops.LossFailed, Message: art.Name + ": its file was missing when this bundle was made"})
				continue
			}
			m.Targets[i].Artifacts = append(m.Targets[i].Artifacts, artifactEntry(t.Instance.ID, art))
			refs = append(refs, ref)
		}
	}
	findings, err := a.Findings(ctx, id)
	if err != nil && ops.KindOf(err) != ops.NotFound {
		return fmt.Errorf("export %s: %w", id, err)
	}
	said := findings.Bodies[ops.English]
	if said != nil {
		sum := sha256.Sum256(said)
		m.Findings = &manifestFile{Path: findingsName, SizeBytes: int64(len(said)), SHA256: hex.EncodeToString(sum[:])}
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("export %s: %w", id, err)
	}
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	if err := addFile(z, manifestName, m.Exported, bytes.NewReader(append(text, '\n'))); err != nil {
		return fmt.Errorf("export %s: %w", id, err)
	}
	if said != nil {
		if err := addFile(z, findingsName, findings.Made, bytes.NewReader(said)); err != nil {
			return fmt.Errorf("export %s: %w", id, err)
		}
	}
	for _, ref := range refs {
		if err := a.exportArtifact(ctx, z, ref, c.Created); err != nil {
			return fmt.Errorf("export %s: %w", ref, err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("export %s: %w", id, err)
	}
	return nil
}

func (a *Archive) exportArtifact(ctx context.Context, z *zip.Writer, ref ops.ArtifactRef, at time.Time) error {
	b, art, err := a.OpenArtifact(ctx, ref)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	if err := addFile(z, string(ref.Instance)+"/"+ref.Name, at, io.TeeReader(&untilDone{ctx, b}, h)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); b.Size() != art.SizeBytes || got != art.SHA256 {
		return ops.Errorf(ops.Corrupt, "the stored file is damaged (%d bytes with SHA-256 %s instead of %d with %s): delete the artifact's capture, or restore the file from a backup",
			b.Size(), got, art.SizeBytes, art.SHA256)
	}
	return nil
}

func addFile(z *zip.Writer, name string, at time.Time, content io.Reader) error {
	h := &zip.FileHeader{Name: name, Modified: at, Method: zip.Store}
	h.SetMode(0o600)
	if compressible(name) {
		h.Method = zip.Deflate
	}
	w, err := z.CreateHeader(h)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, content)
	return err
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context //nolint:containedctx // of one copy
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
