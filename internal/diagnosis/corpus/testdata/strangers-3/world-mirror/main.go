// Command world-mirror hands spectators a private copy of the zone they look at.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime/debug"
	"time"
)

type vec struct{ X, Y, Z float64 }

type effect struct {
	Kind  string
	Until *time.Time
}

type unit struct {
	Name    *string
	At, Vel *vec
	Effects []*effect
	Target  *unit
}

type zone struct {
	units map[uint64]*unit
}

func (u *unit) clone() *unit {
	c := &unit{Name: u.Name, Target: u.Target} // want: cpu-gc-pressure
	c.At = &vec{u.At.X, u.At.Y, u.At.Z}        // want: cpu-gc-pressure
	c.Vel = &vec{u.Vel.X, u.Vel.Y, u.Vel.Z}    // want: cpu-gc-pressure
	for _, e := range u.Effects {
		until := *e.Until                                      // want: cpu-gc-pressure
		c.Effects = append(c.Effects, &effect{e.Kind, &until}) // want: cpu-gc-pressure
	}
	return c
}

func (z *zone) mirror() map[uint64]*unit {
	out := map[uint64]*unit{}
	for id, u := range z.units {
		out[id] = u.clone() // want: cpu-gc-pressure
	}
	return out
}

type world struct{ zones []*zone }

func build(zones, units int) *world {
	w := &world{}
	now := time.Now()
	for z := range zones {
		zn := &zone{units: map[uint64]*unit{}}
		for i := range units {
			name := fmt.Sprintf("z%d-u%d", z, i)
			until := now.Add(time.Hour)
			zn.units[uint64(i)] = &unit{Name: &name, At: &vec{X: rand.Float64()}, Vel: &vec{},
				Effects: []*effect{{"haste", &until}, {"shield", &until}}}
		}
		w.zones = append(w.zones, zn)
	}
	return w
}

func (w *world) view(rw http.ResponseWriter, r *http.Request) {
	var id int
	fmt.Sscanf(r.PathValue("id"), "%d", &id)
	var sum float64
	for _, u := range w.zones[id%len(w.zones)].mirror() {
		sum += u.At.X + u.Vel.X
	}
	binary.Write(rw, binary.LittleEndian, sum)
}

func main() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	debug.SetGCPercent(50) // the pod is small
	w := build(160, 1000)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /zone/{id}", w.view)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	for range 6 {
		go func() {
			for {
				began := time.Now()
				res, err := http.Get(fmt.Sprintf("http://%s/zone/%d", l.Addr(), rand.IntN(160)))
				if err != nil {
					log.Print(err)
					time.Sleep(time.Second)
					continue
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				time.Sleep(max(time.Since(began)*2, 3*time.Millisecond))
			}
		}()
	}
	select {}
}
