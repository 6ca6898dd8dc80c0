package waits

import (
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
)

// judgeReads decides what reads of connections of the program's own are: the
// answer to a request that was written before, or a rest until a peer says
// something. A trace shows it by the order of the lines in the activation that
// does both: who writes first is the client. Without one, only code under a
// server's handler is believed to ask.
//
// A client that shares a connection has one goroutine that reads for all others:
// these write, and wait at a channel until it wakes them.
func (v *view) judgeReads() {
	reads := v.pick(func(w *wait) bool { return w.kind == rawRead })
	if len(reads) == 0 {
		return
	}
	writes, accepting := v.rawWrites(), v.accepting()
	for _, w := range v.waits {
		if (w.kind == receive || w.kind == choose) && w.user != nil && v.wokenByReader(w, reads) {
			if _, order := asks(w, writes[w.start]); order > 0 {
				w.kind, w.client = ask, "TCP"
			}
		}
	}
	for _, r := range reads {
		r.kind = idle
		name := "TCP"
		if r.unlisted {
			name = r.client
		}
		at, order := asks(r, writes[r.start])
		switch {
		case order > 0:
			r.kind, r.client = ask, name
			r.at, r.user = r.stack.Index(func(f *evidence.Frame) bool { return f == at }), at
		case order < 0: // reads first: a server
		case v.answering(r), r.unlisted && !accepting[r.start] && !accepting[serverOf(r.start)]:
			r.kind, r.client = ask, name
		}
	}
}

// wokenByReader reports whether goroutines that read connections end most of the
// waits.
func (v *view) wokenByReader(w *wait, reads []*wait) bool {
	var all, by int64
	for _, x := range v.wakers(w) {
		all += x.Count
		start := startOf(x.Waker)
		if slices.ContainsFunc(reads, func(r *wait) bool { return r.start == start }) {
			by += x.Count
		}
	}
	return all > 0 && by*2 > all
}

// answering reports whether a read below a server's handler can be trusted to ask
// somebody: a trace would have shown it to write, had it not been stuck all the
// time, and a handler that has taken its connection over, for WebSockets, has no
// watcher of it any more.
func (v *view) answering(r *wait) bool {
	if !r.handler || v.now == nil || r.count > r.open {
		return false
	}
	watchers := 0
	for i := range v.now.Groups {
		if g := &v.now.Groups[i]; g.Wait.Class == goroutines.HTTPServerWatch {
			watchers += g.Count
		}
	}
	return watchers*2 >= r.now
}

// rawWrite is a write to a connection.
type rawWrite struct {
	stack evidence.Stack
	count int64
}

func (v *view) rawWrites() map[string][]rawWrite {
	out := map[string][]rawWrite{}
	if v.e.Trace == nil {
		return out
	}
	for i := range v.e.Trace.Sites {
		s := &v.e.Trace.Sites[i]
		if s.Stack.Has("net.(*conn).Write", "net.(*netFD).Write", "net.(*UDPConn).Write", "net.(*netFD).writeBuffers") {
			out[s.Start] = append(out[s.Start], rawWrite{s.Stack, s.Count})
		}
	}
	return out
}

// asks compares a read with the writes of the same goroutines. order is 1 if a
// write comes before the read in the activation that does both, −1 if after, and
// 0 if none does both; at is then that activation's frame in the read.
func asks(r *wait, writes []rawWrite) (at *evidence.Frame, order int) {
	var most int64
	for _, w := range writes {
		for _, s := range r.all {
			inRead, inWrite, ok := evidence.Shared(s, w.stack)
			// A greeting is written once; an exchange as often as it is read.
			if !ok || inRead.Line == inWrite.Line || w.count <= most || w.count*3 < r.count {
				continue
			}
			most, at, order = w.count, inRead, 1
			if inWrite.Line > inRead.Line {
				order = -1
			}
		}
	}
	return at, order
}

// accepting are the program's functions that accept connections.
func (v *view) accepting() map[string]bool {
	out := map[string]bool{}
	note := func(s evidence.Stack) {
		for _, f := range s {
			if own(f) {
				out[f.Function] = true
			}
		}
	}
	for _, w := range v.waits {
		if w.state == goroutines.NetAccept {
			note(w.stack)
		}
	}
	// Whatever they start serves a connection.
	if d := v.e.Dump; d != nil {
		for i := range d.Groups {
			g := &d.Groups[i]
			if g.CreatedBy != nil && out[g.CreatedBy.Function] {
				out[startOf(g.Stack)] = true
			}
		}
	}
	return out
}

// serverOf is the function that a closure belongs to, or else itself.
func serverOf(start string) string {
	if i := strings.Index(start, ".func"); i > 0 {
		return start[:i]
	}
	return start
}

// judgeDials tells waits for a free connection of HTTP's pool from those for a
// connection that is being made: while one is made, somebody makes it.
func (v *view) judgeDials() {
	waiting := v.pick(func(w *wait) bool { return w.kind == acquire && w.client == "HTTP" })
	if len(waiting) == 0 {
		return
	}
	dialling := v.pick(func(w *wait) bool { return w.stack.Has("net/http.(*Transport).dialConn") })
	resolving := v.pick(func(w *wait) bool {
		return w.stack.Has("net/http.(*Transport).dialConn") && w.stack.Has("net.(*Resolver).lookup")
	})
	all, dials, names := v.busyAll(waiting), v.busyAll(dialling), v.busyAll(resolving)
	if dials < all/2 {
		return
	}
	for _, w := range waiting {
		w.kind = dial
		if names > dials/2 {
			w.kind = resolve
		}
	}
}

func (v *view) busyAll(ws []*wait) (sum float64) {
	for _, w := range ws {
		sum += v.busy(w)
	}
	return sum
}
