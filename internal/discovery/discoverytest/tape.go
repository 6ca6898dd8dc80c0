package discoverytest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Tape is a server that says what a real backend once said, scene by scene. To
// make that anew it stands before the real one, passes every request on and keeps
// what comes back.
//
// A test plays the same in both ways: in each Scene something changes at the
// backend, and the test waits for what the source makes of it. An answer, or a
// line of one, is given in the scene in which it came; a request that the backend
// held is held. Requests are told apart by method, path and query, so that a
// source must go on from the index or version that it was told. What was never
// asked when it was recorded fails the test.
//
// Libraries that record read an answer to its end before they hand it on: a watch
// has none.
type Tape struct {
	*Server

	t        testing.TB
	file     string // to write; "" = none
	client   *http.Client
	from     string // URL of the real backend; "" = nobody is asked
	watchFor int    // Original's
	bearer   string // Original's

	mu      sync.Mutex // guards all below
	scene   int
	changed chan struct{} // closed when the scene is another
	said    recording
}

// Original is a real backend in front of which a Tape can stand.
type Original struct {
	URL    string
	Binary string // which program it is, and what it was built from
	Module string // whose version counts
	// WatchFor has it end watches after so many seconds, so that it is seen how; 0 =
	// as long as the source asks for.
	WatchFor int
	// Bearer is the token of who asks, for clients that show none but over TLS.
	Bearer string
}

type recording struct {
	From  string  `json:"from"` // module and version
	Takes []*take `json:"takes"`
}

// take is one request, in the order in which they were asked.
type take struct {
	Request  string            `json:"request"`
	Asked    int               `json:"asked"`              // in which scene
	Answered int               `json:"answered,omitempty"` // and what began then
	Status   int               `json:"status,omitempty"`   // 0 = nothing
	Header   map[string]string `json:"header,omitempty"`
	Said     []line            `json:"said,omitempty"`
	Ended    int               `json:"ended"`
	End      string            `json:"end"`

	used bool
}

type line struct {
	Scene int    `json:"scene"`
	Text  string `json:"text"`
}

// How a take ends: its answer was complete, the backend cut it, or who had asked
// went away.
const (
	done = "done"
	cut  = "cut"
	left = "left"
)

// told are the headers that mean something to a source.
var told = []string{"Content-Type", "X-Consul-Index", "X-Consul-Knownleader", "X-Consul-Lastcontact", "X-Consul-Results-Filtered-By-Acls"}

// PlayTape plays a file of testdata.
func PlayTape(t testing.TB, file string) *Tape {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &Tape{t: t, changed: make(chan struct{})}
	if err := json.Unmarshal(b, &p.said); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	p.Server = StartServer(t, http.HandlerFunc(p.play))
	return p
}

// RecordTape stands before a real backend and writes what was said to file, unless
// the test fails; "" = only to be there, so that the test sees the real one.
func RecordTape(t testing.TB, file string, o Original) *Tape {
	t.Helper()
	p := &Tape{t: t, file: file, from: o.URL, watchFor: o.WatchFor, bearer: o.Bearer, changed: make(chan struct{})}
	info, err := buildinfo.ReadFile(o.Binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range info.Deps {
		if d.Path == o.Module {
			p.said.From = d.Path + " " + d.Version
		}
	}
	p.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // its certificate is its own
		DisableKeepAlives: true, DisableCompression: true,
	}}
	t.Cleanup(p.save) // after the server's end
	p.Server = StartServer(t, http.HandlerFunc(p.record))
	return p
}

// BuiltFrom fails the test when what was recorded is another version than that
// which the variable of a script names: it is time to record it anew.
func (p *Tape) BuiltFrom(t testing.TB, script, variable string) {
	t.Helper()
	b, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(p.said.From, " ")
	if version == "" || !slices.Contains(strings.Fields(string(b)), variable+"="+version) {
		t.Errorf("recorded from %q, which is not the %s of %s: with OPS_BACKENDS, run this test with -record", p.said.From, variable, script)
	}
}

// Real reports whether the real backend is behind it.
func (p *Tape) Real() bool { return p.from != "" }

// Scene begins the next one, in which change happens at the real backend.
func (p *Tape) Scene(change func()) {
	p.next()
	if p.Real() {
		change()
	}
}

// Down begins a scene in which the backend is away, and nobody listens.
func (p *Tape) Down(kill func()) {
	p.next()
	p.Server.Kill(p.t)
	if p.Real() {
		kill()
	}
}

// Up begins the one in which it is back.
func (p *Tape) Up(start func()) {
	if p.Real() {
		start()
	}
	p.next()
	p.Server.Start(p.t)
}

func (p *Tape) next() {
	if p.Real() {
		time.Sleep(500 * time.Millisecond) // what follows the last change belongs to its scene
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scene++
	close(p.changed)
	p.changed = make(chan struct{})
}

// asked names a request. How long a watch may last is drawn by lot.
func asked(r *http.Request) string {
	q := r.URL.Query()
	q.Del("timeoutSeconds")
	return strings.TrimSuffix(r.Method+" "+r.URL.Path+"?"+q.Encode(), "?")
}

func (p *Tape) record(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	k := &take{Request: asked(r), Asked: p.scene, End: left}
	p.said.Takes = append(p.said.Takes, k)
	p.mu.Unlock()
	end := func(how string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		k.Ended, k.End = p.scene, how
	}
	broken := func() {
		if r.Context().Err() != nil {
			end(left)
			return
		}
		end(cut)
		panic(http.ErrAbortHandler)
	}
	u := *r.URL
	if q := u.Query(); p.watchFor > 0 && q.Has("timeoutSeconds") {
		q.Set("timeoutSeconds", strconv.Itoa(p.watchFor))
		u.RawQuery = q.Encode()
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, p.from+u.RequestURI(), r.Body)
	if err != nil {
		broken()
		return
	}
	req.Header = r.Header.Clone()
	req.Header.Del("Accept-Encoding")
	if p.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+p.bearer)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		broken()
		return
	}
	defer resp.Body.Close()
	p.mu.Lock()
	k.Answered, k.Status, k.Header = p.scene, resp.StatusCode, map[string]string{}
	for _, name := range told {
		if v := resp.Header.Get(name); v != "" {
			k.Header[name] = v
		}
	}
	begin(w, k)
	p.mu.Unlock()
	for lines := bufio.NewReader(resp.Body); ; {
		text, err := lines.ReadString('\n')
		if text != "" && (err == nil || errors.Is(err, io.EOF)) {
			p.mu.Lock()
			k.Said = append(k.Said, line{p.scene, text})
			p.mu.Unlock()
			say(w, text)
		}
		switch {
		case errors.Is(err, io.EOF):
			end(done)
			return
		case err != nil:
			broken()
			return
		}
	}
}

func begin(w http.ResponseWriter, k *take) {
	for name, v := range k.Header {
		w.Header().Set(name, v)
	}
	w.WriteHeader(k.Status)
	_ = http.NewResponseController(w).Flush()
}

func say(w http.ResponseWriter, text string) {
	_, _ = io.WriteString(w, text)
	_ = http.NewResponseController(w).Flush()
}

// save writes the file.
func (p *Tape) save() {
	p.client.CloseIdleConnections()
	if p.file == "" || p.t.Failed() {
		return
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(p.said); err != nil {
		p.t.Error(err)
		return
	}
	for _, secret := range []string{KubeAdmin, KubeStranger, ConsulToken} {
		if bytes.Contains(out.Bytes(), []byte(secret)) {
			p.t.Errorf("%s is not written: it would hold %s", p.file, secret)
			return
		}
	}
	if err := os.WriteFile(p.file, out.Bytes(), 0o644); err != nil {
		p.t.Error(err)
	}
}

func (p *Tape) play(w http.ResponseWriter, r *http.Request) {
	k, err := p.find(r.Context(), asked(r))
	if err != nil {
		p.t.Error(err)
		http.Error(w, err.Error(), http.StatusNotImplemented)
	}
	if k == nil {
		return
	}
	if k.Status != 0 {
		if !p.reach(r.Context(), k.Answered) {
			return
		}
		begin(w, k)
	}
	for _, l := range k.Said {
		if !p.reach(r.Context(), l.Scene) {
			return
		}
		say(w, l.Text)
	}
	if k.End == left { // held until who asks goes away
		<-r.Context().Done()
		return
	}
	if p.reach(r.Context(), k.Ended) && k.End == cut {
		panic(http.ErrAbortHandler)
	}
}

// find is the take that answers a request now, or once its scene comes; nil when
// who asks went away before.
func (p *Tape) find(ctx context.Context, request string) (*take, error) {
	for {
		p.mu.Lock()
		k, known := p.choose(request)
		changed := p.changed
		p.mu.Unlock()
		switch {
		case !known:
			return nil, fmt.Errorf("%s: was not asked of %s: record it anew", request, p.said.From)
		case k != nil:
			return k, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// choose is called with p.mu held. A source that is refused asks again as often as
// it likes; and what was over before it asked is not for it, if more came later.
func (p *Tape) choose(request string) (chosen *take, known bool) {
	var again, over *take
	for _, k := range p.said.Takes {
		if k.Request != request {
			continue
		}
		known = true
		lasting := k.End != done || k.Status >= 400
		switch {
		case k.Asked > p.scene:
			return again, true
		case lasting && k.Ended < p.scene:
			over = k
		case k.used && lasting:
			again = k
		case !k.used:
			k.used = true
			return k, true
		}
	}
	if again == nil {
		again = over // nothing else ever came
	}
	return again, known
}

// reach waits for a scene, and reports whether it came before ctx ended.
func (p *Tape) reach(ctx context.Context, scene int) bool {
	for {
		p.mu.Lock()
		now, changed := p.scene, p.changed
		p.mu.Unlock()
		if now >= scene {
			return ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// Said reports whether an answer contained this.
func (p *Tape) Said(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.said.Takes, func(k *take) bool {
		return slices.ContainsFunc(k.Said, func(l line) bool { return strings.Contains(l.Text, text) })
	})
}
