// chat-moderation checks chat lines against the words each room does not allow
// before they are shown to others.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

type message struct {
	Room   string `json:"room"`
	Player string `json:"player"`
	Text   string `json:"text"`
}

type verdict struct {
	Allowed bool   `json:"allowed"`
	Text    string `json:"text"`
	Hits    int    `json:"hits"`
}

// policy is what one room does not want to read.
type policy struct {
	words []string
	links bool
}

func (p policy) clean(text string) (string, int) {
	hits := 0
	for _, w := range p.words {
		re := regexp.MustCompile(`(?i)\b` + regexp.QuoteMeta(w) + `(s|er|ing)?\b`) // want: cpu-hot-path
		text = re.ReplaceAllStringFunc(text, func(m string) string {
			hits++
			return strings.Repeat("*", len(m))
		})
	}
	if !p.links && strings.Contains(text, "http") {
		hits++
	}
	return text, hits
}

// directory gives out the current policies; they are replaced as a whole.
type directory struct {
	byRoom atomic.Pointer[map[string]policy]
}

func (d *directory) load(rooms int) {
	m := make(map[string]policy, rooms)
	for i := range rooms {
		p := policy{links: i%3 == 0}
		for j := range 180 {
			p.words = append(p.words, fmt.Sprintf("word%d%c%c", j, 'a'+i%26, 'k'+j%13))
		}
		m[fmt.Sprintf("room-%d", i)] = p
	}
	d.byRoom.Store(&m)
}

func (d *directory) room(name string) (policy, bool) {
	p, ok := (*d.byRoom.Load())[name]
	return p, ok
}

type moderator struct {
	dir     *directory
	checked atomic.Int64
	blocked atomic.Int64
}

func (m *moderator) check(msg message) verdict {
	m.checked.Add(1)
	p, ok := m.dir.room(msg.Room)
	if !ok {
		return verdict{Allowed: true, Text: msg.Text}
	}
	text, hits := p.clean(msg.Text)
	if hits > 2 {
		m.blocked.Add(1)
	}
	return verdict{Allowed: hits <= 2, Text: text, Hits: hits}
}

func (m *moderator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var msg message
	if err := json.NewDecoder(r.Body).Decode(&msg); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m.check(msg))
}

func gateway(url string, rooms, writers int) {
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}, Timeout: 10 * time.Second}
	say := func(msg message) {
		b, _ := json.Marshal(msg)
		resp, err := hc.Post(url, "application/json", bytes.NewReader(b))
		if err != nil {
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	for i := range writers {
		go func() {
			for n := 0; ; n++ {
				room := rand.IntN(rooms)
				say(message{
					Room:   fmt.Sprintf("room-%d", room),
					Player: fmt.Sprintf("p%d", i),
					Text:   fmt.Sprintf("gg everyone, that was word%dak close, next round in %d, good luck", n%180, n%7),
				})
				time.Sleep(time.Duration(10+rand.IntN(20)) * time.Millisecond)
			}
		}()
	}
}

func main() {
	const rooms = 50
	dir := &directory{}
	dir.load(rooms)
	go func() {
		for range time.Tick(20 * time.Second) {
			dir.load(rooms)
		}
	}()
	mod := &moderator{dir: dir}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mod)) }()
	gateway("http://"+ln.Addr().String()+"/check", rooms, 40)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
