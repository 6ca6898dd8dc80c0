package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
)

type accounts map[string][]byte

func (a accounts) verify(user, pass string) error {
	h, ok := a[user]
	if !ok {
		return errNo
	}
	return bcrypt.CompareHashAndPassword(h, []byte(pass))
}

var errNo = errors.New("not allowed")

type sealer struct{ key []byte }

func (s sealer) mac(text string) string {
	m := hmac.New(sha256.New, s.key)
	io.WriteString(m, text)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func (s sealer) issue(user string, ttl time.Duration) string {
	text := user + "." + strconv.FormatInt(time.Now().Add(ttl).Unix(), 36)
	return text + "." + s.mac(text)
}

func (s sealer) open(tok string) (string, error) {
	i := strings.LastIndexByte(tok, '.')
	if i < 0 || !hmac.Equal([]byte(tok[i+1:]), []byte(s.mac(tok[:i]))) {
		return "", errNo
	}
	user, exp, _ := strings.Cut(tok[:i], ".")
	t, err := strconv.ParseInt(exp, 36, 64)
	if err != nil || time.Now().Unix() > t {
		return "", errNo
	}
	return user, nil
}

type door struct {
	acc  accounts
	seal sealer
}

func (d door) login(w http.ResponseWriter, r *http.Request) {
	user := r.PostFormValue("user")
	if err := d.acc.verify(user, r.PostFormValue("pass")); err != nil {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	io.WriteString(w, d.seal.issue(user, time.Hour))
}

func (d door) me(w http.ResponseWriter, r *http.Request) {
	user, err := d.seal.open(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if err != nil {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	json.NewEncoder(w).Encode(map[string]string{"user": user})
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()

	d := door{acc: accounts{}, seal: sealer{key: []byte("9b1f6e0d4c")}}
	h, err := bcrypt.GenerateFromPassword([]byte("hunter2"), 10)
	if err != nil {
		log.Fatal(err)
	}
	users := []string{"ann", "bo", "cy", "dee", "eli", "fay"}
	for _, u := range users {
		d.acc[u] = h
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", d.login)
	mux.HandleFunc("GET /me", d.me)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	base := "http://" + l.Addr().String()
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 40}}
	read := func(res *http.Response, err error) string {
		if err != nil {
			log.Print(err)
			return ""
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return string(b)
	}
	signIn := func(u string) string {
		return read(c.PostForm(base+"/login", url.Values{"user": {u}, "pass": {"hunter2"}}))
	}
	for i := range 24 {
		go func() {
			tok := signIn(users[i%len(users)])
			for {
				req, _ := http.NewRequest(http.MethodGet, base+"/me", nil)
				req.Header.Set("Authorization", "Bearer "+tok)
				read(c.Do(req))
				time.Sleep(time.Duration(15+rand.IntN(20)) * time.Millisecond)
			}
		}()
	}
	for range time.Tick(800 * time.Millisecond) {
		signIn(users[rand.IntN(len(users))])
	}
}
