package fleet

import (
	"github.com/opscenter/opscenter/internal/ops"
)

// Bounds are how many instances a centre takes at once; who is gone does not
// count. Zero fields are the defaults: the largest fleet that was tried is 3,000
// agents and 10,000 instances of lists.
type Bounds struct {
	Agents    int `yaml:"agents"`    // connected through their agent; 0 = 5,000
	Services  int `yaml:"services"`  // of all projects; 0 = 2,000
	Instances int `yaml:"instances"` // agents, and those that lists name; 0 = 20,000
}

func (b Bounds) withDefaults() Bounds {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&b.Agents, 5_000)
	def(&b.Services, 2_000)
	def(&b.Instances, 20_000)
	return b
}

// Validate says what is wrong with a bound, beginning with its key.
func (b Bounds) Validate() error {
	for _, v := range []struct {
		key string
		n   int
	}{{"agents", b.Agents}, {"services", b.Services}, {"instances", b.Instances}} {
		if v.n < 0 {
			return ops.Errorf(ops.Invalid, "%s: %d is less than nothing: use 1 or more, or 0 for the default", v.key, v.n)
		}
	}
	return nil
}

// population counts the members that are not gone.
type population struct {
	instances, agents int
	services          map[ops.ServiceKey]int
}

// count adds n times a member that is not gone.
func (c *population) count(i ops.Instance, n int) {
	c.instances += n
	if !i.Agentless {
		c.agents += n
	}
	if c.services == nil {
		c.services = map[ops.ServiceKey]int{}
	}
	if c.services[i.Key()] += n; c.services[i.Key()] == 0 {
		delete(c.services, i.Key())
	}
}

// room is nil if the instance may become a member beside those that are.
func (b Bounds) room(c population, i ops.Instance) error {
	switch {
	case c.instances >= b.Instances:
		return ops.Errorf(ops.Exhausted, "the centre has %d instances, the most it takes: run another centre for some services, or raise limits.fleet.instances", c.instances)
	case !i.Agentless && c.agents >= b.Agents:
		return ops.Errorf(ops.Exhausted, "the centre has %d agents, the most it takes: run another centre for some services, or raise limits.fleet.agents", c.agents)
	case c.services[i.Key()] == 0 && len(c.services) >= b.Services:
		return ops.Errorf(ops.Exhausted, "the centre has %d services, the most it takes: is OPS_SERVICE made of something that differs from process to process? Else run another centre for some of them, or raise limits.fleet.services", len(c.services))
	}
	return nil
}

// Room is nil if the instance may join now, as far as is known before its link is
// there; an error is what Join would say.
func (f *Fleet) Room(i ops.Instance) error {
	if f.admit != nil {
		if _, err := f.admit(i); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.members[i.ID]; m != nil && m.inst.State != ops.InstanceGone {
		return nil
	}
	return f.bounds.room(f.alive, i)
}
