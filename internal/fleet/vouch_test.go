package fleet

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// seenFromOutside is the process of instance(id) as another source finds it.
func seenFromOutside(id ops.InstanceID, source string) ops.Instance {
	i := instance(id)
	i.Source, i.Agentless, i.Address = source, true, "http://10.0.0.7:6060/debug/pprof"
	return i
}

func (w *world) who(id ops.InstanceID) string {
	w.t.Helper()
	i, err := w.f.Instance(id)
	if err != nil {
		return err.Error()
	}
	out := fmt.Sprintf("%s %s by %s", i.Service, i.State, i.Source)
	for _, s := range i.Seen {
		out += ", seen by " + s.Source + " at " + s.Address
	}
	return out
}

func TestOneProcessFoundTwiceIsOneInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		defer w.end()
		agent := newProcess()
		w.join(instance("boot-1"), agent)
		ctx, unlist := context.WithCancelCause(w.ctx)
		found := make(chan error, 1)
		go func() { found <- w.f.Join(ctx, seenFromOutside("boot-1", "kubernetes"), newProcess()) }()
		synctest.Wait()
		if n := len(w.f.Instances(Filter{IncludeGone: true})); n != 1 {
			t.Errorf("%d instances, want one", n)
		}
		if got, want := w.who("boot-1"), "user-service up by agent, seen by kubernetes at http://10.0.0.7:6060/debug/pprof"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if l, err := w.f.Link("boot-1"); err != nil || l != ops.Link(agent) {
			t.Errorf("the link is not the agent's: %v", err)
		}

		// A source that says it no longer takes nothing but its word back.
		unlist(ops.Errorf(ops.NotFound, "no longer listed by kubernetes"))
		if err := <-found; err == nil || err.Error() != "no longer listed by kubernetes" {
			t.Error(err)
		}
		if got, want := w.who("boot-1"), "user-service up by agent"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestAnAgentThatLeavesSendsTheOthersToLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		defer w.end()
		agent := newProcess()
		w.join(instance("boot-1"), agent)
		found := w.join(seenFromOutside("boot-1", "static"), newProcess())
		agent.end <- nil // goodbye
		if err := <-found; ops.KindOf(err) != ops.Unavailable {
			t.Error(err)
		}
		synctest.Wait()
		if got, want := w.who("boot-1"), "user-service gone by agent"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		// The process serves pprof still: it lives, and is the same.
		w.join(seenFromOutside("boot-1", "static"), newProcess())
		if got, want := w.who("boot-1"), "user-service up by static"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestAnAgentTakesOverFromAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		defer w.end()
		listed := seenFromOutside("boot-1", "static")
		listed.Service = "users" // as somebody wrote it
		found := w.join(listed, newProcess())
		w.join(instance("boot-1"), newProcess())
		if err := <-found; ops.KindOf(err) != ops.Conflict {
			t.Error(err)
		}
		if got, want := w.who("boot-1"), "user-service up by agent"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if key, ok := w.f.AgentOf("boot-1"); !ok || key.Service != "user-service" {
			t.Error(key, ok)
		}
		err := w.f.Join(w.ctx, listed, newProcess())
		if want := "http://10.0.0.7:6060/debug/pprof is listed as color-game/users, but its agent says that it is color-game/user-service: give it one name in both places"; err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	})
}

// TestWhoIsAwaited: a pod that only its agent can speak for is known by its host name
// or its label, a process by its boot id; what is listed is never somebody who is up.
func TestWhoIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		began := time.Now()
		here, gone, labelled := instance("boot-1"), instance("boot-2"), instance("boot-3")
		here.Process.Hostname, gone.Process.Hostname, labelled.Process.Hostname = "user-1", "user-2", "node-a"
		labelled.Labels = map[string]string{"pod": "user-3"}
		w.join(here, newProcess())
		leaves := newProcess()
		w.join(gone, leaves)
		w.join(labelled, newProcess())
		time.Sleep(3 * time.Second)
		leaves.end <- nil
		synctest.Wait()
		target := func(service ops.ServiceName, pod string) ops.Target {
			return ops.Target{Project: "color-game", Service: service, Pod: pod}
		}
		targets := []ops.Target{
			target("user-service", "game/user-1"), target("user-service", "game/user-2"), target("user-service", "game/user-3"), target("user-service", "game/user-4"),
			target("pay-service", "game/user-1"), {Project: "color-game", Service: "user-service", Instance: "boot-2"}, {Project: "color-game", Service: "user-service", Instance: "boot-9"},
		}
		got := ""
		for i, a := range w.f.Awaited(targets) {
			last := "never seen"
			if !a.Last.IsZero() {
				last = "last seen after " + a.Last.Sub(began).String()
			}
			got += fmt.Sprintf("%s%s: here %t, service known %t, %s\n", targets[i].Pod, targets[i].Instance, a.Here, a.Known, last)
		}
		want := `game/user-1: here true, service known true, last seen after 0s
game/user-2: here false, service known true, last seen after 0s
game/user-3: here true, service known true, last seen after 0s
game/user-4: here false, service known true, never seen
game/user-1: here false, service known false, never seen
boot-2: here false, service known true, last seen after 0s
boot-9: here false, service known true, never seen
`
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		up := 0
		for _, i := range w.f.Instances(Filter{}) {
			if i.State == ops.InstanceUp {
				up++
			}
		}
		if up != 2 {
			t.Errorf("%d are up, want the two that are connected", up)
		}
		w.end()
	})
}
