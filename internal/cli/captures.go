package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

// pageSize is how many captures one call asks for: the most that the API gives.
const pageSize = 500

func (p *program) capturesCmd() *cobra.Command {
	var service, instance string
	limit := 50
	cmd := &cobra.Command{
		Use:   "captures",
		Short: "List captures, newest first",
		Example: `  ops captures
  ops captures --service game-service --limit 5
  ops captures --json | jq -r '.captures[] | select(.state == "partial") | .id'`,
		Args: atMost(0),
		RunE: p.connected(func(ctx context.Context, c *client, _ []string) error {
			if limit < 1 {
				return ops.Errorf(ops.Invalid, "--limit %d is out of range: use 1 or more", limit)
			}
			captures, more, err := c.listCaptures(ctx, &apiv1.ListCapturesRequest{Project: p.projectName(), Service: service, InstanceId: instance}, limit)
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(map[string]any{"captures": messages(captures), "more": more})
			}
			if len(captures) == 0 {
				p.note("no captures yet: make one with `ops capture SERVICE`")
				return nil
			}
			var cells [][]string
			for _, c := range captures {
				state := word(c.GetState())
				if c.GetPinned() {
					state += ", pinned"
				}
				cells = append(cells, []string{c.GetId(), c.GetProject(), c.GetService(), state, ago(p.Now(), c.GetCreated()),
					c.GetSpec().GetDuration().AsDuration().String(), fmt.Sprint(len(c.GetTargets())), bytesText(c.GetSizeBytes()), c.GetNote()})
			}
			if err := table(p.Stdout, []string{"ID", "PROJECT", "SERVICE", "STATE", "AGE", "WINDOW", "INSTANCES", "SIZE", "NOTE"}, cells); err != nil {
				return err
			}
			if more {
				p.note("there are more: see them with --limit")
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&service, "service", "", "only of this `service`")
	cmd.Flags().StringVar(&instance, "instance", "", "only those that an instance of this `id` took part in")
	cmd.Flags().IntVar(&limit, "limit", limit, "show at most `N`")
	return cmd
}

// listCaptures returns the newest captures, at most limit, and whether there are
// more.
func (c *client) listCaptures(ctx context.Context, req *apiv1.ListCapturesRequest, limit int) ([]*apiv1.Capture, bool, error) {
	var all []*apiv1.Capture
	for {
		req.PageSize = int32(min(limit-len(all), pageSize))
		res, err := c.captures.ListCaptures(ctx, connect.NewRequest(req))
		if err != nil {
			return nil, false, err
		}
		all = append(all, res.Msg.GetCaptures()...)
		next := res.Msg.GetNextPageToken()
		if next == "" || len(all) >= limit || len(res.Msg.GetCaptures()) == 0 {
			return all[:min(limit, len(all))], next != "", nil
		}
		req.PageToken = next
	}
}

// captureVerb makes a verb that does one thing to one capture.
func (p *program) captureVerb(verb, short, example string, run func(ctx context.Context, c *client, id string) error) *cobra.Command {
	return &cobra.Command{
		Use:               verb + " CAPTURE",
		Short:             short,
		Example:           "  " + example,
		Args:              takes("a CAPTURE"),
		ValidArgsFunction: p.completeCaptures,
		RunE: p.connected(func(ctx context.Context, c *client, args []string) error {
			if err := checkID(args[0]); err != nil {
				return err
			}
			return run(ctx, c, args[0])
		}),
	}
}

func checkID(id string) error {
	if !ops.CaptureID(id).Valid() {
		return ops.Errorf(ops.Invalid, "%q is not the id of a capture: see `ops captures`", id)
	}
	return nil
}

// did answers for a verb that leaves nothing to show.
func (p *program) did(id, result string) error {
	if p.json {
		return p.printJSON(struct {
			CaptureID string `json:"capture_id"`
			Result    string `json:"result"`
		}{id, result})
	}
	p.note("capture %s: %s", id, result)
	return nil
}

func (p *program) stopCmd() *cobra.Command {
	return p.captureVerb("stop", "End a running capture now and keep its data", "ops stop 01kb2m8z7x4n5q6r9s0t1v2w3y",
		func(ctx context.Context, c *client, id string) error {
			if _, err := c.captures.StopCapture(ctx, connect.NewRequest(&apiv1.StopCaptureRequest{CaptureId: id})); err != nil {
				return err
			}
			return p.did(id, "stopping")
		})
}

func (p *program) cancelCmd() *cobra.Command {
	return p.captureVerb("cancel", "End a running capture now and drop its data", "ops cancel 01kb2m8z7x4n5q6r9s0t1v2w3y",
		func(ctx context.Context, c *client, id string) error {
			if _, err := c.captures.CancelCapture(ctx, connect.NewRequest(&apiv1.CancelCaptureRequest{CaptureId: id})); err != nil {
				return err
			}
			return p.did(id, "cancelled")
		})
}

func (p *program) pinCmd(pin bool) *cobra.Command {
	verb, short := "pin", "Keep a capture for ever: retention passes it by"
	if !pin {
		verb, short = "unpin", "Let retention delete a capture again"
	}
	return p.captureVerb(verb, short, "ops "+verb+" 01kb2m8z7x4n5q6r9s0t1v2w3y",
		func(ctx context.Context, c *client, id string) error {
			res, err := c.captures.PinCapture(ctx, connect.NewRequest(&apiv1.PinCaptureRequest{CaptureId: id, Pinned: pin}))
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(map[string]any{"capture": message{res.Msg.GetCapture()}})
			}
			return p.did(id, verb+"ned")
		})
}

func (p *program) deleteCmd() *cobra.Command {
	yes := false
	cmd := p.captureVerb("delete", "Delete a finished capture and its files", "ops delete 01kb2m8z7x4n5q6r9s0t1v2w3y --yes",
		func(ctx context.Context, c *client, id string) error {
			capture, err := c.capture(ctx, id)
			if err != nil {
				return err
			}
			if !yes {
				if err := p.confirmDelete(ctx, capture); err != nil {
					return err
				}
			}
			if _, err := c.captures.DeleteCapture(ctx, connect.NewRequest(&apiv1.DeleteCaptureRequest{CaptureId: id})); err != nil {
				return err
			}
			return p.did(id, "deleted")
		})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (p *program) confirmDelete(ctx context.Context, c *apiv1.Capture) error {
	if !isTerminal(p.Stdin) {
		return ops.Errorf(ops.Invalid, "there is no terminal to ask on: delete capture %s with --yes", c.GetId())
	}
	pinned := ""
	if c.GetPinned() {
		pinned = ", which is pinned"
	}
	fmt.Fprintf(p.Stderr, "Delete capture %s of %s/%s (%s)%s? [y/N] ", c.GetId(), clean(c.GetProject()), clean(c.GetService()), bytesText(c.GetSizeBytes()), pinned)
	answer := make(chan string, 1)
	go func() {
		// A read from a terminal cannot be taken back: after an interrupt it ends
		// with the process.
		line, _ := bufio.NewReader(p.Stdin).ReadString('\n')
		answer <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.Stderr)
		return errInterrupted
	case line := <-answer:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
		return ops.Errorf(ops.Cancelled, "capture %s stays", c.GetId())
	}
}

// completeCaptures offers the newest ids to the shell.
func (p *program) completeCaptures(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := p.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer c.close()
	captures, _, err := c.listCaptures(cmd.Context(), &apiv1.ListCapturesRequest{Project: p.projectName()}, 50)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var ids []string
	for _, c := range captures {
		ids = append(ids, clean(c.GetId())+"\t"+clean(c.GetService()+" "+ago(p.Now(), c.GetCreated())))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
