package goroutines

import "strings"

// WaitClass is a kind of thing to wait in, known by the library's own functions.
type WaitClass string

// The classes.
const (
	// PoolAcquire waits for a connection out of a pool that has none free.
	PoolAcquire WaitClass = "pool acquire"
	// Driver is inside a database, cache or queue client: it waits for the other side.
	Driver WaitClass = "driver"
	// HTTPClient waits for a response.
	HTTPClient WaitClass = "http client"
	// HTTPClientConn serves a client connection: idle, or between request and response.
	HTTPClientConn WaitClass = "http client connection"
	// HTTPServerIdle is a server connection without a request.
	HTTPServerIdle WaitClass = "http server idle"
	// HTTPServerWatch looks for a closed connection while a handler runs elsewhere.
	HTTPServerWatch WaitClass = "http server watch"
	// RPCClient waits for the answer of a call.
	RPCClient WaitClass = "rpc client"
	// Transport serves a connection of an RPC library: idle, or reading.
	Transport WaitClass = "transport"
	// Housekeeping is a library's own goroutine that is at rest most of its life.
	Housekeeping WaitClass = "housekeeping"
	// DNS resolves a name.
	DNS WaitClass = "dns"
	// Limit waits for its turn at a limit on concurrency.
	Limit WaitClass = "limit"
	// Process waits for a child process.
	Process WaitClass = "process"
)

// Wait is what a group waits in. The zero value is nothing that is known.
type Wait struct {
	Class WaitClass
	// Library is the import path of whose function it is.
	Library string
	// Function is that function.
	Function string
}

// waits are tried on each frame from the leaf on, in this order; the first frame
// that begins with one of the names decides. Type arguments are cut off before.
var waits = []struct {
	prefix  string
	class   WaitClass
	library string
}{
	{"database/sql.(*DB).connectionOpener", Housekeeping, "database/sql"},
	{"database/sql.(*DB).connectionCleaner", Housekeeping, "database/sql"},
	{"database/sql.(*Tx).awaitDone", Housekeeping, "database/sql"},
	{"database/sql.(*Rows).awaitDone", Housekeeping, "database/sql"},
	{"database/sql.(*DB).conn", PoolAcquire, "database/sql"},
	{"github.com/jackc/puddle/v2.(*Pool).backgroundHealthCheck", Housekeeping, "github.com/jackc/puddle/v2"},
	{"github.com/jackc/puddle/v2.(*Pool).acquire", PoolAcquire, "github.com/jackc/puddle/v2"},
	{"github.com/jackc/puddle/v2.(*Pool).Acquire", PoolAcquire, "github.com/jackc/puddle/v2"},
	{"github.com/jackc/puddle.(*Pool).Acquire", PoolAcquire, "github.com/jackc/puddle"},
	{"github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck", Housekeeping, "github.com/jackc/pgx/v5/pgxpool"},
	{"github.com/redis/go-redis/v9/internal/pool.(*ConnPool).waitTurn", PoolAcquire, "github.com/redis/go-redis/v9"},
	{"github.com/go-redis/redis/v8/internal/pool.(*ConnPool).waitTurn", PoolAcquire, "github.com/go-redis/redis/v8"},
	{"github.com/gomodule/redigo/redis.(*Pool).waitVacantConn", PoolAcquire, "github.com/gomodule/redigo/redis"},
	{"go.mongodb.org/mongo-driver/x/mongo/driver/topology.(*pool).checkOut", PoolAcquire, "go.mongodb.org/mongo-driver"},
	{"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology.(*pool).checkOut", PoolAcquire, "go.mongodb.org/mongo-driver/v2"},
	{"go.mongodb.org/mongo-driver/x/mongo/driver/topology.(*pool).", Housekeeping, "go.mongodb.org/mongo-driver"},
	{"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology.(*pool).", Housekeeping, "go.mongodb.org/mongo-driver/v2"},
	{"go.mongodb.org/mongo-driver/x/mongo/driver/topology.(*Server).", Housekeeping, "go.mongodb.org/mongo-driver"},
	{"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology.(*Server).", Housekeeping, "go.mongodb.org/mongo-driver/v2"},
	{"golang.org/x/sync/semaphore.(*Weighted).Acquire", Limit, "golang.org/x/sync/semaphore"},
	{"golang.org/x/sync/errgroup.(*Group).Go", Limit, "golang.org/x/sync/errgroup"},
	{"golang.org/x/time/rate.(*Limiter).", Limit, "golang.org/x/time/rate"},

	{"github.com/jackc/pgx/", Driver, "github.com/jackc/pgx"},
	{"github.com/jackc/pgconn.", Driver, "github.com/jackc/pgx"},
	{"github.com/lib/pq.", Driver, "github.com/lib/pq"},
	{"github.com/go-sql-driver/mysql.", Driver, "github.com/go-sql-driver/mysql"},
	{"github.com/microsoft/go-mssqldb.", Driver, "github.com/microsoft/go-mssqldb"},
	{"github.com/denisenkom/go-mssqldb.", Driver, "github.com/denisenkom/go-mssqldb"},
	{"github.com/sijms/go-ora/", Driver, "github.com/sijms/go-ora"},
	{"github.com/mattn/go-sqlite3.", Driver, "github.com/mattn/go-sqlite3"},
	{"modernc.org/sqlite.", Driver, "modernc.org/sqlite"},
	{"github.com/ClickHouse/", Driver, "github.com/ClickHouse"},
	{"github.com/redis/", Driver, "github.com/redis/go-redis"},
	{"github.com/go-redis/redis/", Driver, "github.com/go-redis/redis"},
	{"github.com/gomodule/redigo/", Driver, "github.com/gomodule/redigo"},
	{"github.com/bradfitz/gomemcache/", Driver, "github.com/bradfitz/gomemcache"},
	{"go.mongodb.org/mongo-driver/", Driver, "go.mongodb.org/mongo-driver"},
	{"github.com/gocql/gocql.", Driver, "github.com/gocql/gocql"},
	{"github.com/segmentio/kafka-go.", Driver, "github.com/segmentio/kafka-go"},
	{"github.com/twmb/franz-go/", Driver, "github.com/twmb/franz-go"},
	{"github.com/IBM/sarama.", Driver, "github.com/IBM/sarama"},
	{"github.com/Shopify/sarama.", Driver, "github.com/Shopify/sarama"},
	{"github.com/rabbitmq/amqp091-go.", Driver, "github.com/rabbitmq/amqp091-go"},
	{"github.com/nats-io/nats.go.", Driver, "github.com/nats-io/nats.go"},
	{"go.etcd.io/etcd/client/", Driver, "go.etcd.io/etcd/client"},

	{"net.(*Resolver).", DNS, "net"},
	{"net.cgoLookup", DNS, "net"},
	{"net/http.(*persistConn).readLoop", HTTPClientConn, "net/http"},
	{"net/http.(*persistConn).writeLoop", HTTPClientConn, "net/http"},
	{"net/http.(*persistConn).roundTrip", HTTPClient, "net/http"},
	{"net/http.(*http2ClientConn).roundTrip", HTTPClient, "net/http"},
	{"net/http.(*http2ClientConn).RoundTrip", HTTPClient, "net/http"},
	{"net/http.(*http2clientStream).", HTTPClient, "net/http"},
	{"net/http.(*http2clientConnReadLoop).", HTTPClientConn, "net/http"},
	{"net/http.(*bodyEOFSignal).Read", HTTPClient, "net/http"},
	{"net/http.(*Transport).getConn", PoolAcquire, "net/http"},
	{"net/http.(*connReader).backgroundRead", HTTPServerWatch, "net/http"},
	{"net/http.(*http2serverConn).", HTTPServerIdle, "net/http"},
	{"golang.org/x/net/http2.(*clientConnReadLoop).", HTTPClientConn, "golang.org/x/net/http2"},
	{"golang.org/x/net/http2.(*ClientConn).", HTTPClient, "golang.org/x/net/http2"},
	{"golang.org/x/net/http2.(*serverConn).", HTTPServerIdle, "golang.org/x/net/http2"},
	{"google.golang.org/grpc/internal/transport.(*recvBufferReader).", RPCClient, "google.golang.org/grpc"},
	{"google.golang.org/grpc/internal/transport.(*ClientStream).", RPCClient, "google.golang.org/grpc"},
	{"google.golang.org/grpc/internal/transport.(*Stream).", RPCClient, "google.golang.org/grpc"},
	{"google.golang.org/grpc/internal/transport.", Transport, "google.golang.org/grpc"},
	{"google.golang.org/grpc/internal/grpcsync.", Housekeeping, "google.golang.org/grpc"},
	{"google.golang.org/grpc.(*pickerWrapper).pick", RPCClient, "google.golang.org/grpc"},
	{"google.golang.org/grpc.(*addrConn).", Housekeeping, "google.golang.org/grpc"},
	{"os/exec.(*Cmd).Wait", Process, "os/exec"},
	{"os.(*Process).Wait", Process, "os"},
	{"os.(*Process).wait", Process, "os"},
	{"os/signal.loop", Housekeeping, "os/signal"},
	{"os/signal.signal_recv", Housekeeping, "os/signal"},
	{"database/sql.", Driver, "database/sql"}, // a driver that is not listed here
}

// WaitOf says what a stack, from the leaf to the root, waits in.
func WaitOf(stack []Frame) Wait {
	var limit Wait // a pool may keep its turns in a semaphore: then it is the pool that is waited for
	for i, f := range stack {
		name := f.Function
		if from := strings.IndexByte(name, '['); from >= 0 {
			if to := strings.LastIndexByte(name, ']'); to > from {
				name = name[:from] + name[to+1:]
			}
		}
		if name == "net/http.(*conn).serve" {
			// A server connection that reads its next request, unless a handler runs.
			if i > 0 && strings.HasPrefix(stack[i-1].Function, "bufio.(*Reader).Peek") || i > 0 && strings.HasPrefix(stack[i-1].Function, "net/http.(*conn).readRequest") {
				return Wait{HTTPServerIdle, "net/http", f.Function}
			}
			return limit
		}
		if inHandler(name) {
			return limit
		}
		for _, w := range waits {
			// A closure of a limit's is what it lets run, as below errgroup's Go.
			if strings.HasPrefix(name, w.prefix) && (w.class != Limit || !strings.Contains(name[len(w.prefix):], ".func")) {
				switch {
				case limit == Wait{} && w.class == Limit:
					limit = Wait{w.class, w.library, f.Function}
				case limit == Wait{} || w.class == PoolAcquire:
					return Wait{w.class, w.library, f.Function}
				}
				break
			}
		}
	}
	return limit
}

// inHandler is where a library calls the program back: what lies below it is
// what waits.
func inHandler(name string) bool {
	return name == "net/http.HandlerFunc.ServeHTTP" || name == "google.golang.org/grpc.(*Server).processUnaryRPC" || name == "google.golang.org/grpc.(*Server).processStreamingRPC"
}
