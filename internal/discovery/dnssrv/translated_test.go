package dnssrv

import (
	"context"
	"fmt"
	"sync"

	"github.com/opscenter/opscenter/internal/ops"
)

// translated gives the suite's targets a host name each, and what no SRV record
// can hold back to the lists.
type translated struct {
	*Source
	mu    sync.Mutex
	known map[string]ops.Target // by URL
}

func (s *translated) hosts(targets []ops.Target) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]ops.Target{}
	}
	for i, t := range targets {
		host := fmt.Sprintf("pod-%d.%s.games.example:6060", i, t.Service)
		s.known["http://"+host+"/debug/pprof"] = t
		out = append(out, host)
	}
	return out
}

func (s *translated) Run(ctx context.Context, update func([]ops.Target)) error {
	return s.Source.Run(ctx, func(list []ops.Target) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, t := range list {
			list[i] = s.known[t.URL]
		}
		update(list)
	})
}
