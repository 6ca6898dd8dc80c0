package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/ops"
)

// drum is an instance that beats when it is told to.
type drum struct {
	link
	beat chan ops.Heartbeat
}

func (d drum) Watch(ctx context.Context, _ time.Duration, _ bool, fn func(ops.Sample)) error {
	for {
		select {
		case hb := <-d.beat:
			fn(ops.Sample{Heartbeat: hb})
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestAKnownInstanceIsToldByItsBeatsAlone(t *testing.T) {
	for _, beats := range []bool{true, false} {
		t.Run(fmt.Sprint(beats), func(t *testing.T) {
			r := start(t, auth.View)
			d := drum{beat: make(chan ops.Heartbeat)}
			var wg sync.WaitGroup
			defer wg.Wait()
			ctx, leave := context.WithCancel(r.ctx)
			defer leave()
			wg.Go(func() { _ = r.fleet.Join(ctx, ops.Instance{ID: "01inst", Project: "p", Service: "s"}, d) })
			d.beat <- ops.Heartbeat{Goroutines: 1} // it has joined
			stream, err := apiv1connect.NewWatchServiceClient(http.DefaultClient, r.url).Watch(r.ctx, connect.NewRequest(&apiv1.WatchRequest{
				Fleet: true, Beats: beats, MinInterval: durationpb.New(time.Millisecond),
			}))
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			var told []string
			for n := int64(2); n <= 3 && stream.Receive(); {
				f := stream.Msg().GetFleet()
				for _, i := range f.GetInstances() {
					told = append(told, fmt.Sprintf("whole %s %d %s", i.GetId(), i.GetHeartbeat().GetGoroutines(), i.GetHealth().GetLevel()))
				}
				for _, b := range f.GetBeats() {
					told = append(told, fmt.Sprintf("beat %s %d %s", b.GetInstanceId(), b.GetHeartbeat().GetGoroutines(), b.GetHealth().GetLevel()))
				}
				if strings.HasSuffix(told[len(told)-1], fmt.Sprintf(" %d HEALTH_LEVEL_OK", n)) {
					n++
				}
				if n <= 3 {
					d.beat <- ops.Heartbeat{Goroutines: n}
				}
			}
			kind := map[bool]string{true: "beat", false: "whole"}[beats]
			last := told[len(told)-1]
			if want := kind + " 01inst 3 HEALTH_LEVEL_OK"; last != want || !strings.HasPrefix(told[0], "whole 01inst ") {
				t.Errorf("told %q, want %q last", told, want)
			}
		})
	}
}

func TestAnInstanceComesWithItsThresholds(t *testing.T) {
	r := start(t, auth.View)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, leave := context.WithCancel(r.ctx)
	defer leave()
	d := drum{beat: make(chan ops.Heartbeat)}
	wg.Go(func() { _ = r.fleet.Join(ctx, ops.Instance{ID: "01inst", Project: "p", Service: "s"}, d) })
	d.beat <- ops.Heartbeat{Goroutines: 1}
	resp, err := apiv1connect.NewFleetServiceClient(http.DefaultClient, r.url).GetInstance(r.ctx, connect.NewRequest(&apiv1.GetInstanceRequest{InstanceId: "01inst"}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, th := range resp.Msg.GetThresholds() {
		got = append(got, fmt.Sprintf("%s %v/%v", th.GetCheck(), th.GetWarning(), th.GetCritical()))
	}
	want := "flapping 2/0, heartbeat 15/0, restarts 2/5, memory 0.85/0.95, cpu 0.85/0.97, throttled 0.1/0.3, sched-latency 0.01/0.1, pool-waiters 2/20, mutex-wait 1/20, goroutines 3/10, heap-slope 1/0, goroutines-slope 2/0, goroutines-stand 1.8/0, heap-growth 2/0"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}
