package notify_test

import (
	"testing"

	"github.com/opscenter/opscenter/internal/notify"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestAServiceThatIsShortIsAWarningAndOneThatIsGoneIsCritical(t *testing.T) {
	key := ops.ServiceKey{Project: "color-game", Service: "user-service"}
	for up, want := range map[int]ops.Severity{2: ops.Warning, 0: ops.Critical} {
		e := notify.FromShortage(key, up, 3, "projects.color-game.expect")
		if e.Severity != want || e.Kind != notify.Health || e.Service != key.Service || e.Path != "/?project=color-game&service=user-service" {
			t.Errorf("%d of 3: %+v", up, e)
		}
	}
	e := notify.FromShortage(key, 1, 3, "projects.color-game.expect")
	if e.Title.EN != "1 of 3 instances are up" || e.Title.ZH != "3 個實例中僅 1 個運作中" || e.Detail.EN != "Expected by projects.color-game.expect." {
		t.Errorf("%+v %+v", e.Title, e.Detail)
	}
}
