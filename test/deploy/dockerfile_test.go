package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is a line of a Dockerfile, with what continues it.
type instruction struct{ word, rest string }

func dockerfile(t *testing.T) (out []instruction) {
	t.Helper()
	b, err := os.ReadFile("../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(string(b), "")
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\\\n", ""), "\n") {
		if word, rest, _ := strings.Cut(strings.TrimSpace(line), " "); word != "" {
			out = append(out, instruction{word, strings.Join(strings.Fields(rest), " ")})
		}
	}
	return out
}

// ignored reports whether .dockerignore keeps a path out of the build.
func ignored(t *testing.T) func(name string) bool {
	t.Helper()
	b, err := os.ReadFile("../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	patterns := strings.Fields(string(b))
	return func(name string) bool {
		for at := name; at != "."; at = path.Dir(at) {
			for _, p := range patterns {
				whole, err := path.Match(p, at)
				if err != nil {
					t.Fatalf(".dockerignore: %s: %v", p, err)
				}
				if rest, deep := strings.CutPrefix(p, "**/"); deep {
					anywhere, _ := path.Match(rest, path.Base(at))
					whole = whole || anywhere
				}
				if whole {
					return true
				}
			}
		}
		return false
	}
}

// tracked are the files of the tree that the build gets to see.
func tracked(t *testing.T) (out []string) {
	t.Helper()
	listed := exec.Command("git", "ls-files", "-co", "--exclude-standard", "-z")
	listed.Dir = "../.."
	b, err := listed.Output()
	if err != nil {
		t.Skipf("this is no checkout: %v", err)
	}
	keptOut := ignored(t)
	for name := range bytes.SplitSeq(b, []byte{0}) {
		if len(name) > 0 && !keptOut(string(name)) {
			out = append(out, string(name))
		}
	}
	return out
}

func TestTheDockerfileSaysWhatCanBe(t *testing.T) {
	files := tracked(t)
	known := []string{"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
	made := regexp.MustCompile(`/out/[a-z./-]+`)
	var stages, built, copied []string
	count := map[string]int{}
	for _, i := range dockerfile(t) {
		count[i.word]++
		if !slices.Contains(known, i.word) {
			t.Errorf("%s is no instruction, or one that needs a look", i.word)
		}
		switch i.word {
		case "FROM":
			if _, name, ok := strings.Cut(i.rest, " AS "); ok {
				stages = append(stages, name)
			}
		case "RUN":
			built = append(built, made.FindAllString(i.rest, -1)...)
		case "COPY":
			words := strings.Fields(i.rest)
			from := ""
			for len(words) > 0 && strings.HasPrefix(words[0], "--") {
				if stage, ok := strings.CutPrefix(words[0], "--from="); ok {
					from = stage
				}
				words = words[1:]
			}
			if len(words) < 2 {
				t.Errorf("COPY %s copies nothing", i.rest)
				continue
			}
			copied = append(copied, words[len(words)-1])
			for _, source := range words[:len(words)-1] {
				switch {
				case from != "" && !slices.Contains(stages, from):
					t.Errorf("COPY %s: there is no stage %s", i.rest, from)
				case from != "" && !slices.Contains(built, source):
					t.Errorf("COPY %s: the stage makes no %s", i.rest, source)
				case from == "" && source != "." && !slices.Contains(files, source):
					t.Errorf("COPY %s: the build sees no %s", i.rest, source)
				}
			}
		case "ENTRYPOINT":
			if program := strings.Trim(i.rest, `[]"`); !slices.Contains(copied, program) {
				t.Errorf("ENTRYPOINT %s: nothing put it there", i.rest)
			}
		case "USER":
			if strings.HasPrefix(i.rest, "0") || strings.HasPrefix(i.rest, "root") {
				t.Error("the centre would be root")
			}
		}
	}
	for word, n := range map[string]int{"FROM": 2, "USER": 1, "ENTRYPOINT": 1, "HEALTHCHECK": 1} {
		if count[word] != n {
			t.Errorf("%d times %s, want %d", count[word], word, n)
		}
	}
	module, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	wants := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	if has := dockerfile(t)[0]; len(wants) != 2 || !strings.HasPrefix(has.rest, "GO_VERSION="+string(wants[1])+".") {
		t.Errorf("%v builds what wants Go %s", has, wants)
	}
}

// TestWhatTheBuildDoesNotSeeIsNotNeeded finds packages of the program in what
// .dockerignore keeps out.
func TestWhatTheBuildDoesNotSeeIsNotNeeded(t *testing.T) {
	listed := exec.Command("go", "list", "-deps", "-f", `{{if .Module}}{{if .Module.Main}}{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}
{{end}}{{range .EmbedFiles}}{{$d}}/{{.}}
{{end}}{{end}}{{end}}`, "./cmd/ops")
	listed.Dir, listed.Stderr = "../..", os.Stderr
	b, err := listed.Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	keptOut, n := ignored(t), 0
	for file := range strings.FieldsSeq(string(b)) {
		name, err := filepath.Rel(root, file)
		if n++; err != nil || keptOut(filepath.ToSlash(name)) {
			t.Errorf("the program needs %s, which .dockerignore keeps out (%v)", name, err)
		}
	}
	if n < 500 {
		t.Errorf("only %d files are looked at", n)
	}
}
