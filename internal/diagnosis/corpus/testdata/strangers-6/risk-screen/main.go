// Command risk-screen accepts bets and has each screened by the risk service.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/opscenter/opscenter/agent"
)

const scoreMethod = "/risk.v1.Risk/Score"

// ---- risk service ----

type riskServer interface {
	Score(context.Context, *wrapperspb.StringValue) (*wrapperspb.DoubleValue, error)
}

type risk struct{}

func (risk) Score(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.DoubleValue, error) {
	select {
	case <-time.After(time.Duration(180+rand.IntN(120)) * time.Millisecond):
		return wrapperspb.Double(float64(len(in.GetValue())%10) / 10), nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

var riskDesc = grpc.ServiceDesc{
	ServiceName: "risk.v1.Risk",
	HandlerType: (*riskServer)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Score", Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := new(wrapperspb.StringValue)
		if err := dec(in); err != nil {
			return nil, err
		}
		return srv.(riskServer).Score(ctx, in)
	}}},
}

func runRisk() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer()
	s.RegisterService(&riskDesc, risk{})
	fmt.Println(ln.Addr())
	log.Print(s.Serve(ln))
}

// ---- bet service ----

type Scorer interface {
	Score(ctx context.Context, subject string) (float64, error)
}

type grpcScorer struct{ cc grpc.ClientConnInterface }

func (g grpcScorer) Score(ctx context.Context, subject string) (float64, error) {
	out := new(wrapperspb.DoubleValue)
	if err := g.cc.Invoke(ctx, scoreMethod, wrapperspb.String(subject), out); err != nil { // want: downstream-wait
		return 0, err
	}
	return out.GetValue(), nil
}

type Bet struct {
	Player, Device, IP, Table string
	Stake                     int64
}

type Screening struct {
	scorer Scorer
	limit  float64
}

// Check scores each of the bet's aspects.
func (s *Screening) Check(ctx context.Context, b Bet) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var sum float64
	for _, subject := range []string{"player:" + b.Player, "device:" + b.Device, "ip:" + b.IP, "table:" + b.Table} {
		v, err := s.scorer.Score(ctx, subject) // want: downstream-wait
		if err != nil {
			return fmt.Errorf("screen %s: %w", subject, err)
		}
		sum += v
	}
	if sum > s.limit {
		return status.Error(codes.PermissionDenied, "too risky")
	}
	return nil
}

type BetAPI struct{ screening *Screening }

func (a *BetAPI) Place(w http.ResponseWriter, r *http.Request) {
	var b Bet
	if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
		http.Error(w, "bad bet", http.StatusBadRequest)
		return
	}
	if err := a.screening.Check(r.Context(), b); err != nil { // want: downstream-wait
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	fmt.Fprint(w, "accepted")
}

func spawn(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "RISK_SERVICE=1", "OPS_AGENT=off")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), err
}

func main() {
	if os.Getenv("RISK_SERVICE") != "" {
		runRisk()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
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
	defer a.Close()

	addr, err := spawn(ctx)
	if err != nil {
		log.Fatal(err)
	}
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer cc.Close()
	api := &BetAPI{&Screening{scorer: grpcScorer{cc}, limit: 4}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/bets", api.Place)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(ln) }()

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	for i := range 80 {
		go func() {
			for ctx.Err() == nil {
				body := fmt.Sprintf(`{"Player":"p%d","Device":"d%d","IP":"10.0.0.%d","Table":"t1","Stake":%d}`, i, i, i, rand.IntN(500))
				resp, err := client.Post("http://"+ln.Addr().String()+"/v1/bets", "application/json", strings.NewReader(body))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
	_ = srv.Close()
}
