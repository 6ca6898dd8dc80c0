package measure

import (
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := Median(tc.of); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.of, got, tc.want)
		}
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	var table Table
	table.Row("way", "×")
	table.Row("a → b", "0.50")
	table.Row("c")
	table.Print(&b)
	want := "| way   | ×    |\n| ----- | ---- |\n| a → b | 0.50 |\n| c     |      |\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
