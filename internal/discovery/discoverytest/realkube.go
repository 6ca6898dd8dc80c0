package discoverytest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// RealKube is Kubernetes' API server in a process of its own, with an etcd behind
// it that outlives it. It has no controllers: nothing is there but what is put there.
type RealKube struct {
	// Address is host:port, over TLS.
	Address string

	etcd   *Etcd
	binary string
	args   []string
	client *http.Client
	cmd    *exec.Cmd
	log    bytes.Buffer
}

// Tokens that a RealKube knows: of who may do everything, and of who may nothing.
const (
	KubeAdmin    = "admin-token"
	KubeStranger = "stranger-token"
)

// StartRealKube starts the API server that scripts/backends.sh built; the test is
// skipped where OPS_BACKENDS does not say where that is.
func StartRealKube(t testing.TB, extra ...string) *RealKube {
	t.Helper()
	dir := os.Getenv("OPS_BACKENDS")
	if dir == "" {
		t.Skip("OPS_BACKENDS names no folder of scripts/backends.sh")
	}
	k := &RealKube{Address: FreeAddress(t), binary: filepath.Join(dir, "kube-apiserver"), etcd: StartEtcd(t)}
	k.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the certificate is its own, made at its first start
		DisableKeepAlives: true,
	}}
	_, port, err := net.SplitHostPort(k.Address)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	write := func(name string, b []byte) string {
		name = filepath.Join(home, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer := write("accounts.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	tokens := write("tokens.csv", []byte(KubeAdmin+",admin,1,system:masters\n"+KubeStranger+",stranger,2\n"))
	k.args = []string{
		"--etcd-servers=http://" + k.etcd.Client, "--bind-address=127.0.0.1", "--advertise-address=192.0.2.1", "--secure-port=" + port, "--cert-dir=" + filepath.Join(home, "certs"),
		"--service-cluster-ip-range=10.0.0.0/16", "--authorization-mode=RBAC", "--token-auth-file=" + tokens, "--disable-admission-plugins=ServiceAccount",
		"--service-account-issuer=https://kubernetes.default", "--service-account-key-file=" + signer, "--service-account-signing-key-file=" + signer,
		"--endpoint-reconciler-type=none", "--v=0",
	}
	k.args = append(k.args, extra...)
	k.Start(t)
	t.Cleanup(func() { k.Kill(t) })
	return k
}

// Start starts it, or starts it again with what it held.
func (k *RealKube) Start(t testing.TB) {
	t.Helper()
	k.log.Reset()
	k.cmd = exec.Command(k.binary, k.args...)
	k.cmd.Stdout, k.cmd.Stderr = &k.log, &k.log
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, err := k.call(http.MethodGet, "/readyz", nil)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			k.Kill(t)
			t.Fatalf("kube-apiserver does not answer: %v\n%.4000s", err, k.log.String())
		}
	}
}

// Kill ends it without a warning.
func (k *RealKube) Kill(testing.TB) {
	if k.cmd == nil {
		return
	}
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
	k.cmd = nil
}

// Elsewhere makes the version of all that it holds go on, while it is away or not.
func (k *RealKube) Elsewhere(t testing.TB) {
	t.Helper()
	body := bytes.NewReader([]byte(`{"key": "ZWxzZXdoZXJl", "value": "eA=="}`)) // "elsewhere", in the JSON of etcd's gateway
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+k.etcd.Client+"/v3/kv/put", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := k.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
}

// Kubeconfig is a file that says how to reach it as who has the token.
func (k *RealKube) Kubeconfig(t testing.TB, token string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://%s", insecure-skip-tls-verify: true}}]
users: [{name: test, user: {token: %s}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, k.Address, token)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Original is it, for a Tape.
func (k *RealKube) Original() Original {
	return Original{URL: "https://" + k.Address, Binary: k.binary, Module: "k8s.io/kubernetes"}
}

// Put makes the collection at path, such as
// "/apis/discovery.k8s.io/v1/namespaces/games/endpointslices", hold these objects by
// name and no others; what is as it was is left alone. Several at the same time.
func (k *RealKube) Put(t testing.TB, path string, objects map[string]map[string]any) {
	t.Helper()
	b, err := k.call(http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var had struct {
		Items []struct {
			Metadata struct {
				Name            string `json:"name"`
				ResourceVersion string `json:"resourceVersion"`
			} `json:"metadata"`
		} `json:"items"`
	}
	if err := json.Unmarshal(b, &had); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	var calls []func() error
	for _, item := range had.Items {
		versions[item.Metadata.Name] = item.Metadata.ResourceVersion
		if objects[item.Metadata.Name] == nil {
			calls = append(calls, func() error {
				_, err := k.call(http.MethodDelete, path+"/"+item.Metadata.Name, nil)
				return err
			})
		}
	}
	for name, o := range objects {
		calls = append(calls, func() error {
			method, at := http.MethodPost, path
			if versions[name] != "" {
				method, at = http.MethodPut, path+"/"+name
			}
			_, err := k.call(method, at, o)
			return err
		})
	}
	var all sync.WaitGroup
	at := make(chan struct{}, 8)
	for _, call := range calls {
		all.Go(func() {
			at <- struct{}{}
			defer func() { <-at }()
			if err := call(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// Namespace makes one, unless it is there.
func (k *RealKube) Namespace(t testing.TB, name string) {
	t.Helper()
	if _, err := k.call(http.MethodGet, "/api/v1/namespaces/"+name, nil); err == nil {
		return
	}
	if _, err := k.call(http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": name}}); err != nil {
		t.Fatal(err)
	}
}

// Call calls its API, which has to take it.
func (k *RealKube) Call(t testing.TB, method, path string, body any) {
	t.Helper()
	if _, err := k.call(method, path, body); err != nil {
		t.Fatal(err)
	}
}

func (k *RealKube) call(method, path string, v any) ([]byte, error) {
	var body io.Reader
	if v != nil {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "https://"+k.Address+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+KubeAdmin)
	req.Header.Set("Content-Type", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, b)
	}
	return b, err
}

// Replace replaces one object of the collection at path, whatever it was.
func (k *RealKube) Replace(t testing.TB, path string, o map[string]any) {
	t.Helper()
	meta, _ := o["metadata"].(map[string]any)
	if _, err := k.call(http.MethodPut, fmt.Sprint(path, "/", meta["name"]), o); err != nil {
		t.Fatal(err)
	}
}
