package heaptypes_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	pprof "github.com/google/pprof/profile"

	"github.com/opscenter/opscenter/internal/heaptypes"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// small is a table of three types: sessions, a map of them and a list node.
const small = `{
  "schema": "opscenter.heaptypes/v1",
  "build": {"go_version": "go1.26.8", "goos": "linux", "goarch": "amd64", "build_id": "b1"},
  "text_start": "0x401000",
  "later": [{"a": [1, {}]}],
  "types": [
    {"name": "example.com/game.Session", "kind": "struct", "size": 96},
    {"name": "*example.com/game.Session", "kind": "ptr", "size": 8, "elem": 0},
    {"name": "map[string]*example.com/game.Session", "kind": "map", "size": 48, "elem": 1},
    {"name": "example.com/game.node", "kind": "struct", "size": 16, "fields": [1]},
    {"name": "string", "kind": "string", "size": 16}
  ],
  "sites": [
    {"address": "0x402000", "type": 0, "form": "new", "confidence": "exact"},
    {"address": "0x402010", "type": 2, "form": "map", "confidence": "exact"},
    {"address": "0x402020", "type": 3, "form": "new", "confidence": "shape"},
    {"address": "0x402020", "callers": ["0x402030"], "type": 0, "form": "interface", "confidence": "caller"},
    {"address": "0x402040", "type": 3, "form": "slice", "confidence": "exact"},
    {"address": "0x402050", "type": 4, "form": "string", "confidence": "implied"}
  ]
}`

// row is a sample: what it allocates, how many of what size are live, its stack.
type row struct {
	objects, size int64
	stack         []uint64
}

// heapProfile makes a profile at the usual rate of those samples, with the
// values as the runtime scales them.
func heapProfile(t testing.TB, buildID string, rate int64, rows ...row) *profile.Profile {
	t.Helper()
	m := &pprof.Mapping{ID: 1, Start: 0x400000, Limit: 0x500000, File: "/bin/game", BuildID: buildID}
	p := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "alloc_objects", Unit: "count"}, {Type: "alloc_space", Unit: "bytes"}, {Type: "inuse_objects", Unit: "count"}, {Type: "inuse_space", Unit: "bytes"}},
		PeriodType: &pprof.ValueType{Type: "space", Unit: "bytes"}, Period: rate,
		Mapping: []*pprof.Mapping{m},
	}
	at := map[uint64]*pprof.Location{}
	for _, r := range rows {
		s := &pprof.Sample{NumLabel: map[string][]int64{"bytes": {r.size}}}
		for _, a := range r.stack {
			if at[a] == nil {
				f := &pprof.Function{ID: uint64(len(at) + 1), Name: fmt.Sprintf("game.at%x", a), Filename: "game.go"}
				p.Function = append(p.Function, f)
				at[a] = &pprof.Location{ID: f.ID, Address: a, Mapping: m, Line: []pprof.Line{{Function: f, Line: int64(a & 0xff)}}}
				p.Location = append(p.Location, at[a])
			}
			s.Location = append(s.Location, at[a])
		}
		scale := 1.0
		if rate > 1 {
			scale = 1 / (1 - math.Exp(-float64(r.size)/float64(rate)))
		}
		objects, space := int64(float64(r.objects)*scale), int64(float64(r.objects*r.size)*scale)
		s.Value = []int64{2 * objects, 2 * space, objects, space}
		p.Sample = append(p.Sample, s)
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	out, err := profile.Read(&b, profile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t testing.TB, s string) *heaptypes.Table {
	t.Helper()
	table, err := heaptypes.Read(strings.NewReader(s), heaptypes.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestJoin(t *testing.T) {
	p := heapProfile(t, "b1", 512<<10,
		row{100, 96, []uint64{0x402000, 0x403000}},
		row{25, 96, []uint64{0x402000, 0x403010}},
		row{10, 1 << 10, []uint64{0x402010}},
		row{9, 16, []uint64{0x402020, 0x404000}},
		row{16, 96, []uint64{0x402020, 0x402030}},
		row{2, 1 << 20, []uint64{0x402040}},
		row{3, 64, []uint64{0x409000}},
	)
	h, err := read(t, small).Join(p)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	show := func(what string, l heaptypes.LiveType) {
		fmt.Fprintf(&got, "%s %s %s: %d seen, ±%.1f %% objects\n", what, l.Form, l.Name, l.Samples, 100*l.Error)
		for _, s := range l.Sites {
			fmt.Fprintf(&got, "  %s:%d %s %s %s %d\n", s.File, s.Line, s.Function, s.Form, s.Confidence, s.Samples)
		}
		for _, by := range l.HeldBy {
			fmt.Fprintf(&got, "  held by %s of %s %s\n", by.By, h.Types[by.Type].Form, h.Types[by.Type].Name)
		}
	}
	for _, l := range h.Types {
		show("type", l)
	}
	show("rest", h.Untyped)
	const want = `type new example.com/game.Session: 141 seen, ±8.4 % objects
  game.go:0 game.at402000 new exact 125
  game.go:32 game.at402020 interface caller 16
  held by element of map map[string]*example.com/game.Session
  held by field of new example.com/game.node
  held by element of slice []example.com/game.node
type map map[string]*example.com/game.Session: 10 seen, ±31.6 % objects
  game.go:16 game.at402010 map exact 10
type new example.com/game.node: 9 seen, ±33.3 % objects
  game.go:32 game.at402020 new shape 9
type slice []example.com/game.node: 2 seen, ±26.0 % objects
  game.go:64 game.at402040 slice exact 2
rest  : 3 seen, ±57.7 % objects
  game.go:0 game.at409000   3
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	session := h.Types[0]
	if session.Size != 96 || session.AllocObjects != 2*session.Objects || len(session.Sites[0].Stacks) != 2 || session.Sites[0].Stacks[0] != 0 {
		t.Errorf("%+v", session)
	}
	if share := h.TypedShare(); share < 0.98 || share >= 1 {
		t.Errorf("share %v", share)
	}
}

// Where every object is counted there is nothing to estimate.
func TestNoErrorAtFullRate(t *testing.T) {
	h, err := read(t, small).Join(heapProfile(t, "b1", 1, row{7, 96, []uint64{0x402000}}))
	if err != nil {
		t.Fatal(err)
	}
	if s := h.Types[0]; s.Objects != 7 || s.Samples != 7 || s.Error != 0 || s.BytesError != 0 {
		t.Errorf("%+v", s)
	}
}

func TestGrew(t *testing.T) {
	table := read(t, small)
	before, err := table.Join(heapProfile(t, "b1", 1, row{10, 96, []uint64{0x402000}}, row{5, 16, []uint64{0x402020}}))
	if err != nil {
		t.Fatal(err)
	}
	after, err := table.Join(heapProfile(t, "b1", 1, row{30, 96, []uint64{0x402000}}, row{1, 64, []uint64{0x402050}}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range heaptypes.Grew(before, after) {
		got = append(got, fmt.Sprintf("%s %s %+d objects %+d bytes, type %d", g.Form, g.Name, g.Objects(), g.Bytes(), g.Type))
	}
	want := []string{
		"new example.com/game.Session +20 objects +1920 bytes, type 0",
		"string string +1 objects +64 bytes, type 1",
		"new example.com/game.node -5 objects -80 bytes, type -1",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestOtherProcess(t *testing.T) {
	table := read(t, small)
	if _, err := table.Join(heapProfile(t, "", 1, row{1, 8, []uint64{0x402000}})); err != nil {
		t.Errorf("without a build id: %v", err)
	}
	_, err := table.Join(heapProfile(t, "b2", 1, row{1, 8, []uint64{0x402000}}))
	wantError(t, err, ops.Conflict, "the heap profile is of build b2 and the heap types are of build b1: use two files of one capture")
	moved := read(t, strings.Replace(small, "0x401000", "0x7f0000401000", 1))
	_, err = moved.Join(heapProfile(t, "b1", 1, row{1, 8, []uint64{0x402000}}))
	wantError(t, err, ops.Conflict, "the heap profile is of a process that had its code elsewhere than 0x7f0000401000, where the heap types had it: use two files of one capture")
}

func TestNoHeapProfile(t *testing.T) {
	p := heapProfile(t, "b1", 1, row{1, 8, []uint64{0x402000}})
	p.Types[2].Type = "contentions"
	_, err := read(t, small).Join(p)
	wantError(t, err, ops.Invalid, "this is no heap profile of a Go program: it has no inuse_objects; use heap.pprof")
}

func TestReadRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		kind ops.ErrorKind
		want string
	}{
		"another version": {`{"schema": "opscenter.heaptypes/v2"}`, ops.Invalid, `heap types of schema "opscenter.heaptypes/v2" are not known to this version: it reads opscenter.heaptypes/v1; use a newer version of this program`},
		"no object":       {`[1, 2]`, ops.Corrupt, "not heap types as an agent writes them: it does not begin as a JSON object; capture again"},
		"cut":             {small[:len(small)-2], ops.Corrupt, "not heap types as an agent writes them: it ends within its object; capture again"},
		"no such type":    {strings.Replace(small, `"type": 2`, `"type": 9`, 1), ops.Corrupt, "not heap types as an agent writes them: site 1 has type 9, which is not there; capture again"},
		"negative type":   {strings.Replace(small, `"type": 2`, `"type": -1`, 1), ops.Corrupt, "not heap types as an agent writes them: site 1 has type -1, which is not there; capture again"},
		"no such element": {strings.Replace(small, `"elem": 1`, `"elem": 77`, 1), ops.Corrupt, "not heap types as an agent writes them: type 2 refers to one that is not there; capture again"},
		"no such field":   {strings.Replace(small, `"fields": [1]`, `"fields": [5]`, 1), ops.Corrupt, "not heap types as an agent writes them: type 3 has a field of a type that is not there; capture again"},
		"unknown form":    {strings.Replace(small, `"slice"`, `"heap"`, 1), ops.Corrupt, `not heap types as an agent writes them: site 4 has the unknown form "heap"; capture again`},
		"no name":         {strings.Replace(small, `"string", "kind"`, `"", "kind"`, 1), ops.Corrupt, "not heap types as an agent writes them: type 4 has no proper name or size; capture again"},
		"no address":      {strings.Replace(small, `"0x402000"`, `"402000"`, 1), ops.Corrupt, `not heap types as an agent writes them: sites: "402000" is no address: it is written like 0x4a1b2c; capture again`},
		"many callers":    {strings.Replace(small, `["0x402030"]`, `["0x1","0x1","0x1","0x1","0x1","0x1","0x1","0x1","0x1"]`, 1), ops.Corrupt, "not heap types as an agent writes them: site 3 has more than 8 callers; capture again"},
	} {
		_, err := heaptypes.Read(strings.NewReader(tc.in), heaptypes.Limits{})
		t.Run(name, func(t *testing.T) { wantError(t, err, tc.kind, tc.want) })
	}
	_, err := heaptypes.Read(strings.NewReader(small), heaptypes.Limits{Sites: 3})
	wantError(t, err, ops.Exhausted, "heap types: more than 3 sites: raise the limit, or take the table again with fewer")
	_, err = heaptypes.Read(strings.NewReader(small), heaptypes.Limits{Bytes: 100})
	if ops.KindOf(err) != ops.Exhausted {
		t.Errorf("a large file: %v", err)
	}
}

func wantError(t *testing.T, err error, kind ops.ErrorKind, want string) {
	t.Helper()
	if ops.KindOf(err) != kind || err == nil || err.Error() != want {
		t.Errorf("got  %v %v\nwant %v %v", ops.KindOf(err), err, kind, want)
	}
}

// Whatever the bytes are, they are read, or refused with a reason.
func FuzzRead(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte(`{"schema":"opscenter.heaptypes/v1","types":[{"name":"a","kind":"ptr","size":8,"elem":0},{"name":"b","kind":"struct","fields":[1,0]}],"sites":[{"address":"0x402000","type":1,"form":"new"},{"address":"0x402010","type":1,"form":"slice"}]}`))
	if sample, err := os.ReadFile("../../docs/formats/heaptypes.sample.json"); err == nil {
		f.Add(sample)
	}
	p := heapProfile(f, "", 512<<10, row{3, 96, []uint64{0x402000, 0x402010}}, row{3, 96, []uint64{0x402010}}, row{1, 8, []uint64{0x402020, 0x402030}})
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := heaptypes.Read(bytes.NewReader(b), heaptypes.Limits{Bytes: 1 << 20})
		if err != nil {
			if k := ops.KindOf(err); k != ops.Corrupt && k != ops.Exhausted && k != ops.Invalid {
				t.Errorf("%v: %v", k, err)
			}
			return
		}
		if _, err := table.Join(p); err != nil && ops.KindOf(err) != ops.Conflict {
			t.Error(err)
		}
	})
}
