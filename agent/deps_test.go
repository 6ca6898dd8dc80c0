package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayImport lists what a service builds when it imports the agent. Each is here
// because gRPC needs it; whatever else appears is paid for by every service.
var mayImport = []string{
	"google.golang.org/grpc",
	"google.golang.org/protobuf",
	"google.golang.org/genproto/googleapis/rpc",
	"golang.org/x/net",
	"golang.org/x/sys",
	"golang.org/x/text",
}

func TestDependenciesAreFew(t *testing.T) {
	// Read, so that a cached result is not kept when they change.
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, f := range append(files, "../go.mod", "../gen/opscenter/agent/v1/agent.pb.go") {
		if _, err := os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, platform := range []string{"linux", "darwin", "windows"} {
		// What registers is not part of the agent, and costs as little.
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}} {{.Module.Path}}{{end}}", ".", "./register/...")
		cmd.Env = append(os.Environ(), "GOOS="+platform, "GOFLAGS=-mod=readonly", "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, out)
		}
		lines := strings.Fields(string(out))
		if len(lines) < 20 {
			t.Fatalf("go list says %q", out)
		}
		for i := 0; i+1 < len(lines); i += 2 {
			pkg, module := lines[i], lines[i+1]
			if module == "github.com/opscenter/opscenter" {
				if pkg != module+"/agent" && !strings.HasPrefix(pkg, module+"/agent/register") && pkg != module+"/agent/heaptypes" && pkg != module+"/agent/internal/setters" && pkg != module+"/gen/opscenter/agent/v1" {
					t.Errorf("on %s the agent imports %s; of this project it may import only agent/heaptypes, agent/internal/setters and gen/opscenter/agent/v1", platform, pkg)
				}
			} else if !slices.Contains(mayImport, module) {
				t.Errorf("on %s the agent imports %s of %s; allowed are %v", platform, pkg, module, mayImport)
			}
		}
	}
}
