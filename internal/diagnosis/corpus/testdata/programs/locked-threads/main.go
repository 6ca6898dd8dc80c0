// Locked-threads gives every camera a thread of its own.
package main

import (
	"runtime"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type camera struct {
	frames chan []byte
	last   int
}

func (c *camera) record() {
	runtime.LockOSThread() // want: thread-explosion
	defer runtime.UnlockOSThread()
	for frame := range c.frames { // want: thread-explosion
		c.last = len(frame)
	}
}

func main() {
	s := stage.Start()
	cameras := make([]*camera, 300)
	for i := range cameras {
		cameras[i] = &camera{frames: make(chan []byte)}
		go cameras[i].record() // want: thread-explosion
	}
	for _, c := range cameras {
		c.frames <- make([]byte, 10)
	}
	s.Wait()
}
