package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/bench/internal/measure"
)

// target is the process that is captured. Its first line is the address it
// serves on, if any; asked for an interval, it says what it did in it.
func target(kind, center string) error {
	var rec recorder
	ready := "ready"
	switch kind {
	case "json":
		s := newShop()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		ready = l.Addr().String()
		srv := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
		go func() { _ = srv.Serve(l) }() // until the process ends
	case "channels":
		relay(&rec, 8)
	case "handoff":
		relay(&rec, 0)
	case "idle":
	default:
		return fmt.Errorf("there is no service %q", kind)
	}
	a, err := agent.Start(agent.Config{Center: center, Project: "bench", Service: kind})
	if err != nil {
		return err
	}
	defer a.Close()
	if kind != "idle" {
		go rec.sampleCPU()
	}
	return measure.Answer(ready, func(line string) (any, error) {
		switch line {
		case "reset":
			rec.reset()
			return true, nil
		case "usage":
			return measure.Used(), nil
		}
		a, b, _ := strings.Cut(line, " ")
		from, err := strconv.ParseInt(a, 10, 64)
		if err != nil {
			return nil, err
		}
		to, err := strconv.ParseInt(b, 10, 64)
		if err != nil {
			return nil, err
		}
		return rec.between(from, to), nil
	})
}

// shop is an ordinary request/response service: JSON in, some looking up and
// computing, JSON out, over a live heap of a quarter of a gigabyte.
type shop struct {
	mu    sync.RWMutex
	goods map[int]*good
	sold  map[int]int
}

type good struct {
	ID    int
	Name  string
	Price int
	Tags  []string
	Notes []byte
}

// Large goods keep collections short: a second with one more or less of them
// would hide what a capture costs.
const manyGoods = 60_000

func newShop() *shop {
	s := &shop{goods: make(map[int]*good, manyGoods), sold: map[int]int{}}
	for i := range manyGoods {
		s.goods[i] = &good{
			ID: i, Name: "article " + strconv.Itoa(i), Price: i%997 + 1,
			Tags: []string{"tag" + strconv.Itoa(i%100), "lot" + strconv.Itoa(i)}, Notes: make([]byte, 4<<10),
		}
	}
	return s
}

type order struct {
	Customer string
	Lines    []line
}

type line struct{ Good, Count int }

type bill struct {
	Customer string
	Lines    []billLine
	Total    int
	Seal     string
}

type billLine struct {
	Name  string
	Tags  []string
	Price int
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b := bill{Customer: o.Customer}
	for _, l := range o.Lines {
		s.mu.RLock()
		g := s.goods[l.Good]
		s.mu.RUnlock()
		if g == nil {
			http.Error(w, "no such good", http.StatusNotFound)
			return
		}
		b.Lines = append(b.Lines, billLine{g.Name, g.Tags, g.Price * l.Count})
		b.Total += g.Price * l.Count
	}
	s.mu.Lock()
	for _, l := range o.Lines {
		s.sold[l.Good%1000] += l.Count
	}
	s.mu.Unlock()
	slices.SortFunc(b.Lines, func(x, y billLine) int { return y.Price - x.Price })
	seal := hmac.New(sha256.New, []byte("key"))
	for range 20 {
		fmt.Fprint(seal, b.Customer, b.Total)
	}
	b.Seal = hex.EncodeToString(seal.Sum(nil))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(b)
}

// shoppers order without a pause until ctx ends.
func shoppers(ctx context.Context, address string, rec *recorder) error {
	const many = 16
	tr := &http.Transport{MaxIdleConnsPerHost: many}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	var wg sync.WaitGroup
	errs := make(chan error, many)
	for i := range many {
		wg.Go(func() {
			for n := i; ctx.Err() == nil; n += many {
				o := order{Customer: "customer " + strconv.Itoa(n)}
				for k := range 10 {
					o.Lines = append(o.Lines, line{(n*7919 + k*104729) % manyGoods, k + 1})
				}
				body, err := json.Marshal(o)
				if err != nil {
					errs <- err
					return
				}
				began := time.Now()
				if err := shopOnce(ctx, client, address, body); err != nil {
					if ctx.Err() == nil {
						errs <- err
					}
					return
				}
				rec.request(began)
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func shopOnce(ctx context.Context, c *http.Client, address string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// relay is the worst case: requests pass through unbuffered channels and one
// contended mutex, sixteen times over, so that a good part of what they cost is
// what traces and block profiles record. effort is how much each stage computes
// besides, in hashes of 256 bytes.
func relay(rec *recorder, effort int) {
	const lines, stages, clients = 4, 16, 32
	type parcel struct {
		back chan struct{}
		sum  [32]byte
	}
	var mu sync.Mutex
	seen := map[int]int{}
	stage := func(s int, in <-chan *parcel, out chan<- *parcel) {
		var b [256]byte
		for p := range in {
			for range effort {
				copy(b[:], p.sum[:])
				p.sum = sha256.Sum256(b[:])
			}
			mu.Lock()
			seen[s]++
			mu.Unlock()
			if out == nil {
				p.back <- struct{}{}
			} else {
				out <- p
			}
		}
	}
	var heads [lines]chan *parcel
	for l := range lines {
		heads[l] = make(chan *parcel)
		in := heads[l]
		for s := range stages - 1 {
			out := make(chan *parcel)
			go stage(s, in, out)
			in = out
		}
		go stage(stages-1, in, nil)
	}
	for c := range clients {
		go func() {
			p := &parcel{back: make(chan struct{})}
			for {
				began := time.Now()
				heads[c%lines] <- p
				<-p.back
				rec.request(began)
			}
		}()
	}
}
