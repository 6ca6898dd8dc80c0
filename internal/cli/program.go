package cli

import (
	"os"
	"regexp"
	"strings"
)

// programName is how people start this program: what they typed, or, where the
// go command built it for one run, that.
func (p *program) programName() string {
	if len(os.Args) == 0 || strings.Contains(os.Args[0], "/go-build") && strings.HasSuffix(os.Args[0], "/main") {
		return "go run cmd/ops/main.go"
	}
	if strings.HasSuffix(os.Args[0], ".test") {
		return "ops"
	}
	return Quote(os.Args[0])
}

// commandLine is the line that started this run.
func (p *program) commandLine() string {
	words := []string{p.programName()}
	for _, a := range p.args {
		words = append(words, Quote(a))
	}
	return strings.Join(words, " ")
}

var plain = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// Quote writes a word so that a shell reads it as it is.
func Quote(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
