// Command verdict measures how long after a window's end its diagnosis is there,
// and what it takes: of a busy service, captured whole for ten seconds. The
// service is a process of its own, and so is the one that diagnoses, so that
// their memory is their own.
//
//	go run ./bench/verdict
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/opscenter/opscenter/bench/internal/measure"
	"github.com/opscenter/opscenter/internal/examine"
)

func main() {
	child := flag.String("child", "", "be the service, or diagnose -dir, and exit")
	dir := flag.String("dir", "", "of -child diagnose")
	rounds := flag.Int("rounds", 3, "captures")
	flag.Parse()
	var err error
	switch *child {
	case "service":
		err = serve()
	case "diagnose":
		err = diagnose(*dir)
	default:
		err = run(context.Background(), *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve is a service that decodes, sorts, locks, queues and answers for as long
// as its parent lives, on two processors, with block and mutex profiling on.
func serve() error {
	runtime.GOMAXPROCS(2)
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	var mu sync.Mutex
	seen := map[int]int{}
	jobs := make(chan []int, 16)
	for range 8 {
		go func() {
			for j := range jobs {
				sort.Ints(j)
			}
		}()
	}
	mux.HandleFunc("/play", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Moves []int }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		for _, m := range in.Moves {
			seen[m%1000]++
		}
		n := len(seen)
		mu.Unlock()
		jobs <- in.Moves
		_ = json.NewEncoder(w).Encode(map[string]int{"seen": n}) // the caller is this process
	})
	go func() { _ = http.Serve(ln, mux) }() //nolint:gosec // on loopback, for as long as the parent measures
	url := "http://" + ln.Addr().String()
	for i := range 64 {
		go play(url, i)
	}
	return measure.Answer(url, func(string) (any, error) { return nil, nil })
}

func play(url string, seed int) {
	moves := make([]int, 64)
	for {
		for i := range moves {
			seed = seed*1103515245 + 12345
			moves[i] = seed >> 16 & 0x7fff
		}
		body, err := json.Marshal(map[string][]int{"Moves": moves})
		if err != nil {
			return
		}
		r, w := io.Pipe()
		go func() { _, err := w.Write(body); _ = w.CloseWithError(err) }()
		resp, err := http.Post(url+"/play", "application/json", r) //nolint:noctx,gosec // to ourselves
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close() // the body of our own server
	}
}

type cost struct {
	Seconds, CPUSeconds float64
	PeakBytes           int64
	Findings            int
}

func diagnose(dir string) error {
	began := time.Now()
	res, err := examine.Paths(context.Background(), []string{dir}, examine.Options{})
	if err != nil {
		return err
	}
	u := measure.Used()
	return json.NewEncoder(os.Stdout).Encode(cost{time.Since(began).Seconds(), u.CPU.Seconds(), u.Peak, len(res.Diagnoses[0].Findings)})
}

func run(ctx context.Context, rounds int) error {
	machine := measure.Machine()
	cmd, err := measure.Again(ctx, "-child", "service")
	if err != nil {
		return err
	}
	service, url, err := measure.Start(cmd)
	if err != nil {
		return err
	}
	defer service.Kill()
	time.Sleep(2 * time.Second) // until the load is steady
	var after, wall, cpu []float64
	var peak, size int64
	base, err := os.MkdirTemp("", "verdict-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base) //nolint:errcheck // a temporary directory
	for n := range rounds {
		dir := filepath.Join(base, strconv.Itoa(n))
		began := time.Now()
		if _, err := examine.Live(ctx, url+"/debug/pprof", examine.Options{Duration: examine.DefaultDuration, Keep: dir}); err != nil {
			return err
		}
		after = append(after, (time.Since(began) - examine.DefaultDuration).Seconds())
		c, err := inChild(ctx, dir)
		if err != nil {
			return err
		}
		wall, cpu, peak = append(wall, c.Seconds), append(cpu, c.CPUSeconds), max(peak, c.PeakBytes)
		size = max(size, sizeOf(dir))
	}
	fmt.Printf("%s\n\n%d windows of %v, up to %.0f MB each\n\n", machine, rounds, examine.DefaultDuration, float64(size)/1e6)
	var t measure.Table
	t.Row("what", "seconds", "CPU s", "peak RSS")
	t.Row("**from the window's end to the verdict**, collection included", fmt.Sprintf("%.2f", measure.Median(after)), "", "")
	t.Row("the diagnosis alone, in a process of its own", fmt.Sprintf("%.2f", measure.Median(wall)), fmt.Sprintf("%.2f", measure.Median(cpu)), fmt.Sprintf("%.0f MB", float64(peak)/1e6))
	t.Print(os.Stdout)
	return nil
}

func inChild(ctx context.Context, dir string) (c cost, err error) {
	cmd, err := measure.Again(ctx, "-child", "diagnose", "-dir", dir)
	if err != nil {
		return c, err
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return c, errors.Join(errors.New("diagnosing in a child"), err)
	}
	return c, json.Unmarshal(out, &c)
}

func sizeOf(dir string) (n int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil {
			n += info.Size()
		}
	}
	return n
}
