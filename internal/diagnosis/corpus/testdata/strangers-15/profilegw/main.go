// profilegw answers player cards from the profile service (gRPC) and takes in client telemetry.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const getCard = "/profile.v1.Profiles/GetCard"

// profileService is the in-process stand-in of the profile service.
type profileService struct{}

func (profileService) register(s *grpc.Server) {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "profile.v1.Profiles",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "GetCard", Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := dec(in); err != nil {
				return nil, err
			}
			time.Sleep(time.Duration(900+rand.IntN(300)) * time.Millisecond)
			return wrapperspb.String(`{"nick":"` + in.Value + `"}`), nil
		}}},
	}, struct{}{})
}

type Profiles struct{ cc *grpc.ClientConn }

func (p *Profiles) Card(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out := new(wrapperspb.StringValue)
	if err := p.cc.Invoke(ctx, getCard, wrapperspb.String(id), out); err != nil { // want: downstream-wait
		return "", err
	}
	return out.Value, nil
}

type Gateway struct {
	profiles *Profiles
	events   *slog.Logger
}

func (g *Gateway) card(w http.ResponseWriter, r *http.Request) {
	card, err := g.profiles.Card(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_, _ = io.WriteString(w, card)
}

type sample struct {
	Player string `json:"player"`
	FPS    int    `json:"fps"`
	Trace  string `json:"trace"`
}

func (g *Gateway) telemetry(w http.ResponseWriter, r *http.Request) {
	var s sample
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	g.events.Info("telemetry", "player", s.Player, "fps", s.FPS, "trace", s.Trace) // want: log-contention
	w.WriteHeader(http.StatusAccepted)
}

// shipper stands for the container's log driver: it takes what it can and no more.
func shipper(r io.Reader) {
	buf := make([]byte, 4096)
	for {
		if _, err := r.Read(buf); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := grpc.NewServer()
	profileService{}.register(srv)
	go func() { log.Fatal(srv.Serve(ln)) }()
	cc, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	go shipper(pr)
	gw := &Gateway{profiles: &Profiles{cc: cc}, events: slog.New(slog.NewJSONHandler(pw, nil))}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /card", gw.card)
	mux.HandleFunc("POST /telemetry", gw.telemetry)

	load := func(n int, pause time.Duration, mk func() *http.Request) {
		for range n {
			go func() {
				for {
					mux.ServeHTTP(httptest.NewRecorder(), mk())
					time.Sleep(pause)
				}
			}()
		}
	}
	load(40, 50*time.Millisecond, func() *http.Request {
		return httptest.NewRequest(http.MethodGet, fmt.Sprintf("/card?id=p%d", rand.IntN(9999)), nil)
	})
	trace := strings.Repeat("f3a9", 450)
	load(40, 80*time.Millisecond, func() *http.Request {
		body := fmt.Sprintf(`{"player":"p%d","fps":%d,"trace":%q}`, rand.IntN(9999), 20+rand.IntN(40), trace)
		return httptest.NewRequest(http.MethodPost, "/telemetry", strings.NewReader(body))
	})
	select {}
}
