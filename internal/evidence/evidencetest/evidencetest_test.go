package evidencetest_test

import (
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/evidence/evidencetest"
	"github.com/opscenter/opscenter/internal/goroutines"
)

// The sample is that of the package's own comment: what it teaches must be read.
func TestParseReadsEveryArtifact(t *testing.T) {
	e := evidencetest.Parse(t, `
go go1.26.8
module example.com/shop
window 10s
procs 2
quota 1.5
lost block in_use another profiler is at work
-- cpu --
9.8s | golang.org/x/crypto/bcrypt.bcrypt bcrypt.go:220 < main.login login.go:42 < net/http.(*conn).serve server.go:1
200ms | runtime.blockevent mprof.go:1 < main.login login.go:42
-- goroutines --
300 chan send | runtime.gopark proc.go:435 < main.push hub.go:88
7 select | database/sql.(*DB).conn sql.go:1 < main.save save.go:9
2 chan receive locked | main.record camera.go:18
-- trace 5s --
site network 10 4.5s max=600ms open=3 start=main.worker | main.read a.go:1
lock mutex waits=195 total=80s | sync.(*Mutex).Lock mutex.go:46 < main.pay a.go:9
exact n=188 total=78s median=400ms inside=75s
inside network 188 75s | net.(*conn).Read net.go:194 < main.pay a.go:11
latency 1000 3s p99=9ms
-- runtime --
seconds 0 1 2
series ops/cpu:cores 0 0.1 0.3
pool records pgxpool max=20 in_use=20,20,20 wait_count=10,90,170
`)
	login := e.CPU.Rows[0].Stack.User()
	if login.Function != "main.login" || login.Line != 42 || login.Origin != evidence.OwnCode {
		t.Errorf("the program's own frame is %+v", login)
	}
	if cores, ok := e.CPUCores(); !ok || cores != 0.98 {
		t.Errorf("%v cores, %v", cores, ok)
	}
	if e.CPU.Observer[1] != int64(200*time.Millisecond) {
		t.Errorf("the observer cost %v", time.Duration(e.CPU.Observer[1]))
	}
	if e.CPULimit() != 1.5 {
		t.Errorf("limit %v", e.CPULimit())
	}
	if g := e.Goroutines.Groups[1]; g.Wait.Class != goroutines.PoolAcquire || e.Goroutines.Total != 309 || e.Goroutines.Groups[2].Locked != 2 {
		t.Errorf("%+v of %d", g, e.Goroutines.Total)
	}
	if l := e.Trace.Locks[0]; l.Exact.Inside[0].Total != 75*time.Second || l.Exact.Inside[0].Stack.User().Line != 11 {
		t.Errorf("%+v", l)
	}
	if v, ok := e.Runtime.Mean("ops/cpu:cores"); !ok || v != 0.2 {
		t.Errorf("mean %v, %v", v, ok)
	}
	if v, ok := e.Runtime.Pools[0].Gain("wait_count"); !ok || v != 160 {
		t.Errorf("gain %v, %v", v, ok)
	}
	if e.Lost("block") == nil || e.Lost("cpu") != nil {
		t.Errorf("losses %v", e.Losses)
	}
}
