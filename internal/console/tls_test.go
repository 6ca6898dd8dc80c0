package console_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/opscenter/opscenter/internal/console"
	"github.com/opscenter/opscenter/internal/ops"
)

// A server that is found through a source and speaks TLS, with a certificate
// that nobody signed.
func TestAServerBehindTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "wallet"}, DNSNames: []string{"wallet"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12})))
	healthv1.RegisterHealthServer(g, health.NewServer())
	reflection.Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-served })
	_, text, _ := net.SplitHostPort(l.Addr().String())
	port, _ := strconv.Atoi(text)

	ways := &console.Ways{
		Instance: func(id ops.InstanceID) (ops.Instance, error) {
			return ops.Instance{ID: id, Source: "static", Address: "http://127.0.0.1:6060/debug/pprof", Labels: map[string]string{console.AddressLabel: "grpcs://" + l.Addr().String()}}, nil
		},
		Link: func(ops.InstanceID) (ops.Link, error) { return nil, nil },
	}
	defer ways.Close()
	c := console.New(console.Config{Conns: ways})
	check := func(r console.Route) string {
		return told(t, c, console.Request{Instance: "i1", Route: r, Method: "grpc.health.v1.Health/Check", Messages: messages(), Timeout: 5 * time.Second})
	}
	if got := check(console.Route{}); !strings.Contains(got, "certificate") {
		t.Errorf("an unknown signer: %s", got)
	}
	if got := check(console.Route{Port: port, TLS: true, ServerName: "wallet", SkipVerify: true}); got != "received 0: {\"status\":\"SERVING\"}\nOK \n" {
		t.Errorf("any certificate: %s", got)
	}
	if got := check(console.Route{Port: port}); !strings.HasPrefix(got, "error: the server could not be asked what it has") {
		t.Errorf("in the clear: %s", got)
	}
}
