package fleet

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// flapping tells what the one instance of a world says of its coming and going.
func (w *world) flapping(began time.Time) string {
	w.t.Helper()
	synctest.Wait()
	all := w.f.Instances(Filter{IncludeGone: true})
	if len(all) != 1 {
		w.t.Fatalf("%d instances, want one row", len(all))
	}
	out := string(all[0].State)
	for _, i := range all[0].Health.Issues {
		if i.Check == ops.CheckFlapping {
			out += fmt.Sprintf(", %s, lost %.0f times since %v", i.Level, i.Value, i.Since.Sub(began).Round(time.Second))
		}
	}
	return out
}

// TestWhoComesAndGoesIsOneRowThatSaysSo: the same boot id is the same process,
// however often its link is cut.
func TestWhoComesAndGoesIsOneRowThatSaysSo(t *testing.T) {
	for _, c := range []struct {
		name  string
		since string
		cut   func(w *world, p *process, joined <-chan error) <-chan error // and come back, within 20 s
	}{
		{"the link is cut", "0s", func(w *world, p *process, joined <-chan error) <-chan error {
			p.end <- errCut
			<-joined
			time.Sleep(20 * time.Second)
			return w.join(instance("boot-1"), p)
		}},
		{"the link is cut, and the centre has not noticed", "20s", func(w *world, p *process, joined <-chan error) <-chan error {
			time.Sleep(20 * time.Second)
			again := w.join(instance("boot-1"), p)
			<-joined
			return again
		}},
		{"heartbeats stay away", "15s", func(w *world, p *process, joined <-chan error) <-chan error {
			p.set(func(p *process) { p.mute = true })
			time.Sleep(18 * time.Second)
			p.set(func(p *process) { p.mute = false })
			time.Sleep(2 * time.Second)
			return joined
		}},
		{"it is given up each time", "15s", func(w *world, p *process, joined <-chan error) <-chan error {
			p.set(func(p *process) { p.mute = true })
			<-joined
			p.set(func(p *process) { p.mute = false })
			return w.join(instance("boot-1"), p)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, Config{})
				p := newProcess()
				joined := w.join(instance("boot-1"), p)
				time.Sleep(10*time.Minute + 500*time.Millisecond)
				began := time.Now()
				var said []string
				for range 4 {
					joined = c.cut(w, p, joined)
					time.Sleep(20 * time.Second)
					said = append(said, w.flapping(began))
				}
				if got, want := strings.Join(said, "; "), "up; up; up, warning, lost 3 times since "+c.since+"; up, warning, lost 4 times since "+c.since; got != want {
					t.Errorf("%s\nwant %s", got, want)
				}
				time.Sleep(8 * time.Minute)
				if s := w.flapping(began); s != "up, warning, lost 4 times since "+c.since {
					t.Errorf("some minutes later: %s", s)
				}
				time.Sleep(3 * time.Minute)
				if s := w.flapping(began); s != "up" {
					t.Errorf("ten minutes after the last: %s", s)
				}
				w.end()
				<-joined
			})
		})
	}
}

// TestFlappingBeginsWithTheFirstLoss, and who is away just now is told of as well.
func TestFlappingBeginsWithTheFirstLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		began := time.Now()
		p := newProcess()
		joined := w.join(instance("boot-1"), p)
		for range 4 {
			time.Sleep(time.Minute)
			p.end <- errCut
			<-joined
			time.Sleep(2 * time.Second)
			joined = w.join(instance("boot-1"), p)
		}
		if got, want := w.flapping(began), "up, warning, lost 4 times since 1m0s"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		p.end <- errCut
		<-joined
		if got, want := w.flapping(began), "suspect, warning, lost 4 times since 1m0s"; got != want {
			t.Errorf("away: %s\nwant %s", got, want)
		}
		w.end()
	})
}

// TestASlowSeriesIsNone: a link that is lost now and then is no flapping, and neither
// are restarts of the centre.
func TestASlowSeriesIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		p := newProcess()
		joined := w.join(instance("boot-1"), p)
		for range 6 {
			time.Sleep(11 * time.Minute)
			p.end <- errCut
			<-joined
			joined = w.join(instance("boot-1"), p)
		}
		if got := w.flapping(time.Now()); got != "up" {
			t.Error(got)
		}
		w.end()
		<-joined
	})
}
