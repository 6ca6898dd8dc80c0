package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opscenter/opscenter/bench/internal/measure"
)

// program is the built Color Game.
type program struct{ dir, path string }

func build(ctx context.Context) (p program, err error) {
	if p.dir, err = os.MkdirTemp("", "bench-watch-"); err != nil {
		return p, err
	}
	p.path = filepath.Join(p.dir, "colorgame")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", p.path, "github.com/opscenter/opscenter/examples/colorgame")
	if out, err := cmd.CombinedOutput(); err != nil {
		return p, errors.Join(fmt.Errorf("building the Color Game: %w\n%s", err, out), os.RemoveAll(p.dir))
	}
	return p, nil
}

// table is a running game-service.
type table struct {
	cmd *exec.Cmd
	in  io.Closer // the service ends with it
	url string
}

func (b *bench) table(p program, env ...string) (*table, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	_ = l.Close()
	cmd := exec.CommandContext(b.ctx, p.path, "game-service", "--listen", address, "--center", b.center)
	cmd.Env = append(os.Environ(), "OPS_AGENT=", "OPS_TOKEN_FILE=", "COLORGAME_PARENT=bench", "COLORGAME_DATABASE_URL=", "GOMAXPROCS="+strconv.Itoa(procs()))
	cmd.Env = append(cmd.Env, env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t := &table{cmd: cmd, in: in, url: "http://" + address + "/bets"}
	for end := time.Now().Add(30 * time.Second); ; sleep(b.ctx, 20*time.Millisecond) {
		c, err := (&net.Dialer{}).DialContext(b.ctx, "tcp", address)
		if err == nil {
			return t, c.Close()
		}
		if time.Now().After(end) {
			t.end()
			return nil, fmt.Errorf("it does not serve: %w", err)
		}
	}
}

func (t *table) end() {
	_ = t.in.Close()
	_ = t.cmd.Wait()
}

// procs leaves half of the machine to who bets.
func procs() int { return max(runtime.NumCPU()/2, 1) }

// bettors are who keeps a table busy.
const bettors = 16

// play has everybody bet without a pause for a window.
func (t *table) play(ctx context.Context, client *http.Client, window time.Duration) (interval, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var (
		all   sync.WaitGroup
		mu    sync.Mutex // guards took and wrong
		took  []time.Duration
		wrong error
	)
	cpu, began := used(t.cmd.Process.Pid), time.Now()
	end := began.Add(window)
	for i := range bettors {
		all.Go(func() {
			var mine []time.Duration
			bet := fmt.Appendf(nil, `{"player":"player-%03d","room":%d,"color":"red","stake":1}`, i, i%4)
			var err error
			for err == nil && time.Now().Before(end) {
				at := time.Now()
				err = place(ctx, client, t.url, bet)
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			took, wrong = append(took, mine...), errors.Join(wrong, err)
		})
	}
	all.Wait()
	if wrong != nil || len(took) == 0 {
		return interval{}, errors.Join(errors.New("the bets fail"), wrong)
	}
	lasted, spent := time.Since(began), used(t.cmd.Process.Pid)-cpu
	slices.Sort(took)
	n := float64(len(took))
	return interval{n / lasted.Seconds(), took[len(took)*99/100].Seconds(), spent.Seconds() / n}, nil
}

func place(ctx context.Context, c *http.Client, url string, bet []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(bet))
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, said)
	}
	return err
}

func (b *bench) colorGame(p program, until time.Time) error {
	with, err := b.table(p)
	if err != nil {
		return err
	}
	defer with.end()
	link, err := b.ruled()
	if err != nil {
		return err
	}
	bare, err := b.table(p, "OPS_AGENT=off")
	if err != nil {
		return err
	}
	defer bare.end()
	transport := &http.Transport{MaxIdleConnsPerHost: bettors}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	of := func(t *table) func() (interval, error) {
		return func() (interval, error) { return t.play(b.ctx, client, b.window) }
	}
	for _, t := range []*table{with, bare} { // warm
		if _, err := t.play(b.ctx, client, 2*b.window); err != nil {
			return err
		}
	}
	// With the agent and without are two processes, which take turns.
	turn := of(bare)
	agent := []setting{{"**an agent that is asked for nothing** (beside a process without)", func(on bool) error {
		turn = of(map[bool]*table{true: with, false: bare}[on])
		return nil
	}}}
	third := time.Now().Add(time.Until(until) / 4)
	idle, _, err := b.alternate(agent, third, func() (interval, error) { return turn() })
	if err != nil {
		return err
	}
	all := settings(b.ctx, link)
	got, plain, err := b.alternate(all, until, of(with))
	if err != nil {
		return err
	}
	title(fmt.Sprintf("The Color Game's game-service, %d players who bet without a pause, GOMAXPROCS=%d", bettors, procs()), len(got[0]), plain)
	var t measure.Table
	t.Row("watched by", "throughput ×", "p99 ×", "CPU per bet ×")
	row(&t, agent[0].name, idle[0])
	for i, s := range all {
		row(&t, s.name, got[i])
	}
	t.Print(os.Stdout)
	return nil
}
