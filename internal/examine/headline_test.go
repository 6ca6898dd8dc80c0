package examine

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestAHeadlineIsTheWorstFinding(t *testing.T) {
	const lock = `{"rule":"lock-contention","severity":"critical","score":88,"title":"A lock"}`
	const gc = `{"rule":"cpu-gc-pressure","severity":"warning","score":60,"title":"Garbage"}`
	const blind = `"checked":[{"verdict":"could_not_check"},{"verdict":"ok"}]`
	for name, c := range map[string]struct{ body, want string }{
		"one instance":  {`{"findings":[` + gc + `,` + lock + `],` + blind + `}`, "critical lock-contention A lock 1/1/0 unchecked 1"},
		"several":       {`{"instances":[{"findings":[` + gc + `],` + blind + `},{"findings":[` + lock + `,` + gc + `],` + blind + `}]}`, "critical lock-contention A lock 1/2/0 unchecked 2"},
		"nothing found": {`{"findings":[],` + blind + `}`, "   0/0/0 unchecked 1"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := headlineOf(ops.Findings{Bodies: map[ops.Lang][]byte{ops.English: []byte(c.body), ops.TraditionalChinese: []byte(c.body)}})
			got := fmt.Sprintf("%s %s %s %d/%d/%d unchecked %d", h.Severity, h.Rule, h.Title[ops.English], h.Critical, h.Warning, h.Notice, h.Unchecked)
			if err != nil || got != c.want {
				t.Errorf("got %q, want %q, %v", got, c.want, err)
			}
			if h.Title[ops.English] != h.Title[ops.TraditionalChinese] {
				t.Errorf("titles differ: %v", h.Title)
			}
		})
	}
	if _, err := headlineOf(ops.Findings{Bodies: map[ops.Lang][]byte{ops.English: []byte("{")}}); ops.KindOf(err) != ops.Corrupt {
		t.Error(err)
	}
}

func TestAHeadlineIsThereOnceTheCaptureIsDiagnosed(t *testing.T) {
	a, k := keeper(t)
	a.end("01capture", ops.CaptureDone)
	if _, err := k.Headline(t.Context(), "01capture"); ops.KindOf(err) != ops.NotFound {
		t.Errorf("before: %v", err)
	}
	var said []ops.CaptureID
	k.c.Said = func(id ops.CaptureID) { said = append(said, id) }
	if _, err := k.Findings(t.Context(), "01capture"); err != nil {
		t.Fatal(err)
	}
	h, err := k.Headline(t.Context(), "01capture")
	if err != nil || h.Unchecked == 0 || len(said) != 1 {
		t.Errorf("after: %+v, %v, said %v", h, err, said)
	}
}

// Whoever deletes a capture that is being diagnosed does not have to wait for it.
func TestADiagnosisMakesWayForADeletion(t *testing.T) {
	a, k := keeper(t)
	a.end("01capture", ops.CaptureDone)
	k.turn <- struct{}{} // another diagnosis takes long
	failed := make(chan error, 1)
	go func() { _, err := k.Findings(t.Context(), "01capture"); failed <- err }()
	until(t, func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.under["01capture"] != nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	deleted := false
	err := k.Without(ctx, "01capture", func() error {
		if err := <-failed; err == nil {
			t.Error("the diagnosis went on")
		}
		if _, err := k.Findings(ctx, "01capture"); ops.KindOf(err) != ops.Conflict || err.Error() != "capture 01capture is being deleted" {
			t.Errorf("a new one: %v", err)
		}
		deleted = true
		return nil
	})
	if err != nil || !deleted {
		t.Errorf("%v, deleted: %v", err, deleted)
	}
	<-k.turn
	if _, err := k.Findings(t.Context(), "01capture"); err != nil {
		t.Errorf("it was not deleted after all: %v", err)
	}
}
