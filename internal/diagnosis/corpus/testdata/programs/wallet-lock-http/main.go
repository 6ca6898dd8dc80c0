// Wallet-lock-http pays out of wallets.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
	"github.com/opscenter/opscenter/internal/diagnosis/corpus/standin"
)

type wallets struct {
	guard   sync.RWMutex
	balance map[int]int64
	bank    string
}

func (w *wallets) lock()   { w.guard.Lock() }
func (w *wallets) unlock() { w.guard.Unlock() }

func (w *wallets) pay(ctx context.Context, id int, amount int64) error {
	w.lock()
	if w.balance[id] < amount {
		if err := w.topUp(ctx, id); err != nil { // want: lock-held-across-io
			w.unlock()
			return err
		}
	}
	w.balance[id] -= amount
	w.unlock()
	return nil
}

func (w *wallets) topUp(ctx context.Context, id int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/topup/%d", w.bank, id), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req) // want: lock-held-across-io
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	w.balance[id] += 20
	return nil
}

func (w *wallets) read(id int) int64 {
	w.guard.RLock()
	defer w.guard.RUnlock()
	return w.balance[id]
}

func main() {
	stage.Child("bank", standin.Web(standin.Always(18*time.Millisecond)))
	s := stage.Start()
	ws := &wallets{balance: map[int]int64{}, bank: "http://" + s.Spawn("bank")}
	mux := http.NewServeMux()
	mux.HandleFunc("/pay", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.FormValue("id"))
		if err := ws.pay(context.WithoutCancel(r.Context()), id, 10); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	mux.HandleFunc("/balance", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.FormValue("id"))
		fmt.Fprintln(w, ws.read(id))
	})
	url := s.Serve(mux)
	s.Crowd(stage.Traffic{URL: url + "/pay?id=1", Users: 30, Pause: 5 * time.Millisecond})
	s.Crowd(stage.Traffic{URL: url + "/balance?id=1", Users: 30, Pause: 5 * time.Millisecond})
	s.Wait()
}
