package agent

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/agent/heaptypes"
	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// ticket is what this test keeps on the heap, a megabyte each so that every one
// is sampled.
type ticket struct {
	next *ticket
	seat [1 << 20]byte
}

func TestTypesOfHeapObjects(t *testing.T) {
	if !hasHeapTypes() {
		t.Skip("types are not named on " + runtime.GOOS + "/" + runtime.GOARCH)
	}
	var all *ticket
	for range 3 {
		all = &ticket{next: all}
	}
	a, client := joined(t, nil)
	for _, id := range []string{"capture-types", "capture-again"} {
		r := mustCollect(t, client, request(id, time.Second, agentv1.Kind_KIND_HEAP_TYPES))
		if want := []string{"heap-types.before.json", "heap-types.json"}; !slices.Equal(r.names(), want) {
			t.Fatalf("artifacts %q, want %q", r.names(), want)
		}
		for _, name := range r.names() {
			var table heaptypes.Table
			if err := json.Unmarshal(r.named(name).data.Bytes(), &table); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(table.Types, func(t heaptypes.Type) bool {
				return t.Name == "github.com/opscenter/opscenter/agent.ticket"
			})
			if i < 0 || table.Types[i].Size != 1<<20+8 || !slices.ContainsFunc(table.Sites, func(s heaptypes.Site) bool {
				return s.Type == i && s.Form == heaptypes.FormNew && s.Confidence == heaptypes.Exact
			}) {
				t.Errorf("%s of %d sites does not know the tickets", name, len(table.Sites))
			}
			if table.Build.BuildID != a.self.build.GetBuildId() || table.Build.GoVersion != runtime.Version() {
				t.Errorf("%s is of %+v", name, table.Build)
			}
		}
	}
	runtime.KeepAlive(all)
}

func TestTypesCanBeTurnedOff(t *testing.T) {
	a, client := joined(t, func(c *Config, _ *tuning) { c.HeapTypes = "off" })
	if slices.Contains(a.cfg.supportedKinds(), agentv1.Kind_KIND_HEAP_TYPES) {
		t.Error("the agent says that it names types")
	}
	r := mustCollect(t, client, request("capture-off", time.Second, agentv1.Kind_KIND_HEAP_TYPES))
	if len(r.names()) != 0 {
		t.Errorf("artifacts %q", r.names())
	}
	losses := r.summary.GetLosses()
	if len(losses) != 1 || losses[0].Message != "the types of heap objects are not named: naming types is turned off in this process, by Config.HeapTypes or OPS_HEAP_TYPES" {
		t.Errorf("losses %v", losses)
	}
	for value, off := range map[string]bool{"": false, "on": false, "off": true, "OFF": true, "0": true} {
		s, _, err := Config{Center: "off"}.resolve(func(name string) string {
			if name == "OPS_HEAP_TYPES" {
				return value
			}
			return ""
		})
		if err != nil || s.noHeapTypes != off {
			t.Errorf("OPS_HEAP_TYPES=%s: off is %v, %v", value, s.noHeapTypes, err)
		}
	}
}

// The sample is what the agent writes, and the schema names every field of it.
func TestHeapTypesFormatIsDocumented(t *testing.T) {
	sample, err := os.ReadFile("../docs/formats/heaptypes.sample.json")
	if err != nil {
		t.Fatal(err)
	}
	var table heaptypes.Table
	d := json.NewDecoder(bytes.NewReader(sample))
	d.DisallowUnknownFields()
	if err := d.Decode(&table); err != nil {
		t.Fatalf("the sample holds what the agent does not write: %v", err)
	}
	again, err := json.MarshalIndent(table, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(again) + "\n"; got != string(sample) {
		t.Errorf("the agent would write the sample as\n%s", got)
	}
	schema, err := os.ReadFile("../docs/formats/heaptypes.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(again)) {
		if key, _, ok := strings.Cut(strings.TrimSpace(line), `": `); ok && !strings.Contains(string(schema), key+`": {`) {
			t.Errorf("the schema does not know %s\"", key)
		}
	}
}
