package diagnosis

import (
	"math"
	"slices"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/ops"
)

// leastOutlier is the score of a warning.
const leastOutlier = 50

// Outliers tells which of several instances of one capture differs from its
// siblings, and in what: the findings that it has and at least half of the
// others do not. With fewer than three instances there is no majority to differ
// from.
func Outliers(all []ops.Diagnosis) (out []ops.Outlier) {
	if len(all) < 3 {
		return nil
	}
	scores := map[string][]float64{} // by finding, one for each instance
	var ids []string
	for i, d := range all {
		for _, f := range d.Findings {
			id := f.ID()
			if scores[id] == nil {
				scores[id] = make([]float64, len(all))
				ids = append(ids, id)
			}
			scores[id][i] = float64(f.Score)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		median := medianOf(scores[id])
		for i, score := range scores[id] {
			// 25 points are one severity. A notice here that is none there is no
			// difference to look into.
			if math.Abs(score-median) < 25 || max(score, median) < leastOutlier {
				continue
			}
			text := rule.Say("only this instance and few others have it: %s scores %.0f here, %.0f on the middle one of %d instances",
				"只有這個實例（及少數）有此問題：%s 在此為 %.0f 分，%[4]d 個實例的中位數為 %[3]v 分", id, score, median, len(all))
			if score < median {
				text = rule.Say("this instance does not share what the others have: %s scores %.0f here, %.0f on the middle one of %d instances",
					"這個實例沒有其他實例共有的問題：%s 在此為 %.0f 分，%[4]d 個實例的中位數為 %[3]v 分", id, score, median, len(all))
			}
			out = append(out, ops.Outlier{Instance: all[i].Instance.ID, Metric: "score of " + id, Value: score, Median: median, Unit: "points", Text: text})
		}
	}
	return out
}

func medianOf(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}
