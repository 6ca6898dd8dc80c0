package notify

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Type is the chat that a channel speaks to.
type Type string

// The types.
const (
	Webhook  Type = "webhook"  // generic JSON, docs/notifications.md
	Slack    Type = "slack"    // incoming webhook
	Telegram Type = "telegram" // bot
	LINE     Type = "line"     // Messaging API, push
	Teams    Type = "teams"    // Workflows webhook, adaptive card
	Feishu   Type = "feishu"   // custom bot
	DingTalk Type = "dingtalk" // custom robot
)

// Types returns all types.
func Types() []Type { return []Type{Webhook, Slack, Telegram, LINE, Teams, Feishu, DingTalk} }

// Channel is where to tell what to whom.
type Channel struct {
	Name string `yaml:"name" json:"name"`
	Type Type   `yaml:"type" json:"type"`
	// URL of the webhook, which is a secret of most chats; of Telegram and LINE the
	// API's address, empty = the public one.
	URL string `yaml:"url" json:"url,omitempty"`
	// Token of the bot (Telegram, LINE), or sent as bearer (webhook).
	Token string `yaml:"token" json:"token,omitempty"`
	// To is who reads it: Telegram's chat id, LINE's user, group or room id.
	To string `yaml:"to" json:"to,omitempty"`
	// Secret signs messages (webhook, Feishu, DingTalk); empty = unsigned.
	Secret string `yaml:"secret" json:"secret,omitempty"`

	// Lang of the messages; empty = English.
	Lang ops.Lang `yaml:"lang" json:"lang,omitempty"`
	// Least severity to tell; empty = warning.
	Least ops.Severity `yaml:"least" json:"least,omitempty"`
	// Projects, Services and Events choose what to tell, the first two as patterns
	// with *; empty = all.
	Projects []string `yaml:"projects" json:"projects,omitempty"`
	Services []string `yaml:"services" json:"services,omitempty"`
	Events   []Kind   `yaml:"events" json:"events,omitempty"`

	// GroupFor is how long to wait for more of the same trouble; 0 = 15 s.
	GroupFor Duration `yaml:"group_for" json:"group_for,omitempty"`
	// RepeatAfter is how soon the same trouble is told again, unless it got worse;
	// 0 = 30 min.
	RepeatAfter Duration `yaml:"repeat_after" json:"repeat_after,omitempty"`
	Quiet       *Quiet   `yaml:"quiet" json:"quiet,omitempty"`

	declared bool
}

// The defaults of a channel. 15 s is long enough for the instances of a service
// to fail one after the other; Grafana and Alertmanager wait 30 s.
const (
	groupFor    = 15 * time.Second
	repeatAfter = 30 * time.Minute
)

// Quiet are the hours in which nothing is sent; what happens is told when they end.
type Quiet struct {
	// From and To are times of day, "23:00" and "07:30"; To may be on the next day.
	From string `yaml:"from" json:"from"`
	To   string `yaml:"to" json:"to"`
	// Zone is an IANA name, "Asia/Taipei"; empty = the centre's own.
	Zone string `yaml:"zone" json:"zone,omitempty"`
	// Critical holds critical messages too; they wake people otherwise.
	Critical bool `yaml:"critical" json:"critical,omitempty"`
}

// Duration is a time.Duration that reads and writes as "30s".
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration does.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return errors.New(`a duration such as "30s" or "10m" is needed`)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes it in the way that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Validate returns what is wrong with a channel, by its field.
func (c Channel) Validate() error {
	bad := func(format string, args ...any) error {
		return ops.Errorf(ops.Invalid, "channel %q: "+format, append([]any{c.Name}, args...)...)
	}
	if !ops.ValidName(c.Name) {
		return ops.Errorf(ops.Invalid, "%q is no name of a channel: use letters, digits, dot, underscore and hyphen", c.Name)
	}
	if !slices.Contains(Types(), c.Type) {
		return bad("type: %q is none of %s", c.Type, join(Types()))
	}
	if err := c.validateAddress(bad); err != nil {
		return err
	}
	if c.Lang != "" && c.Lang != ops.English && c.Lang != ops.TraditionalChinese {
		return bad("lang: %q is neither en nor zh-TW", c.Lang)
	}
	if c.Least != "" && c.Least != ops.Notice && c.Least != ops.Warning && c.Least != ops.Critical {
		return bad("least: %q is none of notice, warning, critical", c.Least)
	}
	for _, k := range c.Events {
		if !slices.Contains(Kinds(), k) {
			return bad("events: %q is none of %s", k, join(Kinds()))
		}
	}
	for _, p := range slices.Concat(c.Projects, c.Services) {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return bad("the pattern %q cannot be right: use a name, or * for a part of it", p)
		}
	}
	if d := time.Duration(c.GroupFor); d < 0 || d > time.Hour {
		return bad("group_for: %v is not between 0s and 1h", d)
	}
	if d := time.Duration(c.RepeatAfter); d < 0 || d > 7*24*time.Hour {
		return bad("repeat_after: %v is not between 0s and 168h", d)
	}
	if c.Quiet != nil {
		if _, err := c.Quiet.hours(); err != nil {
			return bad("quiet: %w", err)
		}
	}
	return nil
}

func (c Channel) validateAddress(bad func(string, ...any) error) error {
	switch c.Type {
	case Telegram, LINE:
		if c.Token == "" {
			return bad("token: the bot's token is needed")
		}
		if c.To == "" {
			return bad("to: who shall read it is needed: a chat, group or user id")
		}
	default:
		if c.URL == "" {
			return bad("url: the webhook's address is needed")
		}
	}
	if c.URL == "" {
		return nil
	}
	u, err := url.Parse(c.URL)
	// The address is not repeated: it is a secret.
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return bad("url: an address such as https://chat.example.com/hook is needed")
	}
	return nil
}

// Masked returns the channel without its secrets: what of them exists is "•••",
// and an address shows its host alone.
func (c Channel) Masked() Channel {
	const mask = "•••"
	if c.Token != "" {
		c.Token = mask
	}
	if c.Secret != "" {
		c.Secret = mask
	}
	if u, err := url.Parse(c.URL); err == nil && c.URL != "" {
		c.URL = u.Scheme + "://" + u.Host + "/" + mask
	}
	return c
}

// withSecretsOf fills what a person left empty, or left as it was shown. Secrets
// stay with the address they were given for: whoever may change a channel must
// not be able to send them elsewhere.
func (c Channel) withSecretsOf(old Channel) Channel {
	shown := old.Masked()
	if c.Type != old.Type {
		return c
	}
	if c.URL == "" && !c.publicAPI() || c.URL == shown.URL {
		c.URL = old.URL
	}
	if c.URL != old.URL {
		return c
	}
	if c.Token == "" || c.Token == shown.Token {
		c.Token = old.Token
	}
	if c.Secret == "" || c.Secret == shown.Secret {
		c.Secret = old.Secret
	}
	return c
}

func (c Channel) publicAPI() bool { return c.Type == Telegram || c.Type == LINE }

// wants reports whether the channel's readers want to hear of e.
func (c Channel) wants(e Event) bool {
	least := c.Least
	if least == "" {
		least = ops.Warning
	}
	return rank(e.Severity) >= rank(least) &&
		(len(c.Events) == 0 || slices.Contains(c.Events, e.Kind)) &&
		matches(c.Projects, string(e.Project)) && matches(c.Services, string(e.Service))
}

func matches(patterns []string, name string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return err == nil && ok
	})
}

func rank(s ops.Severity) int {
	switch s {
	case ops.Notice:
		return 1
	case ops.Warning:
		return 2
	case ops.Critical:
		return 3
	}
	return 0
}

func (c Channel) groupFor() time.Duration {
	if c.GroupFor > 0 {
		return time.Duration(c.GroupFor)
	}
	return groupFor
}

func (c Channel) repeatAfter() time.Duration {
	if c.RepeatAfter > 0 {
		return time.Duration(c.RepeatAfter)
	}
	return repeatAfter
}

// hours are Quiet's, parsed.
type hours struct {
	from, to time.Duration // since midnight
	zone     *time.Location
	critical bool
}

func (q *Quiet) hours() (hours, error) {
	if q == nil {
		return hours{}, nil
	}
	h := hours{zone: time.Local, critical: q.Critical}
	var err error
	if h.from, err = timeOfDay(q.From); err != nil {
		return h, err
	}
	if h.to, err = timeOfDay(q.To); err != nil {
		return h, err
	}
	if h.from == h.to {
		return h, errors.New("from and to are the same: leave quiet out, or choose hours")
	}
	if q.Zone != "" {
		if h.zone, err = time.LoadLocation(q.Zone); err != nil {
			return h, errors.New("zone: a name such as Asia/Taipei is needed")
		}
	}
	return h, nil
}

func timeOfDay(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, errors.New(`from and to: a time of day such as "23:00" is needed`)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// until returns when the quiet hours that hold at now end, for a message of that
// severity; zero = it may be sent.
func (h hours) until(now time.Time, s ops.Severity) time.Time {
	if h.zone == nil || s == ops.Critical && !h.critical {
		return time.Time{}
	}
	local := now.In(h.zone)
	midnight := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, h.zone)
	// Times of day, not durations: a day with a change of the clock has its own length.
	at := func(day int, d time.Duration) time.Time {
		return time.Date(midnight.Year(), midnight.Month(), midnight.Day()+day, 0, int(d/time.Minute), 0, 0, h.zone)
	}
	for _, day := range []int{-1, 0} {
		from, to := at(day, h.from), at(day, h.to)
		if h.to < h.from {
			to = at(day+1, h.to)
		}
		if !local.Before(from) && local.Before(to) {
			return to
		}
	}
	return time.Time{}
}

// readKept reads the channels that people added; none if there is no file yet.
func readKept(file string) ([]Channel, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, ops.Errorf(ops.Unavailable, "channels of notifications: %w", err)
	}
	var out []Channel
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, ops.Errorf(ops.Corrupt, "channels of notifications in %s cannot be read: %w: repair the file, or move it away and add the channels again", file, err)
	}
	for _, c := range out {
		if err := c.Validate(); err != nil {
			return nil, ops.Errorf(ops.Corrupt, "%s: %w", file, err)
		}
	}
	return out, nil
}

// writeKept replaces the file, readable by its owner alone.
func writeKept(file string, all []Channel) error {
	if file == "" {
		return nil
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return ops.Errorf(ops.Internal, "channels of notifications: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".notify-*") // 0600
	if err != nil {
		return ops.Errorf(ops.Unavailable, "channels of notifications were not kept: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return ops.Errorf(ops.Unavailable, "channels of notifications were not kept: %w", err)
	}
	return nil
}

func join[T ~string](all []T) string {
	words := make([]string, len(all))
	for i, v := range all {
		words[i] = string(v)
	}
	return strings.Join(words, ", ")
}
