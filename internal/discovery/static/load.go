package static

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"

	"github.com/opscenter/opscenter/internal/ops"
)

// maxFileBytes is far above any list that a person keeps by hand.
const maxFileBytes = 16 << 20

// Load reads entries from a file: a list in YAML, of which JSON is a part.
// Unknown fields are refused, so that a misspelt one is not silently ignored.
// Errors name the file and the line.
func Load(path string) ([]Target, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "static targets: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "static targets: %w", err)
	}
	if len(b) > maxFileBytes {
		return nil, ops.Errorf(ops.Invalid, "static targets: %s is larger than %d MiB: use --file-sd for generated lists", path, maxFileBytes>>20)
	}
	var out []Target
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.DisallowUnknownField()).Decode(&out); err != nil && !errors.Is(err, io.EOF) {
		return nil, ops.Errorf(ops.Invalid, "static targets: %s: %s", path, where(err))
	}
	return out, nil
}

// where is the first line of a YAML error, "[3:5] message", without its excerpt.
func where(err error) string {
	var syntax yaml.Error
	if errors.As(err, &syntax) && syntax.GetToken() != nil {
		p := syntax.GetToken().Position
		return fmt.Sprintf("line %d: %s", p.Line, syntax.GetMessage())
	}
	return err.Error()
}
