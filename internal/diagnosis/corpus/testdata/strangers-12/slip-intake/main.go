// Command slip-intake takes bets and partner webhooks. Bets are published to
// the analytics feed; webhooks are checked against the partner's schema.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const partnerSchema = `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object",
"required":["partner","event","items"],"properties":{
"partner":{"type":"string","pattern":"^[a-z]{2,12}$"},"event":{"enum":["win","void","refund","cashout"]},
"at":{"type":"integer","minimum":0},"items":{"type":"array","maxItems":50,"items":{"$ref":"#/$defs/item"}}},
"$defs":{"item":{"type":"object","required":["ref","amount"],"properties":{"ref":{"type":"string","minLength":6},
"amount":{"type":"integer"},"currency":{"type":"string","pattern":"^[A-Z]{3}$"},"tags":{"type":"array","items":{"type":"string"}}},
"oneOf":[{"required":["currency"]},{"required":["tags"]}]}}}`

type Bet struct {
	Player string
	Amount int
}

type Feed[T any] struct {
	in      chan T
	deliver func(context.Context, T) error
}

func NewFeed[T any](depth int, deliver func(context.Context, T) error) *Feed[T] {
	f := &Feed[T]{in: make(chan T, depth), deliver: deliver}
	go f.loop()
	return f
}

func (f *Feed[T]) Publish(ctx context.Context, v T) error {
	select {
	case f.in <- v: // want: channel-backpressure
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Feed[T]) loop() {
	for v := range f.in {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if err := f.deliver(ctx, v); err != nil { // want: channel-backpressure
			log.Printf("feed: %v", err)
		}
		cancel()
	}
}

type limit struct{ daily, single int }

type Service struct {
	feed   *Feed[Bet]
	limits map[string]limit
}

func loadLimits(players int) map[string]limit {
	m := make(map[string]limit, players)
	for i := range players {
		m[fmt.Sprintf("p%d", i)] = limit{daily: 50_000, single: 5_000}
	}
	return m
}

func (s *Service) placeBet(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	bet := Bet{Player: r.FormValue("player"), Amount: 100}
	if bet.Amount > s.limits[bet.Player].single {
		http.Error(w, "over the limit", http.StatusForbidden)
		return
	}
	if err := s.feed.Publish(ctx, bet); err != nil { // want: channel-backpressure
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprint(w, "accepted")
}

func (s *Service) webhook(w http.ResponseWriter, r *http.Request) {
	doc, err := jsonschema.UnmarshalJSON(r.Body)
	if err == nil {
		err = checkPartner(doc)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func checkPartner(doc any) error {
	raw, err := jsonschema.UnmarshalJSON(strings.NewReader(partnerSchema))
	if err != nil {
		return err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("partner.json", raw); err != nil {
		return err
	}
	sch, err := c.Compile("partner.json") // want: cpu-hot-path
	if err != nil {
		return err
	}
	return sch.Validate(doc)
}

func call(cl *http.Client, url, body string) {
	resp, err := cl.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func main() {
	analytics := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { time.Sleep(18 * time.Millisecond) }))
	svc := &Service{limits: loadLimits(200_000), feed: NewFeed(128, func(ctx context.Context, b Bet) error {
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, analytics, strings.NewReader(b.Player))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bets", svc.placeBet)
	mux.HandleFunc("POST /partner", svc.webhook)
	base := serve(mux)

	cl := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 80}}
	for i := range 50 {
		go func() {
			for {
				call(cl, fmt.Sprintf("%s/bets?player=p%d", base, i), "{}")
				time.Sleep(30 * time.Millisecond)
			}
		}()
	}
	item := `{"ref":"R-000871","amount":400,"currency":"TWD"}`
	hook := `{"partner":"lotus","event":"win","at":1,"items":[` + item + "," + item + `]}`
	for range 10 {
		go func() {
			for {
				call(cl, base+"/partner", hook)
				time.Sleep(2 * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
