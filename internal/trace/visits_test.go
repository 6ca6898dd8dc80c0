package trace_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	runtimetrace "runtime/trace"
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
	var b bytes.Buffer
	if err := runtimetrace.Start(&b); err != nil {
		t.Skip(err) // another test traces
	}
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
	runtimetrace.Stop()
	tr := open(t, b.Bytes())
	site := siteIn(t, tr, analyze(t, tr, trace.Options{}), trace.ReasonSleep, ".asksOneByOne")
	// A visit that lasts from one part of the trace into the next counts in both.
	if site.Visits < requests || site.Visits >= requests+int64(len(tr.Index().Generations)) || site.Count != requests*each {
		t.Errorf("%d visits and %d waits, want %d and %d", site.Visits, site.Count, requests, requests*each)
	}
}
