package api

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/notify"
	"github.com/opscenter/opscenter/internal/ops"
)

// Channels is what the API needs of notifications.
type Channels interface {
	Channels() []notify.Status
	Put(context.Context, notify.Channel) error
	Delete(ctx context.Context, name string) error
	Test(ctx context.Context, name, actor string) error
}

func (s *server) ListChannels(context.Context, *connect.Request[apiv1.ListChannelsRequest]) (*connect.Response[apiv1.ListChannelsResponse], error) {
	out := &apiv1.ListChannelsResponse{}
	for _, st := range s.Channels.Channels() {
		out.Channels = append(out.Channels, notifyStatusProto(st))
	}
	return connect.NewResponse(out), nil
}

func (s *server) PutChannel(ctx context.Context, req *connect.Request[apiv1.PutChannelRequest]) (*connect.Response[apiv1.PutChannelResponse], error) {
	if err := s.Channels.Put(ctx, notifyChannelFrom(req.Msg.GetChannel())); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.PutChannelResponse{}), nil
}

func (s *server) DeleteChannel(ctx context.Context, req *connect.Request[apiv1.DeleteChannelRequest]) (*connect.Response[apiv1.DeleteChannelResponse], error) {
	if err := s.Channels.Delete(ctx, req.Msg.GetName()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.DeleteChannelResponse{}), nil
}

func (s *server) TestChannel(ctx context.Context, req *connect.Request[apiv1.TestChannelRequest]) (*connect.Response[apiv1.TestChannelResponse], error) {
	if err := s.Channels.Test(ctx, req.Msg.GetName(), auth.ActorOf(ctx).Name); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.TestChannelResponse{}), nil
}

func notifyStatusProto(st notify.Status) *apiv1.NotifyStatus {
	c := st.Channel
	out := &apiv1.NotifyStatus{
		Channel: &apiv1.NotifyChannel{
			Name: c.Name, Type: string(c.Type), Url: c.URL, Token: c.Token, To: c.To, Secret: c.Secret, Lang: string(c.Lang), Least: string(c.Least),
			Projects: c.Projects, Services: c.Services, GroupFor: optionalDuration(c.GroupFor), RepeatAfter: optionalDuration(c.RepeatAfter),
		},
		Declared: st.Declared, Waiting: int32(st.Waiting), Sent: st.Sent, Failed: st.Failed, Dropped: st.Dropped,
		LastSent: ts(st.LastSent), LastError: st.LastError, LastErrorAt: ts(st.LastErrorAt), QuietUntil: ts(st.QuietUntil),
	}
	for _, k := range c.Events {
		out.Channel.Events = append(out.Channel.Events, string(k))
	}
	if q := c.Quiet; q != nil {
		out.Channel.Quiet = &apiv1.NotifyQuiet{From: q.From, To: q.To, Zone: q.Zone, Critical: q.Critical}
	}
	for _, d := range st.Recent {
		out.Recent = append(out.Recent, &apiv1.NotifyDelivery{
			At: ts(d.At), Title: d.Title, Severity: string(d.Severity), Events: int32(d.Events), Attempts: int32(d.Attempts), Error: d.Error,
		})
	}
	return out
}

func optionalDuration(d notify.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(time.Duration(d))
}

func notifyChannelFrom(c *apiv1.NotifyChannel) notify.Channel {
	out := notify.Channel{
		Name: c.GetName(), Type: notify.Type(c.GetType()), URL: c.GetUrl(), Token: c.GetToken(), To: c.GetTo(), Secret: c.GetSecret(),
		Lang: ops.Lang(c.GetLang()), Least: ops.Severity(c.GetLeast()), Projects: c.GetProjects(), Services: c.GetServices(),
		GroupFor: notify.Duration(c.GetGroupFor().AsDuration()), RepeatAfter: notify.Duration(c.GetRepeatAfter().AsDuration()),
	}
	for _, k := range c.GetEvents() {
		out.Events = append(out.Events, notify.Kind(k))
	}
	if q := c.GetQuiet(); q != nil {
		out.Quiet = &notify.Quiet{From: q.GetFrom(), To: q.GetTo(), Zone: q.GetZone(), Critical: q.GetCritical()}
	}
	return out
}
