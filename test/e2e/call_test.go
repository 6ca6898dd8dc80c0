package e2e

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// The console over the agent's connection: the game opens no port for it.
func TestCallingTheGame(t *testing.T) {
	g := game(t)
	call := func(args ...string) (string, int) {
		return ops(t, g.center, append([]string{"call", "game-service"}, args...)...)
	}
	list, code := call()
	if code != 0 || !strings.Contains(list, "colorgame.v1.WalletService/AddBalance") || !strings.Contains(list, "colorgame.v1.RoomService/Play") || strings.Contains(list, "opscenter.agent") {
		t.Fatalf("exit %d\n%s", code, list)
	}
	balance := func() int64 {
		t.Helper()
		out, code := call("WalletService/GetBalance", `{"player":"operator"}`)
		var w struct{ Balance string }
		if err := json.Unmarshal([]byte(out), &w); code != 0 || err != nil {
			t.Fatalf("exit %d %v\n%s", code, err, out)
		}
		n, err := strconv.ParseInt(w.Balance, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// Somebody who plays has a wallet: a bidirectional stream.
	out, code := call("RoomService/Play", `{"player":"operator","color":"COLOR_RED","stake":"10"}`, `{"player":"operator","room":77,"color":"COLOR_RED","stake":"10"}`, "--reason", "a test", "--yes")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != 0 || len(lines) != 2 || !strings.HasPrefix(lines[0], `{"receipt":{"round":`) || lines[1] != `{"refused":"there is no room 77: rooms are 0 to 3"}` {
		t.Fatalf("exit %d\n%s", code, out)
	}
	// A server's stream, bounded by what was asked for.
	out, code = call("RoomService/WatchRoom", `{"room":1,"boards":2}`)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != 0 || len(lines) != 2 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	before := balance()
	if _, code := call("WalletService/AddBalance", `{"player":"operator","amount":"100"}`); code != 2 {
		t.Errorf("without a reason: exit %d", code)
	}
	for range 2 { // the same key: one effect
		if out, code := call("WalletService/AddBalance", `{"player":"operator","amount":"100"}`, "--reason", "lost to the outage", "--yes", "--key", "ticket-4711"); code != 0 {
			t.Fatalf("exit %d\n%s", code, out)
		}
	}
	// A round may have paid the bet of above meanwhile: four times its stake, or nothing.
	if got := balance() - before; got != 100 && got != 140 {
		t.Errorf("the balance grew by %d", got)
	}
	if _, code := call("WalletService/GetBalance", `{"player":"nobody"}`); code != 1 {
		t.Errorf("a refusal: exit %d", code)
	}
}
