package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type Account struct {
	mu      sync.Mutex
	ID      int
	Balance int64
	History []string
}

type Posting struct {
	From, To int
	Amount   int64
	Memo     string
}

var errFunds = errors.New("insufficient funds")

type Escrow struct {
	accounts map[int]*Account
	audit    *AuditTrail
}

// AuditTrail chains posting digests so that tampering shows.
type AuditTrail struct {
	mu   sync.Mutex
	head [32]byte
}

func (a *AuditTrail) seal(p Posting) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d>%d:%d:%s", p.From, p.To, p.Amount, p.Memo))
	for range 400 {
		sum = sha256.Sum256(sum[:])
	}
	a.mu.Lock()
	for i := range a.head {
		a.head[i] ^= sum[i]
	}
	a.mu.Unlock()
	return hex.EncodeToString(sum[:8])
}

func (e *Escrow) Transfer(p Posting) error {
	from, to := e.accounts[p.From], e.accounts[p.To]
	from.mu.Lock()
	defer from.mu.Unlock()
	if from.Balance < p.Amount {
		return errFunds
	}
	mark := e.audit.seal(p)
	to.mu.Lock()
	defer to.mu.Unlock()
	from.Balance -= p.Amount
	to.Balance += p.Amount
	to.History = append(to.History, mark)
	if len(to.History) > 64 {
		to.History = to.History[32:]
	}
	return nil
}

type MatchService struct {
	escrow *Escrow
	played atomic.Int64
}

// Settle moves the stake from the loser to the winner.
func (m *MatchService) Settle(a, b int, stake int64) error {
	winner, loser := a, b
	if rand.IntN(2) == 0 {
		winner, loser = b, a
	}
	err := m.escrow.Transfer(Posting{From: loser, To: winner, Amount: stake, Memo: "match"})
	if err == nil {
		m.played.Add(1)
	}
	return err
}

func (m *MatchService) Table(seats []int) {
	for {
		a, b := seats[rand.IntN(len(seats))], seats[rand.IntN(len(seats))]
		if a == b {
			continue
		}
		if err := m.Settle(a, b, 5); err != nil && !errors.Is(err, errFunds) {
			log.Printf("settle: %v", err)
		}
		time.Sleep(time.Duration(2+rand.IntN(6)) * time.Millisecond)
	}
}

func main() {
	// agent-hook
	startDiagnostics()
	esc := &Escrow{accounts: map[int]*Account{}, audit: &AuditTrail{}}
	var seats []int
	for id := range 6 {
		esc.accounts[id] = &Account{ID: id, Balance: 1 << 40}
		seats = append(seats, id)
	}
	svc := &MatchService{escrow: esc}
	for range 36 {
		go svc.Table(seats)
	}
	go func() {
		for range time.Tick(10 * time.Second) {
			log.Printf("matches settled: %d", svc.played.Load())
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
