package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/audit/sqlite"
	"github.com/opscenter/opscenter/internal/ops"
)

// actsAndDies makes the test binary a centre that is killed between intent and
// outcome; its value is the directory of the record.
const actsAndDies = "AUDIT_TEST_ACTS_AND_DIES"

func TestMain(m *testing.M) {
	if dir := os.Getenv(actsAndDies); dir != "" {
		actAndWait(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// record opens the record of a directory.
func record(t *testing.T, dir string) *audit.Log {
	t.Helper()
	l, _ := recordAndStore(t, dir)
	return l
}

func recordAndStore(t *testing.T, dir string) (*audit.Log, *sqlite.Store) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	l, err := audit.Open(t.Context(), audit.Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

func gc(actor, key string) audit.Intent {
	return audit.Intent{
		Actor: actor, Action: "control.run", Subject: "gc", Project: "color-game", Service: "user-service",
		Instances: []ops.InstanceID{"boot-1", "boot-2"}, Reason: "memory is high", Mutating: true, Key: key,
		Request: json.RawMessage(`{"selection":"all"}`),
	}
}

// do carries an action out as a caller would: it counts what was really run.
func do(t *testing.T, l *audit.Log, in audit.Intent, ran *int, answer string) (string, error) {
	t.Helper()
	a, err := l.Begin(t.Context(), in)
	if err != nil {
		return "", err
	}
	if first, _ := a.First(); first != nil {
		return string(first.Answer), nil
	}
	*ran++
	for _, i := range in.Instances {
		if err := a.Step(t.Context(), audit.Step{Instance: i, Result: audit.Succeeded}); err != nil {
			return "", err
		}
	}
	return answer, a.End(t.Context(), audit.Outcome{Result: audit.Succeeded, Answer: json.RawMessage(answer)})
}

func TestTheRecordTellsWhatWasDone(t *testing.T) {
	dir := t.TempDir()
	l := record(t, dir)
	ran := 0
	if _, err := do(t, l, gc("local:ann", ""), &ran, `"ok"`); err != nil {
		t.Fatal(err)
	}
	got, err := l.Search(t.Context(), audit.Filter{})
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	e := got[0]
	if e.Actor != "local:ann" || e.Subject != "gc" || e.Reason != "memory is high" || len(e.Steps) != 2 || e.Outcome.Result != audit.Succeeded || e.Ended.Before(e.At) || e.Seq != 1 {
		t.Errorf("the record says %+v", e)
	}
	for _, name := range []string{sqlite.FileName, sqlite.FileName + "-wal", sqlite.AnchorFileName} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	r, err := l.Verify(t.Context(), nil)
	if err != nil || len(r.Problems) != 0 || r.Head.Rows != 4 || r.Head != r.Anchor {
		t.Errorf("verify says %+v, %v", r, err)
	}
}

func TestSameKeyTwiceHasOneEffect(t *testing.T) {
	dir := t.TempDir()
	l, s := recordAndStore(t, dir)
	ran := 0
	first, err := do(t, l, gc("local:ann", "k1"), &ran, `{"freed":42}`)
	if err != nil {
		t.Fatal(err)
	}
	moved := gc("local:ann", "k1")
	moved.Instances = []ops.InstanceID{"boot-3"} // the fleet changed meanwhile
	for _, again := range []audit.Intent{gc("local:ann", "k1"), moved} {
		if answer, err := do(t, l, again, &ran, `"another"`); err != nil || answer != first {
			t.Errorf("the repetition answers %s, %v instead of %s", answer, err, first)
		}
	}
	if ran != 1 {
		t.Fatalf("it ran %d times", ran)
	}
	other := gc("local:ann", "k1")
	other.Request = json.RawMessage(`{"selection":"one"}`)
	_, err = do(t, l, other, &ran, `""`)
	if want := `the key "k1" was used for another request: give every new request a new key`; ops.KindOf(err) != ops.Conflict || err.Error() != want {
		t.Errorf("another request under the key says %v", err)
	}
	// Another actor's key of the same name is another key: answers are not shared.
	if _, err := do(t, l, gc("local:bob", "k1"), &ran, `""`); err != nil || ran != 2 {
		t.Errorf("bob's ran %d times: %v", ran, err)
	}

	// The keys outlive the centre.
	_ = s.Close()
	l = record(t, dir)
	if answer, err := do(t, l, gc("local:ann", "k1"), &ran, `"another"`); err != nil || answer != first || ran != 2 {
		t.Errorf("after a restart: %s, %v, ran %d times", answer, err, ran)
	}
}

func TestRepetitionWaitsForTheFirst(t *testing.T) {
	l := record(t, t.TempDir())
	a, err := l.Begin(t.Context(), gc("local:ann", "k"))
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan string)
	const repetitions = 8
	for range repetitions {
		go func() {
			again, err := l.Begin(context.Background(), gc("local:ann", "k"))
			if err != nil {
				answers <- err.Error()
				return
			}
			first, _ := again.First()
			if first == nil {
				answers <- "it ran again"
				return
			}
			answers <- string(first.Answer)
		}()
	}
	select {
	case got := <-answers:
		t.Fatalf("a repetition answers %s before the first has ended", got)
	case <-time.After(20 * time.Millisecond):
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Repeated(ctx, gc("local:ann", "k")); !errors.Is(err, context.Canceled) {
		t.Errorf("who gives up waiting gets %v", err)
	}
	if err := a.End(t.Context(), audit.Outcome{Result: audit.Succeeded, Answer: json.RawMessage(`7`)}); err != nil {
		t.Fatal(err)
	}
	for range repetitions {
		if got := <-answers; got != "7" {
			t.Errorf("a repetition answers %s", got)
		}
	}
	if err := a.End(t.Context(), audit.Outcome{Result: audit.Failed}); err == nil {
		t.Error("an action ended twice")
	}
}

func TestActionThatCannotBeRecordedDoesNotRun(t *testing.T) {
	_, s := recordAndStore(t, t.TempDir())
	for _, tt := range []struct {
		err        error
		want       string
		recovers   bool
		wantBroken string
	}{
		{ops.Errorf(ops.Exhausted, "the disk is full"), "nothing was done, because control.run could not be recorded: the disk is full", true, ""},
		{errors.New("I/O error"), "nothing was done, because control.run could not be recorded: I/O error", false,
			"nothing was done, because control.run could not be recorded: the record cannot be written any more, start the centre again: I/O error"},
	} {
		broken := &failing{Store: s}
		l, err := audit.Open(t.Context(), audit.Config{Store: broken})
		if err != nil {
			t.Fatal(err)
		}
		broken.err = tt.err
		ran := 0
		if _, err := do(t, l, gc("local:ann", tt.want), &ran, `""`); err == nil || err.Error() != tt.want || ran != 0 {
			t.Errorf("it says %v and ran %d times", err, ran)
		}
		broken.err = nil
		_, err = do(t, l, gc("local:ann", tt.want), &ran, `""`)
		if tt.recovers && (err != nil || ran != 1) {
			t.Errorf("with room again it says %v and ran %d times", err, ran)
		}
		if !tt.recovers && (err == nil || err.Error() != tt.wantBroken || ran != 0) {
			t.Errorf("after a failed write it says %v and ran %d times", err, ran)
		}
	}
}

// failing is a store whose disk does not take what is written.
type failing struct {
	audit.Store
	err error
}

func (f *failing) Append(ctx context.Context, rows []audit.Row) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.Append(ctx, rows)
}

// tampered makes a record of three actions, closes it, and lets fn edit its
// files as somebody could who may write them.
func tampered(t *testing.T, fn func(t *testing.T, dir string, db *sql.DB)) (before, after audit.Report, l *audit.Log) {
	t.Helper()
	dir := t.TempDir()
	l, s := recordAndStore(t, dir)
	ran := 0
	for _, who := range []string{"local:ann", "local:bob", "local:eve"} {
		if _, err := do(t, l, gc(who, ""), &ran, `"ok"`); err != nil {
			t.Fatal(err)
		}
	}
	before, err := l.Verify(t.Context(), nil)
	if err != nil || len(before.Problems) > 0 || before.Head.Rows != 12 {
		t.Fatal(before, err)
	}
	_ = s.Close()
	db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.FileName))
	if err != nil {
		t.Fatal(err)
	}
	fn(t, dir, db)
	_ = db.Close()
	l = record(t, dir)
	after, err = l.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return before, after, l
}

func TestTamperingShows(t *testing.T) {
	exec := func(statements ...string) func(*testing.T, string, *sql.DB) {
		return func(t *testing.T, _ string, db *sql.DB) {
			t.Helper()
			for _, q := range statements {
				r, err := db.ExecContext(t.Context(), q)
				if err != nil {
					t.Fatal(q, err)
				}
				if n, err := r.RowsAffected(); err != nil || n == 0 {
					t.Fatalf("%s: %d rows, %v", q, n, err)
				}
			}
		}
	}
	tests := map[string]struct {
		edit func(*testing.T, string, *sql.DB)
		want string
	}{
		"an actor renamed": {exec(`UPDATE audit_row SET body = replace(body, 'local:eve', 'local:ann') WHERE seq = 9`),
			"row 9 does not match its hash: it was edited, or the row before it was"},
		"one letter of a reason": {exec(`UPDATE audit_row SET body = replace(body, 'memory is high', 'memory is hugh') WHERE seq = 5`),
			"row 5 does not match its hash: it was edited, or the row before it was"},
		"an outcome made better": {exec(`UPDATE audit_row SET body = replace(body, '"result":"ok"', '"result":"failed"') WHERE seq = 8`),
			"row 8 does not match its hash: it was edited, or the row before it was"},
		"a hash": {exec(`UPDATE audit_row SET hash = replace(hash, substr(hash, 1, 4), 'beef') WHERE seq = 4`),
			"row 4 does not match its hash: it was edited, or the row before it was"},
		"the last row": {exec(`UPDATE audit_row SET body = replace(body, '"result":"ok"', '"result":"failed"') WHERE seq = 12`),
			"row 12 does not match its hash: it was edited, or the row before it was"},
		"a row that is no JSON any more": {exec(`UPDATE audit_row SET body = 'x' WHERE seq = 6`),
			"row 6 does not match its hash: it was edited, or the row before it was"},
		"the first row dropped": {exec(`DELETE FROM audit_row WHERE seq = 1`), "row 1 is missing"},
		"a row dropped":         {exec(`DELETE FROM audit_row WHERE seq = 7`), "row 7 is missing"},
		"an action dropped":     {exec(`DELETE FROM audit_row WHERE seq BETWEEN 5 AND 8`), "rows 5 to 8 are missing"},
		"an action dropped and the gap closed": {exec(`DELETE FROM audit_row WHERE seq BETWEEN 5 AND 8`, `UPDATE audit_row SET seq = seq - 4 WHERE seq > 8`),
			"row 5 does not match its hash: it was edited, or the row before it was"},
		"two rows exchanged": {exec(`UPDATE audit_row SET seq = 100 WHERE seq = 6`, `UPDATE audit_row SET seq = 6 WHERE seq = 7`, `UPDATE audit_row SET seq = 7 WHERE seq = 100`),
			"row 6 does not match its hash: it was edited, or the row before it was"},
		"the last row cut off":     {exec(`DELETE FROM audit_row WHERE seq = 12`), "the record ends at row 11, and 12 rows were there: the last ones were cut off"},
		"the last action cut off":  {exec(`DELETE FROM audit_row WHERE seq > 8`), "the record ends at row 8, and 12 rows were there: the last ones were cut off"},
		"everything cut off":       {exec(`DELETE FROM audit_row`), "the record ends at row 0, and 12 rows were there: the last ones were cut off"},
		"the second place removed": {func(t *testing.T, dir string, _ *sql.DB) { remove(t, filepath.Join(dir, sqlite.AnchorFileName)) }, "the record has 12 rows, and only 0 were written by a centre"},
		"a row added": {exec(`INSERT INTO audit_row (seq, body, hash) SELECT 13, replace(body, '"seq":9', '"seq":13'), hash FROM audit_row WHERE seq = 9`),
			"row 13 does not match its hash: it was edited, or the row before it was"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, after, l := tampered(t, tt.edit)
			if !said(after, tt.want) {
				t.Errorf("verify says %q\n instead of %q", texts(after), tt.want)
			}
			// What was written since does not hide it.
			ran := 0
			if _, err := do(t, l, gc("local:ann", ""), &ran, `"ok"`); err != nil {
				t.Fatal(err)
			}
			again, err := l.Verify(t.Context(), nil)
			if err != nil || !said(again, tt.want) {
				t.Errorf("later verify says %q, %v", texts(again), err)
			}
		})
	}
}

// Whoever writes both files anew, whole in itself, is found out by a head that
// was noted elsewhere and by nothing else.
func TestForgedWhole(t *testing.T) {
	before, after, l := tampered(t, func(t *testing.T, dir string, _ *sql.DB) {
		for _, name := range []string{sqlite.FileName, sqlite.FileName + "-wal", sqlite.FileName + "-shm", sqlite.AnchorFileName} {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		forged := record(t, dir)
		ran := 0
		for range 3 {
			if _, err := do(t, forged, gc("local:ann", ""), &ran, `"ok"`); err != nil {
				t.Fatal(err)
			}
		}
	})
	if len(after.Problems) != 0 {
		t.Errorf("verify says %q of a record that is whole", texts(after))
	}
	noted, err := l.Verify(t.Context(), &before.Head)
	if err != nil || !said(noted, "row 12 is not the one whose hash you noted") {
		t.Errorf("with the noted head verify says %q, %v", texts(noted), err)
	}
	if same, err := l.Verify(t.Context(), &after.Head); err != nil || len(same.Problems) != 0 {
		t.Errorf("with its own head verify says %q, %v", texts(same), err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func texts(r audit.Report) (out []string) {
	for _, p := range r.Problems {
		out = append(out, p.Text)
	}
	return out
}

func said(r audit.Report, want string) bool {
	for _, p := range r.Problems {
		if strings.Contains(p.Text, want) {
			return true
		}
	}
	return false
}

func TestExportIsVerifiedWithoutACentre(t *testing.T) {
	l := record(t, t.TempDir())
	ran := 0
	in := gc("local:ann", "")
	in.Reason = "<b>說明</b> & \"why\""
	for range 3 {
		if _, err := do(t, l, in, &ran, `"ok"`); err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	if err := l.Export(t.Context(), 0, &file); err != nil {
		t.Fatal(err)
	}
	text := file.String()
	r, err := audit.VerifyExport(strings.NewReader(text), nil)
	if err != nil || len(r.Problems) != 0 || r.Head.Rows != 12 {
		t.Fatal(r, err)
	}
	lines := strings.SplitAfter(text, "\n")
	for name, tt := range map[string]struct {
		text, want string
	}{
		"edited":  {strings.Replace(text, "local:ann", "local:eve", 1), "row 1 does not match its hash: it was edited, or the row before it was"},
		"dropped": {lines[0] + strings.Join(lines[2:], ""), "row 2 is missing"},
		"moved":   {lines[0] + lines[2] + lines[1] + strings.Join(lines[3:], ""), "row 2 stands after row 3: rows were moved"},
		"cut off": {strings.Join(lines[:8], ""), "row 12 is not the one whose hash you noted"},
	} {
		got, err := audit.VerifyExport(strings.NewReader(tt.text), &r.Head)
		if err != nil || !said(got, tt.want) {
			t.Errorf("%s: %q, %v; want %q", name, texts(got), err, tt.want)
		}
	}
	_, err = audit.VerifyExport(strings.NewReader("hello\n"), nil)
	if want := "line 1 is not of an audit export: give a file that ops audit export wrote"; err == nil || err.Error() != want {
		t.Errorf("a foreign file: %v", err)
	}
}

func TestKilledBetweenIntentAndOutcomeIsUnknown(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), actsAndDies+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "the intent is recorded\n" {
		t.Fatal(line, err)
	}
	if err := cmd.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	_ = cmd.Wait()

	l := record(t, dir)
	got, err := l.Search(t.Context(), audit.Filter{Results: []audit.Result{audit.Unknown}})
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	e := got[0]
	if want := "the centre ended before the outcome was recorded: the action may have run, in part or whole"; e.Outcome.Message != want || len(e.Steps) != 1 || e.Steps[0].Instance != "boot-1" {
		t.Errorf("the record says %+v", e)
	}
	ran := 0
	_, err = do(t, l, gc("local:ann", "k"), &ran, `""`)
	if want := `the action with the key "k" may have run: the centre ended before its outcome was recorded. Look what it did (ops audit list --id ` + string(e.ID) + `) before you repeat it under another key`; err == nil || err.Error() != want || ran != 0 {
		t.Errorf("its repetition says %v and ran %d times", err, ran)
	}
	if r, err := l.Verify(t.Context(), nil); err != nil || len(r.Problems) != 0 {
		t.Errorf("verify says %q, %v", texts(r), err)
	}
}

func actAndWait(dir string) {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, dir)
	if err == nil {
		var l *audit.Log
		if l, err = audit.Open(ctx, audit.Config{Store: s}); err == nil {
			var a audit.Action
			if a, err = l.Begin(ctx, gc("local:ann", "k")); err == nil {
				err = a.Step(ctx, audit.Step{Instance: "boot-1", Result: audit.Succeeded})
			}
		}
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the intent is recorded")
	_, _ = io.Copy(io.Discard, os.Stdin)
	time.Sleep(time.Minute) // until it is killed
}

func TestManyAtOnceMakeOneChain(t *testing.T) {
	l := record(t, t.TempDir())
	const actors, each = 8, 12
	var all sync.WaitGroup
	failures := make(chan error, actors*each)
	for n := range actors {
		all.Go(func() {
			for range each {
				a, err := l.Begin(context.Background(), gc(fmt.Sprintf("local:%d", n), ""))
				if err == nil {
					err = a.End(context.Background(), audit.Outcome{Result: audit.Succeeded})
				}
				if err != nil {
					failures <- err
				}
			}
		})
	}
	all.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	if r, err := l.Verify(t.Context(), nil); err != nil || len(r.Problems) != 0 || r.Head.Rows != actors*each*2 {
		t.Errorf("verify says %+v, %v", r, err)
	}
}

// A full disk keeps actions from beginning, but neither the outcome of one that
// was begun nor one that frees space.
func TestFullDiskAndTheBallast(t *testing.T) {
	_, s := recordAndStore(t, t.TempDir())
	full := &failing{Store: s}
	gaveUp := 0
	l, err := audit.Open(t.Context(), audit.Config{Store: full, Room: func() bool { gaveUp++; full.err = nil; return true }})
	if err != nil {
		t.Fatal(err)
	}
	begun, err := l.Begin(t.Context(), gc("local:ann", ""))
	if err != nil {
		t.Fatal(err)
	}
	full.err = ops.Errorf(ops.Exhausted, "the disk is full")
	ran := 0
	if _, err := do(t, l, gc("local:ann", ""), &ran, `""`); ops.KindOf(err) != ops.Exhausted || ran != 0 || gaveUp != 0 {
		t.Errorf("a new action: %v, ran %d times, the ballast went %d times", err, ran, gaveUp)
	}
	if err := begun.End(t.Context(), audit.Outcome{Result: audit.Succeeded}); err != nil || gaveUp != 1 {
		t.Errorf("an outcome: %v, the ballast went %d times", err, gaveUp)
	}
	full.err = ops.Errorf(ops.Exhausted, "the disk is full")
	frees := gc("local:ann", "")
	frees.FreesSpace = true
	if _, err := do(t, l, frees, &ran, `""`); err != nil || ran != 1 || gaveUp != 2 {
		t.Errorf("what frees space: %v, ran %d times, the ballast went %d times", err, ran, gaveUp)
	}
}
