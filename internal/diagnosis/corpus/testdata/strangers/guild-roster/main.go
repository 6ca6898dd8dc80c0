package main

import (
	"bufio"
	"context"
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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type Member struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	Level int    `json:"level"`
}

type Roster struct {
	Guild   int      `json:"guild"`
	Members []Member `json:"members"`

	fetchedAt time.Time
}

type ProfileClient struct {
	base string
	http *http.Client
}

func (p *ProfileClient) Guild(ctx context.Context, id int) (*Roster, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/guilds/%d", p.base, id), nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r := &Roster{}
	if err := json.NewDecoder(resp.Body).Decode(r); err != nil {
		return nil, err
	}
	r.fetchedAt = time.Now()
	return r, nil
}

// RosterDirectory keeps the most recently seen rosters in memory.
type RosterDirectory struct {
	mu      sync.RWMutex
	ttl     time.Duration
	rosters map[int]*Roster
	origin  *ProfileClient
}

func (d *RosterDirectory) Lookup(ctx context.Context, id int) (*Roster, error) {
	d.mu.RLock()
	r, ok := d.rosters[id]
	d.mu.RUnlock()
	if ok && time.Since(r.fetchedAt) < d.ttl {
		return r, nil
	}
	return d.refresh(ctx, id)
}

func (d *RosterDirectory) refresh(ctx context.Context, id int) (*Roster, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, ok := d.rosters[id]; ok && time.Since(r.fetchedAt) < d.ttl {
		return r, nil
	}
	r, err := d.origin.Guild(ctx, id)
	if err != nil {
		return nil, err
	}
	d.rosters[id] = r
	return r, nil
}

type GuildService struct{ directory *RosterDirectory }

func (s *GuildService) AverageLevel(ctx context.Context, id int) (float64, error) {
	r, err := s.directory.Lookup(ctx, id)
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, m := range r.Members {
		sum += m.Level
	}
	return float64(sum) / float64(max(1, len(r.Members))), nil
}

func lobbyTraffic(svc *GuildService) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if _, err := svc.AverageLevel(ctx, rand.IntN(120)); err != nil {
			log.Printf("guild card: %v", err)
		}
		cancel()
		time.Sleep(time.Duration(5+rand.IntN(15)) * time.Millisecond)
	}
}

func main() {
	// agent-hook
	if len(os.Args) > 1 && os.Args[1] == "downstream" {
		runProfiles()
		return
	}
	startDiagnostics()
	addr, err := launch("downstream")
	if err != nil {
		log.Fatal(err)
	}
	svc := &GuildService{directory: &RosterDirectory{
		ttl:     2 * time.Second,
		rosters: map[int]*Roster{},
		origin:  &ProfileClient{base: "http://" + addr, http: &http.Client{Timeout: 5 * time.Second}},
	}}
	for range 40 {
		go lobbyTraffic(svc)
	}
	awaitShutdown()
}

func runProfiles() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce(ln.Addr().String())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /guilds/{id}", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(70+rand.IntN(40)) * time.Millisecond)
		id, _ := strconv.Atoi(r.PathValue("id"))
		out := Roster{Guild: id}
		for i := range 30 {
			out.Members = append(out.Members, Member{ID: int64(id*100 + i), Name: fmt.Sprintf("m%d", i), Level: 1 + i%60})
		}
		json.NewEncoder(w).Encode(out)
	})
	log.Fatal(http.Serve(ln, mux))
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
