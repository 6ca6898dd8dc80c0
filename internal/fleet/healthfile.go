package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/opscenter/opscenter/internal/ops"
)

// maxHealthFile is far above any list of thresholds that a person keeps by hand.
const maxHealthFile = 1 << 20

// maxFor is as long as a check may take to be sure: beyond it, it is no alarm.
const maxFor = time.Hour

// LoadHealth reads thresholds from a file in YAML, of which JSON is a part:
//
//	defaults:                    # every service
//	  cpu: {warning: 0.7, critical: 0.9, for: 30s}
//	services:
//	  color-game/user-service:   # this one; what it does not name is the default
//	    goroutines: {warning: 5}
//	    pool-waiters: {off: true}
//
// Unknown checks and fields are refused, so that a misspelt one is not silently
// ignored. Errors name the file and the place.
func LoadHealth(path string) (HealthRules, error) {
	f, err := os.Open(path)
	if err != nil {
		return HealthRules{}, ops.Errorf(ops.Invalid, "thresholds: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxHealthFile+1))
	if err != nil {
		return HealthRules{}, ops.Errorf(ops.Invalid, "thresholds: %w", err)
	}
	if len(b) > maxHealthFile {
		return HealthRules{}, ops.Errorf(ops.Invalid, "thresholds: %s is larger than %d MiB: name only the services that differ from the defaults", path, maxHealthFile>>20)
	}
	r, err := ParseHealth(b)
	if err != nil {
		return HealthRules{}, ops.Errorf(ops.Invalid, "thresholds: %s: %w", path, err)
	}
	return r, nil
}

type healthFile struct {
	Defaults map[string]healthEntry            `yaml:"defaults"`
	Services map[string]map[string]healthEntry `yaml:"services"`
}

// healthEntry is what a file says of one check; nil = nothing.
type healthEntry struct {
	Warning  *float64 `yaml:"warning"`
	Critical *float64 `yaml:"critical"`
	For      *string  `yaml:"for"`
	Off      *bool    `yaml:"off"`
}

// ParseHealth reads what LoadHealth's file holds.
func ParseHealth(text []byte) (HealthRules, error) {
	var in healthFile
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.DisallowUnknownField()).Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			return HealthRules{}, ops.Errorf(ops.Invalid, "line %d: %s", syntax.GetToken().Position.Line, syntax.GetMessage())
		}
		return HealthRules{}, ops.Errorf(ops.Invalid, "%w", err)
	}
	r := HealthRules{set: true, services: map[ops.ServiceKey]Thresholds{}}
	var err error
	if r.defaults, err = overlay(DefaultThresholds(), in.Defaults); err != nil {
		return HealthRules{}, ops.Errorf(ops.Invalid, "defaults: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(in.Services)) {
		project, service, ok := strings.Cut(name, "/")
		if !ok || !ops.ValidName(project) || !ops.ValidName(service) {
			return HealthRules{}, ops.Errorf(ops.Invalid, "services: %q is no service: write project/service, such as color-game/user-service", name)
		}
		t, err := overlay(r.defaults, in.Services[name])
		if err != nil {
			return HealthRules{}, ops.Errorf(ops.Invalid, "services: %s: %w", name, err)
		}
		r.services[ops.ServiceKey{Project: ops.ProjectName(project), Service: ops.ServiceName(service)}] = t
	}
	return r, nil
}

// overlay returns base with what the entries say instead.
func overlay(base Thresholds, entries map[string]healthEntry) (Thresholds, error) {
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		i := slices.Index(checks[:], ops.HealthCheck(name))
		if i < 0 {
			return base, ops.Errorf(ops.Invalid, "unknown check %q: use one of %v", name, checks)
		}
		t, e := &base[i], entries[name]
		if e.Warning != nil {
			t.Warning = *e.Warning
		}
		if e.Critical != nil {
			t.Critical = *e.Critical
		}
		if e.Off != nil {
			t.Off = *e.Off
		}
		if e.For != nil {
			d, err := time.ParseDuration(*e.For)
			if err != nil || d < 0 || d > maxFor {
				return base, ops.Errorf(ops.Invalid, "%s: for: %q is no duration up to %v: use one such as 10s or 2m", name, *e.For, maxFor)
			}
			t.For = d
		}
		if why := wrong(i, e, *t); why != "" {
			return base, ops.Errorf(ops.Invalid, "%s: %s", name, why)
		}
	}
	return base, nil
}

// wrong says what is, in a threshold that was put together; "" = nothing.
func wrong(check int, e healthEntry, t Threshold) string {
	if check == checkHeartbeat && (e.Warning != nil || e.Critical != nil || e.For != nil) {
		return fmt.Sprintf("an instance is suspect after %v without a heartbeat, which cannot be changed: only off can be said here", ops.SuspectAfter)
	}
	for _, v := range []struct {
		name  string
		value float64
	}{{"warning", t.Warning}, {"critical", t.Critical}} {
		switch {
		case math.IsNaN(v.value) || math.IsInf(v.value, 0) || v.value < 0:
			return fmt.Sprintf("%s: %v is no threshold: use a number of 0 or more", v.name, v.value)
		case shares[check] && v.value > 1:
			return fmt.Sprintf("%s: %v is more than everything: it is a share, so that 0.85 means 85 %%", v.name, v.value)
		}
	}
	if t.Critical > 0 && t.Critical <= t.Warning {
		return fmt.Sprintf("critical (%v) must be above warning (%v), or 0 for never", t.Critical, t.Warning)
	}
	return ""
}
