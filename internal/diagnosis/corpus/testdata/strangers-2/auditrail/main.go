package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
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

type entry struct {
	Player int64
	Amount int64
	Reason string
}

// wallets keeps balances in memory; the regulator's trail goes out as JSON lines.
type wallets struct {
	shards [16]struct {
		mu  sync.Mutex
		bal map[int64]int64
	}
	trail *slog.Logger
}

func newWallets(trail *slog.Logger) *wallets {
	w := &wallets{trail: trail}
	for i := range w.shards {
		w.shards[i].bal = map[int64]int64{}
	}
	return w
}

func (w *wallets) apply(ctx context.Context, e entry) int64 {
	sh := &w.shards[e.Player%16]
	sh.mu.Lock()
	sh.bal[e.Player] += e.Amount
	bal := sh.bal[e.Player]
	sh.mu.Unlock()
	w.note(ctx, e, bal)
	return bal
}

func (w *wallets) note(ctx context.Context, e entry, bal int64) {
	w.trail.LogAttrs(ctx, slog.LevelInfo, "wallet",
		slog.Int64("player", e.Player),
		slog.Int64("amount", e.Amount),
		slog.Int64("balance", bal),
		slog.String("reason", e.Reason),
		slog.Group("client", slog.String("app", "lobby-android-7.4.1"), slog.String("region", "tw-north-1")))
}

func (w *wallets) routes() http.Handler {
	mux := http.NewServeMux()
	move := func(reason string, sign int64) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			player, _ := strconv.ParseInt(r.PathValue("player"), 10, 64)
			amount, _ := strconv.ParseInt(r.FormValue("amount"), 10, 64)
			fmt.Fprint(rw, w.apply(r.Context(), entry{player, sign * amount, reason}))
		}
	}
	mux.HandleFunc("POST /debit/{player}", move("stake", -1))
	mux.HandleFunc("POST /credit/{player}", move("payout", 1))
	return mux
}

func main() {
	// agent-hook
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "shipper":
			shipper()
		default:
			players()
		}
		return
	}
	runtime.GOMAXPROCS(2)
	serveDebug()
	sink, _ := spawn("shipper")
	in, _ := spawn("players")
	w := newWallets(slog.New(slog.NewJSONHandler(sink, nil)))
	fmt.Fprintln(in, serve(w.routes()))
	untilTerminated(in, sink)
}

// shipper plays the sidecar that carries the trail to the regulator's bucket.
func shipper() {
	runtime.GOMAXPROCS(1)
	fmt.Println("ready")
	buf := make([]byte, 4096)
	for {
		if _, err := io.ReadFull(os.Stdin, buf); err != nil {
			return
		}
		time.Sleep(30 * time.Millisecond)
	}
}

func players() {
	runtime.GOMAXPROCS(1)
	fmt.Println("ready")
	base := attach()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
	for i := range 80 {
		go func() {
			for n := 0; ; n++ {
				path := "debit"
				if n%3 == 0 {
					path = "credit"
				}
				res, err := hc.Post(fmt.Sprintf("%s/%s/%d?amount=%d", base, path, i*97+n%50, n%200), "", nil)
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(25 * time.Millisecond)
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
