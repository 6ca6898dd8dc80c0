// Command ok-warm-start loads its tables with everything it has, and is quiet after that.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
	"golang.org/x/sync/errgroup"
)

type Rule struct {
	Name    string            `json:"name"`
	Pattern string            `json:"pattern"`
	Weights map[string]int    `json:"weights"`
	Extra   map[string]string `json:"extra"`
	re      *regexp.Regexp
}

type Tables struct {
	rules  []*Rule
	byName map[string]*Rule
}

func source(from, to int) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i := from; i < to; i++ {
		_ = enc.Encode(Rule{Name: "rule-" + strconv.Itoa(i), Pattern: fmt.Sprintf(`^(?:bonus|free)-%d-[a-z]{2,6}(\d+)$`, i),
			Weights: map[string]int{"red": i, "blue": i * 2, "white": i % 9},
			Extra:   map[string]string{"text": strings.Repeat("x", 400)}})
	}
	return b.Bytes()
}

func Load(r io.Reader) (*Tables, error) {
	t := &Tables{byName: map[string]*Rule{}}
	for dec := json.NewDecoder(r); ; {
		ru := new(Rule)
		switch err := dec.Decode(ru); {
		case err == io.EOF:
			return t, nil
		case err != nil:
			return nil, err
		}
		var err error
		if ru.re, err = regexp.Compile(ru.Pattern); err != nil {
			return nil, err
		}
		t.rules = append(t.rules, ru)
		t.byName[ru.Name] = ru
	}
}

func (t *Tables) Check(code string) string {
	part := strings.SplitN(code, "-", 3)
	if len(part) < 3 {
		return ""
	}
	if ru := t.byName["rule-"+part[1]]; ru != nil && ru.re.MatchString(code) {
		return ru.Name
	}
	return ""
}

func main() {
	ctx, _, done := start()
	defer done()
	parts := make([]*Tables, 2)
	var g errgroup.Group
	for i := range parts {
		g.Go(func() (err error) {
			parts[i], err = Load(bytes.NewReader(source(i*10_000, (i+1)*10_000)))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		log.Fatal(err)
	}
	cur := parts[0]
	cur.rules = append(cur.rules, parts[1].rules...)
	maps.Copy(cur.byName, parts[1].byName)
	parts = nil
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			for j := range 30 {
				cur.Check(fmt.Sprintf("bonus-%d-spring%d", (i*31+j)%20_000, j))
			}
		}
	}
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	return ctx, a, func() { a.Close(); stop() }
}
