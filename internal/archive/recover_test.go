package archive_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

// Each case leaves the stores as a death at some point would, and says what the
// next start makes of it.
func TestRecovery(t *testing.T) {
	content := "the whole profile"
	whole := ops.Artifact{Name: "cpu.pprof", Kind: ops.KindCPU, SizeBytes: int64(len(content)), SHA256: hex.EncodeToString(sum(content))}
	begun := ops.Artifact{Name: "cpu.pprof", Kind: ops.KindCPU}
	put := func(a ops.Artifact, s ops.ArtifactState) func(*testing.T, *centre) {
		return func(t *testing.T, c *centre) { must(t, c.rows.PutArtifact(t.Context(), ref("cpu.pprof"), a, s)) }
	}
	bytesOf := func(content string, final bool) func(*testing.T, *centre) {
		return func(t *testing.T, c *centre) {
			p, err := c.blobs.Part(t.Context(), ref("cpu.pprof"))
			must(t, err)
			_, err = io.WriteString(p, content)
			must(t, err)
			must(t, p.Sync())
			if final {
				must(t, p.Finalize())
			} else {
				must(t, p.Close())
			}
		}
	}
	for _, tc := range []struct {
		name string
		left []func(*testing.T, *centre)
		// want is "capture state: artifact state, bytes, losses | target losses | quarantined"
		want string
	}{
		{"nothing but the request", nil, "failed"},
		{"a row and no byte", []func(*testing.T, *centre){put(begun, ops.ArtifactReceiving)}, "failed | cpu.pprof: the centre restarted before anything of it was there"},
		{"an empty part", []func(*testing.T, *centre){put(begun, ops.ArtifactReceiving), bytesOf("", false)}, "failed | cpu.pprof: the centre restarted before anything of it was there"},
		{"a part", []func(*testing.T, *centre){put(begun, ops.ArtifactReceiving), bytesOf("the wh", false)}, "partial: partial 6 the centre restarted while this was being received: the first 6 bytes are here"},
		{"committing, not yet renamed", []func(*testing.T, *centre){put(whole, ops.ArtifactCommitting), bytesOf(content, false)}, "partial: done 17"},
		{"committing, renamed", []func(*testing.T, *centre){put(whole, ops.ArtifactCommitting), bytesOf(content, true)}, "partial: done 17"},
		{"committing, but the part is short", []func(*testing.T, *centre){put(whole, ops.ArtifactCommitting), bytesOf("the wh", false)}, "partial: partial 6 the centre restarted while this was being received: the first 6 bytes are here"},
		{"committing, but the part is another", []func(*testing.T, *centre){put(whole, ops.ArtifactCommitting), bytesOf("the whole PROFILE", false)}, "partial: partial 17 the centre restarted while this was being received: the first 17 bytes are here"},
		{"committing, but the file is another", []func(*testing.T, *centre){put(whole, ops.ArtifactCommitting), bytesOf("the whole PROFILE", true)}, "partial: partial 17 " + archive.MissingMessage + " | quarantined 01capture.boot-0.cpu.pprof.done"},
		{"done", []func(*testing.T, *centre){put(whole, ops.ArtifactDone), bytesOf(content, true)}, "partial: done 17"},
		{"done, but the file is gone", []func(*testing.T, *centre){put(whole, ops.ArtifactDone)}, "partial: partial 17 " + archive.MissingMessage},
		{"done, but the file is short", []func(*testing.T, *centre){put(whole, ops.ArtifactDone), bytesOf("the wh", true)}, "partial: partial 17 " + archive.MissingMessage + " | quarantined 01capture.boot-0.cpu.pprof.done"},
		{"its removal had begun", []func(*testing.T, *centre){put(whole, ops.ArtifactReceiving), bytesOf(content, true)}, "failed"},
		{"a file without a row", []func(*testing.T, *centre){bytesOf(content, true)}, "failed | quarantined 01capture.boot-0.cpu.pprof.done"},
		{"a part without a row", []func(*testing.T, *centre){bytesOf(content, false)}, "failed | quarantined 01capture.boot-0.cpu.pprof.part"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := start(t, t.TempDir())
			must(t, c.rows.InsertCapture(t.Context(), opstest.SampleCapture(capture, 1)))
			for _, f := range tc.left {
				f(t, c)
			}
			for i := range 2 { // the second start finds nothing left to do
				c = c.restart(t)
				if got := summary(t, c); got != tc.want {
					t.Errorf("start %d:\ngot  %s\nwant %s", i+1, got, tc.want)
				}
			}
		})
	}
}

func summary(t *testing.T, c *centre) string {
	t.Helper()
	x, err := c.Capture(t.Context(), capture)
	must(t, err)
	if x.Reason != "the centre restarted" || x.Targets[0].Reason != "the centre restarted" || x.Finished.IsZero() || x.Targets[0].State != x.State {
		t.Errorf("capture %+v", x)
	}
	out := string(x.State)
	rows, err := c.rows.ArtifactRows(t.Context(), capture)
	must(t, err)
	for _, r := range rows {
		out += fmt.Sprintf(": %s %d", r.State, r.Artifact.SizeBytes)
		for _, l := range r.Artifact.Losses {
			out += " " + l.Message
		}
	}
	restarts := 0
	for _, l := range x.Targets[0].Losses {
		if l.Message == "the centre restarted while the window was open: what had not arrived by then is missing, and what is computed from it at the end" {
			restarts++
			continue
		}
		out += " | " + l.Message
	}
	if restarts != 1 {
		t.Errorf("the restart is stated %d times: %+v", restarts, x.Targets[0].Losses)
	}
	aside, err := os.ReadDir(filepath.Join(c.dir, "blobs", "quarantine"))
	must(t, err)
	for _, f := range aside {
		out += " | quarantined " + f.Name()
	}
	return out
}

func TestRecoveryOfCaptureStates(t *testing.T) {
	for _, tc := range []struct {
		targets []ops.CaptureState
		want    ops.CaptureState
		reason  string
	}{
		{[]ops.CaptureState{ops.CaptureDone, ops.CaptureDone}, ops.CaptureDone, ""},
		{[]ops.CaptureState{ops.CaptureDone, ops.CaptureCollecting}, ops.CapturePartial, "the centre restarted"},
		{[]ops.CaptureState{ops.CaptureCollecting, ops.CaptureCommitting}, ops.CaptureFailed, "the centre restarted"},
		{[]ops.CaptureState{ops.CaptureCancelled, ops.CaptureCancelled}, ops.CaptureCancelled, "the centre restarted"},
		{[]ops.CaptureState{ops.CaptureCancelled, ops.CaptureFailed}, ops.CaptureFailed, "the centre restarted"},
		{[]ops.CaptureState{ops.CapturePartial, ops.CaptureRequested}, ops.CapturePartial, "the centre restarted"},
	} {
		c := start(t, t.TempDir())
		x := opstest.SampleCapture(capture, 2)
		x.State = ops.CaptureCollecting
		for i, s := range tc.targets {
			x.Targets[i].State = s
		}
		must(t, c.rows.InsertCapture(t.Context(), x))
		c = c.restart(t)
		got, err := c.Capture(t.Context(), capture)
		must(t, err)
		if got.State != tc.want || got.Reason != tc.reason {
			t.Errorf("%v: became %s (%s), want %s (%s)", tc.targets, got.State, got.Reason, tc.want, tc.reason)
		}
	}
}

// A volume that was not mounted must not cost anything: what is back with the
// next start is taken back.
func TestMissingFilesComeBack(t *testing.T) {
	c := start(t, t.TempDir())
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)))
	store(t, c.Archive, ref("cpu.pprof"), "samples")
	before := finish(t, c.Archive, capture)
	c.stop()
	blobs := filepath.Join(c.dir, "blobs")
	must(t, os.Rename(blobs, blobs+".unmounted"))
	c = start(t, c.dir)
	_, _, err := c.OpenArtifact(t.Context(), ref("cpu.pprof"))
	wantError(t, err, ops.Corrupt, "the file of 01capture/boot-0/cpu.pprof is missing from the archive: look for it in the blobs' directory and in its quarantine, then restart the centre")
	var bundle bytes.Buffer
	must(t, c.Export(t.Context(), capture, &bundle)) // what is left can be exported
	c.stop()
	must(t, os.RemoveAll(blobs))
	must(t, os.Rename(blobs+".unmounted", blobs))
	c = start(t, c.dir)
	if got := read(t, c.Archive, ref("cpu.pprof")); got != "samples" {
		t.Errorf("got %q", got)
	}
	after, err := c.Capture(t.Context(), capture)
	must(t, err)
	if diff := cmp.Diff(before.Targets[0].Artifacts, after.Targets[0].Artifacts); diff != "" {
		t.Error(diff)
	}
}

func TestFilesOfUnknownCapturesAreMovedAside(t *testing.T) {
	c := start(t, t.TempDir())
	for _, name := range []string{"cpu.pprof", "heap.pprof"} {
		p, err := c.blobs.Part(t.Context(), ops.ArtifactRef{Capture: "09unknown", Instance: "boot-0", Name: name})
		must(t, err)
		_, err = io.WriteString(p, "whose am I?")
		must(t, err)
		must(t, p.Sync())
		must(t, p.Finalize())
	}
	var log bytes.Buffer
	c = c.restart(t, func(c *archive.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if n := strings.Count(log.String(), "moved a file that no capture knows aside"); n != 2 {
		t.Errorf("%d lines logged:\n%s", n, log.String())
	}
	b, err := os.ReadFile(filepath.Join(c.dir, "blobs", "quarantine", "09unknown.boot-0.cpu.pprof.done"))
	if err != nil || string(b) != "whose am I?" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestUnfinishedImportIsTakenBack(t *testing.T) {
	c := start(t, t.TempDir())
	x := opstest.SampleCapture(capture, 1)
	x.Imported, x.State = true, ops.CaptureCommitting
	must(t, c.rows.InsertCapture(t.Context(), x))
	c = c.restart(t)
	_, err := c.Capture(t.Context(), capture)
	wantError(t, err, ops.NotFound, "there is no capture 01capture")
	wantNothingAside(t, c)
}

func TestSecondCentreIsRefused(t *testing.T) {
	c := start(t, t.TempDir())
	_, err := archive.Open(t.Context(), archive.Config{Catalogue: c.rows, Blobs: c.blobs, Dir: c.dir})
	wantError(t, err, ops.Conflict, "another centre is using "+c.dir+": stop it first, or choose another data directory")
	_, err = archive.Open(t.Context(), archive.Config{})
	if err == nil || err.Error() != "archive: a catalogue and a store of blobs are required" {
		t.Errorf("got %v", err)
	}
}

func TestManyCapturesRecoverPageByPage(t *testing.T) {
	c := start(t, t.TempDir())
	for i := range 230 {
		x := opstest.SampleCapture(ops.CaptureID(fmt.Sprintf("%04d-capture", i)), 1)
		must(t, c.rows.InsertCapture(t.Context(), x))
	}
	c = c.restart(t)
	left, err := c.rows.Unfinished(t.Context())
	if err != nil || len(left) != 0 {
		t.Errorf("%d captures are left in between, %v", len(left), err)
	}
	all, err := c.Captures(t.Context(), ops.CaptureFilter{Limit: 1000})
	if err != nil || len(all) != 230 || slices.ContainsFunc(all, func(x ops.Capture) bool { return x.State != ops.CaptureFailed }) {
		t.Errorf("%d captures, %v", len(all), err)
	}
}
