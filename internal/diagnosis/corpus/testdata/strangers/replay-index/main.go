package main

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Preview is the scrub-bar strip for a replay segment.
type Preview struct {
	Key    string
	Strip  []byte
	Frames int
	Made   time.Time
}

type SegmentReader struct{ seed uint64 }

func (s *SegmentReader) strip(match int64, from, to int) []byte {
	buf := make([]byte, 3072+rand.IntN(2048))
	x := s.seed ^ uint64(match)
	for i := range buf {
		x = x*6364136223846793005 + 1442695040888963407
		buf[i] = byte(x>>56) ^ byte(from+to)
	}
	return buf
}

type PreviewIndex struct {
	mu     sync.RWMutex
	byKey  map[string]*Preview
	reader *SegmentReader
	hits   atomic.Int64
}

func previewKey(match int64, from, to int, locale string) string {
	return fmt.Sprintf("%d/%d-%d/%s", match, from, to, locale)
}

func (p *PreviewIndex) Get(match int64, from, to int, locale string) *Preview {
	key := previewKey(match, from, to, locale)
	p.mu.RLock()
	pv, ok := p.byKey[key]
	p.mu.RUnlock()
	if ok {
		p.hits.Add(1)
		return pv
	}
	pv = &Preview{Key: key, Strip: p.reader.strip(match, from, to), Frames: to - from, Made: time.Now()}
	p.mu.Lock()
	p.byKey[key] = pv
	p.mu.Unlock()
	return pv
}

type ReplayService struct{ index *PreviewIndex }

func (s *ReplayService) Scrub(match int64, at int) ([]byte, int) {
	from := at - at%30
	pv := s.index.Get(match, from, from+30, "zh-TW")
	return pv.Strip, pv.Frames
}

func (s *ReplayService) handleScrub(w http.ResponseWriter, r *http.Request) {
	match, _ := strconv.ParseInt(r.PathValue("match"), 10, 64)
	at, _ := strconv.Atoi(r.URL.Query().Get("at"))
	strip, frames := s.Scrub(match, at)
	w.Header().Set("X-Frames", strconv.Itoa(frames))
	w.Write(strip)
}

func main() {
	// agent-hook
	startDiagnostics()
	svc := &ReplayService{index: &PreviewIndex{byKey: map[string]*Preview{}, reader: &SegmentReader{seed: 0x5eed}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /replays/{match}/scrub", svc.handleScrub)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	for v := range 5 {
		go viewer("http://"+ln.Addr().String(), v)
	}
	awaitShutdown()
}

// viewer opens recent matches and drags the scrub bar through each of them.
func viewer(base string, seat int) {
	const matches = 1100
	for n := range matches {
		match := int64(seat)*1_000_000 + int64(n)
		for at := 0; at < 360; at += 30 {
			resp, err := http.Get(fmt.Sprintf("%s/replays/%d/scrub?at=%d", base, match, at))
			if err != nil {
				continue
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			time.Sleep(6 * time.Millisecond)
		}
	}
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
