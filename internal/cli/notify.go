package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
)

func (p *program) notifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "See and test the chats that are told of trouble",
		Long: `Notify lists the channels through which people are told of verdicts, of instances
that do badly, of processes that died and of rules that fired, and how each does.

Channels are declared in the file of ` + "`ops serve --notify`" + `, or added on the page.
Secrets are never shown.`,
		Example: `  ops notify
  ops notify test oncall
  ops notify delete old-channel`,
		Args: atMost(0),
		RunE: p.connected(func(ctx context.Context, c *client, _ []string) error {
			res, err := c.notify.ListChannels(ctx, connect.NewRequest(&apiv1.ListChannelsRequest{}))
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(map[string]any{"channels": messages(res.Msg.GetChannels())})
			}
			return p.printChannels(res.Msg.GetChannels())
		}),
	}
	cmd.AddCommand(p.notifyTestCmd(), p.notifyDeleteCmd())
	return cmd
}

func (p *program) notifyTestCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "test CHANNEL",
		Short: "Send a test message now, whatever the channel's filters say",
		Args:  takes("CHANNEL"),
		RunE: p.connected(func(ctx context.Context, c *client, args []string) error {
			if _, err := c.notify.TestChannel(ctx, connect.NewRequest(&apiv1.TestChannelRequest{Name: args[0]})); err != nil {
				return err
			}
			p.note("channel %s took the message", args[0])
			return nil
		}),
	}
}

func (p *program) notifyDeleteCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "delete CHANNEL",
		Short: "Forget a channel that was added on the page",
		Args:  takes("CHANNEL"),
		RunE: p.connected(func(ctx context.Context, c *client, args []string) error {
			if _, err := c.notify.DeleteChannel(ctx, connect.NewRequest(&apiv1.DeleteChannelRequest{Name: args[0]})); err != nil {
				return err
			}
			p.note("channel %s is gone", args[0])
			return nil
		}),
	}
}

func (p *program) printChannels(all []*apiv1.NotifyStatus) error {
	if len(all) == 0 {
		p.note("nobody is told of trouble: add a channel on the page, or declare one with `ops serve --notify FILE`")
		return nil
	}
	var cells [][]string
	for _, s := range all {
		c := s.GetChannel()
		state := "ready"
		switch {
		case s.GetLastErrorAt() != nil && !s.GetLastErrorAt().AsTime().Before(s.GetLastSent().AsTime()):
			state = s.GetLastError()
		case s.GetQuietUntil() != nil:
			state = "quiet until " + s.GetQuietUntil().AsTime().Local().Format("15:04")
		}
		cells = append(cells, []string{
			c.GetName(), c.GetType(), cmp.Or(c.GetLeast(), "warning") + " and above", cmp.Or(strings.Join(c.GetEvents(), ","), "all"),
			fmt.Sprint(s.GetSent()), fmt.Sprint(s.GetWaiting()), fmt.Sprint(s.GetFailed() + s.GetDropped()), state,
		})
	}
	return table(p.Stdout, []string{"CHANNEL", "TYPE", "TELLS", "EVENTS", "SENT", "WAITING", "LOST", "STATE"}, cells)
}
