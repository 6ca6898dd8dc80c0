package agent

import (
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"strings"
	"testing"
)

// Whoever finds the process by its pprof endpoints learns which agent is in it.
func TestTheBootIDIsInTheIndexOfPprof(t *testing.T) {
	a, err := Start(Config{Center: "off", Service: "s"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	w := httptest.NewRecorder()
	pprof.Index(w, httptest.NewRequest(http.MethodGet, "/debug/pprof/", nil))
	if !strings.Contains(w.Body.String(), "opscenter.agent."+a.self.bootID) {
		t.Errorf("%s is not listed", a.self.bootID)
	}
}
