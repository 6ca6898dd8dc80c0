// Command realistic does what programs do, none of it written for this test:
// it parses and type-checks a part of Go's library, answers HTTP requests, and
// reads and writes JSON through reflection. It keeps what comes of it, and writes
// its heap profile and its table of types into a directory.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"html/template"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"

	"github.com/opscenter/opscenter/agent/heaptypes"
)

// A few thousand sites instead of the few hundred that the usual rate sees.
func init() { runtime.MemProfileRate = 1 << 10 }

func main() {
	kept, err := work()
	if err == nil {
		err = write(os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
	runtime.KeepAlive(kept)
}

func work() (kept []any, err error) {
	for _, name := range []string{"net/http", "go/types", "encoding/json", "html/template", "crypto/tls", "database/sql", "text/template"} {
		k, err := check(name)
		if err != nil {
			return nil, err
		}
		kept = append(kept, k)
	}
	k, err := serve()
	return append(kept, k), err
}

// check parses and type-checks one package, without those that it imports.
func check(name string) (any, error) {
	fset := token.NewFileSet()
	dir := filepath.Join(runtime.GOROOT(), "src", filepath.FromSlash(name))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, filepath.Join(dir, e.Name()), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	info := &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{},
		Uses: map[*ast.Ident]types.Object{}, Scopes: map[ast.Node]*types.Scope{},
	}
	conf := types.Config{Error: func(error) {}, Importer: none{}, FakeImportC: true}
	pkg, _ := conf.Check(name, fset, files, info)
	return []any{fset, files, info, pkg}, nil
}

type none struct{}

func (none) Import(path string) (*types.Package, error) {
	p := types.NewPackage(path, filepath.Base(path))
	p.MarkComplete()
	return p, nil
}

type player struct {
	Name    string
	Scores  map[string]float64
	Friends []*player
	Extra   any
}

// serve answers requests and keeps what they carried.
func serve() (any, error) {
	page := template.Must(template.New("page").Parse("<p>{{.Name}}{{range .Friends}}<i>{{.Name}}</i>{{end}}"))
	byName := map[string]*player{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &player{}
		if err := json.NewDecoder(r.Body).Decode(p); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		byName[p.Name] = p
		_ = page.Execute(w, p)
	}))
	defer s.Close()
	var pages []string
	for i := range 300 {
		p := player{Name: fmt.Sprint("player ", i), Scores: map[string]float64{"a": float64(i), "b": 2}, Extra: map[string]any{"list": []any{1.5, "x", nil}}}
		for k := range 5 {
			p.Friends = append(p.Friends, &player{Name: fmt.Sprint("friend ", k)})
		}
		b, err := json.Marshal(p)
		if err != nil {
			return nil, err
		}
		resp, err := http.Post(s.URL, "application/json", bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		_ = resp.Body.Close()
		pages = append(pages, string(body))
	}
	return []any{byName, pages}, nil
}

func write(dir string) error {
	runtime.GC()
	f, err := os.Create(filepath.Join(dir, "heap.pprof"))
	if err != nil {
		return err
	}
	if err := pprof.Lookup("heap").WriteTo(f, 0); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	p, err := heaptypes.NewProcess()
	if err != nil {
		return fmt.Errorf("types are off: %w", err)
	}
	t, err := p.Collect(context.Background())
	if err != nil {
		return err
	}
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, heaptypes.FileName), b, 0o644)
}
