//go:build go1.23

package main

import "iter"

var newer = []func(){stateCoroutine}

//go:noinline
func stateCoroutine() {
	next, _ := iter.Pull(func(yield func(int) bool) {
		yield(1)
	})
	next()
	<-never
}
