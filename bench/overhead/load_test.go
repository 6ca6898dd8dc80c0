package main

import (
	"testing"
	"time"
)

func TestBetween(t *testing.T) {
	ms := int64(time.Millisecond)
	var r recorder
	for i := range int64(200) {
		r.done = append(r.done, request{i * ms, time.Duration(i) * time.Microsecond})
	}
	for i := range int64(20) { // half a core
		r.cpu = append(r.cpu, cpuAt{i * 10 * ms, time.Duration(i*5) * time.Millisecond})
	}
	want := served{Requests: 100, P99: 149 * time.Microsecond, CPU: 50 * time.Millisecond}
	if got := r.between(50*ms, 150*ms); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := r.between(52*ms, 54*ms).CPU, time.Millisecond; got != want {
		t.Errorf("%v of CPU between two samples, want %v", got, want)
	}
	if got := r.between(300*ms, 400*ms); got != (served{}) {
		t.Errorf("%+v where nothing happened", got)
	}
}
