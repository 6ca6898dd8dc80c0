//go:build linux

// Command idle is a service that does nothing but hold an agent, for the test
// that measures what an agent costs. It prints the cores it used and its
// resident bytes.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

func main() {
	d, err := time.ParseDuration(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	a, err := agent.Start(agent.Config{Service: "idle"})
	if err != nil {
		log.Fatal(err)
	}
	time.Sleep(time.Second) // start-up is not idleness
	start, used := time.Now(), cpu()
	time.Sleep(d)
	cores := (cpu() - used).Seconds() / time.Since(start).Seconds()
	fmt.Printf("%.6f %d\n", cores, resident())
	if err := a.Close(); err != nil {
		log.Fatal(err)
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		log.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		log.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
