package audit_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestMaskJSON(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{"user":"ann","password":"hunter2"}`, `{"password":"[masked]","user":"ann"}`},
		{`{"metadata":[{"X-Api-Key":["a","b"],"n":9223372036854775807}]}`, `{"metadata":[{"X-Api-Key":"[masked]","n":9223372036854775807}]}`},
		{`{"accessToken":null,"note":"Authorization: Bearer abcdefghijkl"}`, `{"accessToken":null,"note":"Authorization: Bearer [masked]"}`},
		{`"postgres://game:s3cret@db:5432/wallet"`, `"postgres://game:[masked]@db:5432/wallet"`},
		{`"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"`, `"[masked]"`},
		{`"password=hunter2 rest"`, `"password=[masked] rest"`},
		{`{"amount":100,"player":"p-1"}`, `{"amount":100,"player":"p-1"}`},
		{`not json, token: abc`, `"not json, token: [masked]"`},
		{`{"a":1}{"b":2}`, `"{\"a\":1}{\"b\":2}"`},
	} {
		if got := string(audit.MaskJSON([]byte(tt.in))); got != tt.want {
			t.Errorf("MaskJSON(%s)\n got %s\nwant %s", tt.in, got, tt.want)
		}
	}
}

func FuzzMaskJSON(f *testing.F) {
	for _, s := range []string{`{"password":"x"}`, `[1,2,"Bearer abcdefgh"]`, `{`, "\xff\x00", `"-----BEGIN PRIVATE KEY-----"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		out := audit.MaskJSON(raw)
		if !json.Valid(out) {
			t.Fatalf("%q became %q, which is not JSON", raw, out)
		}
		if again := audit.MaskJSON(out); string(again) != string(out) {
			t.Fatalf("%q became %q and then %q", raw, out, again)
		}
	})
}

// Nothing that looks like a secret reaches the file, and what is too long is cut
// and says so.
func TestRecordHoldsNoSecretsAndIsBounded(t *testing.T) {
	l := record(t, t.TempDir())
	in := gc("local:ann", "k")
	in.Reason = "with token=hunter2abc"
	in.Request = json.RawMessage(`{"password":"hunter2abc","fill":"` + strings.Repeat("x", 100_000) + `"}`)
	a, err := l.Begin(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Step(t.Context(), audit.Step{Instance: "boot-1", Result: audit.Failed, Message: "secret: hunter2abc " + strings.Repeat("y", 5000)}); err != nil {
		t.Fatal(err)
	}
	if err := a.End(t.Context(), audit.Outcome{Result: audit.Failed, Message: "Bearer hunter2abc", Answer: json.RawMessage(`"` + strings.Repeat("z", 100_000) + `"`)}); err != nil {
		t.Fatal(err)
	}
	var file strings.Builder
	if err := l.Export(t.Context(), 0, &file); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(file.String(), "hunter2abc") || len(file.String()) > 12_000 {
		t.Errorf("%d bytes of record: %.300s", len(file.String()), file.String())
	}
	e, err := l.Entry(t.Context(), a.ID())
	if err != nil || !e.Outcome.AnswerLost || !strings.HasPrefix(string(e.Request), `{"cut":true,"bytes":100`) || !strings.HasSuffix(e.Steps[0].Message, "bytes more)") {
		t.Errorf("the record says %+v, %v", e, err)
	}
	for _, tt := range []struct {
		edit func(*audit.Intent)
		want string
	}{
		{func(in *audit.Intent) { in.Key = strings.Repeat("k", 129) }, "the key is 129 bytes long: keep it within 128"},
		{func(in *audit.Intent) { in.Reason = strings.Repeat("r", 1001) }, "the reason is 1001 bytes long: keep it within 1000"},
	} {
		bad := gc("local:ann", "")
		tt.edit(&bad)
		if _, err := l.Begin(t.Context(), bad); ops.KindOf(err) != ops.Invalid || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}
