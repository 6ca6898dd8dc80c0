// Group-limit-nested walks a tree of rooms.
package main

import (
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type node struct {
	name     string
	children []*node
}

func tree(depth int) *node {
	n := &node{name: "room"}
	if depth > 0 {
		for range 4 {
			n.children = append(n.children, tree(depth-1))
		}
	}
	return n
}

type walker struct {
	g     *errgroup.Group
	visit func(*node)
}

func (w *walker) walk(n *node) error {
	w.visit(n)
	for _, c := range n.children {
		w.g.Go(func() error { return w.walk(c) }) // want: deadlock
	}
	return nil
}

func main() {
	s := stage.Start()
	root := tree(4)
	mux := http.NewServeMux()
	mux.HandleFunc("/walk", func(http.ResponseWriter, *http.Request) {
		w := &walker{&errgroup.Group{}, func(*node) { time.Sleep(time.Millisecond) }}
		w.g.SetLimit(8)
		_ = w.walk(root) // want: deadlock
		_ = w.g.Wait()   // want: deadlock
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/walk", Users: 5, Pause: 20 * time.Millisecond})
	s.Wait()
}
