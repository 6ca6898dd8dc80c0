// Command toolui measures the tool UIs against the stock tools in one run: the
// time and memory until the first flame graph of a 5 MB profile, twenty of them
// open at once, and the list and the first window of a 100 MB trace. Linux only.
//
//	go run ./bench/toolui
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/trace"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile/profiletest"
	"github.com/opscenter/opscenter/internal/toolui"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == toolui.ChildVerb {
		os.Exit(toolui.ChildMain(os.Args[2:]))
	}
	// Inputs are made by processes of their own, lest their memory be counted.
	makeProfile := flag.String("make-profile", "", "write the synthetic profile to this file and exit")
	makeTrace := flag.String("make-trace", "", "write a trace of 100 MB to this file and exit")
	flag.Parse()
	var err error
	switch {
	case *makeProfile != "":
		err = writeProfile(*makeProfile)
	case *makeTrace != "":
		err = writeTrace(*makeTrace)
	default:
		err = run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func writeProfile(path string) error {
	var b bytes.Buffer
	if err := profiletest.Synthetic(profiletest.Large).Write(&b); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// writeTrace records what a program full of channels does until it is 100 MB.
func writeTrace(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := &counter{w: f}
	if err := trace.Start(w); err != nil {
		return err
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		ping, pong := make(chan int), make(chan int)
		wg.Go(func() {
			defer close(ping)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case ping <- i:
					<-pong
				}
				if i%150 == 0 { // about 8 MB a second, as of a busy service
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
		wg.Go(func() {
			for i := range ping {
				pong <- i
			}
		})
	}
	for w.bytes() < 100<<20 {
		time.Sleep(10 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	trace.Stop()
	return f.Close()
}

type counter struct {
	w  io.Writer
	mu sync.Mutex // guards n
	n  int64
}

func (c *counter) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.n += int64(len(b))
	c.mu.Unlock()
	return c.w.Write(b)
}

func (c *counter) bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

const instance = ops.InstanceID("bench")

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench-toolui-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	profile, events := filepath.Join(dir, "cpu.pprof"), filepath.Join(dir, "trace.out")
	for _, args := range [][]string{{"-make-profile", profile}, {"-make-trace", events}} {
		if out, err := exec.Command(self, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	size, err := os.Stat(profile)
	if err != nil {
		return err
	}
	fmt.Printf("profile: %d samples with labels, %.1f MB gzipped\n\n", profiletest.Large.Samples, float64(size.Size())/1e6)
	fmt.Println("| what | time | peak RSS | page |")
	fmt.Println("|---|---|---|---|")

	stock, err := stockFlameGraph(dir, profile)
	if err != nil {
		return fmt.Errorf("stock pprof: %w", err)
	}
	row("stock pprof -http, first flame graph", stock)

	open := func(_ context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
		file := profile
		if strings.HasSuffix(ref.Name, ".out") {
			file = events
		}
		f, err := os.Open(file)
		if err != nil {
			return nil, ops.Artifact{}, err
		}
		info, err := f.Stat()
		return blob{f, info.Size()}, ops.Artifact{Name: ref.Name}, err
	}
	ui, err := toolui.New(toolui.Config{Open: open, Dir: filepath.Join(dir, "ui")})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- ui.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	srv := httptest.NewServer(ui)
	defer srv.Close()

	before := treeRSS(os.Getpid())
	ours, err := measure(os.Getpid(), func() (int64, error) {
		return fetch(srv.URL + "/pprof/bench/bench/cpu.pprof/flamegraph")
	})
	if err != nil {
		return err
	}
	row("ours, first flame graph (centre and children)", ours)
	again, err := measure(os.Getpid(), func() (int64, error) { return fetch(srv.URL + "/pprof/bench/bench/cpu.pprof/top") })
	if err != nil {
		return err
	}
	row("ours, top after that", again)
	twenty, err := measure(os.Getpid(), func() (int64, error) {
		var wg sync.WaitGroup
		errs := make(chan error, 20)
		for i := range 20 {
			wg.Go(func() {
				_, err := fetch(fmt.Sprintf("%s/pprof/bench/bench/cpu.%d.pprof/flamegraph", srv.URL, i))
				errs <- err
			})
		}
		wg.Wait()
		close(errs)
		var all []error
		for err := range errs {
			all = append(all, err)
		}
		return 0, errors.Join(all...)
	})
	if err != nil {
		return err
	}
	row("ours, 20 flame graphs asked for at once", twenty)
	time.Sleep(time.Second)
	fmt.Printf("| ours, 20 open, nobody looking | | %d MB | |\n", treeRSS(os.Getpid())>>20)

	var windows []toolui.TraceWindow
	ref := ops.ArtifactRef{Capture: "bench", Instance: instance, Name: "trace.out"}
	list, err := measure(os.Getpid(), func() (int64, error) {
		var err error
		windows, _, err = ui.TraceWindows(ctx, ref)
		return 0, err
	})
	if err != nil {
		return err
	}
	row(fmt.Sprintf("list of the windows of a 100 MB trace (%d)", len(windows)), list)
	path := fmt.Sprintf("%s/trace/bench/bench/trace.out/%d-%d/", srv.URL, windows[0].FromGeneration, windows[0].ToGeneration)
	// The first opening builds the viewer; the second is what people wait for.
	for _, what := range []string{"first window of it, viewer built meanwhile", "another window of it"} {
		window, err := measure(os.Getpid(), func() (int64, error) { return fetch(path) })
		if err != nil {
			return err
		}
		row(fmt.Sprintf("%s (%.1f MB)", what, float64(windows[0].SizeBytes)/1e6), window)
		windows = windows[min(1, len(windows)-1):]
		path = fmt.Sprintf("%s/trace/bench/bench/trace.out/%d-%d/", srv.URL, windows[0].FromGeneration, windows[0].ToGeneration)
	}
	fmt.Printf("\nflame graph: %.1f× as fast, %.1f× less memory than stock (%d MB before it)\n", stock.took.Seconds()/ours.took.Seconds(), float64(stock.peak)/float64(ours.peak), before>>20)
	return nil
}

type blob struct {
	*os.File
	size int64
}

func (b blob) Size() int64 { return b.size }

type result struct {
	took time.Duration
	peak int64
	page int64
}

func row(what string, r result) {
	page := ""
	if r.page > 0 {
		page = fmt.Sprintf("%.1f MB", float64(r.page)/1e6)
	}
	fmt.Printf("| %s | %.3f s | %d MB | %s |\n", what, r.took.Seconds(), r.peak>>20, page)
}

// measure runs fn and watches the memory of a process and all below it: the sum
// of their resident sets, which counts shared pages more than once.
func measure(pid int, fn func() (int64, error)) (result, error) {
	stop := make(chan struct{})
	peak := make(chan int64)
	go func() {
		var most int64
		for {
			most = max(most, treeRSS(pid))
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	start := time.Now()
	page, err := fn()
	r := result{took: time.Since(start), page: page}
	close(stop)
	r.peak = <-peak
	return r, err
}

// fetch reads a page to its end, once it is no longer being opened.
func fetch(url string) (int64, error) {
	client := &http.Client{Timeout: 5 * time.Minute}
	for {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
		if err != nil {
			return 0, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		var body bytes.Buffer
		into := io.Discard
		if resp.StatusCode != http.StatusOK {
			into = &body
		}
		n, err := io.Copy(into, resp.Body)
		resp.Body.Close()
		if err != nil {
			return n, err
		}
		switch resp.StatusCode {
		case http.StatusOK:
			return n, nil
		case http.StatusAccepted:
		default:
			return n, fmt.Errorf("%s: %s: %s", url, resp.Status, body.String())
		}
	}
}

// stockFlameGraph times the stock tool from its start to its first flame graph.
func stockFlameGraph(dir, profile string) (result, error) {
	binary := filepath.Join(dir, "pprof")
	build := exec.Command("go", "build", "-o", binary, "cmd/pprof")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return result{}, fmt.Errorf("%w: %s", err, out)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return result{}, err
	}
	addr := ln.Addr().String()
	ln.Close()
	cmd := exec.Command(binary, "-http="+addr, "-no_browser", "-symbolize=none", profile)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir)
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	r, err := measure(cmd.Process.Pid, func() (int64, error) {
		for time.Since(start) < time.Minute {
			if conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", addr); err == nil {
				conn.Close()
				return fetch("http://" + addr + "/ui/flamegraph")
			}
			time.Sleep(5 * time.Millisecond)
		}
		return 0, errors.New("it did not listen within a minute")
	})
	r.took = time.Since(start)
	return r, err
}

// treeRSS is the resident memory of a process and all processes below it.
func treeRSS(root int) int64 {
	parents := map[int]int{}
	pages := map[int]int64{}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		// The name, in parentheses, may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 22 {
			continue
		}
		parents[pid], _ = strconv.Atoi(fields[1])
		pages[pid], _ = strconv.ParseInt(fields[21], 10, 64)
	}
	var sum int64
	for pid := range parents {
		for at, n := pid, 0; at > 1 && n < 100; at, n = parents[at], n+1 {
			if at == root {
				sum += pages[pid]
				break
			}
		}
	}
	return sum * int64(os.Getpagesize())
}
