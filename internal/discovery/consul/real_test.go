package consul

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

// The contract against a Consul that runs; make test asks the stand-in alone.
func TestARealConsul(t *testing.T) {
	opstest.TestSource(t, func(t *testing.T, initial []ops.Target) opstest.SourceBackend {
		c := discoverytest.StartRealConsul(t)
		c.Set(t, initial)
		s, err := New(Config{Address: c.Address})
		if err != nil {
			t.Fatal(err)
		}
		return opstest.SourceBackend{
			Source: nodeless{s.(*Source)},
			Set:    func(t *testing.T, targets []ops.Target) { c.Set(t, targets) },
			Stop:   func(t *testing.T) { c.Kill(t) },
			Start:  func(t *testing.T) { c.Start(t) },
			Refuse: func(t *testing.T) string {
				c.Guard(t)
				return "shows nothing without a token: set token_file"
			},
			Want: func(t *testing.T, n int) { c.Want(t, initial, n) },
		}
	})
}

// nodeless leaves out the node that a real Consul's services are on, of which the
// contract's targets know nothing.
type nodeless struct{ *Source }

func (n nodeless) Run(ctx context.Context, update func([]ops.Target)) error {
	return n.Source.Run(ctx, func(list []ops.Target) {
		list = slices.Clone(list)
		for i := range list {
			list[i].Labels = maps.Clone(list[i].Labels) // it is the source's
			delete(list[i].Labels, "node")
		}
		update(list)
	})
}
