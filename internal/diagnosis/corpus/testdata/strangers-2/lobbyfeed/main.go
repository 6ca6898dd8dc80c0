package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
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

	"golang.org/x/sync/errgroup"
)

type card struct {
	Player int    `json:"player"`
	Name   string `json:"name"`
	Level  int    `json:"level"`
	Badge  string `json:"badge"`
}

// profiles reads player cards from the profile service.
type profiles struct {
	base string
	hc   *http.Client
}

func (p *profiles) card(ctx context.Context, id int) (card, error) {
	var c card
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/card?id=%d", p.base, id), nil)
	if err != nil {
		return c, err
	}
	res, err := p.hc.Do(req)
	if err != nil {
		return c, err
	}
	defer res.Body.Close()
	return c, json.NewDecoder(res.Body).Decode(&c)
}

// lobby holds what the lobby screen shows.
type lobby struct {
	profiles *profiles
	mu       sync.Mutex
	online   []int
	cards    []card
	asOf     time.Time
}

func (l *lobby) players() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]int(nil), l.online...)
}

// refresh reads the card of everyone online and swaps in the new screen.
func (l *lobby) refresh(ctx context.Context) error {
	ids := l.players()
	next := make([]card, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	for i, id := range ids {
		g.Go(func() error {
			c, err := l.profiles.card(ctx, id)
			if err != nil {
				return fmt.Errorf("card %d: %w", id, err)
			}
			next[i] = c
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	l.mu.Lock()
	l.cards, l.asOf = next, time.Now()
	l.mu.Unlock()
	return nil
}

func (l *lobby) keepFresh(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.refresh(ctx); err != nil {
			log.Println("lobby:", err)
		}
		time.Sleep(150 * time.Millisecond)
	}
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		profileService()
		return
	}
	runtime.GOMAXPROCS(2)
	serveDebug()
	in, addr := spawn("profile-service")
	l := &lobby{profiles: &profiles{base: "http://" + addr, hc: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxIdleConns: 64}}}}
	for id := range 1500 {
		l.online = append(l.online, 10_000+id)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /lobby", func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		cards := l.cards
		l.mu.Unlock()
		json.NewEncoder(w).Encode(cards[:min(50, len(cards))])
	})
	fmt.Fprintln(in, serve(mux))
	go l.keepFresh(context.Background())
	untilTerminated(in)
}

// profileService plays the profile service: 40 database connections, 50 ms a card.
func profileService() {
	runtime.GOMAXPROCS(1)
	conns := make(chan struct{}, 40)
	addr := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conns <- struct{}{}
		time.Sleep(50 * time.Millisecond)
		<-conns
		id, _ := strconv.Atoi(r.URL.Query().Get("id"))
		json.NewEncoder(w).Encode(card{Player: id, Name: "player", Level: id % 90, Badge: "gold"})
	}))
	fmt.Println(strings.TrimPrefix(addr, "http://"))
	base := attach()
	for {
		if res, err := http.Get(base + "/lobby"); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
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
