// Command bundle makes a capture's bundle out of one artifact, so that a benchmark
// can bring it to a centre:
//
//	go run ./bench/ui/bundle -kind trace -id 01kb0000000000000000000001 trace.out bundle.zip
package main

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"
)

func main() {
	log.SetFlags(0)
	kind := flag.String("kind", "trace", "what the artifact is")
	id := flag.String("id", "01kb0000000000000000000001", "the capture's `id`")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal("name the artifact and the bundle")
	}
	if err := write(*kind, *id, flag.Arg(0), flag.Arg(1)); err != nil {
		log.Fatal(err)
	}
}

type object = map[string]any

func write(kind, id, artifact, bundle string) (err error) {
	in, err := os.Open(artifact)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	sum := sha256.New()
	size, err := io.Copy(sum, in)
	if err != nil {
		return err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	name := filepath.Base(artifact)
	at := time.Date(2026, 5, 4, 12, 30, 20, 0, time.UTC)
	manifest, err := json.Marshal(object{
		"schema": "opscenter.manifest/v1", "exported": at,
		"capture": object{
			"id": id, "project": "bench", "service": "big", "state": "done", "created": at, "finished": at.Add(10 * time.Second), "actor": "bench",
			"spec": object{"seconds": 10, "kinds": []string{kind}, "fidelity": "full"},
		},
		"targets": []object{{
			"instance": object{"id": "boot-0", "project": "bench", "service": "big"}, "state": "done", "losses": []any{},
			"artifacts": []object{{
				"kind": kind, "name": name, "path": "boot-0/" + name, "phase": "window", "sha256": hex.EncodeToString(sum.Sum(nil)), "size_bytes": size, "losses": []any{},
			}},
		}},
	})
	if err != nil {
		return err
	}
	out, err := os.Create(bundle)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z := zip.NewWriter(out)
	w, err := z.Create("manifest.json")
	if err != nil {
		return err
	}
	if _, err := w.Write(manifest); err != nil {
		return err
	}
	if w, err = z.CreateHeader(&zip.FileHeader{Name: "boot-0/" + name, Method: zip.Store}); err != nil {
		return err
	}
	if _, err := io.Copy(w, in); err != nil {
		return err
	}
	return z.Close()
}
