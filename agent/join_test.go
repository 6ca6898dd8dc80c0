package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCertificatesAreRenewedAtHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 24 * time.Hour
		var j joinState
		j.init()
		j.put(issued{&tls.Certificate{}, time.Now(), life})
		<-j.changed
		began, at := time.Now(), []time.Duration{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			renewal{current: j.current, changed: j.changed, log: slog.New(slog.DiscardHandler), renew: func(context.Context) error {
				at = append(at, time.Since(began))
				j.put(issued{&tls.Certificate{}, time.Now(), life})
				return nil
			}}.run(ctx)
		}()
		time.Sleep(73 * time.Hour)
		cancel()
		<-done
		if len(at) < 5 || len(at) > 7 {
			t.Fatalf("renewed %d times in 73 h: %v", len(at), at)
		}
		last := time.Duration(0)
		for _, d := range at {
			if after := d - last; after < life*45/100 || after > life*55/100 {
				t.Errorf("renewed %v after the last time", after)
			}
			last = d
		}
	})
}

func TestRenewalGoesOnWhileTheCentreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 24 * time.Hour
		var j joinState
		j.init()
		j.put(issued{&tls.Certificate{}, time.Now(), life})
		var log strings.Builder
		began, tries := time.Now(), 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			renewal{current: j.current, changed: j.changed, log: slog.New(slog.NewTextHandler(&log, nil)), renew: func(context.Context) error {
				if tries++; time.Since(began) < 30*time.Hour { // six hours longer than the certificate is good
					return errors.New("connection refused")
				}
				j.put(issued{&tls.Certificate{}, time.Now(), life})
				return nil
			}}.run(ctx)
		}()
		time.Sleep(31 * time.Hour)
		cancel()
		<-done
		if !j.current().good(time.Now()) {
			t.Error("no good certificate after the centre was back for an hour")
		}
		if tries < 20 || tries > 400 {
			t.Errorf("%d attempts in 18 h", tries)
		}
		if n := strings.Count(log.String(), "could not be renewed"); n != 1 {
			t.Errorf("told %d times: %s", n, log.String())
		}
	})
}

func TestJoinTokensAreNeverShownInTheClear(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("opsj_abc_secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCentre(t, "127.0.0.1:0", "")
	var log lockedBuffer
	startTest(t, func(cfg *Config, _ *tuning) {
		cfg.Center, cfg.TokenFile, cfg.Logger = "http://"+c.addr, file, slog.New(slog.NewTextHandler(&log, nil))
	})
	want := "an agent joins over TLS only: use an https address for OPS_CENTER, or the centre's shared token"
	eventually(t, "a word about TLS", func() bool { return strings.Contains(log.String(), want) })
	if strings.Contains(log.String(), "secret") {
		t.Error("the token is in the log")
	}
}

func TestOneOfSeveralPinsIsEnough(t *testing.T) {
	pins, err := parsePins(strings.Repeat("a", 64) + ", " + strings.Repeat("b", 64))
	if err != nil || len(pins) != 2 || pins[0][0] != 0xaa || pins[1][0] != 0xbb {
		t.Errorf("%x, %v", pins, err)
	}
	if _, err := parsePins(strings.Repeat("a", 64) + ",nonsense"); err == nil {
		t.Error("nonsense passed for a pin")
	}
}
