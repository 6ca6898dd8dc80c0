package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Message is a group of events in words, before a chat gives it a form.
type Message struct {
	At       time.Time
	Severity ops.Severity
	// Title is a line: how bad, where, what.
	Title string
	// Lines are the body, plain text.
	Lines []string
	// Link leads to the page that shows it; empty = none.
	Link, LinkText string
	// Count is how many events it stands for; Events the first of them, the worst first.
	Count  int
	Events []Event
	// ID is the same for every attempt, so that a chat which knows it drops the second.
	ID string
}

// named is how many instances a message names.
const named = 5

// render puts a group into words.
func render(events []Event, more int, lang ops.Lang, base string) Message {
	slices.SortStableFunc(events, func(a, b Event) int { return rank(b.Severity) - rank(a.Severity) })
	first := events[0]
	say := func(en, zh string) string { return ops.Text{EN: en, ZH: zh}.In(lang) }
	m := Message{
		At: first.At, Severity: first.Severity, Count: len(events) + more, Events: events, ID: newID(),
		Title: fmt.Sprintf("[%s] %s/%s: %s", severityWord(first.Severity, lang), first.Project, first.Service, first.Title.In(lang)),
	}
	if first.Function != "" || first.Place != "" {
		m.Lines = append(m.Lines, strings.TrimSpace(say("Change first: ", "先改這裡：")+strings.TrimSpace(first.Function+" "+first.Place)))
	}
	if d := first.Detail.In(lang); d != "" {
		m.Lines = append(m.Lines, d)
	}
	if who := instances(events, lang); who != "" {
		m.Lines = append(m.Lines, who)
	}
	if m.Count > 1 {
		m.Lines = append(m.Lines, fmt.Sprintf(say("%d times since %s", "自 %[2]s 起 %[1]d 次"), m.Count, earliest(events).Format("15:04:05 MST")))
	}
	if base != "" && first.Path != "" {
		m.Link, m.LinkText = strings.TrimSuffix(base, "/")+first.Path, say("Open in OPS Center", "在 OPS Center 開啟")
	}
	return m
}

func instances(events []Event, lang ops.Lang) string {
	var names []string
	for _, e := range events {
		name := e.Address
		if name == "" {
			name = string(e.Instance)
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	rest := ""
	if n := len(names) - named; n > 0 {
		names = names[:named]
		rest = fmt.Sprintf(ops.Text{EN: " and %d more", ZH: "，另有 %d 個"}.In(lang), n)
	}
	return ops.Text{EN: "Instances: ", ZH: "實例："}.In(lang) + strings.Join(names, ops.Text{EN: ", ", ZH: "、"}.In(lang)) + rest
}

func earliest(events []Event) time.Time {
	at := events[0].At
	for _, e := range events {
		if e.At.Before(at) {
			at = e.At
		}
	}
	return at
}

func severityWord(s ops.Severity, lang ops.Lang) string {
	switch s {
	case ops.Critical:
		return ops.Text{EN: "critical", ZH: "嚴重"}.In(lang)
	case ops.Warning:
		return ops.Text{EN: "warning", ZH: "警告"}.In(lang)
	}
	return ops.Text{EN: "notice", ZH: "注意"}.In(lang)
}

func testMessage(lang ops.Lang, base, actor string, now time.Time) Message {
	say := func(en, zh string) string { return ops.Text{EN: en, ZH: zh}.In(lang) }
	m := Message{
		At: now, Severity: ops.Notice, Count: 1, ID: newID(),
		Title: say("OPS Center: this channel works", "OPS Center：這個頻道可以使用"),
		Lines: []string{fmt.Sprintf(say("A test that %s asked for.", "%s 要求的測試訊息。"), actor)},
	}
	if base != "" {
		m.Link, m.LinkText = base+"/", say("Open OPS Center", "開啟 OPS Center")
	}
	return m
}

// Text is the message as plain text, cut to most runes; what is cut is said.
func (m Message) Text(most int) string {
	var b strings.Builder
	b.WriteString(m.Title)
	for _, l := range m.Lines {
		b.WriteString("\n" + l)
	}
	tail := ""
	if m.Link != "" {
		tail = "\n" + m.Link
	}
	return cut(b.String(), most-len([]rune(tail))) + tail
}

func cut(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}
