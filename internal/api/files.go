package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/ops"
)

// maxBundleBytes bounds an upload: twenty instances at their limit.
const maxBundleBytes = 20 * ops.MaxCaptureBytes

// UploadPattern matches the names of uploads in Config.SpoolDir. They are deleted
// when their request ends, unless the process is killed.
const UploadPattern = "import-*.zip"

// uploadStep is how much of an upload is taken between two looks at the disk.
const uploadStep = 16 << 20

// Route is a path that is served without Connect, and what it needs.
type Route struct {
	Pattern string // as for http.ServeMux
	Need    auth.Permission
	// OfCapture routes have a {capture} in their pattern and need the permission on
	// it; the others need it on the whole centre.
	OfCapture bool
}

// Routes lists what New serves beside the services of the schema: nothing else
// is served.
func Routes() []Route {
	var out []Route
	for _, f := range new(server).files() {
		out = append(out, f.Route)
	}
	return out
}

type fileRoute struct {
	Route
	serve func(http.ResponseWriter, *http.Request) error
}

func (s *server) files() []fileRoute {
	return []fileRoute{
		{Route{"GET /api/captures/{capture}/bundle.zip", auth.Download, true}, s.bundle},
		{Route{"GET /api/captures/{capture}/{instance}/{artifact}", auth.Download, true}, s.artifact},
		{Route{"GET /api/captures/{capture}/{instance}/{artifact}/speedscope.json", auth.Download, true}, s.speedscope},
		{Route{"GET /api/audit.jsonl", auth.Audit, false}, s.auditLines},
		{Route{"POST /api/import", auth.Capture, false}, s.importBundle},
	}
}

func (s *server) routeFiles(mux *http.ServeMux) {
	for _, f := range s.files() {
		mux.HandleFunc(f.Pattern, s.allow(f))
	}
}

func (s *server) allow(f fileRoute) http.HandlerFunc {
	ofCapture := OfCapture(s.Config, f.Need)
	return func(w http.ResponseWriter, r *http.Request) {
		var err error
		if f.OfCapture {
			err = ofCapture(r, ops.CaptureID(r.PathValue("capture")))
		} else {
			err = s.Auth.Authorize(auth.ActorOf(r.Context()), f.Need)
		}
		if err != nil {
			if s.Refused != nil && ops.KindOf(err) == ops.Denied {
				s.Refused(r.Context(), f.Pattern, err)
			}
			writeError(w, err)
			return
		}
		if err := f.serve(w, r); err != nil {
			if ops.KindOf(err) == ops.Internal {
				s.Logger.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "actor", auth.ActorOf(r.Context()).Name, "err", err)
			}
			writeError(w, err)
		}
	}
}

// attachment makes the browser save what a foreign process wrote, never show it.
func attachment(w http.ResponseWriter, name string) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
}

func (s *server) artifact(w http.ResponseWriter, r *http.Request) error {
	ref := ops.ArtifactRef{
		Capture: ops.CaptureID(r.PathValue("capture")), Instance: ops.InstanceID(r.PathValue("instance")), Name: r.PathValue("artifact"),
	}
	if !ref.Valid() {
		return ops.Errorf(ops.Invalid, "%q is not the name of an artifact", asciiOnly(ref.String()))
	}
	blob, a, err := s.Files.OpenArtifact(r.Context(), ref)
	if err != nil {
		return err
	}
	defer blob.Close()
	attachment(w, ref.Name)
	if a.SHA256 != "" {
		w.Header().Set("ETag", `"`+a.SHA256+`"`)
	}
	if a.Partial {
		w.Header().Set("Opscenter-Partial", "true")
	}
	http.ServeContent(w, r, ref.Name, a.TakenAt, blob)
	return nil
}

// speedscope answers with a profile in speedscope's format.
func (s *server) speedscope(w http.ResponseWriter, r *http.Request) error {
	ref, err := namedArtifact(r.PathValue("capture"), r.PathValue("instance"), r.PathValue("artifact"))
	if err != nil {
		return err
	}
	attachment(w, strings.TrimSuffix(ref.Name, ".pprof")+".speedscope.json")
	out := &counted{w: w}
	if err := s.Speedscope(r.Context(), ref, out); err != nil {
		return s.cutOff(w, r, out, err)
	}
	return nil
}

// cutOff ends an answer that failed half-way: what is out already cannot be taken
// back, so that a broken connection is the only honest end.
func (s *server) cutOff(w http.ResponseWriter, r *http.Request, out *counted, err error) error {
	if out.n == 0 {
		w.Header().Del("Content-Disposition")
		return err
	}
	s.Logger.ErrorContext(r.Context(), "answer cut off", "path", r.URL.Path, "err", err)
	panic(http.ErrAbortHandler)
}

func (s *server) bundle(w http.ResponseWriter, r *http.Request) error {
	id := ops.CaptureID(r.PathValue("capture"))
	st, err := s.Captures.Capture(r.Context(), id)
	if err != nil {
		return err
	}
	if !st.State.Ended() {
		return ops.Errorf(ops.Conflict, "capture %s is still %s: wait for its end, or stop it", id, st.State)
	}
	attachment(w, string(id)+".zip")
	out := &counted{w: w}
	if err := s.Files.Export(r.Context(), id, out); err != nil {
		return s.cutOff(w, r, out, err)
	}
	return nil
}

type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// importsAtOnce bounds uploads: each may be as large as twenty captures.
const importsAtOnce = 2

func (s *server) importBundle(w http.ResponseWriter, r *http.Request) error {
	if s.imports.Add(1) > importsAtOnce {
		s.imports.Add(-1)
		return ops.Errorf(ops.Exhausted, "%d bundles are being imported, which is the most at once: wait until one is done", importsAtOnce)
	}
	defer s.imports.Add(-1)
	if r.ContentLength > maxBundleBytes {
		return errBundle()
	}
	// Asked before and while it arrives: an upload must not fill the disk that
	// running captures write to.
	room := func(n int64) error {
		if s.Room == nil {
			return nil
		}
		return s.Room(r.Context(), n)
	}
	if err := room(max(r.ContentLength, 0)); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.SpoolDir, UploadPattern)
	if err != nil {
		return ops.Errorf(ops.Exhausted, "no room to receive the bundle: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var n int64
	for body := http.MaxBytesReader(w, r.Body, maxBundleBytes); err == nil; {
		var more int64
		more, err = io.CopyN(f, body, uploadStep)
		n += more
		if err == nil {
			if err := room(0); err != nil {
				return err
			}
		}
	}
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return errBundle()
	}
	if !errors.Is(err, io.EOF) {
		return ops.Errorf(ops.Invalid, "the bundle did not arrive whole (%d bytes did): %w", n, err)
	}
	actor := auth.ActorOf(r.Context()).Name
	c, err := s.Captures.Import(r.Context(), f, n, actor)
	if err != nil {
		return err
	}
	s.Logger.InfoContext(r.Context(), "bundle imported", "capture", c.ID, "actor", actor, "bytes", n)
	b, err := protojson.Marshal(&apiv1.StartCaptureResponse{Capture: s.captureProto(r.Context(), capture.Status{Capture: c}, true)})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(b)
	return err
}

func errBundle() error {
	return ops.Errorf(ops.Exhausted, "the bundle is larger than %d GiB, the most that is imported: read it where it is, with `ops diagnose FILE`", maxBundleBytes>>30)
}

// retryAfter is in how many seconds an error goes away by itself, as far as it
// says; for other limits, which end when something else does, a moment.
func retryAfter(err error) string {
	var retry *auth.RetryError
	switch {
	case errors.As(err, &retry):
		return strconv.Itoa(int(max(retry.After, time.Second) / time.Second))
	case ops.KindOf(err) == ops.Exhausted:
		return "5"
	}
	return ""
}

var httpCodes = map[ops.ErrorKind]int{
	ops.NotFound: http.StatusNotFound, ops.Invalid: http.StatusBadRequest, ops.Conflict: http.StatusConflict,
	ops.Unavailable: http.StatusServiceUnavailable, ops.Exhausted: http.StatusTooManyRequests, ops.Denied: http.StatusForbidden,
	ops.Corrupt: http.StatusUnprocessableEntity, ops.Cancelled: 499,
}

// writeError answers in the shape of the Connect protocol's errors, so that one
// client code reads both.
func writeError(w http.ResponseWriter, err error) {
	kind := ops.KindOf(err)
	code, ok := httpCodes[kind]
	name, message := wireCodes[kind].String(), err.Error()
	if !ok {
		code, message = http.StatusInternalServerError, "the centre failed at this; its log says why"
	}
	body, merr := json.Marshal(map[string]string{"code": name, "message": message})
	if merr != nil {
		http.Error(w, message, code)
		return
	}
	if wait := retryAfter(err); wait != "" {
		w.Header().Set("Retry-After", wait)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

func traceWindowPath(ref ops.ArtifactRef, w TraceWindow) string {
	return fmt.Sprintf("trace/%s/%s/%s/%d-%d/", ref.Capture, ref.Instance, ref.Name, w.FromGeneration, w.ToGeneration)
}
