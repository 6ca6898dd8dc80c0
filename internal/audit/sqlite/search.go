package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/audit"
)

// Search implements audit.Store.
func (s *Store) Search(ctx context.Context, f audit.Filter) ([]audit.Row, error) {
	w := &where{}
	w.filter(f)
	// Intents first, by their own index; then everything of those actions.
	query := `SELECT r.seq, r.body, r.hash FROM (
	SELECT i.seq AS at_seq, i.action_id AS id FROM audit_row i WHERE i.kind = 'intent'` + w.sql.String() + ` ORDER BY i.seq DESC LIMIT ` + w.arg(f.Limit) + `
) hit JOIN audit_row r ON r.action_id = hit.id AND (r.kind <> 'intent' OR r.seq = hit.at_seq) ORDER BY hit.at_seq DESC, r.seq`
	return s.query(ctx, query, w.args...)
}

// where collects the conditions on an intent's row i.
type where struct {
	sql  strings.Builder
	args []any
}

func (w *where) arg(v any) string {
	w.args = append(w.args, v)
	return fmt.Sprintf("$%d", len(w.args))
}

func (w *where) equal(column, value string) {
	if value != "" {
		w.sql.WriteString(" AND i." + column + " = " + w.arg(value))
	}
}

func (w *where) filter(f audit.Filter) {
	w.equal("action_id", string(f.ID))
	w.equal("actor", f.Actor)
	w.equal("subject", f.Subject)
	w.equal("project", string(f.Project))
	w.equal("service", string(f.Service))
	if f.Action != "" {
		w.sql.WriteString(" AND (i.verb = " + w.arg(f.Action) + " OR i.verb LIKE " + w.arg(likely(f.Action)+".%") + ` ESCAPE '\')`)
	}
	if f.Target != "" {
		w.sql.WriteString(" AND (i.subject = " + w.arg(f.Target) + " OR i.service = " + w.arg(f.Target) +
			" OR EXISTS (SELECT 1 FROM json_each(i.body, '$.intent.instances') t WHERE t.value = " + w.arg(f.Target) + "))")
	}
	if f.Mutating {
		w.sql.WriteString(" AND i.mutating = 1")
	}
	if len(f.Results) > 0 {
		var results []string
		for _, r := range f.Results {
			results = append(results, w.arg(string(r)))
		}
		w.sql.WriteString(" AND COALESCE((SELECT o.result FROM audit_row o WHERE o.action_id = i.action_id AND o.kind = 'outcome' ORDER BY o.seq DESC LIMIT 1), 'running') IN (" + strings.Join(results, ", ") + ")")
	}
	if f.Text != "" {
		w.sql.WriteString(" AND EXISTS (SELECT 1 FROM audit_row t WHERE t.action_id = i.action_id AND t.body LIKE " + w.arg("%"+likely(asWritten(f.Text))+"%") + ` ESCAPE '\')`)
	}
	if !f.From.IsZero() {
		w.sql.WriteString(" AND i.at >= " + w.arg(moment(f.From)))
	}
	if !f.To.IsZero() {
		w.sql.WriteString(" AND i.at < " + w.arg(moment(f.To)))
	}
	if f.Before > 0 {
		w.sql.WriteString(" AND i.seq < " + w.arg(f.Before))
	}
}

func moment(t time.Time) string { return t.UTC().Format(audit.StampLayout) }

// likely is s as LIKE takes it for itself.
func likely(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

// asWritten is s as it stands within a JSON string of a body.
func asWritten(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return s
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(b.String(), "\n"), `"`), `"`)
}
