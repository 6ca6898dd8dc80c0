package discovery

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// TLS is how a source's backend is verified, and how the centre shows it who it is.
type TLS struct {
	// CAFile holds the authorities (PEM) that may have signed the backend's
	// certificate; empty = the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are the centre's own certificate; empty = none.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName is the name in the backend's certificate; empty = its address.
	ServerName string `yaml:"server_name"`
}

// Validate says what cannot be, without reading the files.
func (t TLS) Validate() error {
	if (t.CertFile == "") != (t.KeyFile == "") {
		return ops.Errorf(ops.Invalid, "tls: cert_file and key_file belong together: give both or none")
	}
	return nil
}

// Load reads the files.
func (t TLS) Load() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, ops.Errorf(ops.Invalid, "tls: ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, ops.Errorf(ops.Invalid, "tls: ca_file: %s holds no certificate in PEM", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, ops.Errorf(ops.Invalid, "tls: cert_file and key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// maxSecretBytes is above every token there is.
const maxSecretBytes = 64 << 10

// Secret reads a password or token from a file, without the white space around
// it. It is read anew with every connection, so that it can be changed.
func Secret(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return "", ops.Errorf(ops.Invalid, "the secret's file %s: %w", file, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return "", ops.Errorf(ops.Invalid, "the secret's file %s: %w", file, err)
	}
	if len(b) > maxSecretBytes {
		return "", ops.Errorf(ops.Invalid, "the secret's file %s is larger than %d KiB: is it the right one?", file, maxSecretBytes>>10)
	}
	return strings.TrimSpace(string(b)), nil
}

// Naming makes targets of what a registry knows, which is mostly host, port and
// the name of a service. It is part of such sources' configuration.
type Naming struct {
	// Project of instances that name none; empty = "default".
	Project string `yaml:"project"`
	// Service of instances that name none; empty = the registry's own name for it.
	Service string `yaml:"service"`
	// Scheme is how instances are reached that do not say it: http or https, of
	// pprof endpoints, or grpc or grpcs, of agents on the service's own gRPC server;
	// empty = http.
	Scheme string `yaml:"scheme"`
	// Port is where, on the instance's host; 0 = the port that is registered.
	Port int `yaml:"port"`
	// Path of pprof endpoints; empty = /debug/pprof.
	Path string `yaml:"path"`
	// Labels of all instances; what an instance says of itself wins.
	Labels map[string]string `yaml:"labels"`
}

// Validate says what cannot be, as an Invalid error that names the field.
func (n Naming) Validate() error {
	switch n.Scheme {
	case "", "http", "https":
	case "grpc", "grpcs":
		if n.Path != "" {
			return ops.Errorf(ops.Invalid, "path: an agent has none: leave it out, or use the scheme http")
		}
	default:
		return ops.Errorf(ops.Invalid, "scheme: %q is none: use http, https, grpc or grpcs", n.Scheme)
	}
	switch {
	case n.Project != "" && !ops.ValidName(n.Project):
		return ops.Errorf(ops.Invalid, "project: %q is not a valid name: use letters, digits, dot, underscore and hyphen", n.Project)
	case n.Service != "" && !ops.ValidName(n.Service):
		return ops.Errorf(ops.Invalid, "service: %q is not a valid name: use letters, digits, dot, underscore and hyphen", n.Service)
	case n.Port < 0 || n.Port > 65535:
		return ops.Errorf(ops.Invalid, "port: %d is none: use 1 to 65535", n.Port)
	case n.Path != "" && n.Path[0] != '/':
		return ops.Errorf(ops.Invalid, "path: %q: begin it with a slash", n.Path)
	}
	return nil
}

// The names under which an instance says in its metadata (Consul, Nacos, etcd) or
// annotations how it wants to be seen. In Kubernetes they begin with
// "opscenter.io/" and have hyphens.
const (
	MetaProject   = "ops_project"
	MetaService   = "ops_service"
	MetaPprofPort = "ops_pprof_port"
	MetaPath      = "ops_pprof_path"
	MetaScheme    = "ops_scheme"
	MetaInstance  = "ops_instance" // the boot id of its agent
)

// Target makes the target of an instance at host and port, which the registry
// lists under a service, with what the instance says of itself. Metadata that has
// no meaning here becomes labels, as far as it can.
func (n Naming) Target(service, host string, port int, meta map[string]string) (ops.Target, error) {
	port = cmp.Or(n.Port, port)
	if p := meta[MetaPprofPort]; p != "" {
		k, err := strconv.Atoi(p)
		if err != nil {
			return ops.Target{}, ops.Errorf(ops.Invalid, "%s is %.20q: write a port", MetaPprofPort, p)
		}
		port = k
	}
	if port < 1 || port > 65535 {
		return ops.Target{}, ops.Errorf(ops.Invalid, "port %d is none: register one, or set port in the source's configuration", port)
	}
	if host == "" || strings.ContainsAny(host, "/?#@ ") {
		return ops.Target{}, ops.Errorf(ops.Invalid, "%.80q is no host", host)
	}
	t := ops.Target{
		Project:  ops.ProjectName(cmp.Or(meta[MetaProject], n.Project)),
		Service:  ops.ServiceName(cmp.Or(meta[MetaService], n.Service, service)),
		Instance: ops.InstanceID(meta[MetaInstance]),
	}
	scheme := cmp.Or(meta[MetaScheme], n.Scheme, "http")
	t.URL = scheme + "://" + net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
	if scheme == "http" || scheme == "https" {
		path := cmp.Or(meta[MetaPath], n.Path, DefaultPprofPath)
		if path[0] != '/' {
			path = "/" + path
		}
		t.URL += path
	}
	t.Labels = n.labels(meta)
	return Normalize(t)
}

// labels are the configured ones and an instance's own, as many as may be.
func (n Naming) labels(meta map[string]string) map[string]string {
	out := maps.Clone(n.Labels)
	for _, k := range slices.Sorted(maps.Keys(meta)) { // the same ones each time
		v := meta[k]
		if strings.HasPrefix(k, "ops_") || k == "" || len(k) > MaxLabelName || len(v) > MaxLabelValue {
			continue
		}
		if _, mine := n.Labels[k]; !mine && len(out) >= MaxLabels {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k] = v
	}
	return out
}
