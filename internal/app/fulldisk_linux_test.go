package app

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/cli"
)

// A disk that somebody else filled to the last byte must not keep the centre
// from starting: that is when people look at it.
func TestItStartsOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128m"); err != nil {
		t.Skipf("a disk to fill needs the right to mount one: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	o := cli.ServeOptions{DataDir: filepath.Join(dir, "ops-data"), DiskReserveBytes: 16 << 20}
	c := client(t, &http.Transport{})
	url, stop := serve(t, o)
	instances(t, c, url, 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(dir, "filler"))

	url, _ = serve(t, o)
	instances(t, c, url, 2) // itself, and what it was before
	captures := apiv1connect.NewCaptureServiceClient(c, url)
	_, err := captures.StartCapture(t.Context(), connect.NewRequest(&apiv1.StartCaptureRequest{Service: selfService, Project: selfProject}))
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("a capture on a full disk: %v", err)
	}
	sys, err := apiv1connect.NewSystemServiceClient(c, url).GetSystem(t.Context(), connect.NewRequest(&apiv1.GetSystemRequest{}))
	if err != nil || sys.Msg.GetStorageProblem() == "" {
		t.Errorf("it does not say that the disk is full: %v, %v", sys, err)
	}
}

// fill writes until nothing goes on the disk any more.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, io.ErrShortWrite) {
				t.Fatal(err)
			}
			block = block[:len(block)/2]
		}
	}
}
