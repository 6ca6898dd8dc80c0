package waits

import (
	"strings"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/trace"
)

// kind is what a wait is for.
type kind uint8

const (
	other   kind = iota
	idle         // rest: nobody asked for anything, or a push may come
	ask          // a request was sent, and the answer is awaited
	dial         // a connection is being made
	resolve      // a host name is being resolved
	acquire      // a connection out of a library's pool
	limit        // a turn at a semaphore of a library
	rawRead      // reads a connection of the program's own: see judgeReads
	send
	receive
	choose // select: which way, only its wakers tell
	cond
)

// op is what a stack waits in.
type op struct {
	kind   kind
	client string // the client library, in people's words; "" = none
	sql    bool   // by way of database/sql
	// unlisted is set of a client that nothing is known of but that it reads.
	unlisted bool
}

// look says what a waiting stack is at, and which of its frames is the program's
// own line that asked for it; −1 = none of its own.
func look(s evidence.Stack, st goroutines.State) (op, int) {
	user := s.Index(own)
	if user < 0 {
		return op{kind: idle}, -1
	}
	adapter := false
	if u := aboveAdapters(s, user); u > user {
		user, adapter = u, true
	}
	lib := s[:user]
	o := op{sql: lib.Has("database/sql.")}
	switch {
	case lib.Has(pushes...) && st != goroutines.NetWrite, inServer(lib):
		return op{kind: idle}, user
	case lib.Has("net.(*Resolver).lookup", "net.(*Resolver).Lookup", "net.cgoLookup"):
		o.kind = resolve
	case lib.Has("github.com/jackc/puddle/"):
		o.kind, o.client = acquire, "pgxpool"
		if lib.Has("github.com/jackc/puddle/v2.(*Pool).initResourceValue") {
			o.kind = dial
		}
	default:
		byLibrary(&o, lib, st, adapter)
	}
	if (o.kind == other || o.kind == idle) && o.client == "" {
		byState(&o, st, lib)
	}
	return o, user
}

func own(f *evidence.Frame) bool { return f.Origin == evidence.OwnCode }

// byLibrary goes by the functions of libraries between the wait and the
// program's own line.
func byLibrary(o *op, lib evidence.Stack, st goroutines.State, adapter bool) {
	w := lib.Wait()
	switch w.Class {
	case goroutines.PoolAcquire:
		o.kind, o.client = acquire, clientName(w.Library)
	case goroutines.Limit:
		o.kind, o.client = limit, w.Library
	case goroutines.Driver:
		o.kind, o.client = ask, clientName(w.Library)
		if w.Library == "database/sql" && !adapter && st != goroutines.NetRead && st != goroutines.NetWrite {
			o.kind, o.client = other, "" // a lock of database/sql's own
		}
	case goroutines.HTTPClient:
		o.kind, o.client = ask, "HTTP"
		if lib.Has("bufio.(*Scanner).Scan", "bufio.(*Reader).ReadString", "bufio.(*Reader).ReadBytes", "bufio.(*Reader).ReadLine", "bufio.(*Reader).ReadSlice") {
			o.kind = idle // line by line is how server-sent events are read
		}
	case goroutines.RPCClient:
		o.kind, o.client = idle, "gRPC" // a stream may be silent for hours
		if lib.Has("google.golang.org/grpc.(*ClientConn).Invoke", "google.golang.org/grpc.invoke", "google.golang.org/grpc.Invoke") {
			o.kind = ask
		}
	case goroutines.Transport, goroutines.Housekeeping, goroutines.HTTPClientConn, goroutines.HTTPServerIdle, goroutines.HTTPServerWatch:
		o.kind = idle
	default:
		if lib.Has("net/rpc.(*Client).Call") {
			o.kind, o.client = ask, "net/rpc"
		}
	}
}

// byState goes by how it waits, where no library says what for.
func byState(o *op, st goroutines.State, lib evidence.Stack) {
	switch st {
	case goroutines.NetRead:
		o.kind = rawRead
		if i := lib.Outermost(func(f *evidence.Frame) bool { return f.Origin == evidence.LibraryCode }); i >= 0 {
			o.client, o.unlisted = lib[i].Package, true
		}
	case goroutines.NetConnect:
		o.kind, o.client = dial, "TCP"
	case goroutines.ChanSend:
		o.kind = send
	case goroutines.ChanReceive:
		o.kind = receive
	case goroutines.Select:
		o.kind = choose
	case goroutines.Cond:
		o.kind = cond
	}
}

// aboveAdapters steps over code of the program's own that a client library calls
// back, such as an http.RoundTripper or a database driver: what asks is whoever
// called the library.
func aboveAdapters(s evidence.Stack, user int) int {
	for i := user + 1; i < len(s); i++ {
		name := s[i].Plain()
		switch {
		case strings.HasPrefix(name, "net/http.send"), strings.HasPrefix(name, "net/http.(*Client)."), strings.HasPrefix(name, "database/sql."):
			if above := s[i:].Index(own); above >= 0 {
				user = i + above
				i = user
			}
		case inHandler(s[i]):
			return user
		}
	}
	return user
}

// inHandler is where a server calls the program.
func inHandler(f *evidence.Frame) bool {
	switch f.Plain() {
	case "net/http.HandlerFunc.ServeHTTP", "net/http.serverHandler.ServeHTTP", "net/http.(*http2serverConn).runHandler", "golang.org/x/net/http2.(*serverConn).runHandler",
		"google.golang.org/grpc.(*Server).handleStream", "google.golang.org/grpc.(*Server).processUnaryRPC", "google.golang.org/grpc.(*Server).processStreamingRPC",
		"net/rpc.(*service).call", "github.com/valyala/fasthttp.(*Server).serveConn", "github.com/quic-go/quic-go/http3.(*Server).handleRequest":
		return true
	}
	return false
}

// inServer reports whether a stack reads what somebody asks of this process.
func inServer(lib evidence.Stack) bool {
	return lib.Has("net/http.(*body)", "net/http.(*conn)", "net/http.(*connReader)", "net/http.(*http2requestBody)", "net/http.(*expectContinueReader)",
		"github.com/jackc/pgx/v5/pgproto3.(*Backend).", "github.com/jackc/pgproto3/v2.(*Backend).",
		"golang.org/x/net/http2.(*requestBody)", "net.(*netFD).accept", "internal/poll.(*FD).Accept")
}

// pushes are waits for something that nobody promised to send soon:
// subscriptions, queues that are asked with a long wait, change streams,
// WebSockets.
var pushes = []string{
	"github.com/jackc/pgx/v5.(*Conn).WaitForNotification", "github.com/jackc/pgx/v5/pgconn.(*PgConn).WaitForNotification",
	"github.com/lib/pq.(*Listener",
	"github.com/redis/go-redis/v9.(*PubSub)", "github.com/go-redis/redis/v8.(*PubSub)", "github.com/gomodule/redigo/redis.PubSubConn.", "github.com/gomodule/redigo/redis.Receive",
	"github.com/redis/go-redis/v9.cmdable.B", "github.com/redis/go-redis/v9.cmdable.XRead", "github.com/go-redis/redis/v8.cmdable.B", "github.com/go-redis/redis/v8.cmdable.XRead",
	"github.com/segmentio/kafka-go.(*Reader).", "github.com/segmentio/kafka-go.(*ConsumerGroup).", "github.com/twmb/franz-go/pkg/kgo.(*Client).Poll", "github.com/IBM/sarama.(*consumerGroup)",
	"github.com/Shopify/sarama.(*consumerGroup)",
	"github.com/nats-io/nats.go.(*Subscription).", "github.com/nats-io/nats.go/jetstream.",
	"go.mongodb.org/mongo-driver/mongo.(*ChangeStream).", "go.mongodb.org/mongo-driver/v2/mongo.(*ChangeStream).",
	"github.com/gorilla/websocket.", "nhooyr.io/websocket.", "github.com/coder/websocket.", "golang.org/x/net/websocket.", "github.com/gobwas/ws", "github.com/lxzan/gws.",
	"golang.org/x/crypto/ssh.",
}

// clients are what libraries talk to, as people call it.
var clients = map[string]string{
	"github.com/jackc/pgx": "pgx", "github.com/lib/pq": "lib/pq", "github.com/go-sql-driver/mysql": "MySQL",
	"github.com/microsoft/go-mssqldb": "SQL Server", "github.com/denisenkom/go-mssqldb": "SQL Server", "github.com/sijms/go-ora": "Oracle",
	"github.com/mattn/go-sqlite3": "SQLite", "modernc.org/sqlite": "SQLite", "github.com/ClickHouse": "ClickHouse",
	"github.com/redis/go-redis": "Redis", "github.com/redis/go-redis/v9": "Redis", "github.com/go-redis/redis": "Redis", "github.com/go-redis/redis/v8": "Redis",
	"github.com/gomodule/redigo": "Redis", "github.com/gomodule/redigo/redis": "Redis", "github.com/bradfitz/gomemcache": "memcached",
	"go.mongodb.org/mongo-driver": "MongoDB", "go.mongodb.org/mongo-driver/v2": "MongoDB", "github.com/gocql/gocql": "Cassandra",
	"github.com/segmentio/kafka-go": "Kafka", "github.com/twmb/franz-go": "Kafka", "github.com/IBM/sarama": "Kafka", "github.com/Shopify/sarama": "Kafka",
	"github.com/rabbitmq/amqp091-go": "RabbitMQ", "github.com/nats-io/nats.go": "NATS", "go.etcd.io/etcd/client": "etcd",
	"github.com/jackc/puddle/v2": "pgxpool", "github.com/jackc/puddle": "pgxpool", "net/http": "HTTP",
}

func clientName(library string) string {
	if n, ok := clients[library]; ok {
		return n
	}
	return library
}

// traceState is how a wait of a trace is called in a goroutine profile.
func traceState(s *evidence.Site) goroutines.State {
	switch s.State {
	case trace.StateNetwork:
		return netState(s.Stack)
	case trace.StateSyscall:
		return goroutines.Syscall
	case trace.StateSleep:
		return goroutines.Sleep
	case trace.StateSync:
		if s.Reason == trace.ReasonCond {
			return goroutines.Cond
		}
		return goroutines.Semaphore
	case trace.StateChan:
		switch s.Reason {
		case trace.ReasonChanSend:
			return goroutines.ChanSend
		case trace.ReasonChanReceive:
			return goroutines.ChanReceive
		}
		return goroutines.Select
	}
	return goroutines.Waiting
}

// netState tells what the network is waited for.
func netState(s evidence.Stack) goroutines.State {
	for _, f := range s {
		switch name := f.Plain(); {
		case strings.HasPrefix(name, "internal/poll.(*FD).Accept"), name == "net.(*netFD).accept":
			return goroutines.NetAccept
		case name == "net.(*netFD).connect":
			return goroutines.NetConnect
		case strings.HasPrefix(name, "internal/poll.(*FD).Write"), name == "internal/poll.SendFile", name == "net.(*netFD).Write":
			return goroutines.NetWrite
		case strings.HasPrefix(name, "os.(*File)"):
			return goroutines.FileIO
		case name == "net.(*netFD).Read", strings.HasPrefix(name, "net.(*netFD).read"), strings.HasPrefix(name, "internal/poll.(*FD).RawRead"):
			return goroutines.NetRead
		}
	}
	return goroutines.IO
}
