package waits

import (
	"regexp"

	"github.com/opscenter/opscenter/internal/evidence"
)

// A program often has a function of its own through which all calls of a service go:
// a client's do, and the Get and Post above it. The line in it that waits is the same
// for everything; what an engineer changes is who calls.

// relays are names that say how something is asked, and not what for.
var relays = regexp.MustCompile(`(?i)^(do|call|send|invoke|exec|execute|request|req|fetch|get|post|put|patch|delete|roundtrip)(json|http|request|req|raw|with\w*)?$`)

// callersOf counts the different functions of the program that call each of its
// functions with such a name, in whatever artifact they are seen.
func callersOf(e *evidence.Evidence) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	relay := map[*evidence.Frame]bool{} // a large profile has millions of frames, and few different ones
	note := func(s evidence.Stack) {
		for i, f := range s {
			if !own(f) {
				continue
			}
			is, known := relay[f]
			if !known {
				is = relays.MatchString(nameOf(f))
				relay[f] = is
			}
			if !is {
				continue
			}
			if k := s[i+1:].Index(own); k >= 0 {
				name := f.Plain()
				if out[name] == nil {
					out[name] = map[string]bool{}
				}
				out[name][s[i+1+k].Outer()] = true
			}
		}
	}
	if e.Trace != nil {
		for i := range e.Trace.Sites {
			note(e.Trace.Sites[i].Stack)
		}
	}
	for _, g := range []*evidence.Goroutines{e.Goroutines, e.GoroutinesBefore, e.Dump} {
		if g != nil {
			for i := range g.Groups {
				note(g.Groups[i].Stack)
			}
		}
	}
	for _, p := range []*evidence.Profile{e.CPU, e.Heap, e.Allocs} {
		if p != nil {
			for i := range p.Rows {
				note(p.Rows[i].Stack)
			}
		}
	}
	return out
}

// nameOf is a function's own name, without package and receiver.
func nameOf(f *evidence.Frame) string {
	name := f.Outer()
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' {
			return name[i+1:]
		}
	}
	return name
}

// asksOneByOne is who calls a function that by its name asks for one thing, where a
// request asks there again and again: the loop is the caller's, who could ask for all
// at once. nil = the line itself is as likely in the loop, or nothing is repeated.
func (p *place) asksOneByOne() *evidence.Frame {
	w := p.waits[0]
	if p.times == 0 || p.lines > 1 || w.at < 0 || w.stack[w.at] != p.user || !relays.MatchString(nameOf(p.user)) {
		return nil
	}
	above := w.stack[w.at+1:]
	k := above.Index(own)
	if k < 0 || above[:k].Index(inHandler) >= 0 {
		return nil
	}
	return above[k]
}

// asker is the frame that asks for something, of a stack whose frame at waits for
// the answer: the caller of functions that merely relay, if these are in a package of
// their own or several functions are seen to call them; else that frame.
func (v *view) asker(s evidence.Stack, at int) int {
	shared := false
	for i := at; i < len(s); {
		f := s[i]
		if !relays.MatchString(nameOf(f)) {
			if shared || f.Package != s[at].Package {
				return i
			}
			return at
		}
		shared = shared || len(v.callers[f.Plain()]) > 1
		k := s[i+1:].Index(own)
		if k < 0 || s[i+1:i+1+k].Index(inHandler) >= 0 {
			return at
		}
		i += 1 + k
	}
	return at
}
