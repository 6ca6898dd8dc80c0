package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

// view is a page on which one artifact can be looked at.
type view struct {
	Instance string `json:"instance_id"`
	Artifact string `json:"artifact"`
	// Tool is "pprof" or "trace".
	Tool string `json:"tool"`
	URL  string `json:"url"`
	// raw marks the ends of a window, which few want to look at: people see only
	// what was made of them.
	raw bool
}

func (p *program) openCmd() *cobra.Command {
	noBrowser := false
	cmd := p.captureVerb("open", "Look at a capture in the browser, and print where its profiles are", "ops open 01kb2m8z7x4n5q6r9s0t1v2w3y --no-browser",
		func(ctx context.Context, c *client, id string) error {
			capture, err := c.capture(ctx, id)
			if err != nil {
				return err
			}
			page := c.url("captures/" + url.PathEscape(id))
			views, err := c.views(ctx, capture)
			if err != nil {
				return err
			}
			if p.json {
				err = p.printJSON(map[string]any{"capture_id": id, "url": page, "views": views})
			} else {
				_, err = fmt.Fprintln(p.Stdout, page)
				instance := ""
				for _, v := range views {
					if v.raw {
						continue
					}
					if v.Instance != instance {
						instance = v.Instance
						fmt.Fprintf(p.Stdout, "%s\n", clean(addressOf(capture, v.Instance)))
					}
					fmt.Fprintf(p.Stdout, "  %-22s %s\n", clean(v.Artifact), v.URL)
				}
			}
			if err != nil || noBrowser {
				return err
			}
			if err := p.OpenBrowser(ctx, page); err != nil {
				p.note("no browser could be opened (%v): open the first URL yourself", err)
			}
			return nil
		})
	cmd.Flags().BoolVar(&noBrowser, "no-browser", false, "only print the URLs")
	return cmd
}

func addressOf(c *apiv1.Capture, instance string) string {
	for _, t := range c.GetTargets() {
		if t.GetInstance().GetId() == instance {
			return targetName(t)
		}
	}
	return instance
}

// views lists the tool pages of a capture: pprof's for each profile, the trace
// viewer's for each window of each trace.
func (c *client) views(ctx context.Context, capture *apiv1.Capture) ([]view, error) {
	views := []view{}
	for _, t := range capture.GetTargets() {
		instance := t.GetInstance().GetId()
		for _, a := range t.GetArtifacts() {
			switch ops.Kind(a.GetKind()) {
			case ops.KindTrace:
				res, err := c.captures.ListTraceWindows(ctx, connect.NewRequest(&apiv1.ListTraceWindowsRequest{
					CaptureId: capture.GetId(), InstanceId: instance, Artifact: a.GetName(),
				}))
				if k := ops.KindOf(err); k == ops.NotFound || k == ops.Corrupt || k == ops.Invalid {
					continue // a trace that no viewer can open takes nothing from the others
				}
				if err != nil {
					return nil, err
				}
				for _, w := range res.Msg.GetWindows() {
					views = append(views, view{Instance: instance, Artifact: a.GetName(), Tool: "trace", URL: c.url(w.GetPath())})
				}
			case ops.KindRuntime, ops.KindGoroutineDump, ops.KindHeapTypes:
			default:
				path := "pprof/" + url.PathEscape(capture.GetId()) + "/" + url.PathEscape(instance) + "/" + url.PathEscape(a.GetName()) + "/"
				views = append(views, view{Instance: instance, Artifact: a.GetName(), Tool: "pprof", URL: c.url(path), raw: a.GetName() != ops.Kind(a.GetKind()).FileName()})
			}
		}
	}
	return views, nil
}

func openBrowser(ctx context.Context, url string) error {
	name, args := "xdg-open", []string{url}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	}
	return exec.CommandContext(ctx, name, args...).Run()
}

func (p *program) exportCmd() *cobra.Command {
	var out string
	force := false
	cmd := p.captureVerb("export", "Save a capture as a zip bundle", "ops export 01kb2m8z7x4n5q6r9s0t1v2w3y -o slow-login.zip",
		func(ctx context.Context, c *client, id string) error {
			if out == "" {
				out = id + ".zip"
			}
			size, err := p.export(ctx, c, id, out, force)
			if err != nil || out == "-" {
				return err
			}
			if p.json {
				return p.printJSON(struct {
					CaptureID string `json:"capture_id"`
					File      string `json:"file"`
					SizeBytes int64  `json:"size_bytes"`
				}{id, out, size})
			}
			_, err = fmt.Fprintln(p.Stdout, out)
			return err
		})
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write, - for standard output (default CAPTURE.zip)")
	cmd.Flags().BoolVar(&force, "force", false, "replace the file if it exists")
	return cmd
}

// export downloads a bundle. The file appears whole or not at all.
func (p *program) export(ctx context.Context, c *client, id, out string, force bool) (int64, error) {
	if out == "-" {
		if isTerminal(p.Stdout) {
			return 0, ops.Errorf(ops.Invalid, "a zip file does not belong on a terminal: name a file with -o")
		}
		return p.download(ctx, c, id, p.Stdout)
	}
	if _, err := os.Lstat(out); err == nil && !force {
		return 0, ops.Errorf(ops.Invalid, "%s exists: use --force to replace it, or -o for another name", out)
	}
	f, err := os.CreateTemp(filepath.Dir(out), ".ops-export-*")
	if err != nil {
		return 0, ops.Errorf(ops.Invalid, "cannot write %s: %w", out, bare(err))
	}
	defer os.Remove(f.Name())
	defer f.Close()
	n, err := p.download(ctx, c, id, f)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.Chmod(0o644), f.Close(), os.Rename(f.Name(), out)); err != nil {
		return 0, ops.Errorf(ops.Internal, "cannot write %s: %w", out, err)
	}
	return n, nil
}

// bare is a file error without the name of the file, which the message has or
// which is not the user's.
func bare(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func (p *program) download(ctx context.Context, c *client, id string, w io.Writer) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url("api/captures/"+url.PathEscape(id)+"/bundle.zip"), nil)
	if err != nil {
		return 0, err
	}
	res, err := c.do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	in := &source{r: res.Body}
	body, done := p.transfer(id, in, res.ContentLength)
	n, err := io.Copy(w, body)
	done()
	switch {
	case in.err != nil && ctx.Err() != nil:
		return n, c.explain(ctx, in.err)
	case in.err != nil:
		return n, ops.Errorf(ops.Unavailable, "the bundle broke off after %s (%w): try again", bytesText(n), in.err)
	case err != nil:
		return n, ops.Errorf(ops.Internal, "the bundle could not be written after %s: %w", bytesText(n), err)
	}
	return n, nil
}

// source remembers why reading ended early, to tell a broken connection from a
// full disk.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (p *program) importCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Add a zip bundle to the centre's captures",
		Example: `  ops import slow-login.zip
  curl -s https://example.com/slow-login.zip | ops import -`,
		Args: takes("a FILE"),
		RunE: p.connected(func(ctx context.Context, c *client, args []string) error {
			capture, err := p.upload(ctx, c, args[0])
			if err != nil {
				return err
			}
			p.note("imported capture %s of %s/%s, %s", capture.GetId(), clean(capture.GetProject()), clean(capture.GetService()), bytesText(capture.GetSizeBytes()))
			return p.printCapture(capture)
		}),
	}
}

func (p *program) upload(ctx context.Context, c *client, file string) (*apiv1.Capture, error) {
	var (
		in   = p.Stdin
		size = int64(-1)
	)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, ops.Errorf(ops.Invalid, "cannot read the bundle: %w", err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, ops.Errorf(ops.Invalid, "cannot read the bundle: %w", err)
		}
		if !info.Mode().IsRegular() {
			return nil, ops.Errorf(ops.Invalid, "%s is not a file: name a zip bundle, or - for standard input", file)
		}
		in, size = f, info.Size()
	}
	body, done := p.transfer(filepath.Base(file), in, size)
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url("api/import"), io.NopCloser(body))
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/zip")
	res, err := c.do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	var msg apiv1.StartCaptureResponse
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(answer, &msg); err != nil || msg.GetCapture().GetId() == "" {
		return nil, ops.Errorf(ops.Internal, "the centre took the bundle but its answer makes no sense: see `ops captures` for whether it is there")
	}
	return msg.GetCapture(), nil
}
