package api

import (
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/ops"
)

var healthLevels = map[ops.HealthLevel]apiv1.HealthLevel{
	ops.HealthOK:       apiv1.HealthLevel_HEALTH_LEVEL_OK,
	ops.HealthWarning:  apiv1.HealthLevel_HEALTH_LEVEL_WARNING,
	ops.HealthCritical: apiv1.HealthLevel_HEALTH_LEVEL_CRITICAL,
}

// healthProto leaves unset what nobody can say.
func healthProto(h ops.Health) *apiv1.Health {
	if h.Level == "" {
		return nil
	}
	out := &apiv1.Health{Level: healthLevels[h.Level]}
	for _, i := range h.Issues {
		out.Issues = append(out.Issues, &apiv1.HealthIssue{
			Check: string(i.Check), Level: healthLevels[i.Level], Since: ts(i.Since), Value: i.Value, Threshold: i.Threshold,
		})
	}
	return out
}

func thresholdsProto(t fleet.Thresholds) (out []*apiv1.HealthThreshold) {
	for _, c := range ops.HealthChecks() {
		th := t.Of(c)
		out = append(out, &apiv1.HealthThreshold{Check: string(c), Warning: th.Warning, Critical: th.Critical, Hold: dur(th.For), Off: th.Off})
	}
	return out
}
