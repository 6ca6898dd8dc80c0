// transferdesk moves chips between the tables' banks and the players' purses.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
	"sync"
	"time"
)

type Purse struct {
	mu    sync.Mutex
	owner int
	chips int64
	moves []int64
	sig   []byte
}

func (p *Purse) note(delta int64) {
	p.moves = append(p.moves, delta)
	if len(p.moves) > 32 {
		p.moves = append(p.moves[:0], p.moves[16:]...)
	}
}

var (
	errUnknown = errors.New("unknown purse")
	errShort   = errors.New("not enough chips")
)

type Desk struct {
	mu     sync.RWMutex
	purses map[int]*Purse
}

func (d *Desk) purse(id int) (*Purse, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p, ok := d.purses[id]
	if !ok {
		return nil, fmt.Errorf("%w: %d", errUnknown, id)
	}
	return p, nil
}

func (d *Desk) Move(from, to int, chips int64) error {
	src, err := d.purse(from)
	if err != nil {
		return err
	}
	dst, err := d.purse(to)
	if err != nil {
		return err
	}
	if src == dst {
		return nil
	}
	src.mu.Lock() // want: deadlock
	defer src.mu.Unlock()
	if src.chips < chips {
		return errShort
	}
	if err := audit(src, dst, chips); err != nil {
		return err
	}
	dst.mu.Lock() // want: deadlock
	defer dst.mu.Unlock()
	src.chips -= chips
	dst.chips += chips
	src.note(-chips)
	dst.note(chips)
	return nil
}

// audit signs the move, chained over the source's last moves.
func audit(src, dst *Purse, chips int64) error {
	line, err := json.Marshal(map[string]int64{"from": int64(src.owner), "to": int64(dst.owner), "chips": chips})
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, line)
	for range 40 {
		for _, m := range src.moves {
			_ = binary.Write(mac, binary.LittleEndian, m)
		}
	}
	src.sig = mac.Sum(src.sig[:0])
	return nil
}

func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.FormValue("from"))
	to, _ := strconv.Atoi(r.FormValue("to"))
	chips, err := strconv.ParseInt(r.FormValue("chips"), 10, 64)
	if err == nil {
		err = d.Move(from, to, chips)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	desk := &Desk{purses: map[int]*Purse{}}
	for i := range 12 {
		desk.purses[i] = &Purse{owner: i, chips: 1_000_000}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, desk)) }()

	base := "http://" + ln.Addr().String()
	client := &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 200},
		Timeout:   5 * time.Second,
	}
	for range 40 {
		go func() {
			for {
				url := fmt.Sprintf("%s/?from=%d&to=%d&chips=%d", base, rand.IntN(12), rand.IntN(12), 1+rand.IntN(20))
				if resp, err := client.Post(url, "", nil); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(5+rand.IntN(10)) * time.Millisecond)
			}
		}()
	}
	select {}
}
