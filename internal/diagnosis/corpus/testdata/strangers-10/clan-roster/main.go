package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

type memberID uint32

type member struct {
	id     memberID
	name   string
	power  int
	donate int
}

type roster struct {
	mu      sync.RWMutex
	members map[memberID]*member
	officer []memberID
}

func newRoster(size int) *roster {
	r := &roster{members: make(map[memberID]*member, size)}
	for i := range size {
		id := memberID(i + 1)
		r.members[id] = &member{id: id, name: fmt.Sprintf("m%03d", i), power: rand.IntN(9000)}
		if i%5 == 0 {
			r.officer = append(r.officer, id)
		}
	}
	return r
}

var errNoMember = errors.New("no such member")

func (r *roster) standing(id memberID) (int, error) {
	r.mu.RLock() // want: deadlock
	defer r.mu.RUnlock()
	me, ok := r.members[id]
	if !ok {
		return 0, errNoMember
	}
	pos := 1
	for _, m := range r.members {
		if m.power > me.power {
			pos++
		}
	}
	return pos, nil
}

type row struct {
	pos  int
	name string
}

func (r *roster) council() []row {
	r.mu.RLock() // want: deadlock
	defer r.mu.RUnlock()
	rows := make([]row, 0, len(r.officer))
	for _, id := range r.officer {
		pos, err := r.standing(id) // want: deadlock
		if err != nil {
			continue
		}
		rows = append(rows, row{pos: pos, name: r.members[id].name})
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.pos, b.pos) })
	return rows
}

func (r *roster) award(id memberID, delta int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.members[id]
	if !ok {
		return errNoMember
	}
	m.power += delta
	m.donate++
	return nil
}

type daemon struct {
	clans map[string]*roster
}

func (d *daemon) dispatch(line string) string {
	f := strings.Fields(line)
	if len(f) < 2 {
		return "ERR syntax"
	}
	clan, ok := d.clans[f[1]]
	if !ok {
		return "ERR clan"
	}
	switch f[0] {
	case "COUNCIL":
		var b strings.Builder
		for _, r := range clan.council() {
			fmt.Fprintf(&b, "%d:%s ", r.pos, r.name)
		}
		return b.String()
	case "RANK":
		n, _ := strconv.Atoi(f[2])
		pos, err := clan.standing(memberID(n))
		if err != nil {
			return "ERR " + err.Error()
		}
		return strconv.Itoa(pos)
	case "AWARD":
		n, _ := strconv.Atoi(f[2])
		if err := clan.award(memberID(n), 5); err != nil {
			return "ERR " + err.Error()
		}
		return "OK"
	}
	return "ERR verb"
}

func (d *daemon) session(c net.Conn) {
	defer c.Close()
	in := bufio.NewScanner(c)
	for in.Scan() {
		if _, err := io.WriteString(c, d.dispatch(in.Text())+"\n"); err != nil {
			return
		}
	}
}

func (d *daemon) listen(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go d.session(c)
	}
}

func player(addr string, pause time.Duration, next func() string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	rd := bufio.NewReader(c)
	for {
		fmt.Fprintln(c, next())
		if _, err := rd.ReadString('\n'); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

func main() {
	go func() { log.Println(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()

	d := &daemon{clans: map[string]*roster{
		"wolves": newRoster(120), "herons": newRoster(150), "drakes": newRoster(60),
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go d.listen(l)
	addr := l.Addr().String()

	for _, clan := range []string{"wolves", "herons"} {
		for range 8 {
			go player(addr, 2*time.Millisecond, func() string { return "COUNCIL " + clan })
		}
		for range 4 {
			go player(addr, time.Millisecond, func() string {
				return fmt.Sprintf("AWARD %s %d", clan, 1+rand.IntN(60))
			})
		}
	}
	for range 6 {
		go player(addr, 8*time.Millisecond, func() string {
			return fmt.Sprintf("RANK drakes %d", 1+rand.IntN(60))
		})
	}
	select {}
}
