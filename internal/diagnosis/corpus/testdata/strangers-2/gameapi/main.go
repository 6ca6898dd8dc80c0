package main

import (
	"bufio"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"html/template"
	"io"
	"log"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
)

type player struct {
	ID      int            `json:"id"`
	Name    string         `json:"name"`
	Level   int            `json:"level"`
	Coins   int64          `json:"coins"`
	Tags    []string       `json:"tags"`
	Stats   map[string]int `json:"stats"`
	Created time.Time      `json:"created"`
}

type world struct {
	mu      sync.RWMutex
	players map[int]*player
	secret  []byte
}

func newWorld() *world {
	w := &world{players: map[int]*player{}, secret: []byte("7c1f0e9a")}
	for i := range 20_000 {
		w.players[i] = &player{
			ID: i, Name: fmt.Sprintf("player-%04d", i), Level: i % 80, Coins: int64(i) * 13,
			Tags:    []string{"tw", "vip", "season-9"},
			Stats:   map[string]int{"won": i % 31, "lost": i % 17, "drawn": i % 7, "streak": i % 5},
			Created: time.Unix(1700000000+int64(i), 0).UTC(),
		}
	}
	return w
}

func (w *world) find(r *http.Request) player {
	id, _ := strconv.Atoi(r.PathValue("id"))
	w.mu.RLock()
	defer w.mu.RUnlock()
	return *w.players[id%20000]
}

func reply(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json")
	json.NewEncoder(rw).Encode(v)
}

func (w *world) handleProfile(rw http.ResponseWriter, r *http.Request) { reply(rw, w.find(r)) }

func (w *world) handleRename(rw http.ResponseWriter, r *http.Request) {
	var in struct{ Name string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	id, _ := strconv.Atoi(r.PathValue("id"))
	w.mu.Lock()
	w.players[id%20000].Name = in.Name
	w.mu.Unlock()
	reply(rw, w.find(r))
}

func (w *world) handlePage(rw http.ResponseWriter, r *http.Request) {
	p := w.find(r)
	list := make([]player, 0, 24)
	w.mu.RLock()
	for i := range 24 {
		list = append(list, *w.players[(p.ID+i)%20000])
	}
	w.mu.RUnlock()
	slices.SortFunc(list, func(a, b player) int { return cmp.Compare(b.Coins, a.Coins) })
	reply(rw, list)
}

func (w *world) handleTicket(rw http.ResponseWriter, r *http.Request) {
	p := w.find(r)
	mac := hmac.New(sha256.New, w.secret)
	fmt.Fprintf(mac, "%d|%s|%d", p.ID, p.Name, p.Level)
	reply(rw, map[string]string{"ticket": base64.RawURLEncoding.EncodeToString(mac.Sum(nil))})
}

func (w *world) handleCard(rw http.ResponseWriter, r *http.Request) {
	p := w.find(r)
	tmpl.Execute(rw, p)
}

var tmpl = template.Must(template.New("card").Parse(`<b>{{.Name}}</b> level {{.Level}}{{range .Tags}} <i>{{.}}</i>{{end}}`))

func (w *world) handleExport(rw http.ResponseWriter, r *http.Request) {
	p := w.find(r)
	cw := csv.NewWriter(rw)
	for _, k := range slices.Sorted(maps.Keys(p.Stats)) {
		cw.Write([]string{p.Name, k, strconv.Itoa(p.Stats[k])})
	}
	cw.Flush()
}

func (w *world) handleBatch(rw http.ResponseWriter, r *http.Request) {
	var ops []struct {
		ID    int
		Coins int64
	}
	if err := json.NewDecoder(r.Body).Decode(&ops); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	for _, op := range ops {
		w.players[op.ID%20000].Coins += op.Coins
	}
	w.mu.Unlock()
	reply(rw, map[string]int{"applied": len(ops)})
}

func (w *world) handleChecksum(rw http.ResponseWriter, r *http.Request) {
	p := w.find(r)
	b, _ := json.Marshal(p)
	reply(rw, map[string]uint32{"crc": crc32.ChecksumIEEE(b)})
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		players()
		return
	}
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(300)
	serveDebug()
	w := newWorld()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /player/{id}", w.handleProfile)
	mux.HandleFunc("PATCH /player/{id}", w.handleRename)
	mux.HandleFunc("GET /player/{id}/page", w.handlePage)
	mux.HandleFunc("GET /player/{id}/ticket", w.handleTicket)
	mux.HandleFunc("GET /player/{id}/card", w.handleCard)
	mux.HandleFunc("GET /player/{id}/export", w.handleExport)
	mux.HandleFunc("GET /player/{id}/checksum", w.handleChecksum)
	mux.HandleFunc("POST /batch", w.handleBatch)
	in, _ := spawn("players")
	fmt.Fprintln(in, serve(mux))
	untilTerminated(in)
}

func players() {
	runtime.GOMAXPROCS(1)
	fmt.Println("ready")
	base := attach()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	call := func(method, path, body string) {
		req, _ := http.NewRequest(method, base+path, strings.NewReader(body))
		if res, err := hc.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	for range 54 {
		go func() {
			for {
				id := rand.IntN(20_000)
				switch rand.IntN(8) {
				case 0:
					call("GET", fmt.Sprintf("/player/%d", id), "")
				case 1:
					call("PATCH", fmt.Sprintf("/player/%d", id), `{"Name":"renamed"}`)
				case 2:
					call("GET", fmt.Sprintf("/player/%d/page", id), "")
				case 3:
					call("GET", fmt.Sprintf("/player/%d/ticket", id), "")
				case 4:
					call("GET", fmt.Sprintf("/player/%d/card", id), "")
				case 5:
					call("GET", fmt.Sprintf("/player/%d/export", id), "")
				case 6:
					call("GET", fmt.Sprintf("/player/%d/checksum", id), "")
				case 7:
					call("POST", "/batch", `[{"ID":1,"Coins":5},{"ID":7,"Coins":-2},{"ID":90,"Coins":11}]`)
				}
				time.Sleep(time.Duration(1+rand.IntN(4)) * time.Millisecond)
			}
		}()
	}
	select {}
}

// spawn starts this binary again in another role and returns its stdin and the
// first line it prints. Closing stdin ends it.
func spawn(role string) (io.WriteCloser, string) {
	exe, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	cmd := exec.Command(exe, role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		log.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		log.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	return in, strings.TrimSpace(line)
}

// serve runs the public API on a free port and returns its base URL.
func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, h)
	return "http://" + ln.Addr().String()
}

func serveDebug() {
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
}

func untilTerminated(keep ...io.Closer) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
	for _, c := range keep {
		c.Close()
	}
}

// attach reads the base URL of the service from the parent, and ends this
// process when the parent goes away.
func attach() string {
	sc := bufio.NewScanner(os.Stdin)
	sc.Scan()
	base := sc.Text()
	go func() {
		for sc.Scan() {
		}
		os.Exit(0)
	}()
	return base
}
