package static

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"yaml":          {"- project: color-game\n  service: user-service\n  url: http://10.0.0.7:6060\n  labels: {zone: a}\n", "color-game user-service http://10.0.0.7:6060 a"},
		"json":          {`[{"service":"user-service","url":"http://10.0.0.7:6060"}]`, " user-service http://10.0.0.7:6060 "},
		"empty":         {"", ""},
		"misspelt":      {"- service: x\n  uri: http://10.0.0.7:6060\n", `static targets: FILE: line 2: unknown field "uri"`},
		"no list":       {"service: x\n", "static targets: FILE: line 1: "},
		"broken syntax": {"- service: [x\n", "static targets: FILE: line 1: "},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "targets.yml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			list, err := Load(file)
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), file, "FILE")
			}
			for _, e := range list {
				got += e.Project + " " + e.Service + " " + e.URL + " " + e.Labels["zone"]
			}
			if err == nil && got != c.want || err != nil && !strings.HasPrefix(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if _, err := Load("/nowhere/targets.yml"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}
