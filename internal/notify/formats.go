package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Each chat is one POST of JSON, so there is no library here: those that know
// many chats (shoutrrr, nikoksr/notify) lack LINE's Messaging API or the signed
// robots, and none returns what Retry-After and a repetition's key need.

// schema of what the generic webhook gets.
const schema = "opscenter.notification/v1"

// The longest texts that the chats take, in characters, from their documentation.
const (
	telegramMost = 4096
	lineMost     = 5000
	slackMost    = 3000 // of a section
	feishuMost   = 4000 // 20 KB a request
	dingTalkMost = 4000 // 20,000 bytes a message
	teamsMost    = 4000 // 28 KB a message
)

// newID returns a random UUID, version 4: LINE's retry key has to be one.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// request is what a chat wants to be sent.
type request struct {
	url    string
	header http.Header
	body   any
}

// requestOf gives a message the form of the channel's chat.
func requestOf(c Channel, m Message, now time.Time) (request, error) {
	r := request{url: c.URL, header: http.Header{}}
	switch c.Type {
	case Webhook:
		r.body = generic(m)
		if c.Token != "" {
			r.header.Set("Authorization", "Bearer "+c.Token)
		}
	case Slack:
		r.body = slack(m)
	case Telegram:
		r.url = apiURL(c.URL, "https://api.telegram.org") + "/bot" + url.PathEscape(c.Token) + "/sendMessage"
		r.body = map[string]any{"chat_id": c.To, "text": telegramText(m), "parse_mode": "HTML", "link_preview_options": map[string]any{"is_disabled": true}}
	case LINE:
		r.url = apiURL(c.URL, "https://api.line.me") + "/v2/bot/message/push"
		r.header.Set("Authorization", "Bearer "+c.Token)
		r.header.Set("X-Line-Retry-Key", m.ID)
		r.body = map[string]any{"to": c.To, "messages": []any{map[string]any{"type": "text", "text": m.Text(lineMost)}}}
	case Teams:
		r.body = teams(m)
	case Feishu:
		r.body = feishu(m, c.Secret, now)
	case DingTalk:
		u, err := signedDingTalk(c, now)
		if err != nil {
			return r, err
		}
		r.url = u
		r.body = map[string]any{"msgtype": "markdown", "markdown": map[string]any{"title": cut(m.Title, 120), "text": markdown(m, dingTalkMost)}}
	}
	return r, nil
}

func apiURL(given, public string) string {
	if given == "" {
		return public
	}
	return strings.TrimSuffix(given, "/")
}

type genericMessage struct {
	Schema   string         `json:"schema"`
	ID       string         `json:"id"`
	At       time.Time      `json:"at"`
	Severity ops.Severity   `json:"severity"`
	Title    string         `json:"title"`
	Text     string         `json:"text"`
	Link     string         `json:"link,omitempty"`
	Count    int            `json:"count"`
	Events   []genericEvent `json:"events"`
}

type genericEvent struct {
	Kind     Kind              `json:"kind"`
	At       time.Time         `json:"at"`
	Severity ops.Severity      `json:"severity"`
	Project  ops.ProjectName   `json:"project"`
	Service  ops.ServiceName   `json:"service"`
	Instance ops.InstanceID    `json:"instance,omitempty"`
	Address  string            `json:"address,omitempty"`
	Subject  string            `json:"subject,omitempty"`
	Title    map[string]string `json:"title"`
	Function string            `json:"function,omitempty"`
	Place    string            `json:"place,omitempty"`
	Path     string            `json:"path,omitempty"`
}

func generic(m Message) genericMessage {
	g := genericMessage{
		Schema: schema, ID: m.ID, At: m.At.UTC(), Severity: m.Severity, Title: m.Title, Text: strings.Join(m.Lines, "\n"),
		Link: m.Link, Count: m.Count, Events: []genericEvent{},
	}
	for _, e := range m.Events {
		g.Events = append(g.Events, genericEvent{
			Kind: e.Kind, At: e.At.UTC(), Severity: e.Severity, Project: e.Project, Service: e.Service, Instance: e.Instance, Address: e.Address,
			Subject: e.Subject, Title: map[string]string{"en": e.Title.EN, "zh-TW": e.Title.ZH}, Function: e.Function, Place: e.Place, Path: e.Path,
		})
	}
	return g
}

func slack(m Message) any {
	section := func(text string) any {
		return map[string]any{"type": "section", "text": map[string]any{"type": "mrkdwn", "text": text}}
	}
	blocks := []any{section("*" + slackEscape(cut(m.Title, slackMost-200)) + "*")}
	if len(m.Lines) > 0 {
		blocks = append(blocks, section(cut(slackEscape(strings.Join(m.Lines, "\n")), slackMost)))
	}
	if m.Link != "" {
		blocks = append(blocks, section("<"+slackEscape(m.Link)+"|"+slackEscape(m.LinkText)+">"))
	}
	return map[string]any{"text": slackEscape(m.Title), "blocks": blocks}
}

// slackEscape keeps names such as "chan<- T" from being read as links and mentions.
func slackEscape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

func telegramText(m Message) string {
	link := ""
	if m.Link != "" {
		link = "\n<a href=\"" + html.EscapeString(m.Link) + "\">" + html.EscapeString(m.LinkText) + "</a>"
	}
	// Telegram counts what is shown; escapes only make it longer on the wire.
	title := cut(m.Title, telegramMost/4)
	body := cut(strings.Join(m.Lines, "\n"), telegramMost/2)
	return "<b>" + html.EscapeString(title) + "</b>\n" + html.EscapeString(body) + link
}

func teams(m Message) any {
	text := func(s string, more map[string]any) map[string]any {
		b := map[string]any{"type": "TextBlock", "text": markdownEscape(s), "wrap": true}
		for k, v := range more {
			b[k] = v
		}
		return b
	}
	color := map[ops.Severity]string{ops.Critical: "Attention", ops.Warning: "Warning"}[m.Severity]
	if color == "" {
		color = "Default"
	}
	body := []any{text(cut(m.Title, 500), map[string]any{"weight": "Bolder", "color": color})}
	for _, l := range m.Lines {
		body = append(body, text(cut(l, teamsMost/4), nil))
	}
	card := map[string]any{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body}
	if m.Link != "" {
		card["actions"] = []any{map[string]any{"type": "Action.OpenUrl", "title": m.LinkText, "url": m.Link}}
	}
	return map[string]any{"type": "message", "attachments": []any{
		map[string]any{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": card},
	}}
}

func feishu(m Message, secret string, now time.Time) any {
	var content [][]any
	for _, l := range m.Lines {
		content = append(content, []any{map[string]any{"tag": "text", "text": cut(l, feishuMost/4)}})
	}
	if m.Link != "" {
		content = append(content, []any{map[string]any{"tag": "a", "text": m.LinkText, "href": m.Link}})
	}
	body := map[string]any{"msg_type": "post", "content": map[string]any{"post": map[string]any{
		"zh_cn": map[string]any{"title": cut(m.Title, 500), "content": content},
	}}}
	if secret != "" {
		at := strconv.FormatInt(now.Unix(), 10)
		// Feishu signs an empty text with time and secret as the key.
		body["timestamp"], body["sign"] = at, base64.StdEncoding.EncodeToString(sign(at+"\n"+secret, ""))
	}
	return body
}

func signedDingTalk(c Channel, now time.Time) (string, error) {
	if c.Secret == "" {
		return c.URL, nil
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", errors.New("its address cannot be read")
	}
	at := strconv.FormatInt(now.UnixMilli(), 10)
	q := u.Query()
	q.Set("timestamp", at)
	q.Set("sign", base64.StdEncoding.EncodeToString(sign(c.Secret, at+"\n"+c.Secret)))
	u.RawQuery = q.Encode()
	return u.String(), nil
}

func markdown(m Message, most int) string {
	s := "### " + markdownEscape(cut(m.Title, most/4)) + "\n\n" + markdownEscape(cut(strings.Join(m.Lines, "\n\n"), most/2))
	if m.Link != "" {
		s += "\n\n[" + m.LinkText + "](" + m.Link + ")"
	}
	return s
}

func markdownEscape(s string) string {
	return strings.NewReplacer("*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "]", `\]`, "<", "&lt;").Replace(s)
}

func sign(key, text string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(text))
	return h.Sum(nil)
}

// maxAnswer bounds what is read of a chat's answer.
const maxAnswer = 64 << 10

// send makes one attempt. If it failed, again is how long to wait at least before
// the next one; negative = another would not help. The error holds no secret.
func (n *Notifier) send(ctx context.Context, c Channel, m Message) (again time.Duration, err error) {
	r, err := requestOf(c, m, time.Now())
	if err != nil {
		return -1, err
	}
	b, err := json.Marshal(r.body)
	if err != nil {
		return -1, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(b))
	if err != nil {
		return -1, errors.New("its address cannot be used")
	}
	req.Header = r.header
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "opscenter")
	if c.Type == Webhook && c.Secret != "" {
		at := strconv.FormatInt(time.Now().Unix(), 10)
		req.Header.Set("Ops-Timestamp", at)
		req.Header.Set("Ops-Signature", "sha256="+hex.EncodeToString(sign(c.Secret, at+"."+string(b))))
	}
	res, err := n.client.Do(req)
	if err != nil {
		var ue *url.Error // holds the address, and that the secret
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return 0, fmt.Errorf("%s cannot be reached: %w", req.URL.Host, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("%s broke off its answer", req.URL.Host)
	}
	return judge(c, res, answer)
}

// judge says what an answer means.
func judge(c Channel, res *http.Response, answer []byte) (time.Duration, error) {
	host := res.Request.URL.Host
	said := strings.TrimSpace(string(answer))
	for _, secret := range []string{c.Token, c.Secret, c.URL} {
		if secret != "" {
			said = strings.ReplaceAll(said, secret, "•••")
		}
	}
	said = cut(said, 200)
	switch {
	case c.Type == LINE && res.StatusCode == http.StatusConflict:
		return 0, nil // this retry key was taken already: it is delivered
	case res.StatusCode == http.StatusTooManyRequests:
		return retryAfter(res, answer), fmt.Errorf("%s asks to wait: %s", host, said)
	case res.StatusCode >= 500:
		return 0, fmt.Errorf("%s answers %s: %s", host, res.Status, said)
	case res.StatusCode >= 300:
		return -1, fmt.Errorf("%s refuses with %s: %s", host, res.Status, said)
	}
	// Feishu and DingTalk refuse with 200 and a code.
	if c.Type == Feishu || c.Type == DingTalk {
		var v struct {
			Code    int `json:"code"`
			ErrCode int `json:"errcode"`
		}
		if err := json.Unmarshal(answer, &v); err != nil {
			return -1, fmt.Errorf("%s answers what is no answer of a robot: %s", host, said)
		}
		code := v.Code
		if code == 0 {
			code = v.ErrCode
		}
		switch code {
		case 0:
		case -1: // DingTalk: busy
			return 0, fmt.Errorf("%s is busy: %s", host, said)
		case 9499, 11232, 130101: // too many, by their documentation
			return 30 * time.Second, fmt.Errorf("%s asks to wait: %s", host, said)
		default:
			return -1, fmt.Errorf("%s refuses: %s", host, said)
		}
	}
	return 0, nil
}

// maxRetryAfter keeps a chat from holding a channel for a day.
const maxRetryAfter = 10 * time.Minute

func retryAfter(res *http.Response, answer []byte) time.Duration {
	var v struct {
		Parameters struct {
			RetryAfter float64 `json:"retry_after"` // Telegram
		} `json:"parameters"`
	}
	_ = json.Unmarshal(answer, &v)
	wait := time.Duration(v.Parameters.RetryAfter * float64(time.Second))
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil {
		wait = max(wait, time.Duration(s)*time.Second)
	} else if t, err := http.ParseTime(res.Header.Get("Retry-After")); err == nil {
		wait = max(wait, time.Until(t))
	}
	return min(max(wait, 0), maxRetryAfter)
}
