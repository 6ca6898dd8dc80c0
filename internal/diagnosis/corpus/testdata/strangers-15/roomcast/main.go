// roomcast pushes the events of a game room to everybody in it over WebSocket.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
)

type Event struct {
	Seq   int64     `json:"seq"`
	Kind  string    `json:"kind"`
	Cards []byte    `json:"cards"`
	At    time.Time `json:"at"`
}

type member struct {
	id   string
	conn *websocket.Conn
	out  chan []byte
}

func (m *member) pump(ctx context.Context) {
	for {
		select {
		case msg := <-m.out:
			if err := m.conn.Write(ctx, websocket.MessageText, msg); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

type room struct {
	events chan Event
	join   chan *member
	leave  chan *member
}

func newRoom() *room {
	return &room{events: make(chan Event, 16), join: make(chan *member), leave: make(chan *member)}
}

func (r *room) run() {
	members := map[*member]bool{}
	for {
		select {
		case m := <-r.join:
			members[m] = true
		case m := <-r.leave:
			delete(members, m)
		case ev := <-r.events:
			msg, err := json.Marshal(ev)
			if err != nil {
				continue
			}
			for m := range members {
				m.out <- msg // want: channel-backpressure
			}
		}
	}
}

func (r *room) handle(w http.ResponseWriter, req *http.Request) {
	conn, err := websocket.Accept(w, req, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	m := &member{id: req.URL.Query().Get("id"), conn: conn, out: make(chan []byte, 8)}
	ctx := conn.CloseRead(context.Background())
	r.join <- m
	m.pump(ctx)
	r.leave <- m
}

// table plays rounds: a seat's action is accepted when its event is handed to the room.
func (r *room) table(seat int) {
	cards := make([]byte, 12<<10)
	for i := range cards {
		cards[i] = byte(seat * i)
	}
	for seq := int64(1); ; seq++ {
		r.events <- Event{Seq: seq, Kind: "seat-" + strconv.Itoa(seat), Cards: cards, At: time.Now()}
		time.Sleep(80 * time.Millisecond)
	}
}

func viewer(ctx context.Context, url string, pace time.Duration) {
	conn, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		log.Print(err)
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	for {
		if _, _, err := conn.Read(ctx); err != nil {
			return
		}
		time.Sleep(pace)
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	r := newRoom()
	go r.run()

	// small socket buffers, as behind the edge proxy
	lc := net.ListenConfig{}
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(r.handle),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
			return ctx
		},
	}
	go func() { log.Fatal(srv.Serve(ln)) }()

	ctx := context.Background()
	url := "ws://" + ln.Addr().String() + "/room?id="
	var seats sync.WaitGroup
	for i := range 40 {
		pace := time.Duration(0)
		if i == 7 {
			pace = 400 * time.Millisecond // a phone on a train
		}
		seats.Go(func() { viewer(ctx, url+strconv.Itoa(i), pace) })
	}
	time.Sleep(300 * time.Millisecond)
	for seat := range 24 {
		seats.Go(func() { r.table(seat) })
	}
	seats.Wait()
}
