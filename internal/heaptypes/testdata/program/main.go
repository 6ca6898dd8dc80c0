// Command program allocates in every way there is, each in a function of its
// own, and writes its heap profile and its table of types into a directory.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"

	"github.com/opscenter/opscenter/agent/heaptypes"
)

func init() { runtime.MemProfileRate = 1 }

// Session is what a game server keeps for each player.
type Session struct {
	ID     string
	Next   *Session
	Scores [6]int64
	Tags   []string
}

type point struct{ x, y int32 }

type small struct{ a, b, c byte }

type big struct{ block [5000]*Session }

type nested struct {
	in  struct{ s *Session }
	arr [2]*Session
}

// Node is generic.
type Node[T any] struct {
	Value T
	Next  *Node[T]
}

// Set is a named map.
type Set map[Key]*Session

// Key is a map's key.
type Key struct{ zone, player int }

var keep []any

// alive is what the test is to find; each function is one row of its table.
//
//go:noinline
func newStruct() *Session { return &Session{} }

//go:noinline
func newSmall() *small { return new(small) }

//go:noinline
func newBig() *big { return new(big) }

//go:noinline
func newPointer() **Session { return new(*Session) }

//go:noinline
func newNested() *nested { return new(nested) }

//go:noinline
func newArray() *[7]Session { return new([7]Session) }

//go:noinline
func newHeader() *[]Session { return new([]Session) }

//go:noinline
func makeSlice(n int) []Session { return make([]Session, n) }

//go:noinline
func makePointers(n int) []*Session { return make([]*Session, n) }

//go:noinline
func makePoints(n int) []point { return make([]point, n) }

//go:noinline
func makeBytes(n int) []byte { return make([]byte, n) }

//go:noinline
func appendSlice(s []Key) []Key { return append(s, Key{1, 2}) }

//go:noinline
func appendPointers(s []*Key) []*Key { return append(s, nil) }

//go:noinline
func makeMap(n int) map[string]*Session { return make(map[string]*Session, n) }

//go:noinline
func assignMap(m map[int64]*point) {
	for i := range 100 {
		m[int64(i)] = nil
	}
}

//go:noinline
func assignText(m map[string]point) {
	for i := range 100 {
		m[strconv.Itoa(i)] = point{}
	}
}

//go:noinline
func assignNamed(m Set) {
	for i := range 100 {
		m[Key{i, i}] = nil
	}
}

//go:noinline
func makeChan(n int) chan *Session { return make(chan *Session, n) }

//go:noinline
func boxStruct(k Key) any { return k }

//go:noinline
func boxNumber(n int) any { return n }

//go:noinline
func boxString(s string) any { return s }

//go:noinline
func concat(a, b string) string { return a + b }

//go:noinline
func fromBytes(b []byte) string { return string(b) }

//go:noinline
func toBytes(s string) []byte { return []byte(s) }

//go:noinline
func toRunes(s string) []rune { return []rune(s) }

//go:noinline
func closure(s *Session, n int) func() int { return func() int { return n + len(s.ID) } }

//go:noinline
func newNode[T any](v T) *Node[T] { return &Node[T]{Value: v} }

// makeOf takes its type from the dictionary that the caller hands in.
//
//go:noinline
func makeOf[T any](n int) []T { return make([]T, n) }

//go:noinline
func makeSessions(n int) []*Session { return makeOf[*Session](n) }

//go:noinline
func makeKeys(n int) []*Key { return makeOf[*Key](n) }

//go:noinline
func builder(n int) string {
	var b strings.Builder
	b.Grow(n)
	b.WriteString("x")
	return b.String()
}

func hold(v any) { keep = append(keep, v) }

func main() {
	dir := os.Args[1]
	var many sync.Map
	for i := range 20 {
		hold(newStruct())
		hold(newSmall())
		hold(newPointer())
		hold(newNested())
		hold(newArray())
		hold(newHeader())
		hold(makeSlice(3 + i))
		hold(makePointers(100 + i))
		hold(makePoints(50 + i))
		hold(makeBytes(300 + i))
		hold(appendSlice(nil))
		hold(appendPointers(nil))
		hold(makeMap(100))
		for _, m := range []any{map[int64]*point{}, map[string]point{}, Set{}} {
			switch m := m.(type) {
			case map[int64]*point:
				assignMap(m)
			case map[string]point:
				assignText(m)
			case Set:
				assignNamed(m)
			}
			hold(m)
		}
		hold(makeChan(10))
		hold(boxStruct(Key{i, i}))
		hold(boxNumber(1000 + i))
		hold(boxString("text" + strconv.Itoa(i)))
		hold(concat(os.Args[0], strconv.Itoa(i)+strings.Repeat("-", 40)))
		hold(fromBytes(bytes.Repeat([]byte("s"), 100)))
		hold(toBytes(os.Args[0] + strings.Repeat("-", 60)))
		hold(toRunes(os.Args[0] + strings.Repeat("-", 60)))
		hold(closure(newStruct(), i))
		hold(newNode(newStruct()))
		hold(newNode(i))
		hold(newNode(Key{}))
		hold(makeSessions(40))
		hold(makeKeys(60))
		hold(builder(500))
		many.Store(i, newStruct())
	}
	for range 3 {
		hold(newBig())
	}
	if err := write(dir); err != nil {
		log.Fatal(err)
	}
	runtime.KeepAlive(keep)
	runtime.KeepAlive(&many)
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
