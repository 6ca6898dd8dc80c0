package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/opscenter/opscenter/internal/ops"
)

// clean makes a foreign string harmless on a terminal: what a service says of
// itself must not move the cursor.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control) {
			return '\ufffd'
		}
		return r
	}, s)
}

// cleanLines is clean for what may have lines, such as the commands that an error
// tells to type.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = clean(line)
	}
	return strings.Join(lines, "\n")
}

// table prints rows under a head, columns aligned; "" is shown as "-".
func table(w io.Writer, head []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		cells := make([]string, len(row))
		for i, c := range row {
			if cells[i] = clean(c); c == "" {
				cells[i] = "-"
			}
		}
		if _, err := fmt.Fprintln(tw, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

func bytesText(n int64) string {
	if n < 0 {
		return ""
	}
	return humanize.IBytes(uint64(n))
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + many
}

// ago is the age of t in its largest unit: "12s", "3m", "5h", "2d".
func ago(now time.Time, t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	d := max(now.Sub(t.AsTime()), 0)
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

// nearest returns up to three candidates that are a typing error away from word,
// nearest first.
func nearest(word string, candidates []string) []string {
	type scored struct {
		name string
		dist int
	}
	var near []scored
	for _, c := range candidates {
		d := ops.EditDistance(strings.ToLower(word), strings.ToLower(c))
		contains := len(word) >= 3 && strings.Contains(c, word)
		if d <= max(1, len(word)/4) || contains {
			near = append(near, scored{c, d})
		}
	}
	slices.SortStableFunc(near, func(a, b scored) int { return a.dist - b.dist })
	var names []string
	for _, s := range near[:min(3, len(near))] {
		names = append(names, s.name)
	}
	return names
}
