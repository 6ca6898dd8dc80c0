package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type Badge struct {
	Code  string `json:"code"`
	Since int64  `json:"since"`
}

type Entry struct {
	Rank     int               `json:"rank"`
	PlayerID int64             `json:"player_id"`
	Nick     string            `json:"nick"`
	Score    int64             `json:"score"`
	Region   string            `json:"region"`
	Badges   []Badge           `json:"badges"`
	Meta     map[string]string `json:"meta"`
}

type Season struct {
	Name    string    `json:"name"`
	Updated time.Time `json:"updated"`
	Entries []Entry   `json:"entries"`
}

type SeasonStore struct {
	current atomic.Pointer[Season]
}

func (s *SeasonStore) Current() *Season { return s.current.Load() }

func (s *SeasonStore) rebuild() {
	se := &Season{Name: "S14", Updated: time.Now()}
	for i := range 1500 {
		se.Entries = append(se.Entries, Entry{
			Rank: i + 1, PlayerID: int64(70000 + i), Nick: fmt.Sprintf("玩家%04d", i), Score: int64(900000 - i*311),
			Region: "tw", Badges: []Badge{{"early", 1690000000}, {"top", 1700000000}},
			Meta: map[string]string{"guild": fmt.Sprintf("g%d", i%40), "frame": "gold"},
		})
	}
	s.current.Store(se)
}

type BoardService struct{ store *SeasonStore }

func (b *BoardService) Page(region string) ([]byte, error) {
	season := b.store.Current()
	view := Season{Name: season.Name, Updated: season.Updated}
	for _, e := range season.Entries {
		if region == "" || e.Region == region {
			view.Entries = append(view.Entries, e)
		}
	}
	return encode(view)
}

func encode[T any](v T) ([]byte, error) {
	return json.Marshal(v)
}

type boardHandler struct{ svc *BoardService }

func (h *boardHandler) top(w http.ResponseWriter, r *http.Request) {
	body, err := h.svc.Page(r.URL.Query().Get("region"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(body)
}

func main() {
	// agent-hook
	if len(os.Args) > 1 && os.Args[1] == "traffic" {
		runTraffic(os.Args[2])
		return
	}
	runtime.GOMAXPROCS(2) // two-core pod
	startDiagnostics()
	store := &SeasonStore{}
	store.rebuild()
	go func() {
		for range time.Tick(time.Minute) {
			store.rebuild()
		}
	}()
	h := &boardHandler{svc: &BoardService{store: store}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /season/top", h.top)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	if _, err := launch("traffic", "http://"+ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	awaitShutdown()
}

func runTraffic(base string) {
	announce("ready")
	for range 2 {
		go func() {
			for {
				resp, err := http.Get(base + "/season/top?region=tw")
				if err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(rand.IntN(2)) * time.Millisecond)
			}
		}()
	}
	select {}
}

func startDiagnostics() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	go func() {
		if err := http.ListenAndServe(addr, nil); err != nil {
			log.Printf("diagnostics listener: %v", err)
		}
	}()
}

func awaitShutdown() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, os.Interrupt)
	<-sig
	log.Print("shutting down")
}

var children []*exec.Cmd

// launch starts this binary in another role and returns the first line the
// child prints, normally the address it listens on.
func launch(args ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(exe, args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OPS_CENTER") && !strings.HasPrefix(kv, "PPROF_ADDR=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Stderr = os.Stderr
	if _, err = cmd.StdinPipe(); err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	children = append(children, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), err
}

// announce tells the parent where we are and ties our lifetime to it.
func announce(line string) {
	fmt.Println(line)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}
