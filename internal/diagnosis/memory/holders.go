package memory

import (
	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
)

// holders are goroutines of which each seems to hold one of the objects that stay.
type holders struct {
	*crowd
	total int
}

// manyHolders is how many goroutines at one line are no pool of workers any more;
// by reasoning.
const manyHolders = 100

// holdersOf finds the goroutines that stand where those of the objects' own package
// wait for their end: about one for each object, without connections that they could
// belong to, and of whom hardly any gets on. What they wait for is what would let
// the objects go. nil = there are none.
func holdersOf(e *evidence.Evidence, site *evidence.Frame, objects int64) *holders {
	if objects < manyHolders {
		return nil
	}
	c := gather(e)
	if c == nil || c.total == 0 {
		return nil
	}
	l := &leakSearch{e: e, c: c}
	for _, x := range c.all { // largest first
		n := int64(x.after)
		if n < manyHolders {
			return nil
		}
		switch {
		case n < objects/2 || n > 2*objects, x.handler, x.place.Origin != evidence.OwnCode, x.place.Package != site.Package:
		case !leakable(x) || x.state == goroutines.Sleep || x.state == goroutines.NetRead || x.state == goroutines.NetWrite:
		case l.connections(x, func(x *crowd) int { return x.after }):
		case c.traced > 0 && x.ended*10 > x.open:
		default:
			return &holders{crowd: x, total: c.total}
		}
	}
	return nil
}

// tell puts the line at which the goroutines wait before the one that made the
// objects: the change is due where they should end.
func (h *holders) tell(f *ops.Finding, name string) {
	w := wordsOf(&leakSuspect{crowd: h.crowd})
	line := rule.Line(h.place)
	f.Where = append([]ops.Place{rule.At(w.role, h.place)}, f.Where...)
	f.Title = rule.Say("%s, each held by a goroutine that waits in `%s` (%s)", "%s，各由一個停在 `%s`（%s）的 goroutine 持有", f.Title, rule.Short(h.place), line)
	f.Summary = rule.Say("%s About as many goroutines, %s, wait at %s, and there are no connections for them.", "%s數量相當的 goroutine（%s 個）停在 %s，卻沒有對應的連線。", f.Summary, rule.Count(int64(h.after)), line)
	f.Remedies = append(append([]ops.Text(nil), w.remedies...), f.Remedies...)
	f.Evidence = append(f.Evidence, ops.Proof{
		Artifact: ops.KindGoroutine, Metric: "goroutines", Value: float64(h.after), Unit: "goroutines", Share: float64(h.after) / float64(max(1, h.total)),
		Text: rule.Say("%s of %s goroutines wait at %s: about one for each of %s", "%[2]s 個 goroutine 中有 %[1]s 個停在 %[3]s：大約每個 %[4]s 各有一個",
			rule.Count(int64(h.after)), rule.Count(int64(h.total)), line, name),
	})
}
