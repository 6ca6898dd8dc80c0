package agent

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// joinState is the certificate that the agent has now.
type joinState struct {
	mu      sync.Mutex // guards what follows, but for changed
	now     issued
	looked  bool     // whether the kept certificate was tried
	running bool     // somebody renews
	pins    [][]byte // what the centre said that it is known by; empty = as configured

	changed chan struct{} // holds one when now has changed
}

func (j *joinState) init() { j.changed = make(chan struct{}, 1) }

func (j *joinState) current() issued {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.now
}

// pins are what the centre is known by: as configured, until it has said how.
func (a *Agent) pins() [][]byte {
	a.join.mu.Lock()
	defer a.join.mu.Unlock()
	if len(a.join.pins) > 0 {
		return a.join.pins
	}
	return a.cfg.pins
}

// learnPins takes what a centre, which was known by its pin, says of the next one.
func (a *Agent) learnPins(texts []string) {
	if len(a.cfg.pins) == 0 || len(texts) == 0 {
		return
	}
	pins, err := parsePins(strings.Join(texts, ","))
	if err != nil {
		a.log.Warn("the centre names a pin that is none", slog.Any("error", err))
		return
	}
	a.join.mu.Lock()
	defer a.join.mu.Unlock()
	a.join.pins = pins
}

// put takes a certificate and reports whether it is the first.
func (j *joinState) put(i issued) (first bool) {
	j.mu.Lock()
	first, j.running, j.now = !j.running, true, i
	j.mu.Unlock()
	select {
	case j.changed <- struct{}{}:
	default:
	}
	return first
}

// drop forgets a certificate that the centre did not take.
func (j *joinState) drop(cert *tls.Certificate) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if cert != nil && j.now.cert == cert {
		j.now = issued{}
	}
}

// takeKept returns the certificate that an earlier process left, once.
func (j *joinState) takeKept(file string) *tls.Certificate {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.looked || file == "" {
		return nil
	}
	j.looked = true
	pair, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		return nil // none, or one that is of no use: the token is there for that
	}
	return &pair
}

// stateFile is where the certificate and its key are kept; "" = in memory only.
func (a *Agent) stateFile() string {
	if a.cfg.stateDir == "" {
		return ""
	}
	return filepath.Join(a.cfg.stateDir, "ops-agent-"+a.cfg.project+"-"+a.cfg.service+".pem")
}

// keepCertificate leaves the certificate for the next process, readable by this user alone.
func (a *Agent) keepCertificate(i issued) error {
	file := a.stateFile()
	if file == "" {
		return nil
	}
	key, ok := i.cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.cfg.stateDir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(a.cfg.stateDir, ".ops-agent-*") // 0600
	if err != nil {
		return err
	}
	err = errors.Join(
		pem.Encode(f, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Certificate[0]}),
		f.Close(),
	)
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
