// Command trace measures the reader of execution traces beside
// golang.org/x/exp/trace, which go tool trace is made of, and go tool trace itself,
// in one run: events per second with one and with four workers, the index, and
// everything that a diagnosis and a timeline need. Every measurement is a process
// of its own, so that its memory is its own. Of go tool trace it is the time from
// its start to the first byte of the timeline's JSON, of the first 10 MB alone and
// once: it keeps a hundred times that in memory.
//
//	go run ./bench/trace
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	runtimetrace "runtime/trace"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	exptrace "golang.org/x/exp/trace"

	"github.com/opscenter/opscenter/bench/internal/measure"
	"github.com/opscenter/opscenter/internal/trace"
)

func main() {
	short := flag.Bool("short", false, "a small trace, one round")
	file := flag.String("file", "", "measure with this trace instead of one made now")
	record := flag.String("record", "", "write a trace of -size MB to this file and exit")
	size := flag.Int("size", 100, "MB of the trace that is made")
	child := flag.String("child", "", "measure one thing with -file and exit")
	workers := flag.Int("workers", 1, "of -child")
	flag.Parse()
	var err error
	switch {
	case *record != "":
		err = writeTrace(*record, int64(*size)<<20)
	case *child != "":
		err = measureOne(*child, *file, *workers)
	default:
		err = run(context.Background(), *file, *size, *short)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// writeTrace records a web service with a lock, a queue and short goroutines until
// the trace has its size.
func writeTrace(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := &counter{w: bufio.NewWriterSize(f, 1<<20)}
	if err := runtimetrace.Start(w); err != nil {
		return err
	}
	var mu sync.Mutex
	queue := make(chan int, 8)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { queue <- i })
		}
		wg.Wait()
		mu.Lock()
		_ = make([]byte, 16<<10)
		mu.Unlock()
		fmt.Fprint(w, "hello")
	}))
	defer srv.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-queue:
				case <-stop:
					return
				}
			}
		})
	}
	var callers sync.WaitGroup
	client := srv.Client()
	for range 64 {
		callers.Go(func() {
			for w.n.Load() < size {
				resp, err := client.Get(srv.URL) //nolint:noctx // the server is ours
				if err != nil {
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close() // the body of our own server
			}
		})
	}
	callers.Wait()
	close(stop)
	wg.Wait()
	runtimetrace.Stop()
	return errors.Join(w.w.Flush(), f.Close())
}

type counter struct {
	w *bufio.Writer
	n atomic.Int64
}

func (c *counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.w.Write(b)
}

// result is what a child measured.
type result struct {
	Events      int64
	Wall, CPU   time.Duration
	Anon, Total int64 // bytes of RSS: what is not the mapped file, all of it; the peak
}

func measureOne(what, file string, workers int) error {
	runtime.GOMAXPROCS(workers)
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	stopSampling, peak := make(chan struct{}), make(chan int64)
	go func() { peak <- sampleAnon(stopSampling) }()
	before, start := measure.Used().CPU, time.Now()
	n, err := read(what, f, info.Size(), workers)
	r := result{Events: n, Wall: time.Since(start), CPU: measure.Used().CPU - before, Total: measure.Used().Peak}
	close(stopSampling)
	r.Anon = max(<-peak, anon())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func read(what string, f *os.File, size int64, workers int) (events int64, err error) {
	ctx := context.Background()
	switch what {
	case "index":
		ix, err := trace.ReadIndex(f, size)
		return int64(len(ix.Generations)), err
	case "stock":
		r, err := exptrace.NewReader(bufio.NewReaderSize(f, 1<<20))
		if err != nil {
			return 0, err
		}
		for {
			if _, err := r.ReadEvent(); errors.Is(err, io.EOF) {
				return events, nil
			} else if err != nil {
				return events, err
			}
			events++
		}
	}
	t, err := trace.Open(f, size)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	switch what {
	case "events":
		var n atomic.Int64
		next := make(chan int)
		errs := make(chan error, workers)
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				// With room around it: a count beside another worker's would be
				// what is measured.
				room := make([]int64, 64)
				count := &room[32]
				for i := range next {
					*count = 0
					if err := t.Events(ctx, i, func(*trace.Event) bool { *count++; return true }); err != nil {
						select {
						case errs <- err:
						default:
						}
					}
					n.Add(*count)
				}
			})
		}
		for i := range t.Index().Generations {
			next <- i
		}
		close(next)
		wg.Wait()
		close(errs)
		return n.Load(), <-errs
	case "analyze":
		a, err := t.Analyze(ctx, trace.Options{Workers: workers})
		if err != nil {
			return 0, err
		}
		return a.Events, nil
	case "locks":
		c, err := t.Locks(ctx)
		return int64(len(c)), err
	case "query":
		a, err := t.Analyze(ctx, trace.Options{Workers: workers})
		if err != nil {
			return 0, err
		}
		q := trace.Query{Columns: 1400, From: t.Duration() / 2, To: t.Duration()/2 + 100*time.Millisecond}
		for _, x := range a.Timeline.Tracks() {
			q.Tracks = append(q.Tracks, x.TrackID)
		}
		start := time.Now()
		_, err = a.Timeline.Query(ctx, q)
		return time.Since(start).Microseconds(), err
	}
	return 0, fmt.Errorf("nothing is called %q", what)
}

// sampleAnon is the peak of the memory that is not the file's until told to stop.
func sampleAnon(stop <-chan struct{}) (peak int64) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return peak
		case <-tick.C:
			peak = max(peak, anon())
		}
	}
}

func anon() int64 { return status(os.Getpid(), "RssAnon:") }

// firstPart writes the generations of the first 10 MB of a trace to a file beside
// it.
func firstPart(file string) (part string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	ix, err := trace.ReadIndex(f, info.Size())
	if err != nil {
		return "", err
	}
	out, err := os.CreateTemp("", "bench-trace-part")
	if err != nil {
		return "", err
	}
	first := ix.Windows(10 << 20)[0]
	return out.Name(), errors.Join(ix.Cut(out, f, first.From, first.To), out.Close())
}

// one measures one thing in a process of its own.
func one(ctx context.Context, child string, workers int, file string) (r result, err error) {
	if child == toolTrace {
		return goToolTrace(ctx, file)
	}
	cmd, err := measure.Again(ctx, "-child", child, "-workers", strconv.Itoa(workers), "-file", file)
	if err != nil {
		return r, err
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, err
	}
	if child == "query" {
		r.Wall, r.CPU = time.Duration(r.Events)*time.Microsecond, 0
	}
	return r, nil
}

func run(ctx context.Context, file string, size int, short bool) error {
	rounds := 5
	if short {
		rounds, size = 1, min(size, 20)
	}
	if file == "" {
		dir, err := os.MkdirTemp("", "bench-trace")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		file = filepath.Join(dir, "trace")
		cmd, err := measure.Again(ctx, "-record", file, "-size", strconv.Itoa(size))
		if err != nil {
			return err
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("record a trace: %w: %s", err, out)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	part, err := firstPart(file)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(part) }()
	type way struct {
		name, child string
		workers     int
	}
	ways := []way{
		{"golang.org/x/exp/trace", "stock", 1},
		{"**own, events**, 1 worker", "events", 1},
		{"**own, events**, 4 workers", "events", 4},
		{"**own, all states and timeline**, 1 worker", "analyze", 1},
		{"**own, all states and timeline**, 4 workers", "analyze", 4},
		{"own, locks", "locks", 1},
		{"own, index", "index", 1},
		{"own, one window of 100 ms", "query", 4},
		{"the first 10 MB: go tool trace", toolTrace, 4},
		{"the first 10 MB: **own, all states and timeline**", "analyze", 4},
	}
	ofPart := func(i int) bool { return i >= len(ways)-2 }
	all := make([][]result, len(ways))
	fmt.Println(measure.Machine())
	for round := range rounds {
		for i, w := range ways {
			of := file
			if ofPart(i) {
				if round > 0 {
					continue
				}
				of = part
			}
			r, err := one(ctx, w.child, w.workers, of)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			all[i] = append(all[i], r)
		}
	}
	fmt.Printf("\n%d MB, %.1f million events, median of %d\n\n", info.Size()>>20, float64(all[0][0].Events)/1e6, rounds)
	var t measure.Table
	t.Row("way", "s", "million events/s", "× x/exp", "CPU-s", "× less CPU", "peak RSS MB", "without the file")
	median := func(i int, of func(result) float64) float64 {
		var v []float64
		for _, r := range all[i] {
			v = append(v, of(r))
		}
		return measure.Median(v)
	}
	stock := median(0, func(r result) float64 { return r.Wall.Seconds() })
	stockCPU := median(0, func(r result) float64 { return r.CPU.Seconds() })
	for i, w := range ways {
		s := median(i, func(r result) float64 { return r.Wall.Seconds() })
		speed, ratio, less := "", "", ""
		used := median(i, func(r result) float64 { return r.CPU.Seconds() })
		if w.child == "stock" || w.child == "events" || w.child == "analyze" && !ofPart(i) {
			speed = fmt.Sprintf("%.1f", median(i, func(r result) float64 { return float64(r.Events) })/s/1e6)
			ratio, less = fmt.Sprintf("%.1f", stock/s), fmt.Sprintf("%.1f", stockCPU/used)
		}
		cpu := fmt.Sprintf("%.2f", used)
		if w.child == "query" {
			cpu = ""
		}
		t.Row(w.name, fmt.Sprintf("%.3f", s), speed, ratio, cpu, less,
			fmt.Sprintf("%.0f", median(i, func(r result) float64 { return float64(r.Total) })/(1<<20)),
			fmt.Sprintf("%.0f", median(i, func(r result) float64 { return float64(r.Anon) })/(1<<20)))
	}
	t.Print(os.Stdout)
	return nil
}
