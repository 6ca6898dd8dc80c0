package agent

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"sync"
)

// joinState is the certificate that the agent has now.
type joinState struct {
	mu      sync.Mutex // guards now and looked
	now     issued
	looked  bool // whether the kept certificate was tried
	running bool // somebody renews

	changed chan struct{} // holds one when now has changed
}

func (j *joinState) init() { j.changed = make(chan struct{}, 1) }

func (j *joinState) current() issued {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.now
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
