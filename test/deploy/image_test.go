package deploy

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// image is what was built, laid out in a folder, and what its Dockerfile says of how
// it runs.
type image struct {
	root string
	env  []string
	uid  uint32
}

func buildImage(t *testing.T) *image {
	t.Helper()
	if os.Getenv("OPS_TEST_FULL") == "" {
		t.Skip("OPS_TEST_FULL is not set: it builds the image with everything in it")
	}
	if os.Getuid() != 0 {
		t.Skip("only root can lay the image out and run it: its files are somebody else's")
	}
	img := &image{root: filepath.Join(t.TempDir(), "root")}
	build := exec.CommandContext(t.Context(), "../../scripts/image.sh", img.root)
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	// What lies above the image's root is a folder of the test's alone.
	if err := os.Chmod(filepath.Dir(img.root), 0o711); err != nil { //nolint:gosec // the image's user has to pass
		t.Fatal(err)
	}
	// Whoever runs an image mounts this.
	proc := filepath.Join(img.root, "proc")
	if err := os.Mkdir(proc, 0o555); err != nil { //nolint:gosec // as everywhere
		t.Fatal(err)
	}
	if err := syscall.Mount("proc", proc, "proc", 0, ""); err != nil {
		t.Skip("nothing can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(proc, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for _, i := range dockerfile(t) {
		switch i.word {
		case "FROM":
			img.env = nil // of the stage before
		case "ENV":
			img.env = append(img.env, strings.Fields(i.rest)...)
		case "USER":
			uid, err := strconv.ParseUint(strings.Split(i.rest, ":")[0], 10, 32)
			if err != nil {
				t.Fatalf("USER %s: %v", i.rest, err)
			}
			img.uid = uint32(uid)
		}
	}
	return img
}

// command runs in the image, as its user, with nothing of this machine's files.
func (img *image) command(ctx context.Context, env []string, words ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, words[0], words[1:]...)
	c.Path, c.Dir, c.Err = words[0], "/", nil
	c.Env = append(append([]string{}, img.env...), env...)
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: img.root, Credential: &syscall.Credential{Uid: img.uid, Gid: img.uid}}
	return c
}

// TestTheImageServes builds the image, and starts the centre in it: it wants a login
// first, then it serves over TLS and calls itself healthy.
func TestTheImageServes(t *testing.T) {
	img := buildImage(t)
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	listen := []string{"OPS_LISTEN=:" + port}

	said, err := img.command(t.Context(), listen, "/ops", "serve").CombinedOutput()
	if err == nil || !bytes.Contains(said, []byte("/ops user add admin --admin --data /data")) {
		t.Fatalf("without a login: %v\n%s", err, said)
	}
	if said, err := img.command(t.Context(), nil, "/ops", "user", "add", "admin", "--admin", "--generate", "--data", "/data").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var log bytes.Buffer
	serve := img.command(ctx, listen, "/ops", "serve")
	serve.Stdout, serve.Stderr = &log, &log
	serve.Cancel = func() error { return serve.Process.Signal(syscall.SIGTERM) }
	serve.WaitDelay = 30 * time.Second
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	healthy := []string{"/ops", "healthcheck", "--server", "https://127.0.0.1:" + port}
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		said, err := img.command(ctx, nil, healthy...).CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			stop()
			serve.Wait() //nolint:errcheck // it is ended
			t.Fatalf("%v: %s\n%s", err, said, &log)
		}
	}
	stop()
	if err := serve.Wait(); serve.ProcessState.ExitCode() != 0 {
		t.Errorf("it did not end in peace: %v\n%s", err, &log)
	}
	if said, err := img.command(t.Context(), nil, "/trace-viewer", "-h").CombinedOutput(); !bytes.Contains(said, []byte("Usage")) {
		t.Errorf("the trace viewer: %v %s", err, said)
	}
	img.onlyWrote(t, "data", "tmp", "proc")
}

// onlyWrote fails for files of the image's user outside of these folders.
func (img *image) onlyWrote(t *testing.T, folders ...string) {
	t.Helper()
	allowed := map[string]bool{}
	for _, f := range folders {
		allowed[f] = true
	}
	err := filepath.WalkDir(img.root, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(img.root, name)
		if allowed[rel] {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && (s.Uid == img.uid || info.Mode()&0o002 != 0 && d.Type()&os.ModeSymlink == 0) {
			t.Errorf("%s can be changed by who runs in the image", rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
