package profile_test

import (
	"bytes"
	"testing"

	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/profile/profiletest"
)

func BenchmarkSum(b *testing.B) {
	for _, kind := range []struct {
		name  string
		shape profiletest.Shape
	}{
		{"cpu", profiletest.Shape{Samples: 2200, Functions: 700, MaxDepth: 60, Seed: 1}},
		{"heap", profiletest.Shape{Samples: 78_000, Functions: 4000, MaxDepth: 60, Seed: 2}},
	} {
		b.Run(kind.name, func(b *testing.B) {
			var in bytes.Buffer
			if err := profiletest.Calls(kind.shape).Write(&in); err != nil {
				b.Fatal(err)
			}
			s := newSum(b, profile.Limits{}, profile.Filter{})
			b.SetBytes(int64(in.Len()))
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Add(bytes.NewReader(in.Bytes())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
