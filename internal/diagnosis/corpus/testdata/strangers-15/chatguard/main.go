// chatguard masks forbidden words in lobby chat before the message is fanned out.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"regexp"
	"strings"
	"time"
)

type Message struct {
	Room string `json:"room"`
	From string `json:"from"`
	Text string `json:"text"`
}

type Rule struct {
	Word     string
	Severity int
}

type Verdict struct {
	Text     string `json:"text"`
	Severity int    `json:"severity"`
}

type Policy interface {
	Review(Message) (Verdict, error)
}

type wordPolicy struct {
	rules []Rule
}

func (p *wordPolicy) Review(m Message) (Verdict, error) {
	v := Verdict{Text: m.Text}
	for _, r := range p.rules {
		re, err := regexp.Compile(`(?i)\b` + spaced(r.Word) + `\b`) // want: cpu-hot-path
		if err != nil {
			return v, err
		}
		if !re.MatchString(v.Text) {
			continue
		}
		v.Text = re.ReplaceAllStringFunc(v.Text, func(s string) string { return strings.Repeat("*", len(s)) })
		v.Severity = max(v.Severity, r.Severity)
	}
	return v, nil
}

// spaced also matches "s p a c e d" spellings.
func spaced(word string) string {
	var b strings.Builder
	for i, c := range word {
		if i > 0 {
			b.WriteString(`[\s._-]*`)
		}
		b.WriteString(regexp.QuoteMeta(string(c)))
	}
	return b.String()
}

func handler(p Policy) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var m Message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		v, err := p.Review(m)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
}

var syllables = []string{"ba", "du", "ki", "lo", "mer", "nox", "pra", "quin", "ros", "tev", "ul", "zan"}

func word() string {
	var b strings.Builder
	for range 2 + rand.IntN(3) {
		b.WriteString(syllables[rand.IntN(len(syllables))])
	}
	return b.String()
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()

	policy := &wordPolicy{}
	for i := range 120 {
		policy.rules = append(policy.rules, Rule{Word: word(), Severity: 1 + i%3})
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, handler(policy))) }()

	url := "http://" + ln.Addr().String() + "/review"
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	for range 24 {
		go func() {
			for {
				words := make([]string, 12)
				for i := range words {
					words[i] = word()
				}
				body, _ := json.Marshal(Message{Room: "lobby", From: word(), Text: strings.Join(words, " ")})
				if resp, err := client.Post(url, "application/json", bytes.NewReader(body)); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(15 * time.Millisecond)
			}
		}()
	}
	select {}
}
