package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/ops"
)

func (p *program) auditCmd() *cobra.Command {
	cmd := p.auditListCmd()
	list := p.auditListCmd()
	cmd.Use, list.Use = "audit", "list"
	cmd.Long = `Audit tells who did what to which instance, why, and what came of it. What changes
something is on record before it runs; every row's hash covers the row before, so
that a row which was edited, dropped or moved shows in ` + "`ops audit verify`" + `.`
	cmd.AddCommand(list, p.auditVerifyCmd(), p.auditExportCmd())
	return cmd
}

type auditFlags struct {
	id, actor, action, subject, service, target, text string
	outcomes                                          []string
	changes                                           bool
	since, until                                      momentValue
	limit                                             int
}

func (p *program) auditListCmd() *cobra.Command {
	f := auditFlags{limit: 50}
	f.since.now, f.until.now = p.Now, p.Now
	cmd := &cobra.Command{
		Short: "List who did what, newest first",
		Example: `  ops audit
  ops audit list --changes --since 24h
  ops audit list --target user-service --outcome failed,partial,unknown
  ops audit list --text ticket-4711 --json | jq '.entries[].reason'`,
		Args: atMost(0),
		RunE: p.connected(func(ctx context.Context, c *client, _ []string) error {
			entries, more, err := c.auditEntries(ctx, f, p.projectName())
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(map[string]any{"entries": messages(entries), "more": more})
			}
			return p.printAudit(entries, more)
		}),
	}
	fl := cmd.Flags()
	fl.StringVar(&f.id, "id", "", "only the action of this `id`")
	fl.StringVar(&f.actor, "actor", "", "only what this `actor` did, such as local:ann")
	fl.StringVar(&f.action, "action", "", "only this `verb`, such as control.run, or its beginning: control")
	fl.StringVar(&f.subject, "subject", "", "only what is about this control, method or capture")
	fl.StringVar(&f.service, "service", "", "only on this `service`")
	fl.StringVar(&f.target, "target", "", "only what was aimed at this instance, service or subject")
	fl.StringSliceVar(&f.outcomes, "outcome", nil, "only these `outcomes`: ok, failed, partial, refused, cancelled, unknown, running")
	fl.StringVar(&f.text, "text", "", "only where this `text` stands in request, reason or outcome")
	fl.BoolVar(&f.changes, "changes", false, "only what changes something")
	fl.Var(&f.since, "since", "only from this `time` on: 24h, 7d, or 2026-01-02T15:04:05Z")
	fl.Var(&f.until, "until", "only before this `time`")
	fl.IntVar(&f.limit, "limit", f.limit, "show at most `N`")
	return cmd
}

func (c *client) auditEntries(ctx context.Context, f auditFlags, project string) (all []*apiv1.AuditEntry, more bool, err error) {
	if f.limit < 1 {
		return nil, false, ops.Errorf(ops.Invalid, "--limit %d is out of range: use 1 or more", f.limit)
	}
	req := &apiv1.ListAuditRequest{
		AuditId: f.id, Actor: f.actor, Action: f.action, Subject: f.subject, Project: project, Service: f.service, Target: f.target,
		Results: f.outcomes, MutatingOnly: f.changes, Text: f.text, From: f.since.stamp(), To: f.until.stamp(),
	}
	for {
		req.PageSize = int32(min(f.limit-len(all), pageSize))
		res, err := c.controls.ListAudit(ctx, connect.NewRequest(req))
		if err != nil {
			return nil, false, err
		}
		all = append(all, res.Msg.GetEntries()...)
		next := res.Msg.GetNextPageToken()
		if next == "" || len(all) >= f.limit || len(res.Msg.GetEntries()) == 0 {
			return all, next != "", nil
		}
		req.PageToken = next
	}
}

func (p *program) printAudit(entries []*apiv1.AuditEntry, more bool) error {
	if len(entries) == 0 {
		p.note("nothing of that is on record")
		return nil
	}
	var cells [][]string
	for _, e := range entries {
		target := e.GetService()
		if n := len(e.GetInstanceIds()); n > 0 {
			target += fmt.Sprintf(" (%d)", n)
		}
		cells = append(cells, []string{
			e.GetAt().AsTime().UTC().Format("2006-01-02T15:04:05Z"), e.GetActor(), e.GetAction(), e.GetSubject(), target, e.GetResult(),
			strings.TrimSuffix(e.GetReason()+": "+e.GetMessage(), ": "), e.GetId(),
		})
	}
	for _, row := range cells {
		row[6] = cmp.Or(strings.TrimPrefix(row[6], ": "), "-")
	}
	if err := table(p.Stdout, []string{"TIME", "ACTOR", "ACTION", "SUBJECT", "TARGET", "OUTCOME", "WHY AND WHAT CAME OF IT", "ID"}, cells); err != nil {
		return err
	}
	if more {
		p.note("there are more: see them with --limit")
	}
	return nil
}

func (p *program) auditVerifyCmd() *cobra.Command {
	var expect string
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check that the record is as it was written",
		Long: `Verify reads the whole record of the centre, or an exported FILE without a centre,
and reports every row that was edited, dropped, moved or cut off. It prints where
the record ends; note that elsewhere, and --expect checks later that the record
still goes through there: the one thing that shows a record which was written
anew by somebody who may write all of its files.`,
		Example: `  ops audit verify
  ops audit verify --expect 412:9f2c…
  ops audit verify audit.jsonl`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			head, err := parseHead(expect)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return p.verifyFile(args[0], head)
			}
			return p.connected(func(ctx context.Context, c *client, _ []string) error {
				req := &apiv1.VerifyAuditRequest{}
				if head != nil {
					req.Expect = &apiv1.AuditHead{Rows: head.Rows, Hash: head.Hash}
				}
				// Millions of rows take longer than a call usually may.
				res, err := c.slow.VerifyAudit(ctx, connect.NewRequest(req))
				if err != nil {
					return c.explain(ctx, err)
				}
				r := audit.Report{Head: audit.Head{Rows: res.Msg.GetHead().GetRows(), Hash: res.Msg.GetHead().GetHash()}, More: int(res.Msg.GetMoreProblems())}
				for _, problem := range res.Msg.GetProblems() {
					r.Problems = append(r.Problems, audit.Problem{Seq: problem.GetSeq(), Text: problem.GetText()})
				}
				return p.printReport(r)
			})(cmd, nil)
		},
	}
	cmd.Flags().StringVar(&expect, "expect", "", "`ROWS:HASH` that an earlier verify printed")
	return cmd
}

func parseHead(s string) (*audit.Head, error) {
	if s == "" {
		return nil, nil
	}
	rows, hash, ok := strings.Cut(s, ":")
	n, err := strconv.ParseInt(rows, 10, 64)
	if !ok || err != nil || n < 1 || len(hash) != 64 {
		return nil, ops.Errorf(ops.Invalid, "--expect %q is not the end of a record: give ROWS:HASH as `ops audit verify` printed it", s)
	}
	return &audit.Head{Rows: n, Hash: hash}, nil
}

func (p *program) verifyFile(name string, expect *audit.Head) error {
	f, err := os.Open(name)
	if err != nil {
		return ops.Errorf(ops.Invalid, "cannot read %s: %w", name, bare(err))
	}
	defer f.Close() //nolint:errcheck // only read
	r, err := audit.VerifyExport(f, expect)
	if err != nil {
		return err
	}
	return p.printReport(r)
}

func (p *program) printReport(r audit.Report) error {
	intact := len(r.Problems) == 0
	if p.json {
		type problem struct {
			Row  int64  `json:"row"`
			Text string `json:"text"`
		}
		problems := []problem{}
		for _, x := range r.Problems {
			problems = append(problems, problem{x.Seq, x.Text})
		}
		if err := p.printJSON(struct {
			Intact   bool      `json:"intact"`
			Rows     int64     `json:"rows"`
			Hash     string    `json:"hash"`
			Problems []problem `json:"problems"`
			More     int       `json:"more_problems"`
		}{intact, r.Head.Rows, r.Head.Hash, problems, r.More}); err != nil {
			return err
		}
	} else if intact {
		fmt.Fprintf(p.Stdout, "intact: %s, ends at %d:%s\n", count(int(r.Head.Rows), "row", "rows"), r.Head.Rows, r.Head.Hash)
	} else {
		for _, x := range r.Problems {
			fmt.Fprintln(p.Stdout, clean(x.Text))
		}
		if r.More > 0 {
			fmt.Fprintf(p.Stdout, "and %d more\n", r.More)
		}
	}
	if !intact {
		return ops.Errorf(ops.Corrupt, "the record is not as it was written: keep its files, and look who could write them")
	}
	return nil
}

func (p *program) auditExportCmd() *cobra.Command {
	var out string
	var after int64
	force := false
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Save the record as lines of JSON, with the hashes",
		Example: `  ops audit export -o audit.jsonl
  ops audit export -o - | jq -r 'select(.row.kind == "intent") | .row.intent.actor'`,
		Args: atMost(0),
		RunE: p.connected(func(ctx context.Context, c *client, _ []string) error {
			if after < 0 {
				return ops.Errorf(ops.Invalid, "--after %d is out of range: use 0 or more", after)
			}
			if out == "-" {
				_, err := c.auditLines(ctx, after, p.Stdout)
				return err
			}
			size, err := exportAudit(ctx, c, after, out, force)
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(struct {
					File      string `json:"file"`
					SizeBytes int64  `json:"size_bytes"`
				}{out, size})
			}
			_, err = fmt.Fprintln(p.Stdout, out)
			return err
		}),
	}
	cmd.Flags().StringVarP(&out, "output", "o", "audit.jsonl", "`file` to write, - for standard output")
	cmd.Flags().Int64Var(&after, "after", 0, "only the rows after this `number`; verify needs all of them")
	cmd.Flags().BoolVar(&force, "force", false, "replace the file if it exists")
	return cmd
}

// exportAudit writes the file whole or not at all.
func exportAudit(ctx context.Context, c *client, after int64, out string, force bool) (int64, error) {
	if _, err := os.Lstat(out); err == nil && !force {
		return 0, ops.Errorf(ops.Invalid, "%s exists: use --force to replace it, or -o for another name", out)
	}
	f, err := os.CreateTemp(filepath.Dir(out), ".ops-audit-*")
	if err != nil {
		return 0, ops.Errorf(ops.Invalid, "cannot write %s: %w", out, bare(err))
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it has its own name by then
	defer f.Close()           //nolint:errcheck // closed before it counts
	n, err := c.auditLines(ctx, after, f)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.Close(), os.Rename(f.Name(), out)); err != nil {
		return 0, ops.Errorf(ops.Internal, "cannot write %s: %w", out, err)
	}
	return n, nil
}

func (c *client) auditLines(ctx context.Context, after int64, w io.Writer) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(fmt.Sprintf("api/audit.jsonl?after=%d", after)), nil)
	if err != nil {
		return 0, err
	}
	res, err := c.do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	n, err := io.Copy(w, res.Body)
	if err != nil {
		return n, ops.Errorf(ops.Unavailable, "the record broke off after %s: try again", bytesText(n))
	}
	return n, nil
}

// momentValue is a flag that takes a time, or how long ago it was.
type momentValue struct {
	t   time.Time
	now func() time.Time
}

func (v *momentValue) String() string {
	if v.t.IsZero() {
		return ""
	}
	return v.t.Format(time.RFC3339)
}

func (v *momentValue) Set(s string) error {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		v.t = t
		return nil
	}
	var ago durationValue
	if err := ago.Set(s); err != nil {
		return errors.New("use a time such as 2026-01-02T15:04:05Z, or how long ago: 30m, 24h, 7d")
	}
	v.t = v.now().Add(-ago.d)
	return nil
}

func (v *momentValue) Type() string { return "time" }

func (v *momentValue) stamp() *timestamppb.Timestamp {
	if v.t.IsZero() {
		return nil
	}
	return timestamppb.New(v.t)
}
