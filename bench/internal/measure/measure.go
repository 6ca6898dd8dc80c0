// Package measure has what the benchmark programs share: what the machine is,
// what a process has used, child processes that answer line by line, medians,
// and tables. It must not know what is measured.
package measure

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Machine describes where the figures come from, for the line above a table.
func Machine() string {
	load := "unknown"
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	cpu := ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(b), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				cpu = " (" + strings.TrimSpace(v) + ")"
				break
			}
		}
	}
	return fmt.Sprintf("%d cores%s, %s %s/%s, load average before: %s, %s",
		runtime.NumCPU(), cpu, runtime.Version(), runtime.GOOS, runtime.GOARCH, load, time.Now().UTC().Format("2006-01-02 15:04 UTC"))
}

// Usage is what a process has used so far.
type Usage struct {
	CPU  time.Duration
	RSS  int64 // bytes; 0 where /proc does not say
	Peak int64 // the most of RSS so far
}

func memory(u *Usage) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		var kb int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			u.Peak = kb << 10
		} else if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			u.RSS = kb << 10
		}
	}
}

// Median of values, which it sorts; 0 of none.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	m := len(v) / 2
	if len(v)%2 == 1 {
		return v[m]
	}
	return (v[m-1] + v[m]) / 2
}

// Table is a table in Markdown.
type Table struct{ rows [][]string }

// Row adds a row; the first one is the heading.
func (t *Table) Row(cells ...string) { t.rows = append(t.rows, cells) }

// Print writes the table with its columns aligned.
func (t *Table) Print(w io.Writer) {
	if len(t.rows) == 0 {
		return
	}
	width := make([]int, len(t.rows[0]))
	for _, r := range t.rows {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for n, r := range t.rows {
		line := func(cell func(i int) string) {
			for i := range width {
				fmt.Fprint(w, "| ", cell(i), strings.Repeat(" ", width[i]-len([]rune(cell(i)))), " ")
			}
			fmt.Fprintln(w, "|")
		}
		line(func(i int) string {
			if i < len(r) {
				return r[i]
			}
			return ""
		})
		if n == 0 {
			line(func(i int) string { return strings.Repeat("-", width[i]) })
		}
	}
}

// Child is a process of a benchmark: one line in, one line out.
type Child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// Start runs a command whose first line says that it is ready, and returns that
// line. Its errors go to ours.
func Start(cmd *exec.Cmd) (*Child, string, error) {
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	c := &Child{cmd: cmd, in: in, out: bufio.NewScanner(out)}
	line, err := c.read()
	if err != nil {
		c.Kill()
		return nil, "", err
	}
	return c, line, nil
}

// Again is this program with other arguments, until ctx ends.
func Again(ctx context.Context, args ...string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, exe, args...), nil
}

// Ask sends a line and waits for the answer.
func (c *Child) Ask(line string) (string, error) {
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		return "", fmt.Errorf("%s: %w", c.cmd.Path, err)
	}
	return c.read()
}

// AskFor is Ask for an answer in JSON.
func (c *Child) AskFor(line string, into any) error {
	s, err := c.Ask(line)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(s), into); err != nil {
		return fmt.Errorf("%s answered %q: %w", c.cmd.Path, s, err)
	}
	return nil
}

func (c *Child) read() (string, error) {
	if !c.out.Scan() {
		return "", fmt.Errorf("%s %s ended without an answer", c.cmd.Path, strings.Join(c.cmd.Args[1:], " "))
	}
	return c.out.Text(), nil
}

// PID is the child's process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Kill ends the child and waits for it.
func (c *Child) Kill() {
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// Answer is the child's side: it says ready and answers line by line until the
// parent is gone.
func Answer(ready string, answer func(line string) (any, error)) error {
	fmt.Println(ready)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		v, err := answer(lines.Text())
		if err != nil {
			return err
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", b)
	}
	return lines.Err()
}
