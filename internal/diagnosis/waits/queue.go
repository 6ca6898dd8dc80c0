package waits

import (
	"slices"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/ops"
)

// A slow downstream that exhausts a pool is one fault, not two, and the cause is
// what would have to change. If the answers alone are critically slow, no larger
// pool helps: the downstream is told, and the queue as part of it. If callers wait
// longer in the queue than for the answer, or whoever has a connection keeps it
// over something that the pool is not for, the pool is told, and with it what its
// holders wait for.

// queueBehind returns the exhausted pool whose holders wait for the downstream;
// nil if there is none.
func (v *view) queueBehind(d *downstream, pools []*pool) *pool {
	for _, p := range pools {
		if l := v.leaked(p); l == wholly || l == partly {
			continue
		}
		n := 0.0
		for _, pl := range d.places {
			for _, w := range pl.waits {
				if slices.Contains(p.holders, w) {
					n += v.busy(w)
				}
			}
		}
		// Others may ask the same downstream without the pool.
		if n >= d.busy/2 && n >= p.held/2 && n > 0 && v.scorePool(p) >= 50 {
			return p
		}
	}
	return nil
}

func (v *view) poolLeads(p *pool, d *downstream) bool {
	answer, queue := &d.places[0], p.worst(v)
	if answer.score < 50 || !p.uses(answer.waits[0]) {
		return true
	}
	return answer.score < 75 && queue.known && answer.known && queue.delay > answer.single()
}

// behindAnswer reports whether the pool's queue is told with the downstream that
// its holders wait for.
func (v *view) behindAnswer(p *pool, all []downstream) bool {
	for i := range all {
		if d := &all[i]; v.queueBehind(d, []*pool{p}) != nil && !v.poolLeads(p, d) {
			return true
		}
	}
	return false
}

// scorePool is that of the worst of the pool's places.
func (v *view) scorePool(p *pool) int { return v.scoreQueue(p, p.worst(v)) }

// worst is the place with the highest score.
func (p *pool) worst(v *view) *place {
	best := &p.places[0]
	for i := range p.places {
		if v.scoreQueue(p, &p.places[i]) > v.scoreQueue(p, best) {
			best = &p.places[i]
		}
	}
	return best
}

// tellQueue adds to a downstream's finding the queue for its connections.
func (v *view) tellQueue(f *ops.Finding, p *pool) {
	pl := p.worst(v)
	f.Score = max(f.Score, v.scorePool(p))
	f.Summary = rule.Say("%[1]s Behind them queue for %[2]s: %[3]s, %[4]s each.", "%[1]s後面還%[3]s 在排隊等 %[2]s，每次%[4]s。", f.Summary, p.name(), rule.Goroutines(p.busy), pl.lasting())
	for i := range p.places {
		f.Where = addPlace(f.Where, rule.At(ops.RoleAcquire, p.places[i].user))
	}
	for _, proof := range append(v.proofs(pl.waits), p.statsProof()...) {
		proof.Metric = "queue_" + proof.Metric
		proof.Text = rule.Say("in the queue for %[1]s: %[2]s", "排隊等 %[1]s：%[2]s", p.name(), proof.Text)
		f.Evidence = append(f.Evidence, proof)
	}
}
