package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/opscenter/opscenter/bench/internal/measure"
	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// A peer serves the first bytes of a file to whoever connects, and gets them.
type peer struct {
	serve func(l net.Listener, tls *tls.Config, file string, size int64) error
	get   func(ctx context.Context, address string, tls *tls.Config, size int64) (int64, error)
}

var peers = map[string]peer{
	"sendfile": {serveTCP(func(c io.Writer, f io.Reader) error { _, err := io.Copy(c, f); return err }), getTCP},
	"tcp": {serveTCP(func(c io.Writer, f io.Reader) error {
		// Hides what would let the kernel copy file to socket by itself.
		_, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{f})
		return err
	}), getTCP},
	"http": {serveHTTP, getHTTP},
	"grpc": {serveGRPC, getGRPC},
}

// counter counts what it throws away, in buffers of io.Copy's own size.
type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

func serveTCP(send func(io.Writer, io.Reader) error) func(net.Listener, *tls.Config, string, int64) error {
	return func(l net.Listener, cfg *tls.Config, file string, size int64) error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			if cfg != nil {
				c = tls.Server(c, cfg)
			}
			go func() {
				defer c.Close()
				f, err := os.Open(file)
				if err != nil {
					return
				}
				defer f.Close()
				_ = send(c, io.LimitReader(f, size))
			}()
		}
	}
}

func getTCP(ctx context.Context, address string, cfg *tls.Config, _ int64) (int64, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if cfg != nil {
		t := tls.Client(c, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			return 0, err
		}
		c = t
	}
	var n counter
	_, err = io.Copy(&n, struct{ io.Reader }{c})
	return int64(n), err
}

func serveHTTP(l net.Listener, cfg *tls.Config, file string, size int64) error {
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		f, err := os.Open(file)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.Copy(w, io.LimitReader(f, size))
	})}
	if cfg == nil {
		return srv.Serve(l)
	}
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"http/1.1"}
	return srv.Serve(tls.NewListener(l, cfg))
}

func getHTTP(ctx context.Context, address string, cfg *tls.Config, _ int64) (int64, error) {
	scheme := "http"
	if cfg != nil {
		scheme = "https"
	}
	tr := &http.Transport{TLSClientConfig: cfg}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+"/", nil)
	if err != nil {
		return 0, err
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var n counter
	_, err = io.Copy(&n, resp.Body)
	return int64(n), err
}

// plain is the protocol's service as gRPC's guide would write it: the generated
// code, gRPC's defaults, 32 KiB of data in a message.
type plain struct {
	agentv1.UnimplementedAgentServiceServer
	file string
	size int64
}

func (p *plain) CollectPerformanceData(_ *agentv1.CollectPerformanceDataRequest, s grpc.ServerStreamingServer[agentv1.CollectPerformanceDataResponse]) error {
	f, err := os.Open(p.file)
	if err != nil {
		return err
	}
	defer f.Close()
	for off := int64(0); off < p.size; {
		b := make([]byte, min(32<<10, p.size-off))
		if _, err := f.ReadAt(b, off); err != nil {
			return err
		}
		if err := s.Send(&agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_Chunk{Chunk: &agentv1.Chunk{Artifact: 1, Offset: off, Data: b}}}); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

func serveGRPC(l net.Listener, cfg *tls.Config, file string, size int64) error {
	var opts []grpc.ServerOption
	if cfg != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(cfg)))
	}
	s := grpc.NewServer(opts...)
	agentv1.RegisterAgentServiceServer(s, &plain{file: file, size: size})
	return s.Serve(l)
}

func getGRPC(ctx context.Context, address string, cfg *tls.Config, _ int64) (n int64, err error) {
	creds := insecure.NewCredentials()
	if cfg != nil {
		creds = credentials.NewTLS(cfg)
	}
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
	if err != nil {
		return 0, err
	}
	defer cc.Close()
	stream, err := agentv1.NewAgentServiceClient(cc).CollectPerformanceData(ctx, &agentv1.CollectPerformanceDataRequest{})
	if err != nil {
		return 0, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += int64(len(m.GetChunk().GetData()))
	}
}

// got is what a receiver has to say of one transfer.
type got struct {
	Seconds float64
	Bytes   int64
	CPU     float64 // seconds
	Peak    int64
}

// sender is the process that serves as a peer.
func sender(name, file string, size int64, id *identity) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- peers[name].serve(l, id.server(), file, size) }()
	before := measure.Used().CPU
	return measure.Answer(l.Addr().String(), func(string) (any, error) {
		select {
		case err := <-failed:
			return nil, err
		default:
		}
		u := measure.Used()
		return [2]float64{(u.CPU - before).Seconds(), float64(u.Peak)}, nil
	})
}

// receiver is the process that gets from a peer, over as many connections at
// once as it is told.
func receiver(name, address string, size int64, streams int, id *identity) error {
	return measure.Answer("ready", func(string) (any, error) {
		before, began := measure.Used().CPU, time.Now()
		g, ctx := errgroup.WithContext(context.Background())
		counts := make([]int64, streams)
		for i := range streams {
			g.Go(func() (err error) {
				counts[i], err = peers[name].get(ctx, address, id.client(), size)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		r := got{Seconds: time.Since(began).Seconds()}
		for _, n := range counts {
			r.Bytes += n
		}
		u := measure.Used()
		r.CPU, r.Peak = (u.CPU - before).Seconds(), u.Peak
		return r, nil
	})
}

// identity is the certificate of the side that listens; nil = no TLS.
type identity struct {
	cert tls.Certificate
	root *x509.CertPool
	pin  string // of its key
}

func (i *identity) server() *tls.Config {
	if i == nil {
		return nil
	}
	return &tls.Config{Certificates: []tls.Certificate{i.cert}, MinVersion: tls.VersionTLS12}
}

func (i *identity) client() *tls.Config {
	if i == nil {
		return nil
	}
	return &tls.Config{RootCAs: i.root, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}

func makeIdentity(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stream benchmark"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	out := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	return os.WriteFile(filepath.Join(dir, "identity.pem"), out, 0o600)
}

func readIdentity(dir string) (*identity, error) {
	b, err := os.ReadFile(filepath.Join(dir, "identity.pem"))
	if err != nil {
		return nil, err
	}
	i := &identity{root: x509.NewCertPool()}
	if i.cert, err = tls.X509KeyPair(b, b); err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	i.root.AddCert(i.cert.Leaf)
	sum := sha256.Sum256(i.cert.Leaf.RawSubjectPublicKeyInfo)
	i.pin = hex.EncodeToString(sum[:])
	return i, nil
}

// fill makes the file at least size bytes long, with bytes that no one can
// shorten.
func fill(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	if _, err := rand.Read(block); err != nil {
		return err
	}
	for ; at < size; at += int64(len(block)) {
		binary.LittleEndian.PutUint64(block, uint64(at))
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return f.Sync() // else it is written while we measure
}

// warm reads the file, so that whoever sends it has it in memory. A virtual
// machine's host takes the page cache back within seconds.
func warm(file string, size int64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(io.Discard, f, size)
	return err
}
