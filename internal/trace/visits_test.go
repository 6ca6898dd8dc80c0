package trace_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/trace"
)

//go:noinline
func asksOneByOne(n int) {
	for range n {
		time.Sleep(time.Millisecond)
	}
}

// A connection's goroutine serves one request after the other; each comes to the
// stack once, however often it waits there.
func TestRequestsAreVisitsHoweverOftenTheyWait(t *testing.T) {
	const requests, each = 5, 8
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asksOneByOne(each) }))
	defer s.Close()
	tr := traceOf(t, func() {
		for range requests {
			res, err := s.Client().Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				t.Fatal(err)
			}
			if err := res.Body.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
	site := siteIn(t, tr, analyze(t, tr, trace.Options{}), trace.ReasonSleep, ".asksOneByOne")
	if site.Visits != requests || site.Count != requests*each {
		t.Errorf("%d visits and %d waits, want %d and %d", site.Visits, site.Count, requests, requests*each)
	}
}

// What goes on when a part of the trace ends, which one does each second, does not come
// anew after it.
func TestAVisitMayLastLongerThanAPartOfTheTrace(t *testing.T) {
	tr := traceOf(t, func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 60 {
				asksOneByOne(1)
				time.Sleep(20 * time.Millisecond)
			}
		}()
		<-done
	})
	if n := len(tr.Index().Generations); n < 2 {
		t.Fatalf("%d parts: no visit was cut", n)
	}
	site := siteIn(t, tr, analyze(t, tr, trace.Options{}), trace.ReasonSleep, ".asksOneByOne")
	if site.Visits != 1 || site.Count != 60 {
		t.Errorf("%d visits and %d waits, want 1 and 60", site.Visits, site.Count)
	}
}
