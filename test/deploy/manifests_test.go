// Package deploy holds what is delivered beside the program to what it says:
// Kubernetes' own types read every manifest, with no field left over.
package deploy

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/opscenter/opscenter/internal/app"
)

const manifests = "../../deploy/kubernetes"

// typeOf returns an empty object of a kind.
func typeOf(apiVersion, kind string) any {
	switch apiVersion + " " + kind {
	case "v1 Namespace":
		return new(corev1.Namespace)
	case "v1 ServiceAccount":
		return new(corev1.ServiceAccount)
	case "v1 Service":
		return new(corev1.Service)
	case "v1 ConfigMap":
		return new(corev1.ConfigMap)
	case "v1 Secret":
		return new(corev1.Secret)
	case "apps/v1 StatefulSet":
		return new(appsv1.StatefulSet)
	case "apps/v1 Deployment":
		return new(appsv1.Deployment)
	case "batch/v1 Job":
		return new(batchv1.Job)
	case "networking.k8s.io/v1 NetworkPolicy":
		return new(networkingv1.NetworkPolicy)
	case "rbac.authorization.k8s.io/v1 ClusterRole":
		return new(rbacv1.ClusterRole)
	case "rbac.authorization.k8s.io/v1 ClusterRoleBinding":
		return new(rbacv1.ClusterRoleBinding)
	}
	return nil
}

// read checks every document of a text and returns the objects.
func read(t *testing.T, name string, text []byte) (out []any) {
	t.Helper()
	for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var raw map[string]any
		if err := yaml.UnmarshalWithOptions(doc, &raw, yaml.Strict()); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		apiVersion, _ := raw["apiVersion"].(string)
		kind, _ := raw["kind"].(string)
		object := typeOf(apiVersion, kind)
		if object == nil {
			t.Errorf("%s: no type is known of %s %s", name, apiVersion, kind)
			continue
		}
		b, err := json.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(object); err != nil {
			t.Errorf("%s: %s: %v", name, kind, err)
			continue
		}
		out = append(out, object)
	}
	return out
}

func TestManifests(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(manifests, func(name string, d fs.DirEntry, err error) error {
		base := filepath.Base(name)
		if err != nil || d.IsDir() || base == "kustomization.yaml" || base == "ops.yaml" {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, object := range read(t, name, b) {
			seen++
			switch o := object.(type) {
			case *appsv1.StatefulSet:
				locked(t, name, o.Spec.Template.Spec)
			case *batchv1.Job:
				locked(t, name, o.Spec.Template.Spec)
			}
		}
		return nil
	})
	if err != nil || seen < 10 {
		t.Errorf("%d objects, %v", seen, err)
	}
}

// locked: as the namespace's policy wants it.
func locked(t *testing.T, name string, spec corev1.PodSpec) {
	t.Helper()
	if s := spec.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil {
		t.Errorf("%s: the pod may run as root", name)
	}
	for _, c := range spec.Containers {
		s := c.SecurityContext
		if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
			s.Capabilities == nil || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("%s: container %s is not locked down", name, c.Name)
		}
	}
}

func TestKustomize(t *testing.T) {
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("kubectl is not installed")
	}
	for dir, want := range map[string]int{"base": 10, "agents": 1} {
		out, err := exec.CommandContext(t.Context(), "kubectl", "kustomize", filepath.Join(manifests, dir)).Output()
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		if objects := read(t, dir, out); len(objects) != want {
			t.Errorf("%s: %d objects, want %d", dir, len(objects), want)
		}
	}
}

func TestAWrongManifestIsFound(t *testing.T) {
	b, err := os.ReadFile(manifests + "/base/statefulset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Replace(b, []byte("readOnlyRootFilesystem"), []byte("readOnlyRootFileSystem2"), 1)
	var raw map[string]any
	if err := yaml.Unmarshal(wrong, &raw); err != nil {
		t.Fatal(err)
	}
	if b, err = json.Marshal(raw); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(new(appsv1.StatefulSet)); err == nil || !strings.Contains(err.Error(), "readOnlyRootFileSystem2") {
		t.Errorf("%v", err)
	}
}

func TestTheConfigurationsAreRight(t *testing.T) {
	for _, name := range []string{manifests + "/base/ops.yaml", "../../deploy/ops.container.yaml"} {
		if code := app.Run(t.Context(), []string{"config", "check", name}); code != 0 {
			t.Errorf("%s: ops config check ends with %d", name, code)
		}
	}
}

// TestAgentsAreToldWhatTheyRead: every variable of the patch is one that the
// agent knows.
func TestAgentsAreToldWhatTheyRead(t *testing.T) {
	patch, err := os.ReadFile(manifests + "/agents/agent.patch.yaml")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("../../agent/config.go")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`name: (OPS_\w+)`).FindAllSubmatch(patch, -1)
	for _, n := range names {
		if !bytes.Contains(code, n[1]) {
			t.Errorf("the agent reads no %s", n[1])
		}
	}
	if len(names) < 4 {
		t.Errorf("%d variables", len(names))
	}
}
