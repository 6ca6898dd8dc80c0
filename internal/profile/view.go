package profile

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// Filter says which samples and frames of a profile are looked at. The zero
// value is all of them, but for what the profile's own DropFrames leaves out, as
// in pprof. The expressions are matched with function names, source files and
// mapped files, as pprof matches its options of the same names.
type Filter struct {
	// Focus keeps the samples that have a matching frame.
	Focus string
	// Ignore drops the samples that have a matching frame.
	Ignore string
	// Hide takes matching frames out of the stacks: what they cost goes to their
	// callers. Show keeps only matching frames.
	Hide, Show string
	// HidePackages takes the frames of these Go packages out, by import path.
	HidePackages []string
	// Labels keeps the samples that match all of them.
	Labels []LabelFilter
	// AllFrames shows what DropFrames would leave out.
	AllFrames bool
	// Lines tells calls from different lines of a function apart in trees; tables
	// are by function in either case.
	Lines bool
}

// LabelFilter matches samples that have the label with that value, or with any
// value if it is empty; Not turns it round. A number is compared with its unit.
type LabelFilter struct {
	Key, Value string
	Not        bool
}

// View is a profile as a filter shows it.
type View struct {
	Profile *Profile
	Symbols *Symbols

	lines bool
	// frames of each location from the innermost to the outermost.
	frames []FrameID
	ends   []uint32
	rows   []row
	// memory kept for the next profile
	symbolOf   []SymbolID // of each function
	before     []SymbolID // symbolOf of the profile before
	lineBounds []span
}

// row is a sample that is left: its stack is Profile.stacks[from:to].
type row struct{ sample, from, to uint32 }

// View applies a filter. The error is Invalid if an expression cannot be read.
func (p *Profile) View(f Filter) (*View, error) {
	m, err := compile(f)
	if err != nil {
		return nil, err
	}
	v := &View{Symbols: newSymbols()}
	return v, v.set(p, m)
}

// matcher is a filter ready for use.
type matcher struct {
	Filter
	focus, ignore, hide, show *regexp.Regexp
}

func compile(f Filter) (*matcher, error) {
	m := &matcher{Filter: f}
	for _, x := range []struct {
		name, text string
		to         **regexp.Regexp
	}{{"focus", f.Focus, &m.focus}, {"ignore", f.Ignore, &m.ignore}, {"hide", f.Hide, &m.hide}, {"show", f.Show, &m.show}} {
		if x.text == "" {
			continue
		}
		re, err := regexp.Compile(x.text)
		if err != nil {
			return nil, ops.Errorf(ops.Invalid, "%s is no regular expression (%w): write one, such as ^main\\.", x.name, err)
		}
		*x.to = re
	}
	return m, nil
}

func (m *matcher) byName() bool {
	return m.focus != nil || m.ignore != nil || m.hide != nil || m.show != nil || len(m.HidePackages) > 0
}

// takesAll says whether the matcher leaves all stacks of p as they are.
func (m *matcher) takesAll(p *Profile) bool {
	return !m.byName() && len(m.Labels) == 0 && (p.DropFrames == "" || m.AllFrames)
}

// set makes v the view of p, reusing v's memory and adding to its symbols.
func (v *View) set(p *Profile, m *matcher) error {
	v.whole(p, m)
	v.rows = resize(v.rows, p.samples)
	from := uint32(0)
	for i, to := range p.stackEnds {
		v.rows[i] = row{uint32(i), from, to}
		from = to
	}
	if p.DropFrames != "" && !m.AllFrames {
		if err := v.prune(); err != nil {
			return err
		}
	}
	var gone []bool // frames that hide or show took out, by line; nil if none
	if m.byName() {
		gone = v.selectByName(m)
	}
	if len(m.Labels) > 0 {
		v.selectByLabel(m.Labels)
	}
	v.resolve(gone)
	return nil
}

// whole begins with all lines of all locations.
func (v *View) whole(p *Profile, m *matcher) {
	v.Profile, v.lines = p, m.Lines
	v.lineBounds = resize(v.lineBounds, len(p.Locations))
	for i, l := range p.Locations {
		v.lineBounds[i] = span{l.From, l.To}
	}
}

// prune leaves out what the profile's DropFrames asks for, as pprof does: what a
// matching function calls, and itself, but nothing before the first frame from
// the root that does not match.
func (v *View) prune() error {
	p := v.Profile
	drop, err := regexp.Compile("^(" + p.DropFrames + ")$")
	if err != nil {
		return nil //nolint:nilerr // what cannot be read leaves out nothing, as in pprof
	}
	var keep *regexp.Regexp
	if p.KeepFrames != "" {
		if keep, err = regexp.Compile("^(" + p.KeepFrames + ")$"); err != nil {
			return nil //nolint:nilerr // likewise
		}
	}
	dropped := make([]bool, len(p.Functions))
	for i, f := range p.Functions {
		if name := simpleName(p.Strings[f.Name]); p.Strings[f.Name] != "" {
			dropped[i] = drop.MatchString(name) && (keep == nil || !keep.MatchString(name))
		}
	}
	const whole, beneath = 1, 2
	cut := make([]byte, len(p.Locations))
	for i := range cut {
		b := &v.lineBounds[i]
		for k := b.to; k > b.from; k-- {
			if !dropped[p.Lines[k-1].Function] {
				continue
			}
			if cut[i] = beneath; k == b.to {
				cut[i] = whole
			} else {
				b.from = k
			}
			break
		}
	}
	for i := range v.rows {
		r := &v.rows[i]
		user := false
		for k := r.to; k > r.from; k-- {
			c := cut[p.stacks[k-1]]
			if c == 0 {
				user = true
				continue
			}
			if !user {
				continue
			}
			if r.from = k; c == beneath {
				r.from = k - 1
			}
			break
		}
	}
	return nil
}

// simpleName is a function's name without its arguments, as pprof matches it
// with DropFrames.
func simpleName(name string) string {
	name = strings.TrimPrefix(name, ".")
	for i := 0; i < len(name); {
		switch {
		case strings.HasPrefix(name[i:], "(anonymous namespace)"):
			i += len("(anonymous namespace)")
		case strings.HasPrefix(name[i:], "operator()"):
			i += len("operator()")
		case name[i] == '(':
			return name[:i]
		default:
			i++
		}
	}
	return name
}

// selectByName drops samples and tells which lines are taken out.
func (v *View) selectByName(m *matcher) (gone []bool) {
	p := v.Profile
	matches := func(re *regexp.Regexp) (functions, mappings []bool) {
		if re == nil {
			return nil, nil
		}
		functions, mappings = make([]bool, len(p.Functions)), make([]bool, len(p.Mappings))
		for i, f := range p.Functions {
			functions[i] = re.MatchString(p.Strings[f.Name]) || re.MatchString(p.Strings[f.File])
		}
		for i := range p.Mappings {
			mappings[i] = re.MatchString(p.object(MappingID(i)))
		}
		return functions, mappings
	}
	focusF, focusM := matches(m.focus)
	ignoreF, ignoreM := matches(m.ignore)
	hideF, hideM := matches(m.hide)
	showF, showM := matches(m.show)
	if len(m.HidePackages) > 0 {
		if hideF == nil {
			hideF, hideM = make([]bool, len(p.Functions)), make([]bool, len(p.Mappings))
		}
		for i, f := range p.Functions {
			hideF[i] = hideF[i] || slices.Contains(m.HidePackages, Package(p.Strings[f.Name]))
		}
	}
	inMapping := func(mappings []bool, l *Location) bool {
		return mappings != nil && l.Mapping != NoMapping && mappings[l.Mapping]
	}
	anyOf := func(functions, mappings []bool, i int) bool {
		b := v.lineBounds[i]
		return functions != nil && slices.ContainsFunc(p.Lines[b.from:b.to], func(l Line) bool { return functions[l.Function] }) || inMapping(mappings, &p.Locations[i])
	}
	const focused, ignored, hidden = 1, 2, 4
	state := make([]byte, len(p.Locations))
	gone = make([]bool, len(p.Lines))
	for i := range state {
		l, b := &p.Locations[i], v.lineBounds[i]
		switch {
		case anyOf(ignoreF, ignoreM, i):
			state[i] = ignored
		case m.focus == nil || anyOf(focusF, focusM, i):
			state[i] = focused
		}
		left := b.to - b.from
		for k := b.from; k < b.to; k++ {
			f := p.Lines[k].Function
			if hideF != nil && (hideF[f] || inMapping(hideM, l)) || showF != nil && !showF[f] && !inMapping(showM, l) {
				gone[k] = true
				left--
			}
		}
		// A location without lines is hidden if hide matches its file, or show does not.
		empty := b.from == b.to
		switch {
		case !empty && left == 0, empty && showF != nil, empty && inMapping(hideM, l):
			state[i] |= hidden
			if empty {
				v.lineBounds[i] = span{1, 0}
			}
		}
	}
	kept := v.rows[:0]
	for _, r := range v.rows {
		focus, drop, shown := false, false, false
		for _, l := range p.stacks[r.from:r.to] {
			focus = focus || state[l]&focused != 0
			drop = drop || state[l]&ignored != 0
			shown = shown || state[l]&hidden == 0
		}
		if focus && !drop && shown {
			kept = append(kept, r)
		}
	}
	v.rows = kept
	return gone
}

func (v *View) selectByLabel(filters []LabelFilter) {
	p := v.Profile
	kept := v.rows[:0]
	for _, r := range v.rows {
		labels := p.Labels(int(r.sample))
		ok := true
		for _, f := range filters {
			has := slices.ContainsFunc(labels, func(l Label) bool {
				return p.Strings[l.Key] == f.Key && (f.Value == "" || p.LabelText(l) == f.Value)
			})
			ok = ok && has != f.Not
		}
		if ok {
			kept = append(kept, r)
		}
	}
	v.rows = kept
}

// resolve gives each location its frames.
func (v *View) resolve(gone []bool) {
	p, s := v.Profile, v.Symbols
	const unknown = ^SymbolID(0)
	v.before, v.symbolOf = v.symbolOf, resize(v.before, len(p.Functions))
	for i := range v.symbolOf {
		v.symbolOf[i] = unknown
	}
	v.frames, v.ends = v.frames[:0], resize(v.ends, len(p.Locations))
	for i := range p.Locations {
		l, b := &p.Locations[i], v.lineBounds[i]
		if b.from == b.to { // never symbolized
			f := Frame{Symbol: s.nameless(p.object(l.Mapping), 0)}
			if v.lines {
				f.Address = l.Address
			}
			v.frames = append(v.frames, s.frame(f))
		}
		for k := b.from; k < b.to; k++ {
			if gone != nil && gone[k] {
				continue
			}
			line := &p.Lines[k]
			id := v.symbolOf[line.Function]
			if id == unknown {
				f := &p.Functions[line.Function]
				if f.Name != 0 && p.Strings[f.Name] != "" {
					id = v.symbol(line.Function)
					v.symbolOf[line.Function] = id
				} else { // depends on the location
					id = s.nameless(p.object(l.Mapping), f.StartLine)
				}
			}
			f := Frame{Symbol: id}
			if v.lines {
				f.Line = line.Line
			}
			v.frames = append(v.frames, s.frame(f))
		}
		v.ends[i] = uint32(len(v.frames))
	}
}

// symbol is that of a function which has a name: the one that was in its place in
// the profile before, if it is called the same.
func (v *View) symbol(i FuncID) SymbolID {
	p, s, f := v.Profile, v.Symbols, &v.Profile.Functions[i]
	name := p.Strings[f.Name]
	if int(i) < len(v.before) {
		if id := v.before[i]; int(id) < len(s.Symbols) && s.Symbols[id].Name == name {
			return id
		}
	}
	return s.symbol(name, p.Strings[f.File], f.StartLine)
}

// object is the file of a mapping; a URL that stands for one is none.
func (p *Profile) object(m MappingID) string {
	if m == NoMapping {
		return ""
	}
	mapping := &p.Mappings[m]
	file := p.Strings[mapping.File]
	if mapping.BuildID == 0 && strings.Contains(file, ":") {
		if u, err := url.Parse(file); err == nil && u.IsAbs() {
			return ""
		}
	}
	return file
}

// framesOf are the frames of a location, from the innermost to the outermost.
func (v *View) framesOf(l LocID) []FrameID {
	from := uint32(0)
	if l > 0 {
		from = v.ends[l-1]
	}
	return v.frames[from:v.ends[l]]
}

// stack appends the frames of a row from the root to the leaf.
func (v *View) stack(to []FrameID, r row) []FrameID {
	for _, l := range slices.Backward(v.Profile.stacks[r.from:r.to]) {
		for _, f := range slices.Backward(v.framesOf(l)) {
			to = append(to, f)
		}
	}
	return to
}

// Each calls fn with the stack of each sample that is left, from the root to the
// leaf, and its number in the profile. The stack is valid until fn returns.
func (v *View) Each(fn func(sample int, stack []FrameID)) {
	var stack []FrameID
	for _, r := range v.rows {
		stack = v.stack(stack[:0], r)
		fn(int(r.sample), stack)
	}
}

// Samples is how many samples are left.
func (v *View) Samples() int { return len(v.rows) }
