package agent

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// countedConn counts writes.
type countedConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// gathered returns both ends of a TLS connection, and what counts the writes.
func gathered(t *testing.T) (*countedConn, gatheredTLS, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	who := newAuthority(t, "127.0.0.1")
	server := tls.Server(accepted, &tls.Config{Certificates: []tls.Certificate{who.chain}})
	counted := &countedConn{Conn: dialled}
	under := &gatherConn{Conn: counted}
	client := gatheredTLS{tls.Client(under, tlsConfig("127.0.0.1", who.caKey)), under}
	t.Cleanup(func() { client.Close(); accepted.Close() })
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return counted, client, server
}

func TestGatheredWriteIsOneWrite(t *testing.T) {
	counted, client, server := gathered(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), writeBytes/16)
	before := counted.writes.Load()
	arrived := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(server, int64(3*len(sent))))
		arrived <- b
	}()
	for range 3 {
		if n, err := client.Write(sent); n != len(sent) || err != nil {
			t.Fatal(n, err)
		}
	}
	if !bytes.Equal(<-arrived, bytes.Repeat(sent, 3)) {
		t.Error("something else arrived than was sent")
	}
	if n := counted.writes.Load() - before; n != 3 {
		t.Errorf("%d writes to the network, want 3", n)
	}
}

func TestGatheredWriteToADeadConnection(t *testing.T) {
	_, client, _ := gathered(t)
	client.under.Conn.Close()
	if n, err := client.Write([]byte("anyone?")); err == nil {
		t.Errorf("%d bytes went where nothing is", n)
	}
}

func TestCloseDoesNotWaitForAStalledWrite(t *testing.T) {
	counted, client, _ := gathered(t) // nobody reads
	stalled := make(chan error, 1)
	go func() {
		for {
			if _, err := client.Write(make([]byte, writeBytes)); err != nil {
				stalled <- err
				return
			}
		}
	}()
	eventually(t, "the network takes no more", func() bool {
		n := counted.writes.Load()
		time.Sleep(200 * time.Millisecond)
		return n > 10 && counted.writes.Load() == n
	})
	began := time.Now()
	client.Close()
	<-stalled
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("it took %v", d)
	}
}
