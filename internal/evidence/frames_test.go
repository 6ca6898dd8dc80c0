package evidence_test

import (
	"testing"

	"github.com/opscenter/opscenter/internal/evidence"
)

func TestOrigin(t *testing.T) {
	for _, c := range []struct {
		module, function, file string
		want                   evidence.Origin
	}{
		{"", "main.(*Room).PlaceBet", "/app/room.go", evidence.OwnCode},
		{"", "net/http.(*conn).serve", "/usr/local/go/src/net/http/server.go", evidence.StdCode},
		{"", "net/http.(*conn).serve", "net/http/server.go", evidence.StdCode}, // built with -trimpath
		// Names and files of the standard library do not always agree.
		{"", "time.Sleep", "/usr/local/go/src/runtime/time.go", evidence.StdCode},
		{"", "hash/crc32.init.OnceFunc.func4", "/usr/local/go/src/sync/oncefunc.go", evidence.StdCode},
		{"", "vendor/golang.org/x/net/idna.ToASCII", "/usr/local/go/src/vendor/golang.org/x/net/idna/idna.go", evidence.StdCode},
		{"", "runtime.gopark", "/usr/local/go/src/runtime/proc.go", evidence.RuntimeCode},
		// A module may be named like a package of the standard library.
		{"", "image/resize.Fit", "/app/resize/fit.go", evidence.OwnCode},
		{"example.com/shop", "example.com/shop/cart.Add", "/app/cart/add.go", evidence.OwnCode},
		{"example.com/shop", "example.com/other.Do", "/root/go/pkg/mod/example.com/other@v1.0.0/do.go", evidence.LibraryCode},
		{"", "runtime/pprof.profileWriter", "/usr/local/go/src/runtime/pprof/pprof.go", evidence.ObserverCode},
	} {
		if got := evidence.NewFrames(c.module).Of(c.function, c.file, 1).Origin; got != c.want {
			t.Errorf("%s in %s is %d, not %d", c.function, c.file, got, c.want)
		}
	}
}

// Profiles and dumps leave out type arguments, traces write them.
func TestAGenericFunctionIsOneFunction(t *testing.T) {
	f := evidence.NewFrames("example.com/shop")
	want := f.Of("main.(*topic[...]).publish", "/app/main.go", 22)
	for _, name := range []string{"main.(*topic[go.shape.struct { main.player string; main.scores []int }]).publish", "main.(*topic[int]).publish"} {
		if got := f.Of(name, "/app/main.go", 22); got != want {
			t.Errorf("%s is %+v, not %+v", name, got, want)
		}
	}
	if got := f.Of("main.emit[go.shape.int].func1", "/app/main.go", 30); got.Function != "main.emit[...].func1" || got.Package != "main" {
		t.Errorf("a closure in a generic function: %+v", got)
	}
}

func TestFilesOfOneNameAreToldWithTheirDirectory(t *testing.T) {
	f := evidence.NewFrames("example.com/game")
	a := f.Of("example.com/game/room.Open", "/src/game/room/store.go", 3)
	b := f.Of("example.com/game/user.Open", "/src/game/user/store.go", 3)
	c := f.Of("example.com/game/user.Login", "/src/game/user/login.go", 9)
	lib := f.Of("example.org/x/login.Do", "/mod/example.org/x@v1.0.0/login/login.go", 9)
	f.TellApart()
	for frame, want := range map[*evidence.Frame]string{a: "room/store.go", b: "user/store.go", c: "login.go", lib: "login.go"} {
		if got := frame.Told(); got != want {
			t.Errorf("%s is told as %s, want %s", frame.File, got, want)
		}
	}
}
