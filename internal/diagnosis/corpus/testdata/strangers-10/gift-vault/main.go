package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

type Cell[T any] struct {
	mu sync.Mutex
	v  T
}

func NewCell[T any](v T) *Cell[T] { return &Cell[T]{v: v} }

func (c *Cell[T]) Update(fn func(*T) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fn(&c.v)
}

type Counter interface {
	IncrBy(ctx context.Context, key string, by int) (int, error)
}

type kv struct {
	addr string
	idle chan *wire
}

type wire struct {
	net.Conn
	rd *bufio.Reader
}

func (k *kv) take() (*wire, error) {
	select {
	case w := <-k.idle:
		return w, nil
	default:
	}
	c, err := net.Dial("tcp", k.addr)
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c, rd: bufio.NewReader(c)}, nil
}

func (k *kv) give(w *wire) {
	select {
	case k.idle <- w:
	default:
		w.Close()
	}
}

func (k *kv) IncrBy(_ context.Context, key string, by int) (int, error) {
	w, err := k.take()
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(w, "INCRBY %s %d\r\n", key, by); err != nil {
		w.Close()
		return 0, err
	}
	line, err := w.rd.ReadString('\n')
	if err != nil {
		w.Close()
		return 0, err
	}
	k.give(w)
	return strconv.Atoi(strings.Trim(line, ":\r\n"))
}

type stock struct {
	left   map[string]int
	claims int
}

var errGone = errors.New("campaign is over")

type Vault struct {
	state *Cell[stock]
	kv    Counter
}

func (v *Vault) Claim(ctx context.Context, campaign string, player int) (serial int, err error) {
	err = v.state.Update(func(s *stock) error { // want: lock-held-across-io
		if s.left[campaign] <= 0 {
			return errGone
		}
		serial, err = v.kv.IncrBy(ctx, "gift:"+campaign, 1) // want: lock-held-across-io
		if err != nil {
			return fmt.Errorf("serial for %d: %w", player, err)
		}
		s.left[campaign]--
		s.claims++
		return nil
	})
	return serial, err
}

func (v *Vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	player, _ := strconv.Atoi(r.URL.Query().Get("player"))
	serial, err := v.Claim(r.Context(), r.PathValue("campaign"), player)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	fmt.Fprintf(w, `{"serial":%d}`, serial)
}

func store(l net.Listener) {
	var mu sync.Mutex
	data := map[string]int{}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			sc := bufio.NewScanner(c)
			for sc.Scan() {
				f := strings.Fields(sc.Text())
				by, _ := strconv.Atoi(f[2])
				mu.Lock()
				data[f[1]] += by
				n := data[f[1]]
				mu.Unlock()
				time.Sleep(4 * time.Millisecond)
				fmt.Fprintf(c, ":%d\r\n", n)
			}
		}()
	}
}

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return l
}

func main() {
	go http.ListenAndServe(os.Getenv("ADDR"), nil)

	back := listen()
	go store(back)
	campaigns := map[string]int{"spring": 1 << 40, "jubilee": 1 << 40, "newbie": 1 << 40, "vip": 1 << 40}
	vault := &Vault{
		state: NewCell(stock{left: campaigns}),
		kv:    &kv{addr: back.Addr().String(), idle: make(chan *wire, 32)},
	}
	mux := http.NewServeMux()
	mux.Handle("POST /claim/{campaign}", vault)
	front := listen()
	go http.Serve(front, mux)

	names := []string{"spring", "jubilee", "newbie", "vip"}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var wg sync.WaitGroup
	for range 48 {
		wg.Go(func() {
			for {
				url := fmt.Sprintf("http://%s/claim/%s?player=%d", front.Addr(), names[rand.IntN(4)], rand.IntN(1e6))
				res, err := client.Post(url, "application/json", nil)
				if err != nil {
					log.Print(err)
					continue
				}
				bufio.NewReader(res.Body).WriteTo(discard{})
				res.Body.Close()
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	wg.Wait()
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
