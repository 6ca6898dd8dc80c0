package agent

import (
	"crypto/rand"
	"debug/elf"
	"encoding/hex"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// identity is what does not change while the process lives.
type identity struct {
	bootID   string
	build    *agentv1.BuildInfo
	hostname string
	started  time.Time
	exe      string
	cgroup   *cgroup
}

func readIdentity() identity {
	id := identity{
		bootID: newBootID(),
		build: &agentv1.BuildInfo{
			GoVersion: runtime.Version(),
			Goos:      runtime.GOOS,
			Goarch:    runtime.GOARCH,
		},
		started: processStart(),
		cgroup:  findCgroup("/"),
	}
	id.hostname, _ = os.Hostname()
	if exe, err := os.Executable(); err == nil {
		id.exe = exe
		id.build.BuildId = buildID(exe)
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		id.build.ModulePath = info.Main.Path
		id.build.ModuleVersion = info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				id.build.VcsRevision = s.Value
			case "vcs.time":
				if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
					id.build.VcsTime = timestamppb.New(t)
				}
			case "vcs.modified":
				id.build.VcsModified = s.Value == "true"
			}
		}
	}
	return id
}

// newBootID makes an identity out of 26 characters, 128 random bits.
func newBootID() string {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	var random [26]byte
	_, _ = rand.Read(random[:]) // never fails
	for i, b := range random {
		random[i] = alphabet[b&31]
	}
	return string(random[:])
}

// show puts the boot id where net/http/pprof lists profiles, should the service
// serve it: a centre that finds the process there as well knows that it is this
// one, whatever lies in between. The profile is empty and is never added to; it
// cannot be taken away again, and a boot id is never made twice.
func (id *identity) show() { pprof.NewProfile(bootProfile + id.bootID) }

// bootProfile begins its name; internal/agentless knows it.
const bootProfile = "opscenter.agent."

// process reads what seldom changes.
func (id *identity) process() *agentv1.ProcessInfo {
	limits := id.cgroup.limits()
	gogc, memLimit := gcSettings()
	return &agentv1.ProcessInfo{
		Pid:                int32(os.Getpid()),
		Hostname:           id.hostname,
		StartTime:          timestamppb.New(id.started),
		Gomaxprocs:         int32(runtime.GOMAXPROCS(0)),
		NumCpu:             int32(runtime.NumCPU()),
		CpuQuotaCores:      limits.cpuQuotaCores,
		MemoryLimitBytes:   limits.memoryBytes,
		GoMemoryLimitBytes: memLimit,
		Gogc:               gogc,
		Executable:         id.exe,
	}
}

// gcSettings reads GOGC (-1 = off) and GOMEMLIMIT (0 = none) without setting
// them, which is what debug.SetGCPercent would do.
func gcSettings() (gogc int32, memLimit int64) {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}, {Name: "/gc/gomemlimit:bytes"}}
	metrics.Read(s)
	gogc = -1
	if s[0].Value.Kind() == metrics.KindUint64 && s[0].Value.Uint64() <= 1<<31-1 {
		gogc = int32(s[0].Value.Uint64())
	}
	if s[1].Value.Kind() == metrics.KindUint64 && s[1].Value.Uint64() < 1<<62 {
		memLimit = int64(s[1].Value.Uint64())
	}
	return gogc, memLimit
}

// buildID reads the id that the linker left: the one that pprof puts into its
// mappings, else Go's own. Empty where the binary has neither or is not ELF.
func buildID(exe string) string {
	f, err := elf.Open(exe)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if note := elfNote(f, ".note.gnu.build-id"); note != nil {
		return hex.EncodeToString(note)
	}
	return string(elfNote(f, ".note.go.buildid"))
}

// elfNote returns the description of the one note in a section.
func elfNote(f *elf.File, section string) []byte {
	s := f.Section(section)
	if s == nil || s.Size > 4096 {
		return nil
	}
	b, err := s.Data()
	if err != nil || len(b) < 12 {
		return nil
	}
	name, desc := f.ByteOrder.Uint32(b), f.ByteOrder.Uint32(b[4:])
	from := 12 + (uint64(name)+3)&^3
	if from+uint64(desc) > uint64(len(b)) {
		return nil
	}
	return b[from : from+uint64(desc)]
}
