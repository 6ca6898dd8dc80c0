package opstest

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opscenter/opscenter/internal/ops"
)

// TestBlobs runs the contract of ops.Blobs. open makes an empty store for every
// case; reopen opens the same one again, as a program does that starts after
// the first one died without closing anything.
func TestBlobs(t *testing.T, open func(t *testing.T) (store ops.Blobs, reopen func() ops.Blobs)) {
	cases := []struct {
		name string
		run  func(*testing.T, ops.Blobs, func() ops.Blobs)
	}{
		{"a part grows and becomes final", blobsLife},
		{"a part goes on where it ended", blobsResume},
		{"what was synced is there after the program died", blobsReopen},
		{"a final blob never changes", blobsFinal},
		{"an open blob is readable from every side", blobsRead},
		{"an empty blob is a blob", blobsEmpty},
		{"what does not exist", blobsNotFound},
		{"names that lead elsewhere are refused", blobsNames},
		{"delete takes part and final", blobsDelete},
		{"delete of a capture takes everything of it and nothing else", blobsDeleteCapture},
		{"list names every part and blob", blobsList},
		{"quarantine moves aside, never to be served", blobsQuarantine},
		{"many writers at once", blobsConcurrent},
		{"free space is known or unlimited", blobsFree},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			store, reopen := open(t)
			c.run(t, store, reopen)
		})
	}
}

func blobRef(capture ops.CaptureID, name string) ops.ArtifactRef {
	return ops.ArtifactRef{Capture: capture, Instance: "boot-0", Name: name}
}

func writeBlob(t *testing.T, s ops.Blobs, ref ops.ArtifactRef, content string) {
	t.Helper()
	p, err := s.Part(t.Context(), ref)
	must(t, err)
	_, err = io.WriteString(p, content)
	must(t, err)
	must(t, p.Sync())
	must(t, p.Finalize())
}

func readBlob(t *testing.T, s ops.Blobs, ref ops.ArtifactRef) string {
	t.Helper()
	b, err := s.Open(t.Context(), ref)
	must(t, err)
	defer b.Close() //nolint:errcheck // it was only read
	content, err := io.ReadAll(b)
	must(t, err)
	if b.Size() != int64(len(content)) {
		t.Errorf("size %d of %d bytes", b.Size(), len(content))
	}
	return string(content)
}

func blobsLife(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	ref := blobRef("01capture", "cpu.pprof")
	p, err := s.Part(t.Context(), ref)
	must(t, err)
	for i, piece := range []string{"one ", "", "two ", "three"} {
		n, err := io.WriteString(p, piece)
		if n != len(piece) || err != nil {
			t.Fatalf("write %d: %d, %v", i, n, err)
		}
	}
	if p.Size() != 13 {
		t.Errorf("size %d", p.Size())
	}
	if got := readBlob(t, s, ref); got != "one two three" {
		t.Errorf("the growing part reads %q", got)
	}
	final, err := s.Final(t.Context(), ref)
	if final || err != nil {
		t.Errorf("final before it was: %v, %v", final, err)
	}
	must(t, p.Sync())
	must(t, p.Sync()) // again is no error
	must(t, p.Finalize())
	final, err = s.Final(t.Context(), ref)
	if !final || err != nil {
		t.Errorf("not final: %v, %v", final, err)
	}
	if got := readBlob(t, s, ref); got != "one two three" {
		t.Errorf("the blob reads %q", got)
	}
	wantList(t, s, "01capture/boot-0/cpu.pprof final 13")
}

func blobsResume(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	ref := blobRef("01capture", "trace.out")
	for i := range 3 {
		p, err := s.Part(t.Context(), ref)
		must(t, err)
		if p.Size() != int64(4*i) {
			t.Fatalf("opened for the time %d: %d bytes", i, p.Size())
		}
		_, err = io.WriteString(p, "abcd")
		must(t, err)
		must(t, p.Close())
	}
	if got := readBlob(t, s, ref); got != "abcdabcdabcd" {
		t.Errorf("got %q", got)
	}
	p, err := s.Part(t.Context(), ref)
	must(t, err)
	must(t, p.Sync())
	must(t, p.Finalize())
	if got := readBlob(t, s, ref); got != "abcdabcdabcd" {
		t.Errorf("got %q", got)
	}
}

func blobsReopen(t *testing.T, s ops.Blobs, reopen func() ops.Blobs) {
	writeBlob(t, s, blobRef("01capture", "cpu.pprof"), "final")
	p, err := s.Part(t.Context(), blobRef("01capture", "heap.pprof"))
	must(t, err)
	_, err = io.WriteString(p, "synced")
	must(t, err)
	must(t, p.Sync())
	defer p.Close() //nolint:errcheck // the program is dead
	s = reopen()
	wantList(t, s, "01capture/boot-0/cpu.pprof final 5", "01capture/boot-0/heap.pprof part 6")
	if got := readBlob(t, s, blobRef("01capture", "heap.pprof")); got != "synced" {
		t.Errorf("got %q", got)
	}
	q, err := s.Part(t.Context(), blobRef("01capture", "heap.pprof"))
	must(t, err)
	_, err = io.WriteString(q, " and on")
	must(t, err)
	must(t, q.Sync())
	must(t, q.Finalize())
	if got := readBlob(t, s, blobRef("01capture", "heap.pprof")); got != "synced and on" {
		t.Errorf("got %q", got)
	}
}

func blobsFinal(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	ref := blobRef("01capture", "cpu.pprof")
	writeBlob(t, s, ref, "final")
	_, err := s.Part(t.Context(), ref)
	wantKind(t, err, ops.Conflict)
	if got := readBlob(t, s, ref); got != "final" {
		t.Errorf("got %q", got)
	}
	wantList(t, s, "01capture/boot-0/cpu.pprof final 5")
}

func blobsRead(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	ref := blobRef("01capture", "cpu.pprof")
	writeBlob(t, s, ref, "0123456789")
	b, err := s.Open(t.Context(), ref)
	must(t, err)
	defer b.Close() //nolint:errcheck // it was only read
	var at [4]byte
	if n, err := b.ReadAt(at[:], 3); n != 4 || err != nil || string(at[:]) != "3456" {
		t.Errorf("read at: %d %q %v", n, at, err)
	}
	if n, err := b.ReadAt(at[:], 8); n != 2 || err != io.EOF {
		t.Errorf("read at the end: %d %v", n, err)
	}
	if off, err := b.Seek(-3, io.SeekEnd); off != 7 || err != nil {
		t.Errorf("seek: %d %v", off, err)
	}
	if rest, err := io.ReadAll(b); string(rest) != "789" || err != nil {
		t.Errorf("rest: %q %v", rest, err)
	}
	// Two readers do not share a position, and a reader outlives a deletion or
	// reports it: it never reads something else.
	c, err := s.Open(t.Context(), ref)
	must(t, err)
	defer c.Close() //nolint:errcheck // it was only read
	must(t, s.Delete(t.Context(), ref))
	if all, err := io.ReadAll(c); err == nil && string(all) != "0123456789" {
		t.Errorf("after deletion: %q", all)
	}
}

func blobsEmpty(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	ref := blobRef("01capture", "cpu.pprof")
	writeBlob(t, s, ref, "")
	if got := readBlob(t, s, ref); got != "" {
		t.Errorf("got %q", got)
	}
	wantList(t, s, "01capture/boot-0/cpu.pprof final 0")
}

func blobsNotFound(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	ref := blobRef("01capture", "cpu.pprof")
	_, err := s.Open(t.Context(), ref)
	wantKind(t, err, ops.NotFound)
	_, err = s.Quarantine(t.Context(), ref)
	wantKind(t, err, ops.NotFound)
	final, err := s.Final(t.Context(), ref)
	if final || err != nil {
		t.Errorf("final: %v, %v", final, err)
	}
	must(t, s.Delete(t.Context(), ref))
	must(t, s.DeleteCapture(t.Context(), "01capture"))
	wantList(t, s)
}

func blobsNames(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	good := blobRef("01capture", "cpu.pprof")
	var refs []ops.ArtifactRef
	for _, name := range []string{"", ".", "..", "../x", "/etc/passwd", "a/b", `a\b`, ".hidden", "a\x00b", "a\nb", "a b", "%2e%2e", strings.Repeat("x", 129), "ü"} {
		r := good
		r.Name = name
		refs = append(refs, r)
	}
	for _, id := range []string{"", "..", "abc", "../../x", "UPPER", "a/bcd", strings.Repeat("x", 41), "01cap\x00ture"} {
		r, q := good, good
		r.Capture, q.Instance = ops.CaptureID(id), ops.InstanceID(id)
		refs = append(refs, r, q)
		wantKind(t, s.DeleteCapture(t.Context(), ops.CaptureID(id)), ops.Invalid)
	}
	for _, ref := range refs {
		_, err := s.Part(t.Context(), ref)
		wantKind(t, err, ops.Invalid)
		_, err = s.Open(t.Context(), ref)
		wantKind(t, err, ops.Invalid)
		_, err = s.Final(t.Context(), ref)
		wantKind(t, err, ops.Invalid)
		wantKind(t, s.Delete(t.Context(), ref), ops.Invalid)
		_, err = s.Quarantine(t.Context(), ref)
		wantKind(t, err, ops.Invalid)
	}
	wantList(t, s)
}

func blobsDelete(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	writeBlob(t, s, blobRef("01capture", "cpu.pprof"), "final")
	writeBlob(t, s, blobRef("01capture", "heap.pprof"), "stays")
	p, err := s.Part(t.Context(), blobRef("01capture", "trace.out"))
	must(t, err)
	_, err = io.WriteString(p, "part")
	must(t, err)
	must(t, p.Close())
	must(t, s.Delete(t.Context(), blobRef("01capture", "cpu.pprof")))
	must(t, s.Delete(t.Context(), blobRef("01capture", "trace.out")))
	wantList(t, s, "01capture/boot-0/heap.pprof final 5")
	writeBlob(t, s, blobRef("01capture", "cpu.pprof"), "again") // the name is free again
	if got := readBlob(t, s, blobRef("01capture", "cpu.pprof")); got != "again" {
		t.Errorf("got %q", got)
	}
}

func blobsDeleteCapture(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	for _, id := range []ops.CaptureID{"01capture", "01capture-2"} {
		writeBlob(t, s, blobRef(id, "cpu.pprof"), "final")
		writeBlob(t, s, ops.ArtifactRef{Capture: id, Instance: "boot-1", Name: "cpu.pprof"}, "final")
		p, err := s.Part(t.Context(), blobRef(id, "trace.out"))
		must(t, err)
		must(t, p.Close())
	}
	must(t, s.DeleteCapture(t.Context(), "01capture"))
	wantList(t, s, "01capture-2/boot-0/cpu.pprof final 5", "01capture-2/boot-0/trace.out part 0", "01capture-2/boot-1/cpu.pprof final 5")
	writeBlob(t, s, blobRef("01capture", "cpu.pprof"), "again")
	if got := readBlob(t, s, blobRef("01capture", "cpu.pprof")); got != "again" {
		t.Errorf("got %q", got)
	}
}

func blobsList(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	var want []string
	for c := range 3 {
		for i := range 2 {
			for n := range 3 {
				ref := ops.ArtifactRef{Capture: ops.CaptureID(fmt.Sprintf("%02dcapture", c)), Instance: ops.InstanceID(fmt.Sprintf("boot-%d", i)), Name: fmt.Sprintf("f%d", n)}
				writeBlob(t, s, ref, strings.Repeat("x", n))
				want = append(want, fmt.Sprintf("%s final %d", ref, n))
			}
		}
	}
	wantList(t, s, want...)
	stop := fmt.Errorf("enough")
	calls := 0
	err := s.List(t.Context(), func(ops.ArtifactRef, bool, int64) error { calls++; return stop })
	if calls != 1 || err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("a caller's error: %d calls, %v", calls, err)
	}
}

func blobsQuarantine(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	ref := blobRef("01capture", "cpu.pprof")
	places := map[string]bool{}
	for range 3 {
		writeBlob(t, s, ref, "nobody knows me")
		where, err := s.Quarantine(t.Context(), ref)
		must(t, err)
		if where == "" || places[where] {
			t.Errorf("moved to %q", where)
		}
		places[where] = true
		_, err = s.Open(t.Context(), ref)
		wantKind(t, err, ops.NotFound)
		wantList(t, s)
	}
	p, err := s.Part(t.Context(), ref)
	must(t, err)
	must(t, p.Close())
	_, err = s.Quarantine(t.Context(), ref)
	must(t, err)
	wantList(t, s)
}

func blobsConcurrent(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	const writers, each = 8, 6
	content := func(w, i int) string { return strings.Repeat(fmt.Sprintf("%d.%d ", w, i), 10_000) }
	ref := func(w, i int) ops.ArtifactRef {
		return ops.ArtifactRef{Capture: ops.CaptureID(fmt.Sprintf("%02dcapture", i%3)), Instance: ops.InstanceID(fmt.Sprintf("boot-%d", w%3)), Name: fmt.Sprintf("w%d.i%d", w, i)}
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				err := func() error {
					p, err := s.Part(t.Context(), ref(w, i))
					if err != nil {
						return err
					}
					for piece := range slices.Chunk([]byte(content(w, i)), 7777) {
						if _, err := p.Write(piece); err != nil {
							return err
						}
					}
					if err := p.Sync(); err != nil {
						return err
					}
					return p.Finalize()
				}()
				if err != nil {
					t.Errorf("writer %d, blob %d: %v", w, i, err)
				}
			}
		})
	}
	wg.Wait()
	for w := range writers {
		for i := range each {
			b, err := s.Open(t.Context(), ref(w, i))
			must(t, err)
			got, err := io.ReadAll(b)
			must(t, err)
			must(t, b.Close())
			if !bytes.Equal(got, []byte(content(w, i))) {
				t.Errorf("blob %s holds something else", ref(w, i))
			}
		}
	}
}

func blobsFree(t *testing.T, s ops.Blobs, _ func() ops.Blobs) {
	free, err := s.Free(t.Context())
	if err != nil || free == 0 {
		t.Errorf("%d, %v", free, err)
	}
}

func wantList(t *testing.T, s ops.Blobs, want ...string) {
	t.Helper()
	var got []string
	must(t, s.List(t.Context(), func(ref ops.ArtifactRef, final bool, size int64) error {
		state := "part"
		if final {
			state = "final"
		}
		got = append(got, fmt.Sprintf("%s %s %d", ref, state, size))
		return nil
	}))
	slices.Sort(got)
	slices.Sort(want)
	same(t, got, want)
}
