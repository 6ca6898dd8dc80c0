package toolui

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// The things a child can be.
const (
	childPrepare = "prepare" // reads profiles from stdin, writes their copies for the browser to stdout
	childView    = "view"    // serves pprof's pages on the Unix socket named next, until stdin ends
)

// ChildMain is the main function of the child processes that this package
// starts. A program hands it the arguments after ChildVerb, before it does
// anything else, and exits with what it returns. Test binaries that make a UI do
// so in TestMain.
func ChildMain(args []string) int {
	// A terminal's interrupt goes to the centre, which ends its children itself.
	signal.Ignore(os.Interrupt, syscall.SIGHUP)
	switch {
	case len(args) == 1 && args[0] == childPrepare:
		return prepareMain(os.Stdin, os.Stdout, os.Stderr)
	case len(args) == 2 && args[0] == childView:
		return viewMain(args[1], os.Stdin, os.Stdout, os.Stderr)
	}
	fmt.Fprintln(os.Stderr, "this command is part of the centre and is not for people")
	return 2
}

// sizes frames the one or two profiles of a request: a length of each, and the
// bytes of both. No second profile has length noProfile.
type sizes struct{ Main, Base uint64 }

const (
	sizesLength = 16
	noProfile   = ^uint64(0)
)

func (s sizes) bytes() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, s.Main), s.Base)
}

func readSizes(r io.Reader) (s sizes, err error) {
	var b [sizesLength]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return s, err
	}
	return sizes{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}, nil
}

// prepared is what the preparing child says before the bytes.
type prepared struct {
	Kind, Message string // of the error; empty = none
	Shown         profile.Shown
}

func prepareMain(stdin io.Reader, stdout, stderr io.Writer) int {
	// Reading is one burst of allocation in a process that ends afterwards.
	debug.SetGCPercent(50)
	var main, base bytes.Buffer
	shown, err := prepareFrom(stdin, &main, &base)
	head := prepared{Shown: shown}
	size := sizes{Main: uint64(main.Len()), Base: uint64(base.Len())}
	if err != nil {
		head = prepared{Kind: string(ops.KindOf(err)), Message: err.Error()}
		size = sizes{}
		main.Reset()
		base.Reset()
	}
	line, err := json.Marshal(head)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	for _, b := range [][]byte{append(line, '\n'), size.bytes(), main.Bytes(), base.Bytes()} {
		if _, err := stdout.Write(b); err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
	}
	return 0
}

func prepareFrom(r io.Reader, main, base *bytes.Buffer) (profile.Shown, error) {
	s, err := readSizes(r)
	if err != nil {
		return profile.Shown{}, err
	}
	var wBase io.Writer
	var rBase io.Reader
	in := io.LimitReader(r, int64(s.Main))
	if s.Base != noProfile {
		// The profile is read to its end before the base.
		wBase, rBase = base, io.LimitReader(r, int64(s.Base))
	}
	return profile.ForBrowser(main, wBase, profile.Limits{}, in, rBase)
}

// viewMain serves pprof's pages:
//
//	PUT    /{key}         sizes, profile and base, as ForBrowser wrote them
//	DELETE /{key}
//	GET    /{key}/{view}  a page
func viewMain(socket string, stdin io.Reader, stdout, stderr io.Writer) int {
	debug.SetGCPercent(50)
	ln, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	v := &pageServer{sessions: map[string]*pages{}, rendering: make(chan struct{}, 2)}
	srv := &http.Server{Handler: v, ReadHeaderTimeout: 10 * time.Second}
	var ended sync.WaitGroup
	ended.Go(func() {
		_, _ = io.Copy(io.Discard, stdin)
		_ = srv.Close()
	})
	if _, err := io.WriteString(stdout, "ready\n"); err != nil {
		return 1
	}
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(stderr, err)
		return 1
	}
	ended.Wait()
	return 0
}

// pageServer holds the profiles of the viewing child.
type pageServer struct {
	mu       sync.Mutex // guards sessions
	sessions map[string]*pages
	// rendering bounds how many pages are made at once: each takes tens of
	// megabytes while it is made.
	rendering chan struct{}
}

func (v *pageServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, view, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch r.Method {
	case http.MethodPut:
		if err := v.put(key, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case http.MethodDelete:
		v.mu.Lock()
		delete(v.sessions, key)
		v.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	default:
		v.mu.Lock()
		s := v.sessions[key]
		v.mu.Unlock()
		if s == nil {
			http.Error(w, "not loaded", http.StatusGone)
			return
		}
		select {
		case v.rendering <- struct{}{}:
			defer func() { <-v.rendering }()
			s.serve(w, r, view)
			// What the page took is given back at once: many profiles are open and
			// few are looked at.
			debug.FreeOSMemory()
		case <-r.Context().Done():
		}
	}
}

func (v *pageServer) put(key string, body io.Reader) error {
	s, err := readSizes(body)
	if err != nil {
		return err
	}
	main, err := io.ReadAll(io.LimitReader(body, int64(s.Main)))
	if err != nil {
		return err
	}
	var base []byte
	if s.Base != noProfile {
		if base, err = io.ReadAll(body); err != nil {
			return err
		}
	}
	p, err := openPages(main, base)
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.sessions[key] = p
	v.mu.Unlock()
	return nil
}
