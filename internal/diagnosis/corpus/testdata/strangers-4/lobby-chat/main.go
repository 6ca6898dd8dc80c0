// Lobby chat: moderates messages and resolves mentions.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type filter func(string) string

func masking(words []string) filter {
	return func(text string) string {
		for _, w := range words {
			re := regexp.MustCompile(`(?i)\b` + strings.Join(strings.Split(w, ""), `[\s._-]*`) + `\b`) // want: cpu-hot-path
			text = re.ReplaceAllString(text, "***")
		}
		return text
	}
}

func chain(fs ...filter) filter {
	return func(s string) string {
		for _, f := range fs {
			s = f(s)
		}
		return s
	}
}

type source[T any] func(ctx context.Context, key string) T

// quickest asks all sources and takes the answer that comes first.
func quickest[T any](ctx context.Context, key string, from ...source[T]) T {
	answers := make(chan T) // want: goroutine-leak
	for _, src := range from {
		go func() {
			answers <- src(ctx, key) // want: goroutine-leak
		}()
	}
	return <-answers
}

type profile struct {
	name   string
	region string
}

func replica(region string, lag time.Duration) source[profile] {
	return func(ctx context.Context, key string) profile {
		time.Sleep(lag + rand.N(4*time.Millisecond))
		return profile{name: key, region: region}
	}
}

type lobby struct {
	clean   filter
	sources []source[profile]
	inbox   chan string
	posted  atomic.Int64
}

func (l *lobby) moderate() {
	for msg := range l.inbox {
		msg = l.clean(msg)
		l.posted.Add(1)
		if i := strings.IndexByte(msg, '@'); i >= 0 {
			name, _, _ := strings.Cut(msg[i+1:], " ")
			p := quickest(context.Background(), name, l.sources...)
			_ = fmt.Sprintf("%s (%s)", p.name, p.region)
		}
	}
}

func (l *lobby) feed(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := range 100 {
			msg := fmt.Sprintf("gg wp everyone, round %d was s.c.a.m free", n)
			if i == 0 {
				msg = fmt.Sprintf("@player%d nice shot", n)
			}
			select {
			case l.inbox <- msg:
			default:
			}
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	words := strings.Fields("scam cheat botter goldseller phish noob trash leaver feeder hacker boost resell account refund hijack exploit")
	l := &lobby{
		clean:   chain(strings.TrimSpace, masking(words)),
		sources: []source[profile]{replica("eu", 2*time.Millisecond), replica("us", 3*time.Millisecond), replica("ap", 3*time.Millisecond)},
		inbox:   make(chan string, 4096),
	}
	for range 4 {
		go l.moderate()
	}
	go l.feed(ctx)
	<-ctx.Done()
}
