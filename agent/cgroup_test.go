package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes files of "path: content" blocks below a new root.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestCgroup(t *testing.T) {
	const v1max = "9223372036854771712"
	for _, tc := range []struct {
		name    string
		files   map[string]string
		version int
		limits  cgroupLimits
		stat    cgroupCPU
		memory  int64
	}{
		{
			"version 2, limit at the parent",
			map[string]string{
				"proc/self/cgroup":                  "0::/game/pod\n",
				"proc/self/mountinfo":               "30 1 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n",
				"sys/fs/cgroup/game/cpu.max":        "150000 100000\n",
				"sys/fs/cgroup/game/memory.max":     "max\n",
				"sys/fs/cgroup/game/pod/cpu.max":    "max 100000\n",
				"sys/fs/cgroup/game/pod/cpu.stat":   "usage_usec 1\nnr_periods 100\nnr_throttled 25\nthrottled_usec 1500000\n",
				"sys/fs/cgroup/game/cpu.stat":       "usage_usec 1\nnr_periods 100\nnr_throttled 5\nthrottled_usec 1\n",
				"sys/fs/cgroup/game/pod/memory.max": "536870912\n", "sys/fs/cgroup/game/pod/memory.current": "1234\n",
			},
			2, cgroupLimits{1.5, 512 << 20}, cgroupCPU{100, 25, 1.5}, 1234,
		},
		{
			"version 2 in a container with a namespace of its own",
			map[string]string{
				"proc/self/cgroup":         "0::/\n",
				"proc/self/mountinfo":      "30 1 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n",
				"sys/fs/cgroup/cpu.max":    "50000 100000\n",
				"sys/fs/cgroup/memory.max": "1048576\n",
			},
			2, cgroupLimits{0.5, 1 << 20}, cgroupCPU{}, 0,
		},
		{
			"version 1 in a container without one",
			map[string]string{
				"proc/self/cgroup":                                "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/system\n",
				"proc/self/mountinfo":                             "31 1 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n35 1 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n41 1 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
				"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":      "250000\n",
				"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":     "100000\n",
				"sys/fs/cgroup/cpu,cpuacct/cpu.stat":              "nr_periods 10\nnr_throttled 1\nthrottled_time 2000000000\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes":      "268435456\n",
				"sys/fs/cgroup/memory/memory.usage_in_bytes":      "99\n",
				"sys/fs/cgroup/unified/system/cgroup.controllers": "",
			},
			1, cgroupLimits{2.5, 256 << 20}, cgroupCPU{10, 1, 2}, 99,
		},
		{
			"version 1 without limits",
			map[string]string{
				"proc/self/cgroup":                           "4:memory:/\n2:cpu:/\n",
				"proc/self/mountinfo":                        "31 1 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n35 1 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
				"sys/fs/cgroup/cpu/cpu.cfs_quota_us":         "-1\n",
				"sys/fs/cgroup/cpu/cpu.cfs_period_us":        "100000\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes": v1max + "\n",
			},
			1, cgroupLimits{}, cgroupCPU{}, 0,
		},
		{"none", map[string]string{}, 0, cgroupLimits{}, cgroupCPU{}, 0},
		{
			"nonsense",
			map[string]string{
				"proc/self/cgroup":         "x\n::\n0::/../../etc\n",
				"proc/self/mountinfo":      "a - b\n30 1 0:26 / /sys/fs/cgroup rw - cgroup2 c rw\n" + strings.Repeat("y", 100_000) + "\n",
				"sys/fs/cgroup/cpu.max":    "many 0\n",
				"sys/fs/cgroup/memory.max": "-5\n",
				"sys/fs/cgroup/cpu.stat":   "nr_periods x\nnr_throttled\n\n",
			},
			2, cgroupLimits{}, cgroupCPU{}, 0,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := findCgroup(tree(t, tc.files))
			if c.version != tc.version {
				t.Errorf("version %d, want %d", c.version, tc.version)
			}
			if got := c.limits(); got != tc.limits {
				t.Errorf("limits %+v, want %+v", got, tc.limits)
			}
			if got := c.cpuStat(); got != tc.stat {
				t.Errorf("throttling %+v, want %+v", got, tc.stat)
			}
			if got := c.memoryBytes(); got != tc.memory {
				t.Errorf("memory %d, want %d", got, tc.memory)
			}
		})
	}
}
