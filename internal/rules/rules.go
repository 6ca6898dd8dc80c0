// Package rules keeps what instances watch themselves for: files of rules, which
// instance each is for, how they stand there, and what came of them. It hands
// the rules out, takes in the captures that instances made by themselves, and
// remembers what happened. It knows neither how an instance judges a rule nor who
// is told when one fires.
package rules

import (
	"context"
	_ "embed"
	"log/slog"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/ops"
)

//go:embed presets.yaml
var presets []byte

// ActorPrefix begins the requester of a capture that an instance made by itself;
// the rule's name follows.
const ActorPrefix = "rule:"

// Fleet is what the rules need to know of instances.
type Fleet interface {
	// Instances returns those of all services that are not gone.
	Instances() []ops.Instance
	Instance(ops.InstanceID) (ops.Instance, error)
	Link(ops.InstanceID) (ops.Link, error)
}

// Captures is where what instances collected goes.
type Captures interface {
	Adopt(context.Context, capture.Adoption) (ops.Capture, error)
	Subscribe() *changes.Subscription[ops.CaptureID]
}

// Config is what a Center is made of.
type Config struct {
	Fleet    Fleet
	Captures Captures
	// Headline returns what was said of a capture in a line; NotFound while nothing
	// was.
	Headline func(context.Context, ops.CaptureID) (ops.Headline, error)
	// Dir holds the files of rules, *.yaml. One that does not exist is made, with
	// the presets in it.
	Dir string
	// HistoryFile keeps what happened across restarts.
	HistoryFile string
	Logger      *slog.Logger // nil = silent
	// Now and then intervals, for tests; 0 = 1 s.
	Every time.Duration
}

// Center is the centre's part of rules. All methods may be called concurrently.
type Center struct {
	cfg     Config
	log     *slog.Logger
	history *history
	topic   changes.Topic[int64]

	mu      sync.Mutex // guards what follows; nothing under it blocks
	files   []File
	stamp   string // of the directory as it was read last
	version int    // grows with every change of the rules
	reports map[ops.InstanceID]ops.RuleReport
	follows map[ops.InstanceID]*follow
	tries   map[ops.CaptureID]int
	taking  map[ops.CaptureID]bool
}

// New makes a center and reads the files. Wrong ones are kept as they are, with
// what is wrong in their File.
func New(cfg Config) (*Center, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	c := &Center{
		cfg: cfg, log: cfg.Logger,
		reports: map[ops.InstanceID]ops.RuleReport{}, follows: map[ops.InstanceID]*follow{},
		tries: map[ops.CaptureID]int{}, taking: map[ops.CaptureID]bool{},
	}
	var err error
	if c.history, err = openHistory(cfg.HistoryFile); err != nil {
		return nil, err
	}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	c.reload()
	return c, nil
}

// Run hands the rules out and takes in what comes of them until ctx ends.
func (c *Center) Run(ctx context.Context) error {
	sub := c.cfg.Captures.Subscribe()
	defer sub.Close()
	var under sync.WaitGroup
	defer under.Wait()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, f := range c.follows {
			f.cancel()
		}
	}()
	tick := time.NewTicker(c.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return c.history.close()
		case <-sub.Ready():
			for _, id := range sub.Take() {
				c.diagnosed(ctx, id)
			}
		case <-tick.C:
			c.reload()
			c.attend(ctx, &under)
		}
	}
}

// Subscribe tells of new entries of the history by their number. It is what
// whoever notifies people listens to: an entry of kind fired says that a rule
// fired, one of kind diagnosed what the capture it made turned out to show.
func (c *Center) Subscribe() *changes.Subscription[int64] { return c.topic.Subscribe() }

// Entry returns one of the history; NotFound if it is not kept any more.
func (c *Center) Entry(number int64) (Entry, error) { return c.history.entry(number) }

// History returns what happened, newest first; empty arguments match all.
func (c *Center) History(f Filter) []Entry { return c.history.search(f) }

// note keeps an entry and tells of it.
func (c *Center) note(e Entry) {
	number, err := c.history.add(e)
	if err != nil {
		c.log.Warn("the history of rules could not be written", "err", err)
	}
	c.topic.Publish(number)
}
