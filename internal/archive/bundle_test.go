package archive_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

var update = flag.Bool("update", false, "rewrite the samples")

const formats = "../../docs/formats/"

// sampleBundle is the bundle of a capture of two instances, one of which was
// lost on the way.
func sampleBundle(t testing.TB) []byte {
	t.Helper()
	c := start(t, t.TempDir())
	at := time.Date(2026, 5, 4, 12, 30, 20, 0, time.UTC)
	x := opstest.SampleCapture(capture, 2)
	x.Created = at
	must(t, c.Begin(t.Context(), x))
	w, err := c.Create(t.Context(), ref("cpu.pprof"), ops.Artifact{Kind: ops.KindCPU, Phase: ops.PhaseWindow, TakenAt: at, WindowStart: at, WindowEnd: at.Add(30 * time.Second)})
	must(t, err)
	_, err = io.WriteString(w, "samples")
	must(t, err)
	must(t, w.Commit(7, sum("samples"), ops.Artifact{}))
	w, err = c.Create(t.Context(), ref("trace.out"), ops.Artifact{Kind: ops.KindTrace, Phase: ops.PhaseWindow, TakenAt: at})
	must(t, err)
	_, err = io.WriteString(w, strings.Repeat("events ", 100))
	must(t, err)
	must(t, w.Abort(ops.Loss{Kind: ops.KindTrace, Reason: ops.LossDisconnected, Message: "the connection was lost after 700 bytes"}))
	must(t, c.Put(t.Context(), ref("block.pprof"), ops.Artifact{Kind: ops.KindBlock, Phase: ops.PhaseWindow}, func(w io.Writer) error {
		_, err := io.WriteString(w, "after minus before")
		return err
	}))
	x.Targets[0].State, x.Targets[0].WindowStart, x.Targets[0].WindowEnd = ops.CapturePartial, at, at.Add(30*time.Second)
	x.Targets[0].Losses = []ops.Loss{{Kind: ops.KindGoroutineLeak, Reason: ops.LossUnsupported, Message: "this build has no goroutineleak profile"}}
	x.Targets[1].State, x.Targets[1].Reason = ops.CaptureFailed, "the instance vanished"
	for _, target := range x.Targets {
		must(t, c.UpdateTarget(t.Context(), capture, target))
	}
	x.State, x.Reason, x.Finished = ops.CapturePartial, "1 of 2 instances failed", at.Add(40*time.Second)
	must(t, c.Update(t.Context(), x))
	var out bytes.Buffer
	must(t, c.Export(t.Context(), capture, &out))
	return out.Bytes()
}

func importBundle(c *centre, b []byte) (ops.Capture, error) {
	return c.Import(context.Background(), bytes.NewReader(b), int64(len(b)), "local:importer")
}

func TestBundleGoesThereAndBack(t *testing.T) {
	original := sampleBundle(t)
	c := start(t, t.TempDir())
	got, err := importBundle(c, original)
	must(t, err)
	if got.ID != capture || got.State != ops.CapturePartial || !got.Imported || !got.Pinned || got.Actor != "local:importer" || got.Note != "captured by local:operator: 登入很慢" {
		t.Errorf("got %+v", got)
	}
	if s := read(t, c.Archive, ref("trace.out")); s != strings.Repeat("events ", 100) {
		t.Errorf("got %q", s)
	}
	if s := c.Status(t.Context()); s.StoredBytes != got.SizeBytes() {
		t.Errorf("stored %d of %d", s.StoredBytes, got.SizeBytes())
	}
	wantNothingAside(t, c)
	c = c.restart(t)
	var again bytes.Buffer
	must(t, c.Export(t.Context(), capture, &again))
	m1, m2 := manifestIn(t, original), manifestIn(t, again.Bytes())
	for _, m := range []map[string]any{m1, m2} {
		delete(m, "exported")
		delete(m["capture"].(map[string]any), "actor")
		delete(m["capture"].(map[string]any), "note")
	}
	if diff := cmp.Diff(m1, m2); diff != "" {
		t.Errorf("the manifest of what was imported differs:\n%s", diff)
	}

	_, err = importBundle(c, original)
	wantError(t, err, ops.Conflict, "capture 01capture is in the archive already: open it, or delete it first to import this bundle again")
	if s := read(t, c.Archive, ref("cpu.pprof")); s != "samples" {
		t.Errorf("a second import harmed the first: %q", s)
	}
	must(t, c.Delete(t.Context(), capture))
	_, err = importBundle(c, original)
	must(t, err)
}

// docs/formats/manifest.sample.json is what Export writes, as its schema says.
func TestPublishedManifest(t *testing.T) {
	bundle := sampleBundle(t)
	m := manifestIn(t, bundle)
	m["exported"] = "2026-05-04T12:31:00Z"
	got, err := json.MarshalIndent(m, "", "  ")
	must(t, err)
	got = append(got, '\n')
	if *update {
		must(t, os.WriteFile(formats+"manifest.sample.json", got, 0o644))
	}
	want, err := os.ReadFile(formats + "manifest.sample.json")
	must(t, err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the published sample is not what is exported (-want +got); if that is meant, run with -update:\n%s", diff)
	}

	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile(formats + "manifest.schema.json")
	must(t, err)
	sample, err := jsonschema.UnmarshalJSON(bytes.NewReader(want))
	must(t, err)
	must(t, schema.Validate(sample))
	// Every field that is written is described.
	undescribed(t, schema, sample, "")
	sample.(map[string]any)["targets"].([]any)[0].(map[string]any)["artifacts"].([]any)[0].(map[string]any)["sha256"] = "zz"
	if schema.Validate(sample) == nil {
		t.Error("the schema takes anything")
	}

	// A bundle with the published manifest is imported.
	b := open(t, bundle)
	must(t, json.Unmarshal(want, &b.manifest))
	if _, err := importBundle(start(t, t.TempDir()), b.build(t)); err != nil {
		t.Error(err)
	}
}

func undescribed(t *testing.T, s *jsonschema.Schema, v any, at string) {
	t.Helper()
	for s.Ref != nil {
		s = s.Ref
	}
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if p := s.Properties[k]; p != nil {
				undescribed(t, p, x, at+"."+k)
			} else if s.AdditionalProperties == nil {
				t.Errorf("%s.%s is not in the schema", at, k)
			}
		}
	case []any:
		for _, x := range v {
			undescribed(t, s.Items2020, x, at+"[]")
		}
	}
}

// unzipped is a bundle to be tampered with.
type unzipped struct {
	manifest map[string]any
	files    []file
	raw      []byte // instead of manifest
}

type file struct {
	name    string
	content []byte
	method  uint16
	mode    os.FileMode
	flags   uint16
	claim   int64 // the size its header claims, if not 0
	packed  []byte
}

func open(t testing.TB, bundle []byte) *unzipped {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(bundle), int64(len(bundle)))
	must(t, err)
	b := &unzipped{}
	for _, f := range z.File {
		r, err := f.Open()
		must(t, err)
		content, err := io.ReadAll(r)
		must(t, err)
		if f.Name == "manifest.json" {
			must(t, json.Unmarshal(content, &b.manifest))
			continue
		}
		b.files = append(b.files, file{name: f.Name, content: content, method: f.Method})
	}
	return b
}

func manifestIn(t testing.TB, bundle []byte) map[string]any { return open(t, bundle).manifest }

func (b *unzipped) build(t testing.TB) []byte {
	t.Helper()
	manifest, method := b.raw, zip.Store
	if manifest == nil {
		var err error
		method = zip.Deflate
		manifest, err = json.Marshal(b.manifest)
		must(t, err)
	}
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range append([]file{{name: "manifest.json", content: manifest, method: method}}, b.files...) {
		if f.name == "" && f.content == nil {
			continue
		}
		packed := f.packed
		if packed == nil {
			packed = f.content
			if f.method == zip.Deflate {
				packed = deflated(t, f.content)
			}
		}
		h := &zip.FileHeader{Name: f.name, Method: f.method, Flags: f.flags, CRC32: crc32.ChecksumIEEE(f.content), UncompressedSize64: uint64(len(f.content)), CompressedSize64: uint64(len(packed))}
		if f.claim != 0 {
			h.UncompressedSize64 = uint64(f.claim)
		}
		h.SetMode(0o600 | f.mode)
		w, err := z.CreateRaw(h)
		must(t, err)
		_, err = w.Write(packed)
		must(t, err)
	}
	must(t, z.Close())
	return out.Bytes()
}

func deflated(t testing.TB, content []byte) []byte {
	t.Helper()
	var p bytes.Buffer
	d, err := flate.NewWriter(&p, 6)
	must(t, err)
	_, err = d.Write(content)
	must(t, err)
	must(t, d.Close())
	return p.Bytes()
}

func (b *unzipped) capture() map[string]any { return b.manifest["capture"].(map[string]any) }

func (b *unzipped) target(i int) map[string]any {
	return b.manifest["targets"].([]any)[i].(map[string]any)
}

func (b *unzipped) artifact(i int) map[string]any {
	return b.target(0)["artifacts"].([]any)[i].(map[string]any)
}

func (b *unzipped) add(f file) { b.files = append(b.files, f) }

// cpu is the file of the artifact 1, which is stored as it is.
func (b *unzipped) cpu() *file {
	for i := range b.files {
		if b.files[i].name == "boot-0/cpu.pprof" {
			return &b.files[i]
		}
	}
	panic("no cpu.pprof")
}

func TestHostileBundles(t *testing.T) {
	good := sampleBundle(t)
	bomb := bytes.Repeat([]byte{0}, 20<<20)
	samples, tampered := hex.EncodeToString(sum("samples")), hex.EncodeToString(sum("SAMPLES"))
	const refused, damaged = "the bundle is refused: ", "the bundle is damaged: "
	for _, tc := range []struct {
		name   string
		tamper func(b *unzipped)
		want   string
	}{
		// Names.
		{"absolute name", func(b *unzipped) { b.add(file{name: "/etc/cron.d/x"}) }, refused + `the name "/etc/cron.d/x" leads outside of it`},
		{"dots", func(b *unzipped) { b.add(file{name: "../../x"}) }, refused + `the name "../../x" leads outside of it`},
		{"dots within", func(b *unzipped) { b.add(file{name: "boot-0/../../x"}) }, refused + `the name "boot-0/../../x" leads outside of it`},
		{"backslashes", func(b *unzipped) { b.add(file{name: `boot-0\..\x`}) }, refused + `the name "boot-0\\..\\x" leads outside of it`},
		{"drive", func(b *unzipped) { b.add(file{name: "C:x"}) }, refused + `the name "C:x" leads outside of it`},
		{"NUL", func(b *unzipped) { b.add(file{name: "boot-0/x\x00.pprof"}) }, refused + `the name "boot-0/x\x00.pprof" leads outside of it`},
		{"too deep", func(b *unzipped) { b.add(file{name: "boot-0/a/b"}) }, refused + `"boot-0/a/b" has no place in it`},
		{"hidden", func(b *unzipped) { b.add(file{name: "boot-0/.bashrc"}) }, refused + `"boot-0/.bashrc" has no place in it`},
		{"at the top", func(b *unzipped) { b.add(file{name: "notes.txt"}) }, refused + `"notes.txt" has no place in it`},
		{"a directory that is none of ours", func(b *unzipped) { b.add(file{name: "__MACOSX/"}) }, refused + `"__MACOSX/" is not a plain file`},
		{"twice", func(b *unzipped) { b.add(*b.cpu()) }, refused + `"boot-0/cpu.pprof" is there twice`},
		{"manifest twice", func(b *unzipped) { b.add(file{name: "manifest.json"}) }, refused + `"manifest.json" is there twice`},
		// Kinds of files.
		{"symlink", func(b *unzipped) { b.cpu().mode = os.ModeSymlink; b.cpu().content = []byte("/etc/passwd") }, refused + `"boot-0/cpu.pprof" is not a plain file`},
		{"device", func(b *unzipped) { b.cpu().mode = os.ModeDevice }, refused + `"boot-0/cpu.pprof" is not a plain file`},
		{"encrypted", func(b *unzipped) { b.cpu().flags = 1 }, refused + `"boot-0/cpu.pprof" is encrypted`},
		{"packed otherwise", func(b *unzipped) { b.cpu().method = 12 }, refused + `"boot-0/cpu.pprof" is packed with method 12: use store or deflate`},
		// Sizes.
		{"bomb", func(b *unzipped) { *b.cpu() = file{name: "boot-0/cpu.pprof", content: bomb, method: zip.Deflate} }, refused + `"boot-0/cpu.pprof" would unpack from %PACKED% bytes to 20971520`},
		{"bombs, each small", func(b *unzipped) {
			packed := deflated(t, bomb[:16<<20])
			for i := range 40 {
				b.add(file{name: fmt.Sprintf("boot-0/f%d", i), content: bomb[:16<<20], packed: packed, method: zip.Deflate})
			}
		}, refused + "it is %SIZE% bytes and would unpack to %TOTAL%"},
		{"too big", func(b *unzipped) { b.cpu().claim = 513 << 20 }, refused + `"boot-0/cpu.pprof" has 537919488 bytes, at most 536870912 are taken`},
		{"its header claims less", func(b *unzipped) { b.cpu().claim = 5; b.artifact(1)["size_bytes"] = 5 }, damaged + `"boot-0/cpu.pprof" is longer than the 5 bytes it says it has`},
		{"its header claims more", func(b *unzipped) { b.cpu().claim = 9; b.artifact(1)["size_bytes"] = 9 }, damaged + `"boot-0/cpu.pprof" ends early: it says it has 9 bytes`},
		{"the manifest claims another size", func(b *unzipped) { b.artifact(1)["size_bytes"] = 8 }, damaged + `"boot-0/cpu.pprof" has 7 bytes, the manifest says 8`},
		{"the manifest claims a negative size", func(b *unzipped) { b.artifact(1)["size_bytes"] = -7 }, damaged + `"boot-0/cpu.pprof" has 7 bytes, the manifest says -7`},
		{"too many files", func(b *unzipped) {
			for i := range 20_001 {
				b.add(file{name: fmt.Sprintf("boot-0/f%d", i)})
			}
		}, refused + "it has 20005 files, at most 20000 are taken"},
		{"a list of files that does not end", func(b *unzipped) {
			for i := range 300 {
				b.add(file{name: fmt.Sprintf("boot-0/%d%s", i, strings.Repeat("x", 60_000))})
			}
		}, refused + "its list of files is longer than 16 MiB"},
		// Content.
		{"tampered content", func(b *unzipped) { b.cpu().content = []byte("SAMPLES") }, damaged + `"boot-0/cpu.pprof" has SHA-256 ` + tampered + `, the manifest says ` + samples},
		{"broken packing", func(b *unzipped) { b.cpu().method = zip.Deflate; b.cpu().packed = []byte("no flate") }, damaged + `"boot-0/cpu.pprof" cannot be unpacked: flate: corrupt input before offset 1`},
		{"not a hash", func(b *unzipped) { b.artifact(1)["sha256"] = "abc" }, refused + `"abc" is no SHA-256 of "boot-0/cpu.pprof"`},
		// The manifest against the files.
		{"a file too few", func(b *unzipped) { *b.cpu() = file{} }, refused + `"boot-0/cpu.pprof" is in its manifest, but not in it`},
		{"a file too many", func(b *unzipped) { b.add(file{name: "boot-0/more.pprof"}) }, refused + `"boot-0/more.pprof" is not in its manifest`},
		{"findings nobody speaks of", func(b *unzipped) { b.add(file{name: "findings.json", content: []byte("{}")}) }, refused + `"findings.json" is not in its manifest`},
		{"another path", func(b *unzipped) { b.artifact(1)["path"] = "boot-1/cpu.pprof" }, refused + `artifact cpu.pprof of instance boot-0 is in "boot-1/cpu.pprof" instead of "boot-0/cpu.pprof"`},
		{"an artifact twice", func(b *unzipped) {
			b.target(0)["artifacts"] = append(b.target(0)["artifacts"].([]any), b.artifact(1))
		}, refused + `its manifest has "boot-0/cpu.pprof" twice`},
		{"an artifact's name", func(b *unzipped) { b.artifact(1)["name"] = "../x" }, refused + `"../x" is no name of an artifact`},
		// The manifest itself.
		{"empty manifest", func(b *unzipped) { b.raw = []byte{}; b.manifest = nil }, refused + "manifest.json is not what it should be: unexpected end of JSON input"},
		{"not JSON", func(b *unzipped) { b.raw = []byte("<html>") }, refused + "manifest.json is not JSON: invalid character '<' looking for beginning of value"},
		{"not ours", func(b *unzipped) { b.raw = []byte(`{"hello":"world"}`) }, refused + `manifest.json has schema "", this version reads "opscenter.manifest/v1": import it with a newer version`},
		{"of the future", func(b *unzipped) { b.manifest["schema"] = "opscenter.manifest/v2" }, refused + `manifest.json has schema "opscenter.manifest/v2", this version reads "opscenter.manifest/v1": import it with a newer version`},
		{"of another type", func(b *unzipped) { b.capture()["id"] = 7 }, refused + "manifest.json is not what it should be: json: cannot unmarshal number into Go struct field manifestCapture.capture.id of type ops.CaptureID"},
		{"too deep JSON", func(b *unzipped) { b.raw = bytes.Repeat([]byte("["), 100) }, refused + "manifest.json is nested deeper than 16 levels"},
		{"too much JSON", func(b *unzipped) {
			b.raw = []byte(`{"targets":[` + strings.Repeat("{},", 100_000) + `{}]}`)
		}, refused + "manifest.json has more than 100000 objects"},
		{"too long JSON", func(b *unzipped) { b.raw = noise(17 << 20) }, refused + "manifest.json has 17825792 bytes, at most 16777216 are taken"},
		{"more words than work", func(b *unzipped) {
			loss := map[string]any{"kind": "cpu", "reason": "failed", "message": strings.Repeat("x", 1000)}
			b.target(0)["losses"] = slices.Repeat([]any{loss}, 2000)
		}, refused + "manifest.json has %MANIFEST% bytes, at most %WORDS% are taken for its instances and artifacts"},
		{"capture id", func(b *unzipped) { b.capture()["id"] = "../../x" }, refused + `"../../x" is no capture id`},
		{"project", func(b *unzipped) { b.capture()["project"] = "a/b" }, refused + `"a/b" is no name of a project`},
		{"service", func(b *unzipped) { b.capture()["service"] = "" }, refused + `"" is no name of a service`},
		{"instance id", func(b *unzipped) { b.target(1)["instance"].(map[string]any)["id"] = ".." }, refused + `".." is no instance id`},
		{"instance twice", func(b *unzipped) { b.target(1)["instance"].(map[string]any)["id"] = "boot-0" }, refused + "instance boot-0 is there twice"},
		{"no instance", func(b *unzipped) { b.manifest["targets"] = []any{}; b.files = nil }, refused + "its capture has no instance"},
		{"not ended", func(b *unzipped) { b.capture()["state"] = "collecting" }, refused + `its capture is in state "collecting", which is no end`},
		{"instance not ended", func(b *unzipped) { b.target(1)["state"] = "busy" }, refused + `instance boot-1 is in state "busy", which is no end`},
		{"an end that would delete it", func(b *unzipped) { b.capture()["reason"] = "being deleted" }, refused + "its capture was being deleted"},
		{"before time", func(b *unzipped) { b.capture()["created"] = "0300-01-01T00:00:00Z" }, refused + "its capture was made at a time that cannot be"},
		{"endless", func(b *unzipped) { b.capture()["spec"].(map[string]any)["seconds"] = 1e300 }, refused + "its capture took a time that cannot be"},
		{"clock", func(b *unzipped) { b.target(1)["instance"].(map[string]any)["clock_offset_seconds"] = -1e300 }, refused + "instance boot-1 has a time that cannot be"},
		{"kind", func(b *unzipped) { b.artifact(1)["kind"] = "<script>" }, refused + `"boot-0/cpu.pprof" has a kind or phase that cannot be`},
		{"findings elsewhere", func(b *unzipped) {
			b.manifest["findings"] = map[string]any{"path": "boot-0/cpu.pprof", "size_bytes": 7, "sha256": samples}
		}, refused + `its findings are in "boot-0/cpu.pprof" instead of "findings.json"`},
		{"tampered findings", func(b *unzipped) {
			b.manifest["findings"] = map[string]any{"path": "findings.json", "size_bytes": 7, "sha256": samples}
			b.add(file{name: "findings.json", content: []byte("SAMPLES")})
		}, damaged + `"findings.json" has SHA-256 ` + tampered + `, the manifest says ` + samples},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := open(t, good)
			tc.tamper(b)
			bundle := b.build(t)
			kind := ops.Invalid
			if strings.HasPrefix(tc.want, damaged) {
				kind = ops.Corrupt
			}
			c := start(t, t.TempDir())
			_, err := importBundle(c, bundle)
			wantError(t, err, kind, sizes(t, bundle).Replace(tc.want))
			wantEmpty(t, c)
			if _, err := importBundle(c, good); err != nil {
				t.Errorf("the untampered bundle afterwards: %v", err)
			}
		})
	}
}

// sizes puts the sizes of a bundle, which depend on how well it was packed, into
// a message.
func sizes(t *testing.T, bundle []byte) *strings.Replacer {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(bundle), int64(len(bundle)))
	must(t, err)
	var total, packed, manifest uint64
	words := 1<<20 + 2*8<<10 + (len(z.File)-1)*2<<10 // two instances, and artifacts
	for _, f := range z.File {
		total += f.UncompressedSize64
		if f.Name == "manifest.json" {
			manifest = f.UncompressedSize64
		}
		if f.Name == "boot-0/cpu.pprof" {
			packed = f.CompressedSize64
		}
	}
	return strings.NewReplacer("%SIZE%", fmt.Sprint(len(bundle)), "%TOTAL%", fmt.Sprint(total), "%PACKED%", fmt.Sprint(packed),
		"%MANIFEST%", fmt.Sprint(manifest), "%WORDS%", fmt.Sprint(words))
}

// noise is text that does not pack well.
func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	out := make([]byte, n)
	_, _ = r.Read(out)
	for i := range out {
		out[i] = 'a' + out[i]%26
	}
	return out
}

// wantEmpty fails if anything is left of a refused import.
func wantEmpty(t *testing.T, c *centre) {
	t.Helper()
	all, err := c.Captures(t.Context(), ops.CaptureFilter{})
	if err != nil || len(all) != 0 {
		t.Errorf("captures are left: %+v, %v", all, err)
	}
	must(t, c.blobs.List(t.Context(), func(r ops.ArtifactRef, _ bool, _ int64) error {
		t.Errorf("a file is left: %s", r)
		return nil
	}))
	wantNothingAside(t, c)
	if s := c.Status(t.Context()); s.StoredBytes != 0 {
		t.Errorf("%d bytes are left", s.StoredBytes)
	}
}

func TestThingsThatAreNoBundle(t *testing.T) {
	c := start(t, t.TempDir())
	good := sampleBundle(t)
	var empty bytes.Buffer
	must(t, zip.NewWriter(&empty).Close())
	// A zip64 whose end claims a billion files, for which archive/zip would set
	// memory aside.
	lie := append([]byte("PK\x06\x06"), make([]byte, 52)...)
	binary.LittleEndian.PutUint64(lie[4:], 44)
	binary.LittleEndian.PutUint64(lie[24:], 1e9)
	binary.LittleEndian.PutUint64(lie[32:], 1e9)
	lie = append(append(lie, "PK\x06\x07"...), make([]byte, 16)...)
	lie = append(append(lie, "PK\x05\x06"...), 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0)
	for name, tc := range map[string]struct {
		bundle []byte
		want   string
	}{
		"nothing":         {nil, "the bundle is refused: it is not a zip file, or only a part of one"},
		"text":            {[]byte(strings.Repeat("not a zip ", 1000)), "the bundle is refused: it is not a zip file, or only a part of one"},
		"the first half":  {good[:len(good)/2], "the bundle is refused: it is not a zip file, or only a part of one"},
		"an empty zip":    {empty.Bytes(), "the bundle is refused: it has no manifest.json at its top: it is not a bundle of a capture"},
		"a billion files": {lie, "the bundle is refused: it has 1000000000 files, at most 20000 are taken"},
		"a profile":       {[]byte("\x1f\x8b\x08\x00\x00"), "the bundle is refused: it is not a zip file, or only a part of one"},
	} {
		_, err := importBundle(c, tc.bundle)
		if err == nil || err.Error() != tc.want || ops.KindOf(err) != ops.Invalid {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
	wantEmpty(t, c)
}

func TestBundleThatWasPackedAgainIsTaken(t *testing.T) {
	b := open(t, sampleBundle(t))
	b.files = append([]file{{name: "boot-0/", mode: os.ModeDir}}, b.files...)
	findings := `{"schema":"opscenter.diagnosis/v1"}`
	b.manifest["findings"] = map[string]any{"path": "findings.json", "size_bytes": len(findings), "sha256": hex.EncodeToString(sum(findings))}
	b.manifest["a field of the future"] = map[string]any{"x": 1}
	b.add(file{name: "findings.json", content: []byte(findings), method: zip.Deflate})
	got, err := importBundle(start(t, t.TempDir()), b.build(t))
	must(t, err)
	if len(got.Targets[0].Artifacts) != 3 {
		t.Errorf("got %+v", got)
	}
}

func TestBundleThatDoesNotFit(t *testing.T) {
	c := start(t, t.TempDir(), func(c *archive.Config) { c.Blobs, c.Reserve = roomFor{c.Blobs, 2000}, 1500 })
	_, err := importBundle(c, sampleBundle(t))
	if ops.KindOf(err) != ops.Exhausted || !strings.Contains(err.Error(), "but the disk has only 2.0 KiB free and 1.5 KiB are kept in reserve: delete captures or free some space") {
		t.Errorf("got %v", err)
	}
	wantEmpty(t, c)
}

// roomFor is a store with little room.
type roomFor struct {
	ops.Blobs
	bytes int64
}

func (r roomFor) Free(context.Context) (int64, error) { return r.bytes, nil }

func TestExportOfDamagedFileFails(t *testing.T) {
	c := start(t, t.TempDir())
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)))
	store(t, c.Archive, ref("cpu.pprof"), "samples")
	wantError(t, c.Export(t.Context(), capture, io.Discard), ops.Conflict, "capture 01capture is still running: export it when it has ended")
	wantError(t, c.Export(t.Context(), "09nothing", io.Discard), ops.NotFound, "there is no capture 09nothing")
	finish(t, c.Archive, capture)
	must(t, os.WriteFile(filepath.Join(c.dir, "blobs", "done", "01capture", "boot-0", "cpu.pprof"), []byte("SAMPLES"), 0o600))
	var out bytes.Buffer
	err := c.Export(t.Context(), capture, &out)
	if ops.KindOf(err) != ops.Corrupt || !strings.Contains(err.Error(), "export 01capture/boot-0/cpu.pprof: the stored file is damaged") {
		t.Errorf("got %v", err)
	}
	if _, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len())); err == nil {
		t.Error("a damaged export can be opened")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Export(gone, capture, io.Discard); ops.KindOf(err) != ops.Cancelled {
		t.Errorf("a caller that has left: %v", err)
	}
}

// Bundles pass through without being held in memory.
func TestBigBundleInLittleMemory(t *testing.T) {
	c := start(t, t.TempDir())
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)))
	big := strings.Repeat("0123456789abcdef", 2<<20) // 32 MiB
	store(t, c.Archive, ref("cpu.pprof"), big)
	finish(t, c.Archive, capture)
	f, err := os.Create(filepath.Join(t.TempDir(), "bundle.zip"))
	must(t, err)
	defer f.Close()
	grown := allocated(func() { must(t, c.Export(t.Context(), capture, f)) })
	st, err := f.Stat()
	must(t, err)
	other := start(t, t.TempDir())
	grown = max(grown, allocated(func() {
		_, err := other.Import(t.Context(), f, st.Size(), "local:importer")
		must(t, err)
	}))
	if grown > 12<<20 {
		t.Errorf("allocated %d bytes for a bundle of %d", grown, st.Size())
	}
	if got := read(t, other.Archive, ref("cpu.pprof")); got != big {
		t.Error("it reads differently")
	}
}

// allocated is how many bytes fn allocates.
func allocated(fn func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func FuzzImport(f *testing.F) {
	f.Add(sampleBundle(f))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	c := start(f, f.TempDir(), func(c *archive.Config) { c.Retention = archive.Retention{MaxAge: -1, MaxBytes: -1} })
	f.Fuzz(func(t *testing.T, bundle []byte) {
		got, err := importBundle(c, bundle)
		if err == nil {
			must(t, c.Delete(t.Context(), got.ID))
		} else if k := ops.KindOf(err); k != ops.Invalid && k != ops.Corrupt {
			t.Errorf("kind %s: %v", k, err)
		}
		left, err := c.Captures(t.Context(), ops.CaptureFilter{})
		if err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}
