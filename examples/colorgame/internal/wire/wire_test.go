package wire

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestTheClientSaysWhatWasAnswered(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/refuse":
			http.Error(w, "come back later", http.StatusServiceUnavailable)
		case "/babble":
			io.WriteString(w, "not JSON")
		default:
			Write(w, Login{Token: r.Header.Get("Authorization")})
		}
	}))
	defer srv.Close()
	c := NewClient(srv.URL, 10*time.Second, 1)
	defer c.Close()

	var l Login
	if err := c.Get(t.Context(), "/", "secret", &l); err != nil || l.Token != "Bearer secret" {
		t.Errorf("%+v, %v", l, err)
	}
	err := c.Post(t.Context(), "/refuse", "", Bet{}, nil)
	if want := "POST /refuse: 503 Service Unavailable: come back later"; err == nil || err.Error() != want || !IsStatus(err, 503) {
		t.Errorf("%v, want %s", err, want)
	}
	if err := c.Get(t.Context(), "/babble", "", &l); err == nil || !strings.HasPrefix(err.Error(), "GET /babble: decoding the answer: ") {
		t.Errorf("%v", err)
	}
	if IsStatus(errors.New("503"), 503) {
		t.Error("any error is taken for an answer")
	}
}

func TestABodyIsBounded(t *testing.T) {
	w := httptest.NewRecorder()
	body := `{"player": "` + strings.Repeat("x", maxBody) + `"}`
	if _, ok := Read[Bet](w, httptest.NewRequest("POST", "/", strings.NewReader(body))); ok || w.Code != http.StatusBadRequest {
		t.Errorf("read: %t, %d", ok, w.Code)
	}
}
