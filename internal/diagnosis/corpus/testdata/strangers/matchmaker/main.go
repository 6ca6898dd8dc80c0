package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
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
	"sync/atomic"
	"syscall"
	"time"
)

// Candidate is somebody waiting for an opponent. Regions is the preference
// list as the client sends it: "TW, JP, SG".
type Candidate struct {
	Player  int64
	Rating  float64
	Regions string
}

type Pairing struct {
	A, B  int64
	Score float64
}

type Pairer struct{ spread float64 }

func (p *Pairer) affinity(a, b Candidate) float64 {
	score := 1 / (1 + math.Abs(a.Rating-b.Rating)/p.spread)
	for i, ra := range strings.Split(strings.ToLower(a.Regions), ",") {
		for j, rb := range strings.Split(strings.ToLower(b.Regions), ",") {
			if strings.TrimSpace(ra) == strings.TrimSpace(rb) {
				score += 1 / float64(1+i+j)
			}
		}
	}
	return score
}

func (p *Pairer) Pair(pool []Candidate) []Pairing {
	taken := make([]bool, len(pool))
	var out []Pairing
	for i := range pool {
		if taken[i] {
			continue
		}
		best, at := -1.0, -1
		for j := i + 1; j < len(pool); j++ {
			if taken[j] {
				continue
			}
			if s := p.affinity(pool[i], pool[j]); s > best {
				best, at = s, j
			}
		}
		if at >= 0 {
			taken[i], taken[at] = true, true
			out = append(out, Pairing{pool[i].Player, pool[at].Player, best})
		}
	}
	return out
}

type Queue struct {
	pairer *Pairer
	rounds atomic.Int64
}

var regionLists = []string{"TW, JP, SG", "JP, KR, TW", "SG, HK", "HK, TW, SG, JP", "KR, JP"}

func (q *Queue) Run() {
	for {
		pool := make([]Candidate, 600)
		for i := range pool {
			pool[i] = Candidate{rand.Int64N(1 << 40), 1000 + rand.NormFloat64()*300, regionLists[rand.IntN(len(regionLists))]}
		}
		q.pairer.Pair(pool)
		q.rounds.Add(1)
		time.Sleep(8 * time.Millisecond)
	}
}

type Member struct {
	ID    int64 `json:"id"`
	Ready bool  `json:"ready"`
}

type MemberClient struct {
	base string
	http *http.Client
}

func (c *MemberClient) State(ctx context.Context, id int64) (Member, error) {
	var m Member
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/members/%d", c.base, id), nil)
	if err != nil {
		return m, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	return m, json.NewDecoder(resp.Body).Decode(&m)
}

type PartyService struct{ members *MemberClient }

// Ready tells whether everybody in the party has pressed the button.
func (p *PartyService) Ready(ctx context.Context, party []int64) (bool, error) {
	all := true
	for _, id := range party {
		m, err := p.members.State(ctx, id)
		if err != nil {
			return false, err
		}
		all = all && m.Ready
	}
	return all, nil
}

func (p *PartyService) poll(ctx context.Context) {
	for {
		base := rand.Int64N(1 << 30)
		if _, err := p.Ready(ctx, []int64{base, base + 1, base + 2, base + 3, base + 4}); err != nil {
			log.Printf("party: %v", err)
			time.Sleep(time.Second)
		}
	}
}

func main() {
	// agent-hook
	if len(os.Args) > 1 && os.Args[1] == "downstream" {
		runMembers()
		return
	}
	runtime.GOMAXPROCS(2) // two-core pod
	startDiagnostics()
	addr, err := launch("downstream")
	if err != nil {
		log.Fatal(err)
	}
	party := &PartyService{members: &MemberClient{base: "http://" + addr, http: &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	}}}
	for range 40 {
		go party.poll(context.Background())
	}
	go (&Queue{pairer: &Pairer{spread: 150}}).Run()
	awaitShutdown()
}

func runMembers() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce(ln.Addr().String())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /members/{id}", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(160+rand.IntN(80)) * time.Millisecond)
		id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
		json.NewEncoder(w).Encode(Member{ID: id, Ready: id%3 != 0})
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
