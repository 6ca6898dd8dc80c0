package goroutines

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// lines walks the lines of a text.
type lines struct{ rest []byte }

func (l *lines) next() (line string, ok bool) {
	if len(l.rest) == 0 {
		return "", false
	}
	b, rest, _ := bytes.Cut(l.rest, []byte("\n"))
	l.rest = rest
	return string(bytes.TrimSuffix(b, []byte("\r"))), true
}

// record is one stack of debug=1.
type record struct {
	goroutine
	pcs     []string // of the whole stack, from the leaf
	visible string   // the address of the first frame that is not left out
}

// readStacks reads debug=1.
func (b *builder) readStacks(text []byte) error {
	b.snapshot.Format = Stacks
	l := lines{text}
	first, _ := l.next()
	total, err := strconv.Atoi(strings.TrimPrefix(first, "goroutine profile: total "))
	if err != nil {
		return notGoroutines("its first line counts nothing")
	}
	var records []*record
	var r *record
	size := int64(0)
	for {
		line, ok := l.next()
		if !ok {
			break
		}
		switch {
		case strings.HasPrefix(line, "#\t"):
			if r != nil {
				r.frame(line, b)
			}
		case strings.HasPrefix(line, "# labels: "):
			if r != nil {
				r.labels = parseLabels(strings.TrimPrefix(line, "# labels: "))
			}
		case line == "":
			r = nil
		default:
			count, pcs, ok := strings.Cut(line, " @")
			n, err := strconv.Atoi(count)
			if !ok || err != nil || n < 0 || n > 1<<40 {
				b.snapshot.Loss = "lines that are not of a goroutine profile are left out"
				r = nil
				continue
			}
			r = &record{goroutine: goroutine{count: n}, pcs: strings.Fields(pcs)}
			records = append(records, r)
			if size += int64(len(line))*3 + 200; size > b.room {
				return b.tooMany()
			}
		}
	}
	parked := parkedAt(records)
	for _, r := range records {
		r.state = r.derive(parked)
		if err := b.add(r.goroutine); err != nil {
			return err
		}
	}
	if b.snapshot.Total < total {
		b.snapshot.Loss = "it ends early: " + strconv.Itoa(b.snapshot.Total) + " of " + strconv.Itoa(total) + " goroutines are there"
	}
	return nil
}

// frame reads "#	0x47a1a4	net.(*conn).Read+0x44	/src/net/net.go:196".
func (r *record) frame(line string, b *builder) {
	var fields []string
	for f := range strings.SplitSeq(line[2:], "\t") {
		if f != "" {
			fields = append(fields, f)
		}
	}
	if len(fields) == 0 {
		return
	}
	if r.visible == "" {
		r.visible = fields[0]
	}
	f := Frame{Function: fields[0]}
	if len(fields) > 1 {
		f.Function = fields[1]
		if i := strings.LastIndex(f.Function, "+0x"); i > 0 {
			f.Function = f.Function[:i]
		}
	}
	if len(fields) > 2 {
		f.File, f.Line = place(fields[2])
	}
	r.stack = append(r.stack, Frame{b.name(f.Function), b.name(f.File), f.Line})
}

// hidden is how many of the runtime's frames are left out at the leaf; -1 if that
// does not show.
func (r *record) hidden() int {
	shown, err := strconv.ParseUint(r.visible, 0, 64)
	if err != nil {
		return -1
	}
	for i, pc := range r.pcs {
		// Frames are printed at the call, stacks hold the return address behind it.
		if at, err := strconv.ParseUint(pc, 0, 64); err == nil && (at == shown+1 || at == shown) {
			return i
		}
	}
	return -1
}

// parkedAt finds the address in runtime.gopark, at which each waiting goroutine
// is: the leaf of those whose visible frames say that they wait. "" if there is
// none.
func parkedAt(records []*record) string {
	for _, r := range records {
		if s := stateOf(r.stack); len(r.pcs) > 0 && s != Running && s != Runnable && s != Syscall && s != Unknown && r.hidden() > 0 {
			return r.pcs[0]
		}
	}
	return ""
}

// derive is the state by visible frames, or, where only the runtime's own would
// tell, by how many of those there are: gopark and selectgo below a select, and
// one more below a channel's operation.
func (r *record) derive(parked string) State {
	s := stateOf(r.stack)
	if s != Running {
		return s
	}
	hidden := r.hidden()
	switch {
	case hidden == 1 && strings.HasPrefix(r.stack[0].Function, "iter.Pull"):
		return Coroutine // coroswitch does not park
	case hidden <= 0 || len(r.pcs) == 0:
		return Running
	case parked == "":
		return Unknown
	case r.pcs[0] != parked:
		return Running
	case hidden == 2:
		return Select
	case hidden == 3:
		return Chan
	}
	return Waiting
}

// parseLabels reads {"room":"lobby", "user":"ann"}, quoted as Go quotes.
func parseLabels(s string) map[string]string {
	out := map[string]string{}
	s = strings.TrimPrefix(s, "{")
	for len(out) < 100 {
		key, err := strconv.QuotedPrefix(s)
		if err != nil {
			break
		}
		s = strings.TrimLeft(s[len(key):], " :")
		value, err := strconv.QuotedPrefix(s)
		if err != nil {
			break
		}
		s = strings.TrimLeft(s[len(value):], " ,")
		k, err := strconv.Unquote(key)
		if err != nil {
			break
		}
		if out[k], err = strconv.Unquote(value); err != nil {
			break
		}
	}
	return out
}

// place reads "/src/net/net.go:196" and what may follow.
func place(s string) (file string, line int64) {
	s, _, _ = strings.Cut(s, " +0x")
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, 0
	}
	n, err := strconv.ParseInt(s[i+1:], 10, 64)
	if err != nil {
		return s, 0
	}
	return s[:i], n
}

func isDump(text []byte) bool {
	line, _, _ := bytes.Cut(text[:min(len(text), 200)], []byte("\n"))
	_, ok := parseHeader(string(line))
	return ok || bytes.HasPrefix(text, []byte("panic: ")) || bytes.HasPrefix(text, []byte("fatal error: ")) || bytes.HasPrefix(text, []byte("SIGQUIT: "))
}

// header is the first line of a goroutine in a dump.
type header struct {
	id     int64
	reason string
	age    time.Duration
	locked bool
}

// parseHeader reads "goroutine 7 [chan receive, 5 minutes, locked to thread]:".
func parseHeader(line string) (h header, ok bool) {
	rest, ok := strings.CutPrefix(line, "goroutine ")
	if !ok {
		return h, false
	}
	id, rest, ok := strings.Cut(rest, " ")
	if !ok {
		return h, false
	}
	var err error
	if h.id, err = strconv.ParseInt(id, 10, 64); err != nil {
		return h, false
	}
	// A crash may print addresses of the goroutine and its thread first, and later
	// versions labels behind.
	from := strings.IndexByte(rest, '[')
	to := strings.IndexByte(rest, ']')
	if from < 0 || to < from || !strings.HasSuffix(line, ":") {
		return h, false
	}
	for i, part := range strings.Split(rest[from+1:to], ", ") {
		switch minutes, isAge := strings.CutSuffix(part, " minutes"); {
		case i == 0:
			h.reason = part
			for _, note := range []string{" (scan)", " (leaked)", " (durable)"} {
				h.reason = strings.TrimSuffix(h.reason, note)
			}
		case isAge:
			if n, err := strconv.ParseInt(minutes, 10, 32); err == nil && n > 0 {
				h.age = time.Duration(n) * time.Minute
			}
		case part == "locked to thread":
			h.locked = true
		}
	}
	return h, true
}

// readDump reads debug=2, or the dump of a crash, behind whatever comes first.
func (b *builder) readDump(text []byte) error {
	b.snapshot.Format = Dump
	l := lines{text}
	var g *goroutine
	var h header
	var pending *Frame // waits for its file
	cut := false
	done := func() error {
		if g == nil {
			return nil
		}
		var err error
		g.state, g.forever = stateByReason(h.reason, g.stack)
		err = b.add(*g)
		g, pending = nil, nil
		return err
	}
	for {
		line, ok := l.next()
		if !ok {
			break
		}
		if found, ok := parseHeader(line); ok {
			if err := done(); err != nil {
				return err
			}
			h = found
			g = &goroutine{count: 1, id: h.id, age: h.age, locked: h.locked}
			cut = true
			continue
		}
		if g == nil {
			continue
		}
		switch created, isCreated := strings.CutPrefix(line, "created by "); {
		case line == "":
			cut = false
			if err := done(); err != nil {
				return err
			}
		case strings.HasPrefix(line, "\t"):
			if pending != nil {
				file, n := place(strings.TrimSpace(line))
				pending.File, pending.Line = b.name(file), n
				pending = nil
				cut = false
			}
		case isCreated:
			name, _, _ := strings.Cut(created, " in goroutine ")
			g.created = &Frame{Function: b.name(name)}
			pending = g.created
			cut = true
		case strings.HasPrefix(line, "...") || strings.HasSuffix(line, "stack unavailable"):
			pending = nil
		case !strings.HasSuffix(line, ")"):
			// No frame: registers, or what a shell says at the end. Or half a frame.
			cut = cut || len(l.rest) == 0 && text[len(text)-1] != '\n'
		default:
			cut = true
			i := strings.LastIndexByte(line, '(')
			if i <= 0 || len(g.stack) >= 1024 {
				pending = nil
				continue
			}
			g.stack = append(g.stack, Frame{Function: b.name(line[:i])})
			pending = &g.stack[len(g.stack)-1]
		}
		if b.size > b.room {
			return b.tooMany()
		}
	}
	if g != nil && cut {
		b.snapshot.Loss = "it ends within a goroutine: what comes behind is missing"
	}
	if err := done(); err != nil {
		return err
	}
	if b.snapshot.Total == 0 {
		return notGoroutines("it has no goroutine")
	}
	return nil
}
