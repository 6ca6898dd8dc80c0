package trace_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// textKinds are the events of Go's own text format, by the number that they have
// in a trace.
var textKinds = strings.Fields(`None EventBatch Stacks Stack Strings String CPUSamples CPUSample Frequency
	ProcsChange ProcStart ProcStop ProcSteal ProcStatus
	GoCreate GoCreateSyscall GoStart GoDestroy GoDestroySyscall GoStop GoBlock GoUnblock
	GoSyscallBegin GoSyscallEnd GoSyscallEndBlocked GoStatus STWBegin STWEnd
	GCActive GCBegin GCEnd GCSweepActive GCSweepBegin GCSweepEnd GCMarkAssistActive GCMarkAssistBegin GCMarkAssistEnd
	HeapAlloc HeapGoal GoLabel UserTaskBegin UserTaskEnd UserRegionBegin UserRegionEnd UserLog
	GoSwitch GoSwitchDestroy GoCreateBlocked GoStatusStack ExperimentalBatch Sync ClockSnapshot EndOfGeneration`)

// fromText makes a trace of Go's text format: an event per line, its arguments as
// name=number, with what belongs to a stack or string on the lines below. Batches
// are as long as what is in them.
func fromText(t *testing.T, text string) []byte {
	t.Helper()
	var out, b []byte // b is the batch
	endBatch := func() {
		if len(b) > 0 {
			out = append(binary.AppendUvarint(out, uint64(len(b))), b...)
		}
		b = nil
	}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if words[0] == "Trace" {
			out = fmt.Appendf(out, "go 1.%s trace\x00\x00\x00", strings.TrimPrefix(words[1], "Go1."))
			continue
		}
		if _, data, ok := strings.Cut(line, "data="); ok {
			s, err := strconv.Unquote(strings.TrimSpace(data))
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
			continue
		}
		args := words
		if line[0] != '\t' {
			kind := -1
			for i, name := range textKinds {
				if name == words[0] {
					kind = i
				}
			}
			if kind < 0 {
				t.Fatalf("no event is called %q", words[0])
			}
			args = words[1:]
			if words[0] == "EventBatch" {
				endBatch()
				out = append(out, byte(kind))
				for _, v := range numbers(t, args[:3]) { // without the size
					out = binary.AppendUvarint(out, v)
				}
				continue
			}
			b = append(b, byte(kind))
		}
		for _, v := range numbers(t, args) {
			b = binary.AppendUvarint(b, v)
		}
	}
	endBatch()
	return out
}

func numbers(t *testing.T, args []string) (out []uint64) {
	t.Helper()
	for _, arg := range args {
		_, v, _ := strings.Cut(arg, "=")
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", arg, err)
		}
		out = append(out, n)
	}
	return out
}

// goTraces are the hand-made traces that Go's own parser is tested with, by name,
// out of the module cache.
func goTraces(t *testing.T) map[string][]byte {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/exp").Output()
	if err != nil {
		t.Skipf("where is golang.org/x/exp? %v", err)
	}
	files, err := filepath.Glob(filepath.Join(string(bytes.TrimSpace(dir)), "trace/testdata/tests/*.test"))
	if err != nil || len(files) == 0 {
		t.Skipf("golang.org/x/exp has no traces, %v", err)
	}
	out := map[string][]byte{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, text, ok := strings.Cut(string(b), "-- trace --\n"); ok {
			out[filepath.Base(file)] = fromText(t, text)
		}
	}
	return out
}
