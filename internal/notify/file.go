package notify

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/opscenter/opscenter/internal/ops"
)

// Load reads channels from a YAML file: a list under "channels". A url, token or
// secret may be ${env:NAME} or ${file:path}, a path being relative to the file,
// so that the file itself holds none.
func Load(file string) ([]Channel, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "--notify: %w", err)
	}
	all, err := Parse(b, filepath.Dir(file))
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "--notify %s: %w", file, err)
	}
	return all, nil
}

// Parse reads what Load does.
func Parse(b []byte, dir string) ([]Channel, error) {
	var in struct {
		Channels []Channel `yaml:"channels"`
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, nil
	}
	if err := yaml.UnmarshalWithOptions(b, &in, yaml.Strict()); err != nil {
		where, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n") // without the lines around it: they may hold secrets
		return nil, errors.New(where)
	}
	for i := range in.Channels {
		c := &in.Channels[i]
		for _, secret := range []*string{&c.URL, &c.Token, &c.Secret} {
			v, err := expand(*secret, dir)
			if err != nil {
				return nil, ops.Errorf(ops.Invalid, "channel %q: %w", c.Name, err)
			}
			*secret = v
		}
	}
	return in.Channels, check(in.Channels)
}

var reference = regexp.MustCompile(`^\$\{(env|file):([^}]+)\}$`)

func expand(s, dir string) (string, error) {
	m := reference.FindStringSubmatch(s)
	if m == nil {
		return s, nil
	}
	if m[1] == "env" {
		v, ok := os.LookupEnv(m[2])
		if !ok || v == "" {
			return "", errors.New("the environment has no " + m[2])
		}
		return v, nil
	}
	name := m[2]
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}
