package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/toolui"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == toolui.ChildVerb {
		os.Exit(toolui.ChildMain(os.Args[2:]))
	}
	if os.Getenv("OPS_TEST_CHILD") != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// serve runs a centre until the test ends, or until stop is called, which
// returns what Serve did.
func serve(t *testing.T, o cli.ServeOptions) (url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, w := io.Pipe()
	o.Out = w
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.DiskReserveBytes == 0 {
		o.DiskReserveBytes = 1 << 20 // however full the disk of the tests is
	}
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, o); w.Close() }()
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil {
		t.Fatalf("the centre did not start: %v", <-ended)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the centre ended with %v", err)
		}
	})
	_, url, ok := strings.Cut(strings.TrimSpace(string(line[:n])), "OPS Center is at ")
	if !ok {
		t.Fatalf("it says %q", line[:n])
	}
	return url, stop
}

// instances waits until at least n are there.
func instances(t *testing.T, c *http.Client, url string, n int) []*apiv1.Instance {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		resp, err := apiv1connect.NewFleetServiceClient(c, url).ListInstances(t.Context(), connect.NewRequest(&apiv1.ListInstancesRequest{IncludeGone: true}))
		if err == nil && len(resp.Msg.GetInstances()) >= n {
			return resp.Msg.GetInstances()
		}
		if time.Now().After(deadline) {
			var there []string
			if err == nil {
				for _, i := range resp.Msg.GetInstances() {
					there = append(there, i.GetProject()+"/"+i.GetService()+" "+i.GetSource()+" "+i.GetState().String())
				}
			}
			t.Fatalf("of %d instances there are %q, %v", n, there, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func client(t testing.TB, tr *http.Transport) *http.Client {
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestTheCentreIsItsFirstInstanceAndRemembersItself(t *testing.T) {
	// A process succeeds one that was seen last before it started. Both centres are
	// in this process, which must not be older than the clocks may differ: a young one.
	const young = "OPS_TEST_YOUNG_PROCESS"
	if os.Getenv(young) == "" {
		again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		again.Env = append(os.Environ(), young+"=1")
		if out, err := again.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	c := client(t, &http.Transport{})
	dir := t.TempDir()
	url, stop := serve(t, cli.ServeOptions{DataDir: dir})
	first := instances(t, c, url, 1)[0]
	if !first.GetSelf() || first.GetService() != "ops-center" || first.GetBuild().GetGoVersion() == "" {
		t.Errorf("%v", first)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	url, _ = serve(t, cli.ServeOptions{DataDir: dir})
	var gone, up *apiv1.Instance
	for _, i := range instances(t, c, url, 2) {
		if i.GetId() == first.GetId() {
			gone = i
		} else {
			up = i
		}
	}
	if gone.GetState() != apiv1.InstanceState_INSTANCE_STATE_GONE || gone.GetStateReason() != "clean exit" {
		t.Errorf("the first run is %v, %q", gone.GetState(), gone.GetStateReason())
	}
	// Who replaced whom is told by when processes began, and here both are this one.
	if up.GetState() != apiv1.InstanceState_INSTANCE_STATE_UP {
		t.Errorf("the second run is %v", up.GetState())
	}
}

func TestBasePath(t *testing.T) {
	c := client(t, &http.Transport{})
	url, _ := serve(t, cli.ServeOptions{BasePath: "/ops"})
	if !strings.HasSuffix(url, "/ops") {
		t.Fatal(url)
	}
	instances(t, c, url, 1) // the agent found the tunnel under the path too
	for path, want := range map[string]string{
		"/ops/":         `<base href="/ops/">`,
		"/ops":          `<base href="/ops/">`,
		"/":             `<base href="/ops/">`,
		"/ops/captures": `<base href="/ops/">`,
		"/healthz":      "ok",
		"/other":        "this centre lives under /ops/",
	} {
		resp, err := c.Get(strings.TrimSuffix(url, "/ops") + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(b), want) {
			t.Errorf("%s: %d %.200s", path, resp.StatusCode, b)
		}
	}
}

func TestBeyondLoopbackItWantsTLSAndAToken(t *testing.T) {
	err := Serve(t.Context(), cli.ServeOptions{Listen: "0.0.0.0:8080", DataDir: t.TempDir()})
	if ops.KindOf(err) != ops.Invalid || !strings.HasPrefix(err.Error(), "--listen 0.0.0.0:8080 would let the network in without TLS and a login, so the centre does not start.") {
		t.Fatalf("got %v", err)
	}

	// With TLS and the shared token it starts, and its own agent gets in with pin and token. The test
	// stays on loopback: the rule above has let it pass already.
	dir := t.TempDir()
	crt, key, leaf := certificate(t, dir)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, _ := serve(t, cli.ServeOptions{TLSCert: crt, TLSKey: key, TokenFile: token})
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	c := client(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}})
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("without the token: %d", resp.StatusCode)
	}
	c.Transport = bearer{c.Transport, "0123456789abcdef0123456789abcdef"}
	if i := instances(t, c, url, 1)[0]; !i.GetSelf() {
		t.Errorf("%v", i)
	}
}

type bearer struct {
	http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(r)
}

func TestATakenPortSaysWhatToDo(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := filepath.Join(t.TempDir(), "data")
	err = Serve(t.Context(), cli.ServeOptions{Listen: ln.Addr().String(), DataDir: dir})
	if ops.KindOf(err) != ops.Unavailable || !strings.Contains(err.Error(), "another program, or another centre, has the port: stop it or choose another with --listen") {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it touched the data of the centre that has the port")
	}
}

func TestASecondCentreOnTheSameDataIsRefused(t *testing.T) {
	dir := t.TempDir()
	serve(t, cli.ServeOptions{DataDir: dir})
	err := Serve(t.Context(), cli.ServeOptions{Listen: "127.0.0.1:0", DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Fatalf("got %v", err)
	}
}

func TestDataThatCannotBeWrittenSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "ops.db"), 0o700); err != nil { // refused whoever asks, root too
		t.Fatal(err)
	}
	if err := writable(dir); err != nil {
		t.Errorf("what only the database can judge: %v", err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	readOnly := t.TempDir()
	if err := os.Chmod(readOnly, 0o500); err != nil {
		t.Fatal(err)
	}
	err := Serve(t.Context(), cli.ServeOptions{Listen: "127.0.0.1:0", DataDir: readOnly})
	want := "--data " + readOnly + " cannot be written: open " + filepath.Join(readOnly, "ops.db") + ": permission denied: give the directory to the user that runs the centre, or choose another"
	if err == nil || err.Error() != want || ops.KindOf(err) != ops.Denied {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestWhatAKilledCentreReceivedIsDeleted(t *testing.T) {
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	half, other := filepath.Join(cache, "import-123.zip"), filepath.Join(cache, "trace-viewer")
	for _, name := range []string{half, other} {
		if err := os.WriteFile(name, []byte("PK"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, cli.ServeOptions{DataDir: dir})
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half of an upload is kept: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("what was built is not kept: %v", err)
	}
}

func TestStaticTargetsAreChecked(t *testing.T) {
	err := Serve(t.Context(), cli.ServeOptions{Listen: "127.0.0.1:0", DataDir: t.TempDir(), StaticFiles: []string{"/nowhere.yml"}})
	if ops.KindOf(err) != ops.Invalid {
		t.Fatalf("got %v", err)
	}
}

// certificate writes a self-signed one for loopback.
func certificate(t *testing.T, dir string) (crt, key string, leaf *x509.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ops-center"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	crt, key = filepath.Join(dir, "ops.crt"), filepath.Join(dir, "ops.key")
	for name, block := range map[string]*pem.Block{crt: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return crt, key, leaf
}
