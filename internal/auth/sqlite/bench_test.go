package sqlite_test

import (
	"testing"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/auth/sqlite"
)

// BenchmarkASessionIsLookedUp is what every request costs where people log in.
func BenchmarkASessionIsLookedUp(b *testing.B) {
	store, err := sqlite.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	h := &house{}
	if h.Accounts, err = auth.NewAccounts(b.Context(), auth.AccountsConfig{Store: store, PasswordKiB: 64}); err != nil {
		b.Fatal(err)
	}
	h.door = &auth.Door{Accounts: h.Accounts}
	if err := h.AddUser(b.Context(), "test", "bob", password, []auth.Grant{{Role: auth.Operator, Scope: "color"}}); err != nil {
		b.Fatal(err)
	}
	e, err := h.Login(b.Context(), auth.Attempt{Name: "bob", Password: password})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := h.as(e.Session); err != nil {
			b.Fatal(err)
		}
	}
}
