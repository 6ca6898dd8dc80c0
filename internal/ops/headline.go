package ops

// Headline is a diagnosis in a line, for lists.
type Headline struct {
	// Rule, Severity and Title are those of the worst finding; empty = nothing was found.
	Rule     RuleID
	Severity Severity
	Title    map[Lang]string
	// Critical, Warning and Notice count the findings of all instances; Unchecked
	// the checks that lacked data.
	Critical, Warning, Notice, Unchecked int
}
