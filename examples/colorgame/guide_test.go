package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The guide names functions of the game. A renamed function must not leave it
// telling readers of one that is not there.
var (
	inGuide = regexp.MustCompile(`\b(user|ws|gateway|game|record)\.(?:\(\*(\w+)\)\.|(\w+)\.)?(\w+)`)
	inCode  = regexp.MustCompile(`(?m)^(?:func (?:\(\w* ?\*?(\w+)\) )?|type )(\w+)`)
)

func TestTheGuideNamesWhatIsThere(t *testing.T) {
	there := map[string]bool{}
	for _, pkg := range []string{"user", "ws", "gateway", "game", "record"} {
		files, err := filepath.Glob(filepath.Join("internal", pkg, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no sources of %s: %v", pkg, err)
		}
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range inCode.FindAllStringSubmatch(string(src), -1) {
				there[pkg+"."+m[1]+"."+m[2]] = true
			}
		}
	}
	var named [][]string
	for _, lang := range []string{"en.md", "zh-TW.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", "guide", lang))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range inGuide.FindAllStringSubmatch(string(text), -1) {
			name := m[1] + "." + m[2] + m[3] + "." + m[4]
			if !there[name] {
				t.Errorf("%s names %s, which is not there", lang, m[0])
			}
			names = append(names, name)
		}
		slices.Sort(names)
		named = append(named, slices.Compact(names))
	}
	if len(named[0]) < 10 || !slices.Equal(named[0], named[1]) {
		t.Errorf("the languages name different functions:\n%s\n%s", strings.Join(named[0], " "), strings.Join(named[1], " "))
	}
}
