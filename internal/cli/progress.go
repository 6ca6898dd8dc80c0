package cli

import (
	"fmt"
	"io"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

// maxBars is how many targets get a bar of their own: more would not fit on the
// screen, and share one.
const maxBars = 20

// barWidth leaves room for names and activities on a line of 80.
const barWidth = 24

// targetsView shows how far a running capture is. Off a terminal it shows
// nothing but what is said.
type targetsView struct {
	p    *program
	bars *mpb.Progress
	bar  []*mpb.Bar
	text []*label
}

// label is a text that a bar's own goroutine reads.
type label struct {
	mu sync.Mutex // guards s
	s  string
}

func (l *label) set(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s = s
}

func (l *label) get(decor.Statistics) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s
}

func (p *program) newBars() *mpb.Progress {
	return mpb.New(mpb.WithOutput(p.Stderr), mpb.WithAutoRefresh())
}

func (p *program) watchTargets(c *apiv1.Capture) *targetsView {
	v := &targetsView{p: p}
	if !isTerminal(p.Stderr) {
		return v
	}
	v.bars = p.newBars()
	names := []string{}
	if n := len(c.GetTargets()); n > maxBars {
		names = append(names, count(n, "instance", "instances"))
	} else {
		for _, t := range c.GetTargets() {
			names = append(names, clean(targetName(t)))
		}
	}
	for _, name := range names {
		text := &label{}
		v.text = append(v.text, text)
		v.bar = append(v.bar, v.bars.AddBar(100,
			mpb.BarRemoveOnComplete(), mpb.BarWidth(barWidth),
			mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.Any(text.get, decor.WC{W: 1})),
		))
	}
	v.update(c)
	return v
}

func (v *targetsView) update(c *apiv1.Capture) {
	targets := c.GetTargets()
	switch {
	case v.bars == nil:
	case len(v.bar) == 1 && len(targets) > maxBars:
		percent, received, over := int64(0), int64(0), 0
		for _, t := range targets {
			percent += targetPercent(t)
			received += t.GetReceivedBytes()
			if ended(t.GetState()) {
				over++
			}
		}
		v.bar[0].SetCurrent(percent / int64(len(targets)))
		v.text[0].set(fmt.Sprintf("  %d of %d ended, %s", over, len(targets), bytesText(received)))
	default:
		for i, t := range targets[:min(len(targets), len(v.bar))] {
			v.bar[i].SetCurrent(targetPercent(t))
			v.text[i].set("  " + clean(targetText(t)))
		}
	}
}

// targetPercent is how much of the window is over, at most 99 while data may
// still arrive.
func targetPercent(t *apiv1.Target) int64 {
	if ended(t.GetState()) {
		return 99 // 100 would remove the bar before its neighbours are done
	}
	whole := t.GetProgress().GetDuration().AsDuration()
	if whole <= 0 {
		return 0
	}
	return min(99, max(0, int64(100*t.GetProgress().GetElapsed().AsDuration()/whole)))
}

func targetText(t *apiv1.Target) string {
	s := word(t.GetState())
	if a := t.GetProgress().GetActivity(); a != "" && s == string(ops.CaptureCollecting) {
		s = a
	}
	if n := t.GetReceivedBytes(); n > 0 {
		s += ", " + bytesText(n)
	}
	return s
}

// say prints a line above the bars.
func (v *targetsView) say(format string, args ...any) {
	line := fmt.Sprintf("ops: "+format+"\n", args...)
	if v.bars != nil {
		if _, err := io.WriteString(v.bars, line); err == nil {
			return
		}
	}
	fmt.Fprint(v.p.Stderr, line)
}

// close removes the bars and waits until their last line is out.
func (v *targetsView) close() {
	if v.bars == nil {
		return
	}
	for _, b := range v.bar {
		b.Abort(true)
	}
	v.bars.Wait()
}

// transfer shows how many bytes of a file have passed; total ≤ 0 = unknown. The
// returned function ends it and must be called.
func (p *program) transfer(name string, r io.Reader, total int64) (io.Reader, func()) {
	if !isTerminal(p.Stderr) {
		return r, func() {}
	}
	bars := p.newBars()
	bar := bars.AddBar(max(total, 0),
		mpb.BarRemoveOnComplete(), mpb.BarWidth(barWidth),
		mpb.PrependDecorators(decor.Name(clean(name), decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f"), decor.AverageSpeed(decor.SizeB1024(0), "  % .1f")),
	)
	// Not Bar.ProxyReader: it would close what is not ours.
	return readerFunc(func(b []byte) (int, error) {
			n, err := r.Read(b)
			bar.IncrBy(n)
			return n, err
		}), func() {
			bar.Abort(true)
			bars.Wait()
		}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
