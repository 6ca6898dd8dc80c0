package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/flame"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// reader answers with what it was asked.
type reader struct{ asked string }

func (r *reader) subject(q flame.Query, more any) flame.Subject {
	r.asked = fmt.Sprintf("%+v", q.Source)
	if q.Base != nil {
		r.asked += fmt.Sprintf(" against %+v", *q.Base)
	}
	r.asked += fmt.Sprintf(" %q %+v normalise=%v, %v", q.Type, q.Filter, q.Normalise, more)
	s := flame.Subject{
		Types: []profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}, Type: 1,
		Source: flame.Side{Instances: []ops.InstanceID{"inst-1"}, Artifact: q.Source.Artifact, Total: 40, Samples: 4, Duration: 10 * time.Second, Losses: []ops.Loss{{Kind: ops.KindCPU, Reason: ops.LossGap, Message: "0.1 s"}}},
	}
	if q.Base != nil {
		s.Base = &flame.Side{Artifact: q.Base.Artifact, Total: 30}
	}
	return s
}

func (r *reader) Graph(_ context.Context, q flame.Query, boxes int) (*flame.Graph, error) {
	return &flame.Graph{
		Subject: r.subject(q, boxes), Frames: []flame.Frame{{}, {Name: "main.main", File: "main.go", Line: 3}},
		Frame: []byte{0, 0, 0, 0, 1, 0, 0, 0}, Depth: []byte{0, 0, 1, 0}, Self: make([]byte, 16), Boxes: 2, Pruned: 7, PrunedShare: 0.1, Negative: -4,
	}, nil
}

func (r *reader) Top(_ context.Context, q flame.Query, n int) (*flame.Table, error) {
	return &flame.Table{Subject: r.subject(q, n), Functions: 9, Rows: []flame.Row{{Frame: flame.Frame{Name: "main.main", File: "main.go", Line: 3}, Self: 1, Total: 2, BaseSelf: 3, BaseTotal: 4}}}, nil
}

func (r *reader) Function(_ context.Context, q flame.Query, name string) (*flame.Function, error) {
	row := flame.Row{Frame: flame.Frame{Name: name}, Total: 2}
	return &flame.Function{Subject: r.subject(q, name), Row: row, Callers: []flame.Row{row}, Callees: []flame.Row{row, row}, Lines: []flame.Row{row}}, nil
}

// plain is a message as text, without the spaces that protobuf varies.
func plain(m proto.Message) string {
	return strings.Join(strings.Fields(prototext.MarshalOptions{}.Format(m)), " ")
}

func TestProfilesOverTheWire(t *testing.T) {
	r := start(t, auth.View)
	client := apiv1connect.NewProfileServiceClient(http.DefaultClient, r.url)
	q := &apiv1.ProfileQuery{
		Source: &apiv1.ProfileSource{CaptureId: "01abc", InstanceIds: []string{"inst-1"}, Artifact: "cpu.pprof"}, Base: &apiv1.ProfileSource{CaptureId: "01old", Artifact: "cpu.pprof"},
		SampleType: "cpu", Normalise: true, Focus: "a", Ignore: "b", Hide: "c", HidePackages: []string{"game"}, Lines: true,
	}
	const asked = `{Capture:01abc Instances:[inst-1] Artifact:cpu.pprof} against {Capture:01old Instances:[] Artifact:cpu.pprof} "cpu" {Focus:a Ignore:b Hide:c Show: HidePackages:[game] Labels:[] AllFrames:false Lines:true} normalise=true, `

	g, err := client.GetFlame(r.ctx, connect.NewRequest(&apiv1.GetFlameRequest{Query: q, MaxBoxes: 100}))
	if err != nil {
		t.Fatal(err)
	}
	if r.profiles.asked != asked+"100" {
		t.Errorf("asked %s", r.profiles.asked)
	}
	const flameWant = `types:{type:"samples" unit:"count"} types:{type:"cpu" unit:"nanoseconds"} type:1 names:"" names:"main.main" files:"" files:"main.go" lines:0 lines:3 frame:"\x00\x00\x00\x00\x01\x00\x00\x00" depth:"\x00\x00\x01\x00" self:"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" pruned:7 pruned_share:0.1 negative:-4 source:{instance_ids:"inst-1" artifact:"cpu.pprof" total:40 samples:4 duration:{seconds:10} losses:{kind:"cpu" reason:"gap" message:"0.1 s"}} base:{artifact:"cpu.pprof" total:30}`
	if got := plain(g.Msg); got != flameWant {
		t.Errorf("GetFlame:\n%s\n%s", got, flameWant)
	}
	top, err := client.GetTop(r.ctx, connect.NewRequest(&apiv1.GetTopRequest{Query: q}))
	if err != nil {
		t.Fatal(err)
	}
	if r.profiles.asked != asked+"500" || plain(top.Msg.GetRows()[0]) != `function:"main.main" file:"main.go" line:3 self:1 total:2 base_self:3 base_total:4` || top.Msg.GetFunctions() != 9 {
		t.Errorf("GetTop: %s %s", r.profiles.asked, plain(top.Msg))
	}
	f, err := client.GetFunction(r.ctx, connect.NewRequest(&apiv1.GetFunctionRequest{Query: q, Function: "main.main"}))
	if err != nil {
		t.Fatal(err)
	}
	if r.profiles.asked != asked+"main.main" || len(f.Msg.GetCallers()) != 1 || len(f.Msg.GetCallees()) != 2 || len(f.Msg.GetLines()) != 1 || f.Msg.GetRow().GetTotal() != 2 {
		t.Errorf("GetFunction: %s %s", r.profiles.asked, plain(f.Msg))
	}

	_, err = client.GetFlame(r.ctx, connect.NewRequest(&apiv1.GetFlameRequest{Query: q, MaxBoxes: 1 << 30}))
	if want := "invalid_argument: 1073741824 boxes are out of range: use 1 to 200000, or 0 for all of these"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	_, err = client.GetTop(r.ctx, connect.NewRequest(&apiv1.GetTopRequest{Query: q, MaxRows: -1}))
	if want := "invalid_argument: -1 rows are out of range: use 1 or more, or 0 for 500"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
