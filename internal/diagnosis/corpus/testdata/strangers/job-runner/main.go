package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

type Job struct {
	ID   int64
	Kind string
	Body []byte
}

type Handler func(context.Context, Job) error

// Runner executes jobs on a fixed set of workers.
type Runner struct {
	jobs     chan Job
	handlers map[string]Handler
	done     atomic.Int64
}

func (r *Runner) worker(ctx context.Context) {
	for {
		select {
		case j := <-r.jobs:
			if h := r.handlers[j.Kind]; h != nil {
				if err := h(ctx, j); err != nil {
					log.Printf("job %d: %v", j.ID, err)
				}
			}
			r.done.Add(1)
		case <-ctx.Done():
			return
		}
	}
}

func (r *Runner) Start(ctx context.Context, n int) {
	for range n {
		go r.worker(ctx)
	}
}

func mailDigest(_ context.Context, j Job) error {
	sum := sha256.Sum256(j.Body)
	for range 50 {
		sum = sha256.Sum256(sum[:])
	}
	return nil
}

func questReset(_ context.Context, j Job) error {
	var v struct{ Quests []int }
	return json.Unmarshal(j.Body, &v)
}

func main() {
	// agent-hook
	startDiagnostics()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := &Runner{jobs: make(chan Job, 256), handlers: map[string]Handler{"mail": mailDigest, "quest": questReset}}
	r.Start(ctx, 500)
	go func() {
		for id := int64(0); ; id++ {
			kind := "mail"
			if id%2 == 0 {
				kind = "quest"
			}
			r.jobs <- Job{ID: id, Kind: kind, Body: []byte(`{"Quests":[1,2,3,5,8]}`)}
			time.Sleep(time.Duration(10+rand.IntN(30)) * time.Millisecond)
		}
	}()
	awaitShutdown()
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
