package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"regexp"
	"strings"
)

type message struct {
	Room string `json:"room"`
	From int    `json:"from"`
	Text string `json:"text"`
}

// rule masks one thing that must not be said in a room.
type rule interface {
	Apply(text string) string
}

type wordRule struct {
	word string
}

func (r wordRule) Apply(text string) string {
	re := regexp.MustCompile(`(?i)\b` + spaced(r.word) + `\b`) // want: cpu-hot-path
	return re.ReplaceAllString(text, strings.Repeat("*", len(r.word)))
}

// spaced also matches the word with signs between its letters.
func spaced(word string) string {
	var b strings.Builder
	for i, c := range word {
		if i > 0 {
			b.WriteString(`[\s._\-]{0,2}`)
		}
		b.WriteString(regexp.QuoteMeta(string(c)))
	}
	return b.String()
}

type contactRule struct {
	mask string
	re   *regexp.Regexp
}

func (r contactRule) Apply(text string) string { return r.re.ReplaceAllString(text, r.mask) }

type moderator struct {
	rules []rule
}

func newModerator(words []string) *moderator {
	m := &moderator{}
	for _, w := range words {
		m.rules = append(m.rules, wordRule{word: w})
	}
	m.rules = append(m.rules, contactRule{mask: "[phone]", re: regexp.MustCompile(`\b09\d{8}\b`)})
	return m
}

func (m *moderator) clean(text string) string {
	for _, r := range m.rules {
		text = r.Apply(text)
	}
	return text
}

type chatAPI struct {
	moderator *moderator
}

func (a *chatAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var msg message
	if err := json.NewDecoder(io.LimitReader(r.Body, 8<<10)).Decode(&msg); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	msg.Text = a.moderator.clean(msg.Text)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(msg)
}

func vocabulary() []string {
	var words []string
	for _, stem := range []string{"cheat", "scam", "refund", "botter", "hack", "exploit", "dupe", "casino", "loan", "spam"} {
		for _, end := range []string{"", "er", "ers", "ing"} {
			words = append(words, stem+end)
		}
	}
	return words
}

func talkers(url string, n int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	lines := []string{
		"good luck everyone, last round was close",
		"anybody selling a h.a.c.k for table nine? asking for a friend",
		"call me on 0912345678 about the loan",
		"gg wp see you at the spring cup",
	}
	for i := range n {
		go func() {
			for {
				body, _ := json.Marshal(message{Room: fmt.Sprintf("room-%d", i%5), From: i, Text: lines[rand.IntN(len(lines))]})
				resp, err := client.Post(url, "application/json", bytes.NewReader(body))
				if err != nil {
					log.Print(err)
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
	}
}

func main() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	api := &chatAPI{moderator: newModerator(vocabulary())}
	go func() { log.Fatal(http.Serve(ln, api)) }()
	talkers("http://"+ln.Addr().String(), 16)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
