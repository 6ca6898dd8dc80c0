package etcd

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// maxValueBytes bounds what is read of a value; etcd itself takes up to 1.5 MiB.
const maxValueBytes = 64 << 10

// value is what a key may hold. The first group is ours, the second is written by
// etcd's naming/endpoints, whose names begin with capitals.
type value struct {
	Project string            `json:"project"`
	Service string            `json:"service"`
	URL     string            `json:"url"`
	Labels  map[string]string `json:"labels"`
	// Instance is the boot id of the agent, so that it is not taken for another.
	Instance string `json:"instance"`

	Op       int             `json:"Op"` // 1 = deleted
	Addr     string          `json:"Addr"`
	Metadata json.RawMessage `json:"Metadata"`
}

// read makes a target of a key and its value. listed is false for a value that
// says that there is none.
func (c Config) read(key string, b []byte) (t ops.Target, listed bool, err error) {
	if len(b) > maxValueBytes {
		return t, false, fmt.Errorf("its value is larger than %d KiB", maxValueBytes>>10)
	}
	project, service := c.place(key)
	var v value
	switch text := strings.TrimSpace(string(b)); {
	case strings.HasPrefix(text, "{"):
		if err := json.Unmarshal(b, &v); err != nil {
			return t, false, fmt.Errorf("its value is no JSON of a known shape (%w)", err)
		}
	default:
		v.Addr = text // go-zero, and many a hand-written registry
	}
	if v.Op == 1 {
		return t, false, nil
	}
	meta := metadata(v.Metadata)
	for name, own := range map[string]string{discovery.MetaProject: v.Project, discovery.MetaService: v.Service, discovery.MetaInstance: v.Instance} {
		if own != "" {
			meta[name] = own
		}
	}
	if meta[discovery.MetaProject] == "" && project != "" {
		meta[discovery.MetaProject] = project
	}
	for k, l := range v.Labels {
		meta[k] = l
	}
	if v.URL != "" || (v.Addr == "" && v.Instance != "") {
		t, err = c.Naming.Target(service, "unused", 1, meta) // names and labels
		if err != nil {
			return t, false, err
		}
		t.URL = v.URL
		t, err = discovery.Normalize(t)
		return t, err == nil, err
	}
	host, port, err := address(v.Addr)
	if err != nil {
		return t, false, err
	}
	t, err = c.Naming.Target(service, host, port, meta)
	return t, err == nil, err
}

// place is what a key says between the prefix and its last slash.
func (c Config) place(key string) (project, service string) {
	rest := strings.Trim(strings.TrimPrefix(key, c.Prefix), "/")
	parts := strings.Split(rest, "/")
	switch parts = parts[:len(parts)-1]; len(parts) {
	case 0:
		// The prefix may be that of one service: /services/user-service/.
		if c.Service == "" {
			above := strings.Split(strings.Trim(c.Prefix, "/"), "/")
			return "", above[len(above)-1]
		}
		return "", ""
	case 1:
		return "", parts[0]
	default:
		return parts[len(parts)-2], parts[len(parts)-1]
	}
}

// address reads host:port, or a URL of which only they matter.
func address(s string) (host string, port int, err error) {
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil {
			return "", 0, fmt.Errorf("its address cannot be read: %.80q", s)
		}
		s = u.Host
	}
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("its address is %.80q: register host:port", s)
	}
	if port, err = strconv.Atoi(p); err != nil {
		return "", 0, fmt.Errorf("its port is %.20q: register a number", p)
	}
	return host, port, nil
}

// metadata is whatever of a JSON object can be a label.
func metadata(raw json.RawMessage) map[string]string {
	out := map[string]string{}
	var object map[string]any
	if len(raw) == 0 || json.Unmarshal(raw, &object) != nil {
		return out
	}
	for k, v := range object {
		switch v := v.(type) {
		case string:
			out[k] = v
		case float64, bool:
			out[k] = fmt.Sprint(v)
		}
	}
	return out
}
